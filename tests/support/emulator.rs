//! A DynamoDB that others wrote, which a script has started: its tables, and what is written to them.

use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType,
};

use super::adapter::Plan;
use super::sink::TestSink;

/// Where it listens is said by a variable of the environment.
pub struct Emulator {
    pub client: Client,
    pub endpoint: String,
}

impl Emulator {
    pub async fn at(variable: &str) -> Self {
        let endpoint = std::env::var(variable)
            .unwrap_or_else(|_| panic!("{variable} is not set: the `run` beside the test sets it"));
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .endpoint_url(&endpoint)
            .load()
            .await;
        Self { client: Client::new(&config), endpoint }
    }

    /// An adapter that reads a table of it.
    pub fn plan(&self, sink: &TestSink, table: &str) -> Plan {
        Plan::at(&self.endpoint, sink, table)
    }

    /// A table with a stream, whose items are known by `id`.
    pub async fn create(&self, table: &str) {
        let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build().unwrap();
        let attribute =
            AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S).build().unwrap();
        let request = self.client.create_table().table_name(table).key_schema(key).attribute_definitions(attribute);
        request.billing_mode(BillingMode::PayPerRequest).stream_specification(stream(true)).send().await.unwrap();
    }

    /// Its stream is on or off; each time it is switched on it is another one.
    pub async fn enable(&self, table: &str, enabled: bool) {
        let request = self.client.update_table().table_name(table).stream_specification(stream(enabled));
        request.send().await.unwrap();
    }

    /// Each item gets versions `from` to `to`.
    pub async fn write(&self, table: &str, items: usize, from: u64, to: u64) {
        for version in from..=to {
            for item in 0..items {
                let request =
                    self.client.put_item().table_name(table).item("id", AttributeValue::S(format!("item-{item}")));
                request.item("version", AttributeValue::N(version.to_string())).send().await.unwrap();
            }
        }
    }

    pub async fn delete(&self, table: &str, item: &str) {
        let key = AttributeValue::S(item.to_owned());
        self.client.delete_item().table_name(table).key("id", key).send().await.unwrap();
    }
}

fn stream(enabled: bool) -> StreamSpecification {
    let builder = StreamSpecification::builder().stream_enabled(enabled);
    let builder = if enabled { builder.stream_view_type(StreamViewType::NewAndOldImages) } else { builder };
    builder.build().unwrap()
}
