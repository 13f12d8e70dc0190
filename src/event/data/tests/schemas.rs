//! The published JSON Schemas describe the data, and nothing else.

use std::cell::RefCell;
use std::collections::BTreeMap;

use boon::{Compiler, SchemaIndex, Schemas};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::{Packaging, encode_gap};
use crate::records::tests::generator::{self, Choices};
use crate::records::{Gap, LossReason};

/// The files in `docs/schemas`, the forms first, in the order of [`FORMS`].
const FILES: [(&str, &str); 5] = [
    ("dynamodb-json", include_str!("../../../../docs/schemas/dynamodb-json.json")),
    ("json", include_str!("../../../../docs/schemas/json.json")),
    ("triggermesh", include_str!("../../../../docs/schemas/triggermesh.json")),
    ("integration-source", include_str!("../../../../docs/schemas/integration-source.json")),
    ("gap", include_str!("../../../../docs/schemas/gap.json")),
];

/// Compiled schemas by the name of their file; compiling one checks it against its meta-schema.
struct Compiled {
    schemas: Schemas,
    by_name: BTreeMap<&'static str, SchemaIndex>,
}

thread_local! {
    static COMPILED: RefCell<Compiled> = RefCell::new(Compiled::new());
}

impl Compiled {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_content_assertions();
        let compile = |(name, text): (&'static str, &str)| {
            let place = format!("file:///{name}.json");
            compiler.add_resource(&place, naive::parsed(text)).expect("JSON");
            (name, compiler.compile(&place, &mut schemas).unwrap_or_else(|error| panic!("{name}: {error}")))
        };
        let by_name = FILES.into_iter().map(compile).collect();
        Self { schemas, by_name }
    }
}

/// What the schema of this name says against a value.
fn objection(name: &str, value: &Value) -> Option<String> {
    COMPILED.with_borrow(|compiled| {
        compiled.schemas.validate(value, compiled.by_name[name]).err().map(|error| format!("{error:#}"))
    })
}

fn assert_described(record: &Record) {
    for (form, (name, _)) in FORMS.into_iter().zip(FILES) {
        let data = data_of(record, form);
        assert_eq!(objection(name, &naive::parsed(&data)), None, "{name}: {data}");
    }
}

#[test]
fn the_data_of_every_hard_record_is_as_its_schema_says() {
    hard_records().iter().for_each(assert_described);
}

#[test]
fn the_samples_of_the_originals_are_as_the_schemas_say() {
    for (name, file) in [
        ("triggermesh", include_str!("../../../../tests/data/triggermesh-record.json")),
        ("integration-source", include_str!("../../../../tests/data/integration-source-record.json")),
        ("dynamodb-json", include_str!("../../../../tests/data/lambda-record.json")),
    ] {
        let bodies = bodies(file).into_iter().filter(|body| body.starts_with("{\"event") || body.starts_with("{\"Aws"));
        let whole_seconds = bodies.filter(|body| name != "dynamodb-json" || !body.contains(".789,"));
        for body in whole_seconds {
            assert_eq!(objection(name, &naive::parsed(body)), None, "{name}: {body}");
        }
    }
}

proptest! {
    #[test]
    fn the_data_of_every_record_is_as_its_schema_says(json in generator::record(), choices: Choices) {
        assert_described(&record(&json.write(choices)));
    }
}

#[test]
fn the_data_of_every_gap_is_as_its_schema_says() {
    let position: Option<crate::records::SequenceNumber> =
        Some("300000000000000499659".parse().expect("a sequence number"));
    let reasons = [LossReason::Trimmed, LossReason::ShardMissing, LossReason::StreamMissing, LossReason::Undecodable];
    for (reason, shard) in reasons.into_iter().zip([Some("shardId-1"), Some("shardId-2"), None, Some("shardId-3")]) {
        for (after, before) in [(None, None), (position, None), (position, position)] {
            let gap = Gap {
                table_arn: TABLE.to_owned(),
                stream_arn: format!("{TABLE}/stream/2026-01-02T03:04:05.678"),
                shard: shard.map(str::to_owned),
                after: after.map(Into::into),
                before,
                lost: None,
                reason,
                lanes: before.map(|_| 2),
                resume: None,
            };
            let data =
                encode_gap(&gap, &Packaging::new(EventMode::Binary, &Default::default()), std::time::UNIX_EPOCH, &[])
                    .body;
            let data: Value = serde_json::from_slice(&data).expect("JSON");
            assert_eq!(objection("gap", &data), None, "{data}");
        }
    }
}

