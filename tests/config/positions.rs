//! Where positions are stored, and what belongs to a table of them.

use std::ffi::OsString;
use std::time::Duration;

use dynamodb_streams_adapter::config::{
    CheckpointLocation, PositionsConfig, PositionsRole, PositionsTable, Warning, variables,
};

use crate::support::{accepted, all_refused, exactly, os, refused};

const ARN: &str = "arn:aws:dynamodb:eu-central-1:123456789012:table/positions";

const STORE: (&str, &str) = ("CHECKPOINT_STORE", "dynamodb:positions");

/// What belongs to a table of positions, with a value that is not the default.
const OF_THE_TABLE: [(&str, &str); 5] = [
    ("CHECKPOINT_TABLE_CREATE", "true"),
    ("CHECKPOINT_REGION", "eu-west-1"),
    ("CHECKPOINT_ENDPOINT_URL", "http://localhost:8000"),
    ("CHECKPOINT_ROLE_ARN", "arn:aws:iam::123456789012:role/positions"),
    ("LEASE_DURATION", "30s"),
];

fn table(more: &[(&str, &str)]) -> PositionsTable {
    match accepted(&[&[STORE], more].concat()).source.checkpoint {
        CheckpointLocation::DynamoDb(table) => table,
        other => panic!("no table: {other:?}"),
    }
}

#[test]
fn a_table_of_positions_is_as_the_reader_unless_something_is_said_of_it() {
    let table = table(&[]);
    assert_eq!((table.table.as_str(), table.create), ("positions", false));
    assert_eq!((&table.region, &table.endpoint_url, &table.role), (&None, &None, &PositionsRole::OfReader));
    assert_eq!(table.lease_duration, Duration::from_secs(15));
    assert_eq!(accepted(&[STORE]).warnings, [], "it needs nothing else");
}

#[test]
fn a_table_of_positions_has_its_own_region_endpoint_and_role() {
    let table = table(&OF_THE_TABLE);
    assert_eq!((table.create, table.region.as_deref()), (true, Some("eu-west-1")));
    assert_eq!(table.endpoint_url.as_deref(), Some("http://localhost:8000"));
    assert_eq!(table.role, PositionsRole::Assumed("arn:aws:iam::123456789012:role/positions".to_owned()));
    assert_eq!(table.lease_duration, Duration::from_secs(30));
}

#[test]
fn the_table_of_positions_is_named_by_a_name_or_an_arn_that_dynamodb_knows() {
    for name in ["abc", "a.b-c_D9", &"t".repeat(255), ARN, "arn:aws-cn:dynamodb:cn-north-1:1:table/positions"] {
        let config = accepted(&[("CHECKPOINT_STORE", &format!("dynamodb:{name}"))]);
        let CheckpointLocation::DynamoDb(table) = config.source.checkpoint else { panic!("{name} is no table") };
        assert_eq!(table.table.as_str(), name);
    }
    for name in ["", "ab", "a b", "tabelle/x", "päth", &"t".repeat(256), "arn:aws:dynamodb:eu-west-1:1:index/x", "//x"]
    {
        let mistake = refused(&[("CHECKPOINT_STORE", &format!("dynamodb:{name}"))]);
        assert_eq!(mistake.variable, "CHECKPOINT_STORE", "{name}");
    }
    let stream = refused(&[("CHECKPOINT_STORE", &format!("dynamodb:{ARN}/stream/2026-01-01T00:00:00.000"))]);
    assert!(stream.why.contains("the ARN of a stream"), "{stream}");
}

#[test]
fn the_region_of_an_arn_counts_and_another_one_is_refused() {
    let arn = ("CHECKPOINT_STORE", &*format!("dynamodb:{ARN}"));
    let CheckpointLocation::DynamoDb(table) = accepted(&[arn]).source.checkpoint else { panic!("no table") };
    assert_eq!(table.region.as_deref(), Some("eu-central-1"));
    accepted(&[arn, ("CHECKPOINT_REGION", "eu-central-1")]);
    let mistake = refused(&[arn, ("CHECKPOINT_REGION", "eu-west-1")]);
    assert_eq!(mistake.variable, "CHECKPOINT_REGION");
    assert!(mistake.why.contains("eu-central-1"), "{mistake}");
}

