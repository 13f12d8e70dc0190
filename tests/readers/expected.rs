//! What each event has to say, by the words of `docs/cloudevents.md`.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::records::{self, BEFORE_GAP, TABLES, TestRecord};
use crate::support::aws::model::{World, table_arn};
use crate::{Combination, plain};

/// A moment that the adapter takes from its clock.
fn moment() -> Value {
    json!({"matches": r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$"})
}

/// The events of all records, and of the gap.
pub(crate) fn events(world: &mut World, combination: Combination) -> Vec<Value> {
    let mut events: Vec<Value> = records::all().iter().map(|record| event(world, record, combination)).collect();
    events.push(gap(world));
    for event in &mut events {
        event["combination"] = json!(combination.name());
        event["datacontenttype"] = json!("application/json");
    }
    events
}

fn event(world: &mut World, record: &TestRecord, combination: Combination) -> Value {
    let mut event = match combination.profile {
        "aws" => aws(record),
        "triggermesh" => triggermesh(record),
        _ => integration_source(),
    };
    let as_sent = record.json();
    event["id"] = as_sent["eventID"].clone();
    event["form"] = json!(if combination.profile == "aws" { combination.data } else { combination.profile });
    event["data"] = json!(match combination.data {
        "json" => plain::data(&as_sent),
        _ => lambda(world, record).to_string(),
    });
    event
}

fn aws(record: &TestRecord) -> Value {
    let as_sent = record.json();
    let (operation, sequence) = (as_sent["eventName"].as_str().unwrap(), &as_sent["dynamodb"]["SequenceNumber"]);
    let key = Key::of(record);
    let mut extensions = json!({
        "partitionkey": key.partition_key(),
        "sequence": format!("{:0>40}", sequence.as_str().unwrap()),
        "recordedtime": moment(),
        "dynamodboperation": operation,
    });
    if as_sent.get("userIdentity").is_some() {
        extensions["authtype"] = json!("system");
        extensions["authid"] = json!("dynamodb.amazonaws.com");
    }
    json!({
        "source": table_arn(record.table),
        "type": format!("com.amazonaws.dynamodb.{}", operation.to_lowercase()),
        "subject": key.subject(),
        "time": record.time,
        "extensions": extensions,
    })
}

fn triggermesh(record: &TestRecord) -> Value {
    json!({
        "source": table_arn(record.table),
        "type": "com.amazon.dynamodb.stream_record",
        "subject": table(record).key.join(","),
        "time": moment(),
        "extensions": {"dynamodboperation": record.json()["eventName"]},
    })
}

fn integration_source() -> Value {
    json!({
        "source": "dev.knative.eventing.aws-ddb-streams-source",
        "type": "dev.knative.eventing.aws-ddb-streams",
        "subject": "aws-ddb-streams-source",
        "time": moment(),
        "extensions": {},
    })
}

fn gap(world: &mut World) -> Value {
    let stream = world.stream("Gaps");
    let shard = stream.shards[0].id.clone();
    let data = json!({
        "table": "Gaps", "stream": stream.arn, "shard": shard, "after": BEFORE_GAP, "before": null, "reason": "undecodable",
        "lanes": 1,
    });
    json!({
        "id": {"matches": "^gap-[0-9a-f]{32}$"},
        "source": table_arn("Gaps"),
        "type": "com.amazonaws.dynamodb.gap",
        "subject": shard,
        "time": moment(),
        "extensions": {"partitionkey": shard, "recordedtime": moment()},
        "form": "gap",
        "data": data.to_string(),
    })
}

/// The record as a Lambda function gets it.
fn lambda(world: &mut World, record: &TestRecord) -> Value {
    let mut event = record.json();
    event["eventSourceARN"] = json!(world.stream(record.table).arn);
    if let Some(time) = event["dynamodb"].get_mut("ApproximateCreationDateTime") {
        *time = json!(time.as_f64().unwrap().floor() as i64);
    }
    if let Some(identity) = event.get_mut("userIdentity") {
        *identity = json!({"principalId": identity["PrincipalId"], "type": identity["Type"]});
    }
    event
}

fn table(record: &TestRecord) -> &'static records::Table {
    TABLES.iter().find(|table| table.name == record.table).unwrap()
}

/// A key's types and values, partition key first.
struct Key(Vec<(String, String)>);

impl Key {
    fn of(record: &TestRecord) -> Self {
        let keys: Map<String, Value> = serde_json::from_value(record.json()["dynamodb"]["Keys"].clone()).unwrap();
        let attribute = |name: &&str| {
            let (kind, value) = keys[*name].as_object().unwrap().iter().next().unwrap();
            (kind.clone(), value.as_str().unwrap().to_owned())
        };
        Self(table(record).key.iter().map(attribute).collect())
    }

    fn canonical(&self) -> String {
        let values: Vec<_> = self.0.iter().map(|(kind, value)| format!("{kind}:{}", escaped(value))).collect();
        values.join("/")
    }

    fn hash(&self) -> String {
        let digest = Sha256::digest(self.canonical());
        digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn partition_key(&self) -> String {
        let text = self.canonical();
        let printable = text.chars().all(|character| wire(character) == 1);
        if printable && text.len() <= 128 { text } else { format!("~{}", self.hash()) }
    }

    fn subject(&self) -> String {
        let text = match &self.0[..] {
            [(_, only)] => only.clone(),
            several => several.iter().map(|(_, value)| escaped(value)).collect::<Vec<_>>().join("/"),
        };
        let hex = |text: &str| text.len() == 32 && text.chars().all(|digit| "0123456789abcdef".contains(digit));
        let looks_cut = text.rsplit_once('~').is_some_and(|(_, end)| hex(end));
        let long = text.chars().map(wire).sum::<usize>() > 512;
        if !long && !looks_cut && !text.chars().any(forbidden) {
            return text;
        }
        let (mut kept, mut room) = (String::new(), 479);
        for character in text.chars().take_while(|character| !forbidden(*character)) {
            match wire(character) {
                length if length <= room => room -= length,
                _ => break,
            }
            kept.push(character);
        }
        format!("{kept}~{}", self.hash())
    }
}

fn escaped(value: &str) -> String {
    value.replace('~', "~0").replace('/', "~1")
}

/// How many characters a header needs for this one.
fn wire(character: char) -> usize {
    match character {
        ' ' | '"' | '%' => 3,
        '!'..='~' => 1,
        other => 3 * other.len_utf8(),
    }
}

/// Control characters and the 66 non-characters.
fn forbidden(character: char) -> bool {
    let code = u32::from(character);
    code < 0x20 || (0x7f..0xa0).contains(&code) || (0xfdd0..=0xfdef).contains(&code) || code % 0x10000 >= 0xfffe
}