/// A value with one part replaced, or removed where `by` is nothing.
fn changed(value: &Value, path: &str, by: Option<Value>) -> Value {
    let mut value = value.clone();
    let (parent, name) = path.rsplit_once('/').expect("a JSON pointer");
    let parent = value.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
    match by {
        Some(by) => drop(parent.insert(name.to_owned(), by)),
        None => drop(parent.remove(name).expect("it was there")),
    }
    value
}

#[track_caller]
fn assert_refused(name: &str, good: &Value, changes: &[(&str, Option<Value>)]) {
    assert_eq!(objection(name, good), None);
    for (path, by) in changes {
        let bad = changed(good, path, by.clone());
        assert!(objection(name, &bad).is_some(), "{name} takes {by:?} at {path}");
    }
}

fn first_data(form: (EventProfile, EventData)) -> Value {
    naive::parsed(&data_of(&hard_records()[0], form))
}

#[test]
fn the_schema_of_dynamodb_json_refuses_what_a_lambda_function_does_not_get() {
    let missing = ["/eventID", "/eventName", "/awsRegion", "/eventSourceARN", "/dynamodb", "/dynamodb/Keys"];
    let missing =
        missing.into_iter().chain(["/dynamodb/SequenceNumber", "/dynamodb/SizeBytes"]).map(|path| (path, None));
    let wrong = [
        ("/eventName", json!("READ")),
        ("/dynamodb/ApproximateCreationDateTime", json!(1_767_323_051.789)),
        ("/dynamodb/ApproximateCreationDateTime", json!("2026-01-02T03:04:05Z")),
        ("/dynamodb/SequenceNumber", json!(7)),
        ("/dynamodb/SequenceNumber", json!("later")),
        ("/dynamodb/SizeBytes", json!(-1)),
        ("/dynamodb/StreamViewType", json!("ALL")),
        ("/dynamodb/Keys", json!({})),
        ("/dynamodb/Keys/line", json!({"BOOL": true})),
        ("/dynamodb/OldImage", json!(null)),
        ("/dynamodb/NewImage/number", json!({"N": "many"})),
        ("/dynamodb/NewImage/number", json!({"N": 1})),
        ("/dynamodb/NewImage/string", json!("plain")),
        ("/dynamodb/NewImage/string", json!({"S": "x", "N": "1"})),
        ("/dynamodb/NewImage/string", json!({})),
        ("/dynamodb/NewImage/string", json!({"s": "x"})),
        ("/dynamodb/NewImage/binary", json!({"B": "?"})),
        ("/dynamodb/NewImage/list", json!({"L": ["x"]})),
        ("/dynamodb/NewImage/map", json!({"M": {"a": {"M": {"b": 1}}}})),
    ];
    let wrong = wrong.into_iter().map(|(path, by)| (path, Some(by)));
    assert_refused("dynamodb-json", &first_data(DYNAMODB_JSON), &missing.chain(wrong).collect::<Vec<_>>());
}

#[test]
fn the_schema_of_plain_json_refuses_what_is_no_change() {
    assert_refused(
        "json",
        &first_data(JSON),
        &[
            ("/operation", None),
            ("/keys", None),
            ("/operation", Some(json!("insert"))),
            ("/keys", Some(json!({}))),
            ("/keys", Some(json!({"a": 1, "b": 2, "c": 3}))),
            ("/keys/line", Some(json!(true))),
            ("/keys/line", Some(json!({"N": "7"}))),
            ("/new", Some(json!(null))),
            ("/new", Some(json!([]))),
            ("/old", Some(json!("x"))),
        ],
    );
}

