//! The forms once more, the simple way: a tree of the record, changed into a tree of the data.
//!
//! Trees have no order. Where that matters the tree is written with its members in byte order.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::records::Record;

/// The name in an object that stands for a number: no generated item has it.
const DIGITS: &str = "\0the digits of a number";

/// Changes an attribute's value, given as its type and content; nothing comes back for what is none of the form's.
type Change = fn(&str, &Value) -> Option<Value>;

/// The data of `EVENT_DATA=json`. A number is an object that holds its digits, so that they can be compared.
pub(super) fn json(record: &Record) -> Value {
    let mut data = Map::new();
    data.insert("operation".into(), record.operation_name().into());
    let images = [("keys", Some(record.keys())), ("new", record.new_image()), ("old", record.old_image())];
    for (name, item) in images {
        if let Some(item) = item {
            data.insert(name.into(), changed_item(item, plain));
        }
    }
    data.into()
}

/// The data of profile `triggermesh`.
pub(super) fn triggermesh(record: &Record) -> Value {
    let raw = parsed(record.raw());
    let item = |name: &str| raw["dynamodb"].get(name).filter(|item| !item.is_null()).map(|it| changed_map(it, go));
    json!({
        "AwsRegion": raw["awsRegion"],
        "Dynamodb": {
            "ApproximateCreationDateTime": record.created_at_millis().map(go_time),
            "Keys": item("Keys"),
            "NewImage": item("NewImage"),
            "OldImage": item("OldImage"),
            "SequenceNumber": raw["dynamodb"]["SequenceNumber"],
            "SizeBytes": raw["dynamodb"]["SizeBytes"],
            "StreamViewType": raw["dynamodb"]["StreamViewType"],
        },
        "EventID": raw["eventID"],
        "EventName": raw["eventName"],
        "EventSource": raw["eventSource"],
        "EventVersion": raw["eventVersion"],
        "UserIdentity": raw["userIdentity"].as_object().map(|user| json!({
            "PrincipalId": user.get("PrincipalId"), "Type": user.get("Type"),
        })),
    })
}

/// The data of profile `integration-source`.
pub(super) fn integration_source(record: &Record) -> Value {
    let raw = parsed(record.raw());
    let change = &raw["dynamodb"];
    let item = |name: &str| change.get(name).filter(|it| !it.is_null()).map_or(json!({}), |it| changed_map(it, java));
    let mut data = json!({
        "eventID": raw["eventID"],
        "eventName": raw["eventName"],
        "eventVersion": raw["eventVersion"],
        "eventSource": raw["eventSource"],
        "awsRegion": raw["awsRegion"],
        "dynamodb": {
            "approximateCreationDateTime": record.created_at_millis().map(|millis| millis / 1000 * 1000),
            "keys": item("Keys"),
            "newImage": item("NewImage"),
            "oldImage": item("OldImage"),
            "sequenceNumber": change["SequenceNumber"],
            "sizeBytes": change["SizeBytes"],
            "streamViewType": change["StreamViewType"],
        },
        "userIdentity": raw["userIdentity"].as_object().map(|user| {
            let mut user = json!({ "principalId": user.get("PrincipalId"), "type": user.get("Type") });
            drop_nulls(&mut user);
            user
        }),
    });
    drop_nulls(&mut data["dynamodb"]);
    drop_nulls(&mut data);
    data
}

/// A tree as Go writes it, members in byte order.
pub(super) fn written_by_go(value: &Value) -> String {
    match value {
        Value::String(text) => go_text(text),
        Value::Array(list) => format!("[{}]", list.iter().map(written_by_go).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let member = |(name, value): (&String, &Value)| format!("{}:{}", go_text(name), written_by_go(value));
            format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(","))
        }
        bare => bare.to_string(),
    }
}

/// What JSON text says, a number as an object that holds its digits.
pub(super) fn with_digits(json: &str) -> Value {
    let inner = |raw: &RawValue| with_digits(raw.get());
    match json.trim().as_bytes()[0] {
        b'{' => {
            let members: std::collections::BTreeMap<String, Box<RawValue>> = read(json);
            members.iter().map(|(name, raw)| (name.clone(), inner(raw))).collect::<Map<_, _>>().into()
        }
        b'[' => read::<Vec<Box<RawValue>>>(json).iter().map(|raw| inner(raw)).collect(),
        b'-' | b'0'..=b'9' => digits(json.trim()),
        _ => read(json),
    }
}

