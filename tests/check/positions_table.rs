//! A table of positions: tried with every action that the adapter needs on it, and left as it was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::{World, failure, named, of, text};
use crate::server::{Seen, Server, answer};
use crate::support::positions_table::EmbeddedDynamoDb;

const ARN: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/positions";

/// The create line that documents and fixes have.
const CREATE: &str = "aws dynamodb create-table --table-name positions --billing-mode PAY_PER_REQUEST \
    --attribute-definitions AttributeName=group_table,AttributeType=S AttributeName=entry,AttributeType=S \
    --key-schema AttributeName=group_table,KeyType=HASH AttributeName=entry,KeyType=RANGE && \
    aws dynamodb wait table-exists --table-name positions && \
    aws dynamodb update-time-to-live --table-name positions \
    --time-to-live-specification Enabled=true,AttributeName=expires";

/// A DynamoDB that keeps one item, with what is wrong with it.
#[derive(Default)]
struct Fake {
    /// What an operation answers instead: an error's code, and its message.
    errors: BTreeMap<&'static str, (&'static str, &'static str)>,
    sort_key: Option<&'static str>,
    expiry_is_off: bool,
}

impl Fake {
    fn failing(operation: &'static str, code: &'static str) -> Self {
        Self { errors: [(operation, (code, "said so"))].into(), ..Self::default() }
    }

    async fn start(self) -> Server {
        let item = Arc::new(Mutex::new(None::<Value>));
        Server::start(move |request| {
            let operation = operation(request);
            if let Some((code, message)) = self.errors.get(&*operation) {
                return answer(400, json!({ "__type": format!("x#{code}"), "message": message }).to_string());
            }
            let input: Value = serde_json::from_str(&request.body).unwrap();
            assert_eq!(input["TableName"], "positions");
            answer(200, self.done(&operation, &input, &mut item.lock().unwrap()).to_string())
        })
        .await
    }

    fn done(&self, operation: &str, input: &Value, item: &mut Option<Value>) -> Value {
        let key = |name: &str, kind: &str| json!({ "AttributeName": name, "KeyType": kind });
        let text = |name: &str| json!({ "AttributeName": name, "AttributeType": "S" });
        let sort_key = self.sort_key.unwrap_or("entry");
        match operation {
            "DescribeTable" => json!({ "Table": {
                "TableName": "positions", "TableArn": ARN, "TableStatus": "ACTIVE",
                "KeySchema": [key("group_table", "HASH"), key(sort_key, "RANGE")],
                "AttributeDefinitions": [text("group_table"), text(sort_key)],
            } }),
            "DescribeTimeToLive" => {
                let status = if self.expiry_is_off { "DISABLED" } else { "ENABLED" };
                json!({ "TimeToLiveDescription": { "TimeToLiveStatus": status, "AttributeName": "expires" } })
            }
            "PutItem" => {
                assert!(item.is_none() && input["ConditionExpression"] == "attribute_not_exists(#entry)", "{input}");
                *item = Some(input["Item"].clone());
                json!({})
            }
            "GetItem" => json!({ "Item": item.clone().unwrap() }),
            "Query" => json!({ "Items": [item.clone().unwrap()], "Count": 1, "ScannedCount": 1 }),
            "DeleteItem" => {
                let deleted = item.take().unwrap();
                assert_eq!(input["Key"]["group_table"], deleted["group_table"]);
                json!({})
            }
            other => panic!("nobody needs {other}"),
        }
    }
}

fn operation(request: &Seen) -> String {
    request.header("x-amz-target").rsplit('.').next().unwrap_or_default().to_owned()
}

fn operations(server: &Server) -> Vec<String> {
    server.seen().iter().map(operation).collect()
}

async fn world(server: &Server) -> World {
    let world = World::new().await.env("CHECKPOINT_STORE", "dynamodb:positions");
    world.env("CHECKPOINT_ENDPOINT_URL", server.url())
}

