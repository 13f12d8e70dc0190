//! A shop: orders are placed, paid, packed and shipped; some are cancelled.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType,
};

use crate::Failure;
use crate::story::Story;

const TABLE: &str = "Orders";
const STATES: [&str; 4] = ["PLACED", "PAID", "PACKED", "SHIPPED"];
/// So many orders are under way at once.
const OPEN_ORDERS: usize = 6;

pub struct Shop {
    client: Client,
    orders: Mutex<Orders>,
}

struct Orders {
    open: Vec<Order>,
    next: u64,
}

#[derive(Clone)]
struct Order {
    number: u64,
    changes: u64,
}

impl Shop {
    /// Creates the table with its stream.
    pub async fn open(endpoint: &str) -> Result<Self, Failure> {
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("demo", "demo", None, None, "demo"))
            .endpoint_url(endpoint)
            .load()
            .await;
        let client = Client::new(&config);
        let key = KeySchemaElement::builder().attribute_name("orderId").key_type(KeyType::Hash).build()?;
        let attribute =
            AttributeDefinition::builder().attribute_name("orderId").attribute_type(ScalarAttributeType::S).build()?;
        let stream = StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::NewAndOldImages)
            .build()?;
        client
            .create_table()
            .table_name(TABLE)
            .key_schema(key)
            .attribute_definitions(attribute)
            .billing_mode(BillingMode::PayPerRequest)
            .stream_specification(stream)
            .send()
            .await?;
        Ok(Self { client, orders: Mutex::new(Orders { open: Vec::new(), next: 1001 }) })
    }

    /// Moves some order on, or places a new one.
    pub async fn next_change(&self, story: &Story) -> Result<(), Failure> {
        let order = self.pick();
        let state = STATES.get(order.changes as usize - 1);
        let cancelled = order.changes == 3 && order.number.is_multiple_of(5);
        story.written(order.number, order.changes);
        match state {
            Some(state) if !cancelled => self.put(&order, state).await,
            _ => self.cancel(&order).await,
        }
    }

    /// The order's next change. Orders that are shipped or cancelled by it are not open any more.
    fn pick(&self) -> Order {
        let mut orders = self.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let index = fastrand::usize(0..OPEN_ORDERS);
        if index >= orders.open.len() {
            let number = orders.next;
            orders.next += 1;
            let order = Order { number, changes: 1 };
            orders.open.push(order.clone());
            return order;
        }
        orders.open[index].changes += 1;
        let order = orders.open[index].clone();
        if order.changes == 4 || (order.changes == 3 && order.number.is_multiple_of(5)) {
            orders.open.remove(index);
        }
        order
    }

    async fn put(&self, order: &Order, state: &str) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        self.client
            .put_item()
            .table_name(TABLE)
            .item("orderId", AttributeValue::S(order.number.to_string()))
            .item("state", AttributeValue::S(state.to_owned()))
            .item("change", AttributeValue::N(order.changes.to_string()))
            .item("writtenAt", AttributeValue::N(now.to_string()))
            .send()
            .await?;
        Ok(())
    }

    async fn cancel(&self, order: &Order) -> Result<(), Failure> {
        let key = AttributeValue::S(order.number.to_string());
        self.client.delete_item().table_name(TABLE).key("orderId", key).send().await?;
        Ok(())
    }
}
