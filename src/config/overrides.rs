//! `K_CE_OVERRIDES`: extensions that the platform sets on every event.
//!
//! The form is Knative's `{"extensions":{"name":"value"}}`; further members are the controllers' to explain. Names follow
//! CloudEvents 1.0.2, "Naming Conventions", values its type String.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use url::Url;

use super::parse::Refusal;

/// What tells an event from others, or how to read it: never the platform's to change.
const UNTOUCHABLE: [&str; 6] = ["id", "source", "type", "specversion", "time", "datacontenttype"];

/// What the JSON format of CloudEvents has another use for.
const RESERVED: [&str; 1] = ["data"];

/// CloudEvents recommends 20; a header takes no name without end.
const MAX_NAME: usize = 100;

/// Names and values, none twice.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, Refusal> {
    let overrides: Map<String, Value> = serde_json::from_str(text).map_err(|_| "not a JSON object")?;
    let extensions = match overrides.get("extensions") {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(extensions)) => extensions,
        Some(_) => return Err("its extensions are not an object".into()),
    };
    extensions.iter().map(|(name, value)| Ok((checked_name(name)?, checked_value(name, value)?))).collect()
}

fn checked_name(name: &str) -> Result<String, Refusal> {
    let shown: String = name.escape_debug().take(40).collect();
    if UNTOUCHABLE.contains(&name) {
        return Err(format!("{shown} is set by the adapter and cannot be overridden").into());
    }
    if RESERVED.contains(&name) {
        return Err(format!("{shown} is reserved by CloudEvents").into());
    }
    if name.len() > MAX_NAME {
        return Err(format!("the name {shown}… is longer than {MAX_NAME} characters").into());
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match !name.is_empty() && name.bytes().all(allowed) {
        true => Ok(name.to_owned()),
        false => {
            Err(format!("{shown:?} is not a CloudEvents attribute name: use lower-case letters and digits only").into())
        }
    }
}

fn checked_value(name: &str, value: &Value) -> Result<String, Refusal> {
    let Value::String(value) = value else {
        return Err(format!("the value of {name} is not a string").into());
    };
    if value.chars().any(is_forbidden_in_attributes) {
        return Err(format!("the value of {name} has control characters, which CloudEvents forbids").into());
    }
    if name == "subject" && value.is_empty() {
        return Err("the value of subject is empty, which CloudEvents forbids".into());
    }
    if name == "dataschema" && Url::parse(value).is_err() {
        return Err("the value of dataschema is not an absolute URI".into());
    }
    Ok(value.clone())
}

/// What CloudEvents 1.0.2 keeps out of attributes ("Type system", String): control characters and non-characters.
pub(crate) fn is_forbidden_in_attributes(character: char) -> bool {
    let code = u32::from(character);
    character.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}
