//! All calls against an embedded DynamoDB, whose answers nobody here has written.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType,
};
use tokio::sync::oneshot;

use super::fake::loader_for;
use crate::records::Operation;
use crate::streams::client::aws::AwsClient;
use crate::streams::client::{IteratorStart, ShardQuery, StreamStatus, StreamsClient as _};

#[tokio::test]
async fn a_change_is_read_from_table_to_record() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let config = loader_for(listener.local_addr().expect("an address")).load().await;
    let database = dynoxide::Database::memory().expect("a database");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(dynoxide::server::serve_with_shutdown(listener, database, async {
        let _ = stopped.await;
    }));
    let tables = Client::new(&config);
    create_table(&tables).await;
    let item = [("id", AttributeValue::S("a".into())), ("n", AttributeValue::N("1.50".into()))];
    let put = item.into_iter().fold(tables.put_item().table_name("Orders"), |put, (name, value)| put.item(name, value));
    put.send().await.expect("an item");

    let client = AwsClient::new(&config);
    let stream = client.describe_table("Orders").await.expect("a table").latest_stream.expect("a stream");
    assert_eq!(client.list_streams("Orders").await.expect("streams"), std::slice::from_ref(&stream));
    let described = client.describe_stream(&stream, ShardQuery::First).await.expect("a stream");
    assert_eq!((&*described.table, described.status), ("Orders", StreamStatus::Enabled));
    assert!(described.key_schema.is_empty(), "it names no key schema: whoever reads one must do without");
    let shard = &described.shards[0].id;
    let iterator = client.get_shard_iterator(&stream, shard, IteratorStart::Oldest).await.expect("an iterator");
    let page = client.get_records(&iterator, 1_000).await.expect("a page");
    let [Ok(record)] = &page.records[..] else { panic!("{page:?}") };
    assert_eq!((record.operation(), record.keys()), (Operation::Insert, r#"{"id":{"S":"a"}}"#));
    assert!(record.new_image().is_some_and(|image| image.contains(r#""n":{"N":"1.5"}"#)), "{:?}", record.new_image());
    assert!(record.created_at().is_some() && page.next_iterator.is_some());

    drop((client, tables, config));
    stop.send(()).expect("the server is still there");
    server.abort();
}

async fn create_table(tables: &Client) {
    let id = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S).build();
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build();
    let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewAndOldImages);
    let table = tables.create_table().table_name("Orders").billing_mode(BillingMode::PayPerRequest);
    let table = table.attribute_definitions(id.expect("complete")).key_schema(key.expect("complete"));
    table.stream_specification(stream.build().expect("complete")).send().await.expect("a table");
}
