//! The store against an embedded DynamoDB, whose answers nobody here has written, and against answers as AWS words them.

use std::net::SocketAddr;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use axum::Router;
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::aws::{ACTIONS, AwsItems, TableFacts, definition};
use super::*;

const POSITIONS: &str = "positions";

/// A service that is there until it is dropped.
struct Service(JoinHandle<()>);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn config_for(address: SocketAddr) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .empty_test_environment()
        .endpoint_url(format!("http://{address}"))
        .region(Region::new("eu-west-1"))
        .credentials_provider(aws_credential_types::Credentials::new("key", "secret-key", None, None, "test"))
        .load()
        .await
}

async fn embedded() -> (Service, SdkConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let database = dynoxide::Database::memory().unwrap();
    let server = tokio::spawn(dynoxide::server::serve_with_shutdown(listener, database, std::future::pending::<()>()));
    let server = tokio::spawn(async move { drop(server.await) });
    (Service(server), config_for(address).await)
}

/// A service that answers every request so.
async fn answering(status: u16, body: &'static str) -> (Service, SdkConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move || async move { (StatusCode::from_u16(status).unwrap(), body) };
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
    (Service(server), config_for(address).await)
}

fn store_in(config: &SdkConfig, creates: bool) -> DynamoStore {
    let items = AwsItems::for_positions(config, POSITIONS, creates);
    let leases = AwsItems::for_leases(config, POSITIONS, creates, LEASE);
    DynamoStore::new("default", Arc::new(items), Arc::new(leases))
}

#[tokio::test]
async fn positions_and_leases_live_in_a_real_table() {
    let (_service, config) = embedded().await;
    let items = AwsItems::for_positions(&config, POSITIONS, false);
    // Two create it at once.
    let (first, second) = tokio::join!(items.create(), items.create());
    first.and(second).unwrap();
    items.create().await.unwrap();
    assert!(items.expires().await.unwrap());
    let facts = items.facts().await.unwrap().unwrap();
    assert!(facts.is_active && facts.wrong_keys.is_none(), "{facts:?}");

    let (first, second) = (store_in(&config, false), store_in(&config, false));
    let old_lease = claim(&first, "a").await;
    let old = first.positions(TABLE, &old_lease);
    assert_eq!(old.load(TABLE).await.unwrap(), None);
    let mut save = changes(&[("p", Some(finished(None))), ("c", Some(at(9, Some("p"))))]);
    save.stopped = Some(StopChange::Stop(StoredStop { why: "lost".to_owned(), at: moment() }));
    old.save(TABLE, save.clone()).await.unwrap();
    let update = changes(&[("c", Some(at(12, Some("p")))), ("p", None)]);
    old.save(TABLE, update.clone()).await.unwrap();
    first.renew(TABLE, &old_lease).await.unwrap();

    let (new, found) = own(&second, "b").await;
    assert_eq!(found, table_of(&[&save, &update]));
    let late = old.save(TABLE, changes(&[("c", Some(at(15, Some("p"))))])).await;
    assert!(matches!(late, Err(SaveError::Fenced(_))), "{late:?}");
    assert!(matches!(first.renew(TABLE, &old_lease).await, Err(LeaseError::Lost)));
    new.save(TABLE, changes(&[("d", Some(at(1, Some("c"))))])).await.unwrap();
    let all = all_positions(&items.scan().await.unwrap()).unwrap();
    assert_eq!(all["default"][TABLE], own(&first, "a").await.1.unwrap());
}

#[tokio::test]
async fn many_heads_and_pages_of_entries_come_back_as_they_were() {
    let (_service, config) = embedded().await;
    let store = store_in(&config, true);
    let shard = |id: u64| {
        let StoredShard::Unfinished(mut shard) = at(10, None) else { unreachable!("it is not finished") };
        let number = |at: u64| format!("{:021}", 300_000_000_000 + at).parse::<SequenceNumber>().unwrap().into();
        shard.newest_settled = Position::After(number(200));
        shard.heads =
            (0..120).map(|lane| (crate::records::LaneId::of_shard(&lane.to_string()), number(lane))).collect();
        (format!("{id:04}"), Some(StoredShard::Unfinished(shard)))
    };
    let shards: Vec<(String, Option<StoredShard>)> = (0..200).map(shard).collect();
    let shards: Vec<(&str, Option<StoredShard>)> = shards.iter().map(|(id, it)| (id.as_str(), it.clone())).collect();
    let (positions, _) = own(&store, "a").await;
    positions.save(TABLE, changes(&shards)).await.unwrap();
    // More than a megabyte: two pages.
    assert_eq!(own(&store, "b").await.1, table_of(&[&changes(&shards)]));
}