fn digits(number: &str) -> Value {
    json!({ DIGITS: number })
}

pub(super) fn parsed(json: &str) -> Value {
    read(json)
}

fn read<'j, T: serde::Deserialize<'j>>(json: &'j str) -> T {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn changed_item(item: &str, change: Change) -> Value {
    changed_map(&with_digits(item), change)
}

fn changed_map(map: &Value, change: Change) -> Value {
    let members = map.as_object().expect("an object").iter();
    members.map(|(name, value)| (name.clone(), changed(value, change))).collect::<Map<_, _>>().into()
}

fn changed(value: &Value, change: Change) -> Value {
    let only = value.as_object().filter(|members| members.len() == 1).and_then(|members| members.iter().next());
    let known = only.filter(|(kind, content)| is_of_its_type(kind, content));
    known.and_then(|(kind, content)| change(kind, content)).unwrap_or_else(|| value.clone())
}

fn is_of_its_type(kind: &str, content: &Value) -> bool {
    match kind {
        "S" | "N" | "B" => content.is_string(),
        "BOOL" | "NULL" => content.is_boolean(),
        "SS" | "NS" | "BS" => content.as_array().is_some_and(|set| set.iter().all(Value::is_string)),
        "L" => content.is_array(),
        "M" => content.is_object() && content.get(DIGITS).is_none(),
        _ => false,
    }
}

fn plain(kind: &str, content: &Value) -> Option<Value> {
    let number = |text: &Value| {
        let text = text.as_str().expect("checked");
        let is_number = text.parse::<f64>().is_ok() && serde_json::from_str::<&RawValue>(text).is_ok();
        if is_number { digits(text) } else { text.into() }
    };
    Some(match kind {
        "N" => number(content),
        "NS" => content.as_array()?.iter().map(number).collect(),
        "NULL" if content == &json!(true) => Value::Null,
        "NULL" => return None,
        "L" => content.as_array()?.iter().map(|value| changed(value, plain)).collect(),
        "M" => changed_map(content, plain),
        _ => content.clone(),
    })
}

fn go(kind: &str, content: &Value) -> Option<Value> {
    let mut value = json!({
        "B": null, "BOOL": null, "BS": null, "L": null, "M": null,
        "N": null, "NS": null, "NULL": null, "S": null, "SS": null,
    });
    value[kind] = match kind {
        "L" => content.as_array()?.iter().map(|value| changed(value, go)).collect(),
        "M" => changed_map(content, go),
        _ => content.clone(),
    };
    Some(value)
}

fn java(kind: &str, content: &Value) -> Option<Value> {
    let mut value = json!({ "ss": [], "ns": [], "bs": [], "m": {}, "l": [], "type": kind });
    let name = kind.to_lowercase();
    match kind {
        "B" => value["b"] = signed_bytes(content)?,
        "BS" => value["bs"] = content.as_array()?.iter().map(signed_bytes).collect::<Option<_>>()?,
        "NULL" => {
            value["nul"] = content.clone();
            value["type"] = "NUL".into();
        }
        "L" => value["l"] = content.as_array()?.iter().map(|value| changed(value, java)).collect(),
        "M" => value["m"] = changed_map(content, java),
        _ => value[name] = content.clone(),
    }
    Some(value)
}

fn signed_bytes(base64: &Value) -> Option<Value> {
    let bytes = BASE64_STANDARD.decode(base64.as_str()?).ok()?;
    Some(json!({ "bytes": bytes.into_iter().map(|byte| byte as i8).collect::<Vec<_>>() }))
}

fn drop_nulls(object: &mut Value) {
    object.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
}

fn go_time(millis: i64) -> String {
    let moment = chrono::DateTime::from_timestamp_millis(millis).expect("a moment");
    let seconds = moment.format("%Y-%m-%dT%H:%M:%S");
    let fraction = format!("{:03}", millis % 1000);
    match fraction.trim_end_matches('0') {
        "" => format!("{seconds}Z"),
        digits => format!("{seconds}.{digits}Z"),
    }
}

fn go_text(text: &str) -> String {
    let escaped = text.chars().map(|letter| match letter {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => format!("\\u{:04x}", u32::from(letter)),
        other => other.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}