/// The check alone, and the exit code.
async fn checked(fake: Fake, more: &[(&str, &str)]) -> (Value, Option<i32>, Server) {
    let server = fake.start().await;
    let world = more.iter().fold(world(&server).await, |world, (name, value)| world.env(name, *value));
    let (checks, code) = world.json().await;
    (of(&checks, "checkpoint-store").clone(), code, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_as_it_should_be_is_read_and_written_once_and_left_as_it_was() {
    let (check, code, server) = checked(Fake::default(), &[]).await;
    assert_eq!((code, text(&check, "result")), (Some(0), "ok"), "{check}");
    assert_eq!(text(&check, "detail"), "the table positions in eu-west-1 can be read and written");
    let all = ["DescribeTable", "PutItem", "GetItem", "Query", "DeleteItem", "DescribeTimeToLive"];
    assert_eq!(operations(&server), all);
    let put: Value = serde_json::from_str(&server.seen()[1].body).unwrap();
    let partition = put["Item"]["group_table"]["S"].as_str().unwrap();
    assert!(partition.starts_with("default dynamodb-streams-adapter-check-"), "{partition}");
    assert!(put["Item"]["expires"]["N"].is_string(), "an item that cannot be deleted would stay: {put}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_denied_action_on_positions_gives_the_statement_that_allows_it() {
    for action in ["PutItem", "GetItem", "Query", "DeleteItem"] {
        let (check, code, server) = checked(Fake::failing(action, "AccessDeniedException"), &[]).await;
        assert_eq!((code, text(&check, "result")), (Some(69), "fail"), "{check}");
        let statement: Value = serde_json::from_str(text(&check, "remedy")).unwrap();
        let expected = json!({ "Effect": "Allow", "Action": format!("dynamodb:{action}"), "Resource": ARN });
        assert_eq!(statement, expected);
        let deleted = operations(&server).contains(&"DeleteItem".to_owned());
        assert_eq!(deleted, action != "PutItem", "what was written is deleted, whatever else is denied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_use_a_table_and_not_look_at_it_is_warned_alone() {
    for action in ["DescribeTable", "DescribeTimeToLive"] {
        let (check, code, server) = checked(Fake::failing(action, "AccessDeniedException"), &[]).await;
        assert_eq!((code, text(&check, "result")), (Some(0), "warn"), "{check}");
        assert!(text(&check, "remedy").contains(&format!("dynamodb:{action}")), "{check}");
        assert!(operations(&server).contains(&"DeleteItem".to_owned()), "the actions on items were not tried");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_fails_with_the_commands_that_create_it() {
    let missing = || Fake::failing("DescribeTable", "ResourceNotFoundException");
    let (check, code, _server) = checked(missing(), &[]).await;
    assert_eq!((code, text(&check, "result")), (Some(69), "fail"));
    assert_eq!(text(&check, "remedy"), format!("export AWS_REGION=eu-west-1 && {CREATE}"));
    let (check, code, _server) = checked(missing(), &[("CHECKPOINT_TABLE_CREATE", "true")]).await;
    assert_eq!((code, text(&check, "result")), (Some(0), "warn"), "the adapter creates it: {check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_something_else_is_left_alone() {
    let (check, code, server) = checked(Fake { sort_key: Some("LeaseID"), ..Fake::default() }, &[]).await;
    assert_eq!((code, text(&check, "result")), (Some(69), "fail"));
    assert!(text(&check, "detail").contains("LeaseID (S, RANGE)"), "{check}");
    assert_eq!(operations(&server), ["DescribeTable"], "nothing is written into it");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_would_stay_for_ever_are_a_warning() {
    let (check, code, _server) = checked(Fake { expiry_is_off: true, ..Fake::default() }, &[]).await;
    assert_eq!((code, text(&check, "result")), (Some(0), "warn"));
    assert!(text(&check, "remedy").contains("aws dynamodb update-time-to-live --table-name positions"), "{check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_a_place_that_does_not_answer_says_what_to_open() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::new().await.env("CHECKPOINT_STORE", "dynamodb:positions");
    let (checks, code) = world.env("CHECKPOINT_ENDPOINT_URL", format!("http://{closed}")).json().await;
    assert_eq!((code, text(failure(&checks), "name")), (Some(69), "checkpoint-store"));
    assert!(text(failure(&checks), "remedy").contains("CHECKPOINT_ENDPOINT_URL"), "{checks:?}");
    assert_eq!(named(&checks, "ok").len(), 13, "one store's failure is nobody else's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_a_real_table_leaves_no_item_behind() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let world = World::new().await.env("CHECKPOINT_STORE", "dynamodb:positions");
    let world = world.env("CHECKPOINT_ENDPOINT_URL", dynamodb.endpoint());
    let mut command = world.plan().command();
    command.args(["positions", "create-table"]);
    let made = crate::harness::run(command).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    let (checks, code) = world.json().await;
    assert_eq!((code, text(of(&checks, "checkpoint-store"), "result")), (Some(0), "ok"), "{checks:?}");
    assert!(dynamodb.entries("positions").await.is_empty());
}
