//! Reads the data of profile `aws` with Lambda's library for Rust and prints one JSON line for each record.

use std::error::Error;
use std::io::Read;

use aws_lambda_events::dynamodb::EventRecord;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    for line in text.lines() {
        let request: Value = serde_json::from_str(line)?;
        if request["profile"] != "aws" || request["data"] != "dynamodb-json" {
            continue;
        }
        for data in data(&request)? {
            let mut told = match serde_json::from_str::<EventRecord>(&data) {
                Ok(record) => told(&record)?,
                Err(error) => json!({"error": error.to_string(), "data": data}),
            };
            told["combination"] = request["combination"].clone();
            println!("{told}");
        }
    }
    Ok(())
}

/// The data of a request's events, less those of gaps.
fn data(request: &Value) -> Result<Vec<String>, Box<dyn Error>> {
    let body = BASE64_STANDARD.decode(request["body_base64"].as_str().ok_or("no body")?)?;
    if request["mode"] == "binary" {
        let headers = request["headers"].as_array().ok_or("no headers")?;
        let gap = headers.contains(&json!(["ce-type", "com.amazonaws.dynamodb.gap"]));
        return Ok(if gap { vec![] } else { vec![String::from_utf8(body)?] });
    }
    let events = match serde_json::from_slice(&body)? {
        Value::Array(events) => events,
        event => vec![event],
    };
    let records = events.iter().filter(|event| event["type"] != "com.amazonaws.dynamodb.gap");
    Ok(records.map(|event| event["data"].to_string()).collect())
}

fn told(record: &EventRecord) -> Result<Value, serde_json::Error> {
    let change = &record.change;
    let image = |item: &_| serde_json::to_value(item).map(|item| if item == json!({}) { Value::Null } else { item });
    let identity = record.user_identity.as_ref();
    Ok(json!({
        "event_id": record.event_id,
        "operation": record.event_name,
        "region": record.aws_region,
        "sequence": change.sequence_number,
        "size": change.size_bytes,
        "view": change.stream_view_type,
        "keys": image(&change.keys)?,
        "new": image(&change.new_image)?,
        "old": image(&change.old_image)?,
        "seconds": change.approximate_creation_date_time.timestamp(),
        "identity": identity.map(|identity| [&identity.principal_id, &identity.type_]),
    }))
}