#[test]
fn a_table_that_is_read_cannot_hold_the_positions() {
    for (tables, store) in [("orders,positions", "positions"), (ARN, "positions"), (ARN, ARN), ("positions", ARN)] {
        let store = format!("dynamodb:{store}");
        let mistake = refused(&[("TABLE", tables), ("CHECKPOINT_STORE", &store)]);
        assert!(mistake.why.contains("a change to deliver"), "{tables}: {mistake}");
    }
    // A table of that name in another region, account or service is another table.
    for elsewhere in
        OF_THE_TABLE.iter().filter(|(name, _)| name.starts_with("CHECKPOINT_") && !name.ends_with("CREATE"))
    {
        accepted(&[("TABLE", "positions"), STORE, *elsewhere]);
    }
    let other = "arn:aws:dynamodb:eu-central-1:210987654321:table/positions";
    accepted(&[("TABLE", other), ("CHECKPOINT_STORE", &format!("dynamodb:{ARN}"))]);
}

#[test]
fn what_belongs_to_a_table_of_positions_is_checked_whatever_the_store_is() {
    all_refused("CHECKPOINT_TABLE_CREATE", &["yes", "1", "True", "TRUE"]);
    all_refused("CHECKPOINT_REGION", &["eu west", "-eu", "eu_west_1"]);
    all_refused("CHECKPOINT_ENDPOINT_URL", &["localhost:8000", "ftp://x/", "http://"]);
    all_refused("CHECKPOINT_ROLE_ARN", &["positions", "arn:aws:iam::1:user/x", "NONE"]);
    all_refused("LEASE_DURATION", &["15", "2999ms", "10m1ms", "soon"]);
    for edge in ["3s", "10m"] {
        accepted(&[STORE, ("LEASE_DURATION", edge)]);
    }
}

#[test]
fn the_processs_own_identity_can_be_asked_for_beside_a_role_that_reads() {
    let role = ("AWS_ASSUME_ROLE_ARN", "arn:aws:iam::210987654321:role/reader");
    assert_eq!(table(&[role, ("CHECKPOINT_ROLE_ARN", "none")]).role, PositionsRole::OfProcess);
    assert_eq!(table(&[role]).role, PositionsRole::OfReader);
}

#[test]
fn what_only_a_table_of_positions_reads_is_a_warning_without_one() {
    let unless = "CHECKPOINT_STORE=dynamodb:<table>";
    for (name, value) in OF_THE_TABLE {
        let warnings = accepted(&[(name, value), ("CHECKPOINT_STORE", "file:x")]).warnings;
        assert_eq!(warnings, [Warning::NoEffect { name, unless }]);
        assert_eq!(accepted(&[(name, value), STORE]).warnings, [], "{name}");
    }
}

#[test]
fn positions_can_be_reached_without_what_only_a_running_adapter_needs() {
    let read = |variables: &[(&str, &str)]| PositionsConfig::from_env_vars(variables.iter().copied().map(os));
    let config = read(&[STORE, ("CONSUMER_GROUP", "blue"), ("CHECKPOINT_REGION", "eu-west-1")]).expect("enough");
    assert!(matches!(config.location, CheckpointLocation::DynamoDb(_)) && config.consumer_group == "blue");
    let region = read(&[STORE, ("TABLE", "arn:aws:dynamodb:eu-west-1:1:table/orders")]).expect("enough").region;
    assert_eq!(region.as_deref(), Some("eu-west-1"));
    assert_eq!(read(&[]).expect("enough").location, CheckpointLocation::Memory);
    let mistakes = read(&[("CHECKPOINT_STORE", "dynamodb:x"), ("LEASE_DURATION", "1"), ("K_SINK", "nonsense")]);
    let named: Vec<_> = mistakes.expect_err("two mistakes").mistakes.iter().map(|mistake| mistake.variable).collect();
    assert_eq!(named, ["CHECKPOINT_STORE", "LEASE_DURATION"]);
    let nothing: [(OsString, OsString); 0] = [];
    PositionsConfig::from_env_vars(nothing).expect("nothing is required");
}

#[test]
fn a_table_of_positions_needs_no_other_variable_of_the_program() {
    let mut names: Vec<_> = variables().filter(|it| it.name.starts_with("CHECKPOINT_")).map(|it| it.name).collect();
    names.sort_unstable();
    let known = OF_THE_TABLE.iter().map(|(name, _)| *name).filter(|name| name.starts_with("CHECKPOINT_"));
    let mut expected: Vec<_> = known.chain(["CHECKPOINT_STORE"]).collect();
    expected.sort_unstable();
    assert_eq!(names, expected, "a variable of the table of positions that these tests do not know");
    exactly(&[("TABLE", "orders"), ("K_SINK", "http://x/"), STORE]).expect("enough");
}
