//! The form of events: profile, data, content mode, and the extensions that the platform sets on every event.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use url::Url;

use super::parse::{Choice, InvalidValue, Lenient, choices};
use super::reader::{AlreadyReported, Reader};
use super::variable::{Accepts, Default, Group, Variable, variables};

variables! {
    EVENT_PROFILE as event_profile: EventProfile = EventProfile::parse {
        group: Group::Event,
        default: Default::Value("aws"),
        accepts: Accepts::OneOf(EventProfile::NAMES),
        meaning: "Attributes and data of the events. `aws`: the adapter's own profile. The other profiles reproduce \
            TriggerMesh's AWSDynamoDBSource and Knative's IntegrationSource; each is the default when the variables of \
            that source are set.",
    }
    EVENT_DATA as event_data: EventData = EventData::parse {
        group: Group::Event,
        default: Default::Value("dynamodb-json"),
        accepts: Accepts::OneOf(EventData::NAMES),
        meaning: "Format of the data with `EVENT_PROFILE=aws`. `dynamodb-json`: the record as an AWS Lambda function \
            receives it. `json`: the item in plain JSON. The other profiles have one format each.",
    }
    EVENT_MODE as event_mode: EventMode = EventMode::parse {
        group: Group::Event,
        default: Default::Value("binary"),
        accepts: Accepts::OneOf(EventMode::NAMES),
        meaning: "The CloudEvents content mode. `binary`: attributes as headers, data as the body. `structured`: both \
            as JSON in the body. `batch`: several events per request.",
    }
    K_CE_OVERRIDES as k_ce_overrides: Lenient<BTreeMap<String, String>> = overrides {
        group: Group::Event,
        accepts: Accepts::Phrase("an empty value, `{}` or an object such as `{\"extensions\":{\"cluster\":\"blue\"}}`"),
        meaning: "CloudEvents extensions for every event; they replace extensions of the same name. Capital letters in a \
            name become small ones, with a warning. SinkBinding and ContainerSource set this variable.",
    }
}

/// What events look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which attributes and which data they have.
    pub profile: EventProfile,
    /// The form of the data.
    pub data: EventData,
    /// How they are put into requests.
    pub mode: EventMode,
    /// Extensions to set on every event, replacing one of that name; the names are what CloudEvents allows.
    pub overrides: BTreeMap<String, String>,
}

choices! {
    /// Which attributes and which data events have.
    EventProfile {
        /// This program's own.
        Aws = "aws",
        /// Those of TriggerMesh's AWSDynamoDBSource.
        Triggermesh = "triggermesh",
        /// Those of Knative's IntegrationSource with `aws.ddbStreams`.
        IntegrationSource = "integration-source",
    }
}

choices! {
    /// The form of an event's data.
    EventData {
        /// The record as AWS Lambda gets it; with a profile that has a form of its own, that form.
        DynamodbJson = "dynamodb-json",
        /// The item in plain JSON; only with [`EventProfile::Aws`].
        Json = "json",
    }
}

choices! {
    /// The CloudEvents content mode of requests.
    EventMode {
        /// Attributes as headers, data as the body.
        Binary = "binary",
        /// Attributes and data as the body, one event a request.
        Structured = "structured",
        /// Several events a request.
        Batch = "batch",
    }
}

impl Event {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        let profile = reader.value(&given.event_profile);
        let data = data(reader, &given, profile);
        let mode = reader.value(&given.event_mode);
        let overrides = reader.lenient(&given.k_ce_overrides);
        Ok(Self { profile: profile?, data: data?, mode: mode?, overrides: overrides?.unwrap_or_default() })
    }
}

/// A profile other than ours has one form of data, which is part of it.
fn data(
    reader: &mut Reader,
    given: &Given,
    profile: Result<EventProfile, AlreadyReported>,
) -> Result<EventData, AlreadyReported> {
    let data = reader.value(&given.event_data)?;
    match (data, profile) {
        (EventData::Json, Ok(EventProfile::Triggermesh | EventProfile::IntegrationSource)) => {
            Err(reader.refused(&given.event_data, "only EVENT_PROFILE=aws supports this format".into()))
        }
        _ => Ok(data),
    }
}

/// What tells an event from others, or how to read it: never the platform's to change.
const UNTOUCHABLE: [&str; 6] = ["id", "source", "type", "specversion", "time", "datacontenttype"];

/// What the JSON format of CloudEvents has another use for.
const RESERVED: [&str; 1] = ["data"];

/// CloudEvents recommends 20; a header takes no name without end.
const MAX_NAME: usize = 100;

/// Names and values, none twice. What Knative's adapters make of the same text: `GetCloudEventOverrides` in
/// `knative.dev/eventing/pkg/adapter/v2`, `SetExtension` in CloudEvents' SDK for Go. Its JSON finds members whatever their case, and
/// takes null for an empty value.
fn overrides(text: &str) -> Result<Lenient<BTreeMap<String, String>>, InvalidValue> {
    let overrides: Option<Map<String, Value>> = serde_json::from_str(text).map_err(|_| "not a JSON object")?;
    let overrides = overrides.unwrap_or_default();
    let member = overrides.iter().find(|(name, _)| name.eq_ignore_ascii_case("extensions"));
    let extensions = match member.map(|(_, extensions)| extensions) {
        None | Some(Value::Null) => return Ok(BTreeMap::new().into()),
        Some(Value::Object(extensions)) => extensions,
        Some(_) => return Err("its extensions are not an object".into()),
    };
    let mut read = Lenient::from(BTreeMap::new());
    for (name, value) in extensions {
        let small = checked_name(&name.to_ascii_lowercase())?;
        let (value, was_trimmed) = checked_value(&small, value)?;
        if was_trimmed {
            read.notes.push(format!("the value of {small} is used without the control characters at its ends"));
        }
        match small == *name {
            true => drop(read.value.insert(small, value)),
            false => {
                let instead = if extensions.contains_key(&small) { "ignored, it is set as" } else { "sent as" };
                read.notes.push(format!("{name} is {instead} {small}: names of extensions have small letters only"));
                read.value.entry(small).or_insert(value);
            }
        }
    }
    Ok(read)
}

fn checked_name(name: &str) -> Result<String, InvalidValue> {
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

/// The value, and whether it lost something at its ends: a text block of YAML ends with a line feed.
fn checked_value(name: &str, value: &Value) -> Result<(String, bool), InvalidValue> {
    let given = match value {
        Value::String(value) => value,
        Value::Null => "",
        _ => return Err(format!("the value of {name} is not a string").into()),
    };
    let value = given.trim_matches(char::is_control);
    if value.chars().any(is_forbidden_in_attributes) {
        return Err(format!("the value of {name} has control characters, which CloudEvents forbids").into());
    }
    if name == "subject" && value.is_empty() {
        return Err("the value of subject is empty, which CloudEvents forbids".into());
    }
    if name == "dataschema" && Url::parse(value).is_err() {
        return Err("the value of dataschema is not an absolute URI".into());
    }
    Ok((value.to_owned(), value.len() < given.len()))
}

/// What CloudEvents 1.0.2 keeps out of attributes ("Type system", String): control characters and non-characters.
pub(crate) fn is_forbidden_in_attributes(character: char) -> bool {
    let code = u32::from(character);
    character.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}
