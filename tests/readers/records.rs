//! Records that are hard to pass on, and the tables they come from.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::aws::FakeAws;
use crate::support::aws::model::Record;

/// A table; its key's attributes, partition key first.
pub struct Table {
    pub name: &'static str,
    pub key: &'static [&'static str],
}

pub const TABLES: [Table; 6] = [
    Table { name: "Orders", key: &["orderId", "line"] },
    Table { name: "Texts", key: &["id"] },
    Table { name: "Blobs", key: &["blob"] },
    Table { name: "Numbers", key: &["n"] },
    Table { name: "Names", key: &["näme \"1\",% 😀", "\u{301}<b>&=\\\n"] },
    Table { name: "Gaps", key: &["id"] },
];

/// Sequence numbers around the record of `Gaps` that cannot be decoded.
pub const BEFORE_GAP: &str = "300000000000000600000";
const LOST: &str = "300000000000000600001";

/// A record as AWS sends it, and its creation time as an event shows it.
pub struct TestRecord {
    pub table: &'static str,
    pub text: String,
    pub time: Option<String>,
}

impl TestRecord {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

const TEXTS: [&str; 33] = [
    r#"say "hi" \ back"#,
    "it's / a ~ b",
    "😀👨‍👩‍👧 payé 注文",
    "100%25 %E2%82 %zz %",
    "%41",
    "tab\tend",
    "bell\u{7}esc\u{1b}nul\0end",
    "line one\nline two\r\nline three",
    "\u{301}e\u{301}\u{20d0}",
    "\u{20d0}",
    "a\u{2028}b\u{2029}c",
    "<script>alert('x')&amp;=</script>",
    "𝒳𐍈🂡",
    "non\u{10ffff}character",
    "non\u{fffe}character",
    "+plus&amp=/?#;,:@",
    " leading and trailing ",
    "x~0123456789abcdef0123456789abcdef",
    "\u{7f}del",
    "\u{85}nel\u{a0}nbsp",
    "\u{feff}bom\u{200b}zero",
    "ظلام \u{202e}abc",
    "null",
    "true",
    "1.0",
    "-0",
    "1e5",
    "2026-01-02T03:04:05Z",
    "AAAA",
    "[1,\"two\"]",
    "{\"a\":1}",
    "=?UTF-8?B?w6k=?=",
    "\"quoted\"",
];

/// All records but the undecodable one, each with a sequence number of its own.
pub fn all() -> Vec<TestRecord> {
    let mut records = from_aws();
    let mut number = 300_000_000_000_000_500_000u128;
    let mut add = |table: &'static str, keys: Value, image: Value, operation: &str| {
        number += 1;
        records.push(made(table, number, &keys, &image, operation));
    };
    let long = ["x".repeat(512), "x".repeat(513), "é".repeat(100), "😀".repeat(256)];
    for text in TEXTS.iter().map(|text| (*text).to_owned()).chain(long) {
        add("Texts", json!({"id": {"S": text}}), json!({"text": {"S": text}, "size": {"N": "1"}}), "INSERT");
    }
    let bytes: Vec<u8> = (0..2048).map(|n| (n % 251) as u8).collect();
    for bytes in [&bytes[..], &[0xff], &[0, 0x80, 0x7f], &[0xfb, 0xff, 0xfe]] {
        let empty = json!({"empty": {"B": ""}, "set": {"BS": ["", "AA=="]}});
        add("Blobs", json!({"blob": {"B": BASE64_STANDARD.encode(bytes)}}), empty, "MODIFY");
    }
    for digits in ["12345678901234567890123456789012345678", "-1.2345678901234567890123456789012345678", "0.1"] {
        add("Numbers", json!({"n": {"N": digits}}), json!({"same": {"N": digits}, "set": {"NS": [digits]}}), "INSERT");
    }
    let [hash, range] = [0, 1].map(|place| TABLES[4].key[place]);
    let key = json!({hash: {"S": "a/b~c"}, range: {"B": "+/8="}});
    add("Names", key, json!({"<&='\u{2028}\u{2029}>": {"M": {"\"": {"L": []}}}}), "MODIFY");
    records.push(made("Gaps", BEFORE_GAP.parse().unwrap(), &json!({"id": {"S": "a"}}), &json!({}), "INSERT"));
    records
}

fn made(table: &'static str, number: u128, keys: &Value, image: &Value, operation: &str) -> TestRecord {
    let mut new = image.clone();
    new.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let mut change = json!({
        "ApproximateCreationDateTime": 1_767_323_045, "Keys": keys, "NewImage": new, "SequenceNumber": number.to_string(),
        "SizeBytes": 59, "StreamViewType": "NEW_AND_OLD_IMAGES",
    });
    if operation == "MODIFY" {
        change["OldImage"] = keys.clone();
    }
    let record = json!({
        "awsRegion": "eu-west-1", "dynamodb": change, "eventID": format!("{number:032x}"), "eventName": operation,
        "eventSource": "aws:dynamodb", "eventVersion": "1.1",
    });
    TestRecord { table, text: record.to_string(), time: Some("2026-01-02T03:04:05Z".to_owned()) }
}

/// The records of `tests/data/aws-record.json`, in AWS's own spelling.
fn from_aws() -> Vec<TestRecord> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Page {
        records: Vec<Box<RawValue>>,
    }
    const TIMES: [&str; 9] = ["05Z", "06Z", "07Z", "08Z", "09Z", "10Z", "", "11.789Z", "12Z"];
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/aws-record.json")).unwrap();
    let page: Page = serde_json::from_str(&text).unwrap();
    let table = |index| ["Orders", "Blobs", "Numbers"][[0, 0, 0, 1, 0, 0, 0, 0, 2][index]];
    let record = |(index, record): (usize, Box<RawValue>)| TestRecord {
        table: table(index),
        text: record.get().to_owned(),
        time: Some(TIMES[index]).filter(|time| !time.is_empty()).map(|time| format!("2026-01-02T03:04:{time}")),
    };
    page.records.into_iter().enumerate().map(record).collect()
}

/// An AWS that has all of it. Within a shard, sequence numbers grow.
pub async fn fake_aws() -> FakeAws {
    let aws = FakeAws::start().await;
    for table in &TABLES {
        let mut world = aws.script();
        world.create_table(table.name, 1);
        world.table(table.name).key = table.key.iter().map(|name| (*name).to_owned()).collect();
        let shard = &mut world.stream(table.name).shards[0];
        for record in all().into_iter().filter(|record| record.table == table.name) {
            let sequence = record.json()["dynamodb"]["SequenceNumber"].as_str().unwrap().parse().unwrap();
            shard.records.push(Record { sequence, json: record.text });
        }
        if table.name == "Gaps" {
            let change = json!({"Keys": 7, "SequenceNumber": LOST});
            let json = json!({"eventID": "broken", "eventName": "INSERT", "dynamodb": change}).to_string();
            shard.records.push(Record { sequence: LOST.parse().unwrap(), json });
        }
        shard.records.sort_by_key(|record| record.sequence);
    }
    aws
}
