//! DynamoDB's JSON as plain JSON, by the words of `docs/cloudevents.md`.

use serde_json::{Value, json};

/// The data of `EVENT_DATA=json`, as text: numbers keep all their digits.
pub fn data(record: &Value) -> String {
    let mut members = vec![format!("\"operation\":{}", record["eventName"])];
    for (name, source) in [("keys", "Keys"), ("new", "NewImage"), ("old", "OldImage")] {
        if let Some(attributes) = record["dynamodb"].get(source) {
            members.push(format!("\"{name}\":{}", object(attributes)));
        }
    }
    format!("{{{}}}", members.join(","))
}

fn object(attributes: &Value) -> String {
    let members = attributes.as_object().unwrap().iter();
    let members: Vec<_> = members.map(|(name, typed)| format!("{}:{}", json!(name), value(typed))).collect();
    format!("{{{}}}", members.join(","))
}

fn value(typed: &Value) -> String {
    let (kind, value_of) = typed.as_object().unwrap().iter().next().unwrap();
    let array = |write: fn(&Value) -> String| {
        format!("[{}]", value_of.as_array().unwrap().iter().map(write).collect::<Vec<_>>().join(","))
    };
    match kind.as_str() {
        "N" => number(value_of),
        "NS" => array(number),
        "L" => array(value),
        "M" => object(value_of),
        "NULL" => "null".to_owned(),
        _ => value_of.to_string(),
    }
}

fn number(text: &Value) -> String {
    text.as_str().unwrap().to_owned()
}