#[test]
fn the_schema_of_triggermesh_refuses_what_the_original_does_not_send() {
    assert_refused(
        "triggermesh",
        &first_data(TRIGGERMESH),
        &[
            ("/UserIdentity", None),
            ("/Dynamodb/OldImage", None),
            ("/Dynamodb/OldImage", Some(json!("none"))),
            ("/Later", Some(json!(null))),
            ("/eventID", Some(json!("e"))),
            ("/EventID", Some(json!(null))),
            ("/Dynamodb/ApproximateCreationDateTime", Some(json!(1_767_323_045))),
            ("/Dynamodb/ApproximateCreationDateTime", Some(json!("2026-01-02T03:04:05.780Z"))),
            ("/Dynamodb/Keys/line/N", Some(json!(null))),
            ("/Dynamodb/Keys/line/BS", None),
            ("/Dynamodb/Keys/line/S", Some(json!("x"))),
            ("/Dynamodb/NewImage/string/N", Some(json!("1"))),
            ("/Dynamodb/NewImage/string/S", Some(json!(1))),
            ("/Dynamodb/NewImage/string", Some(json!({"S": "x"}))),
            ("/Dynamodb/NewImage/binarySet/BS", Some(json!([[1]]))),
            ("/Dynamodb/NewImage/list/L", Some(json!(["x"]))),
        ],
    );
}

#[test]
fn the_schema_of_the_integration_source_refuses_what_the_original_does_not_send() {
    assert_refused(
        "integration-source",
        &first_data(INTEGRATION_SOURCE),
        &[
            ("/dynamodb/oldImage", None),
            ("/dynamodb/oldImage", Some(json!(null))),
            ("/userIdentity", Some(json!(null))),
            ("/EventID", Some(json!("e"))),
            ("/dynamodb/approximateCreationDateTime", Some(json!(1_767_323_045_789_i64))),
            ("/dynamodb/keys/line/type", None),
            ("/dynamodb/keys/line/type", Some(json!("S"))),
            ("/dynamodb/keys/line/ss", None),
            ("/dynamodb/keys/line/s", Some(json!("x"))),
            ("/dynamodb/newImage/null/type", Some(json!("NULL"))),
            ("/dynamodb/newImage/emptyList/nul", Some(json!(true))),
            ("/dynamodb/newImage/binary/b", Some(json!("AAE="))),
            ("/dynamodb/newImage/binary/b", Some(json!({"bytes": [128]}))),
            ("/dynamodb/newImage/string", Some(json!({"s": "x"}))),
        ],
    );
}

#[test]
fn the_schema_of_gaps_refuses_what_is_no_gap() {
    let good = json!({
        "table": "Orders", "stream": "arn", "shard": null, "after": "1", "before": null, "reason": "trimmed", "lanes": 2,
    });
    let missing = ["/table", "/stream", "/shard", "/after", "/before", "/reason", "/lanes"].map(|path| (path, None));
    let wrong = [
        ("/reason", json!("lost")),
        ("/after", json!(1)),
        ("/before", json!("x")),
        ("/table", json!(null)),
        ("/lanes", json!("2")),
    ];
    assert_refused(
        "gap",
        &good,
        &missing.into_iter().chain(wrong.map(|(path, by)| (path, Some(by)))).collect::<Vec<_>>(),
    );
}

#[test]
fn what_is_no_attribute_value_does_not_match_the_schemas_that_name_its_types() {
    for unknown in malformed::UNKNOWN {
        // JSON readers keep the last of two members with one name, and then it looks right.
        if unknown.contains(r#""S":"x","S""#) {
            continue;
        }
        let record = record_of(&format!(r#"{{"a":{unknown}}}"#));
        for (form, (name, _)) in FORMS.into_iter().zip(FILES) {
            let refused = objection(name, &naive::parsed(&data_of(&record, form))).is_some();
            assert_eq!(refused, form != JSON, "{name}: {unknown}");
        }
    }
}

#[test]
fn every_schema_says_what_it_and_each_of_its_members_are() {
    for (name, text) in FILES {
        let schema = naive::parsed(text);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert!(schema["title"].is_string(), "{name} has no title");
        assert_members_described(&schema, &schema, name);
    }
}

/// A schema, and every part of it that has a name, is described.
fn assert_members_described(root: &Value, schema: &Value, place: &str) {
    assert!(description(root, schema).is_some(), "{place} has no description");
    let members = ["properties", "$defs"].into_iter().filter_map(|group| schema.get(group)?.as_object());
    for (name, member) in members.flatten() {
        assert_members_described(root, member, &format!("{place}/{name}"));
    }
}

fn description<'s>(root: &'s Value, schema: &'s Value) -> Option<&'s str> {
    let own = schema.get("description").and_then(Value::as_str);
    own.or_else(|| description(root, root.pointer(schema.get("$ref")?.as_str()?.strip_prefix('#')?)?))
}