#[tokio::test]
async fn a_table_that_is_missing_is_created_on_request_and_else_refused_with_what_creates_it() {
    let (_service, config) = embedded().await;
    let refused = store_in(&config, false).look(TABLE).await.unwrap_err().to_string();
    for part in [&*definition(POSITIONS), "positions create-table", "CHECKPOINT_TABLE_CREATE=true", ACTIONS[3]] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let lease = HeldLease { owner: "a".to_owned(), epoch: 1, duration: LEASE };
    let refused = store_in(&config, false).positions(TABLE, &lease).load(TABLE).await.unwrap_err().to_string();
    assert!(refused.contains(&definition(POSITIONS)), "{refused}");
    let items = AwsItems::for_positions(&config, POSITIONS, false);
    assert_eq!(items.facts().await.unwrap(), None);
    assert_eq!(store_in(&config, true).look(TABLE).await.unwrap(), None);
    assert!(items.facts().await.unwrap().is_some());
}

#[tokio::test]
async fn a_table_with_other_keys_is_refused_by_their_names() {
    let (_service, config) = embedded().await;
    let tables = aws_sdk_dynamodb::Client::new(&config);
    let id = aws_sdk_dynamodb::types::AttributeDefinition::builder().attribute_name("id");
    let id = id.attribute_type(aws_sdk_dynamodb::types::ScalarAttributeType::S).build().unwrap();
    let key = aws_sdk_dynamodb::types::KeySchemaElement::builder().attribute_name("id");
    let key = key.key_type(aws_sdk_dynamodb::types::KeyType::Hash).build().unwrap();
    let table = tables.create_table().table_name(POSITIONS).attribute_definitions(id).key_schema(key);
    table.billing_mode(aws_sdk_dynamodb::types::BillingMode::PayPerRequest).send().await.unwrap();
    let items = AwsItems::for_positions(&config, POSITIONS, false);
    let Some(TableFacts { wrong_keys: Some(wrong), .. }) = items.facts().await.unwrap() else { panic!("other keys") };
    assert_eq!(wrong, "id (S, HASH)");
    let refused = items.create().await.unwrap_err().to_string();
    assert!(refused.contains("id (S, HASH)") && refused.contains("group_table (S, HASH)"), "{refused}");
    let refused = store_in(&config, false).look(TABLE).await.unwrap_err().to_string();
    assert!(refused.contains("group_table (S, HASH)"), "{refused}");
}

#[tokio::test]
async fn what_the_service_refused_is_told_from_what_may_have_happened() {
    let throttled =
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow"}"#;
    let denied = r#"{"__type":"com.amazonaws.dynamodb.v20120810#AccessDeniedException","message":"no"}"#;
    let failed = r#"{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"oh"}"#;
    let cases = [
        (400, throttled, true, "slow"),
        (400, denied, true, "dynamodb:PutItem"),
        (500, failed, false, "oh"),
        (503, "", false, "503"),
    ];
    for (status, body, is_decided, text) in cases {
        let (_service, config) = answering(status, body).await;
        let items = AwsItems::for_positions(&config, POSITIONS, false);
        let key = ItemKey { partition: "p".to_owned(), entry: "e".to_owned() };
        let write = Write { key, expected: Expected::Absent, to: Some(Members::new()) };
        let error = items.write(write).await.unwrap_err();
        assert_eq!(matches!(error, ItemError::NotDone(_)), is_decided, "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_keeps_nobody_for_longer_than_a_part_of_the_lease() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config_for(listener.local_addr().unwrap()).await;
    let lease = Duration::from_millis(500);
    let leases = AwsItems::for_leases(&config, POSITIONS, false, lease);
    let begun = tokio::time::Instant::now();
    let key = ItemKey { partition: "p".to_owned(), entry: "e".to_owned() };
    let write = Write { key, expected: Expected::Absent, to: None };
    assert!(matches!(leases.write(write).await, Err(ItemError::Unknown(_))));
    assert!(begun.elapsed() < lease, "{:?}", begun.elapsed());
}
