//! Every permission that is missing is named, alone, with the statement that grants it.

use serde_json::Value;

use crate::harness::{TABLE_ARN, World, failure, named, of, text};
use crate::support::aws::Trouble;

const DENIED: Trouble = Trouble::Error("AccessDeniedException");

async fn statement_without(action: &'static str) -> (Value, Value) {
    let world = World::new().await;
    world.aws.script().faults.always(action, DENIED);
    if action == "DescribeTable" {
        world.aws.script().faults.always("ListStreams", DENIED);
    }
    let (checks, code) = world.json().await;
    assert_eq!(code, Some(69), "{action}");
    let failed = failure(&checks).clone();
    let statement = serde_json::from_str(text(&failed, "remedy")).unwrap_or_else(|error| panic!("{error}: {failed}"));
    (failed, statement)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_denied_action_gives_the_statement_that_allows_it_and_no_other() {
    for (action, check, resource) in [
        ("DescribeTable", "table", TABLE_ARN.to_owned()),
        ("DescribeStream", "stream", format!("{TABLE_ARN}/stream/*")),
        ("GetShardIterator", "iterator", format!("{TABLE_ARN}/stream/*")),
        ("GetRecords", "records", format!("{TABLE_ARN}/stream/*")),
    ] {
        let (failed, statement) = statement_without(action).await;
        assert_eq!(text(&failed, "name"), check, "{failed}");
        let expected = serde_json::json!({
            "Effect": "Allow", "Action": format!("dynamodb:{action}"), "Resource": resource
        });
        assert_eq!(statement, expected);
        assert!(text(&failed, "detail").contains(action), "{failed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn list_streams_serves_where_describe_table_is_denied() {
    let world = World::new().await;
    world.aws.script().faults.always("DescribeTable", DENIED);
    let (checks, code) = world.json().await;
    assert_eq!((code, named(&checks, "fail")), (Some(0), vec![]));
    assert!(text(of(&checks, "table"), "detail").contains("/stream/"), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_credentials_are_not_taken_for_a_missing_permission() {
    let world = World::new().await;
    world.aws.script().faults.always("DescribeStream", Trouble::Error("ExpiredTokenException"));
    let (checks, _) = world.json().await;
    let failed = failure(&checks);
    assert!(text(failed, "remedy").starts_with("renew the credentials"), "{failed}");
}
