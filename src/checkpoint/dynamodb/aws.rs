//! The table of positions in DynamoDB.
//!
//! Contract: every call ends by itself. A write is sent once: what the SDK would repeat could hide that the first one happened. What the
//! service has refused is told from what may have happened all the same.

use std::error::Error;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ReturnValuesOnConditionCheckFailure,
    ScalarAttributeType, TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::operation::BuildError;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};

use super::items::{Expected, Item, ItemError, ItemFailure, ItemKey, ItemTable, Members, Write, Written};
use crate::aws::errors::{CallError, ErrorKind, call_error};

/// The table's keys, both texts.
const PARTITION_KEY: &str = "group_table";
const SORT_KEY: &str = "entry";

/// The member by which DynamoDB deletes items.
const EXPIRES: &str = "expires";

/// The actions that the store needs on the table.
pub const ACTIONS: [&str; 4] = ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:DeleteItem"];

/// The actions that it needs besides to create the table.
pub const CREATE_ACTIONS: [&str; 3] = ["dynamodb:CreateTable", "dynamodb:DescribeTable", "dynamodb:UpdateTimeToLive"];

/// A connection to the store, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// One call about positions: a page of a query has a megabyte.
const POSITIONS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a table may take to be created, and how often it is looked at meanwhile.
const CREATION_TIMEOUT: Duration = Duration::from_mins(2);
const CREATION_LOOK: Duration = Duration::from_millis(500);

/// A call about a lease ends after this part of the lease.
const PARTS_OF_A_LEASE: u32 = 5;

/// The table of positions, by one way to it.
pub struct AwsItems {
    client: Client,
    table: String,
    /// It is created where it is missing.
    creates: bool,
}

/// What is known of a table that is to hold positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFacts {
    pub arn: Option<String>,
    /// It can be read and written.
    pub is_active: bool,
    /// What is wrong with its keys; nothing if they are as they should be.
    pub wrong_keys: Option<String>,
}

impl AwsItems {
    /// For positions. `table` is a name or an ARN; `creates`: it is created where it is missing.
    pub fn for_positions(config: &SdkConfig, table: &str, creates: bool) -> Self {
        Self::with_timeout(config, table, creates, POSITIONS_TIMEOUT)
    }

    /// For leases of this duration.
    pub fn for_leases(config: &SdkConfig, table: &str, creates: bool, lease: Duration) -> Self {
        Self::with_timeout(config, table, creates, (lease / PARTS_OF_A_LEASE).min(POSITIONS_TIMEOUT))
    }

    fn with_timeout(config: &SdkConfig, table: &str, creates: bool, timeout: Duration) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .operation_attempt_timeout(timeout)
            .operation_timeout(timeout);
        let config = Builder::from(config).retry_config(RetryConfig::disabled()).timeout_config(timeouts.build());
        Self { client: Client::from_conf(config.build()), table: table.to_owned(), creates }
    }

    /// All items of all partitions: for people who look at what is stored.
    ///
    /// # Errors
    /// As the calls of [`ItemTable`].
    pub async fn scan(&self) -> Result<Vec<Item>, ItemError> {
        let mut pages =
            self.client.scan().table_name(&self.table).consistent_read(true).into_paginator().items().send();
        let mut items = Vec::new();
        while let Some(item) = pages.next().await {
            items.extend(item.map_err(|error| self.failed("Scan", error)).map(read_item)?);
        }
        Ok(items)
    }

    /// What the table is; none if there is none.
    ///
    /// # Errors
    /// When AWS does not say.
    pub async fn facts(&self) -> Result<Option<TableFacts>, CallError> {
        match self.client.describe_table().table_name(&self.table).send().await {
            Ok(described) => Ok(described.table.as_ref().map(facts)),
            Err(error) => match call_error("DescribeTable", error) {
                CallError { kind: ErrorKind::NotFound, .. } => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Whether DynamoDB deletes what has expired.
    ///
    /// # Errors
    /// When AWS does not say.
    pub async fn expires(&self) -> Result<bool, CallError> {
        let described = self.client.describe_time_to_live().table_name(&self.table).send().await;
        let described = described.map_err(|error| call_error("DescribeTimeToLive", error))?.time_to_live_description;
        let on = |status: &TimeToLiveStatus| matches!(status, TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling);
        Ok(described.is_some_and(|it| it.time_to_live_status().is_some_and(on) && it.attribute_name() == Some(EXPIRES)))
    }

    /// Creates the table, billed by request, and lets DynamoDB delete what has expired; returns when it can be used. A table that is there
    /// is left as it is.
    ///
    /// # Errors
    /// When AWS refuses, when a table of this name has other keys, or when it takes minutes.
    pub async fn create(&self) -> Result<(), CallError> {
        match self.request_table().await {
            // Somebody else has created it, or does so now.
            Err(error) if error.code == "ResourceInUseException" => {}
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        self.wait_until_active().await?;
        if self.expires().await.unwrap_or(false) {
            return Ok(());
        }
        let expiry = TimeToLiveSpecification::builder().enabled(true).attribute_name(EXPIRES).build();
        let expiry = expiry.map_err(|error| incomplete("UpdateTimeToLive", &error))?;
        let on = self.client.update_time_to_live().table_name(&self.table).time_to_live_specification(expiry);
        match on.send().await.map_err(|error| call_error("UpdateTimeToLive", error)) {
            // Of two who switch it on the second one hears that it is on.
            Err(error) if error.message.contains("already enabled") => Ok(()),
            result => result.map(drop),
        }
    }

    async fn request_table(&self) -> Result<(), CallError> {
        let operation = "CreateTable";
        let mut request = self.client.create_table().table_name(&self.table).billing_mode(BillingMode::PayPerRequest);
        for (name, key) in [(PARTITION_KEY, KeyType::Hash), (SORT_KEY, KeyType::Range)] {
            let text = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
            let key = KeySchemaElement::builder().attribute_name(name).key_type(key).build();
            request = request
                .attribute_definitions(text.build().map_err(|error| incomplete(operation, &error))?)
                .key_schema(key.map_err(|error| incomplete(operation, &error))?);
        }
        request.send().await.map(drop).map_err(|error| call_error(operation, error))
    }

    async fn wait_until_active(&self) -> Result<(), CallError> {
        let deadline = Instant::now() + CREATION_TIMEOUT;
        loop {
            match self.facts().await? {
                Some(TableFacts { wrong_keys: Some(wrong), .. }) => {
                    return Err(unusable("CreateTable", wrong_keys(&self.table, &wrong)));
                }
                Some(TableFacts { is_active: true, .. }) => return Ok(()),
                _ if Instant::now() >= deadline => {
                    let what = format!("the table {} is not active yet; it will be, try again then", self.table);
                    return Err(unusable("CreateTable", what));
                }
                _ => sleep(CREATION_LOOK).await,
            }
        }
    }

    fn failed<E>(&self, operation: &'static str, error: SdkError<E, HttpResponse>) -> ItemError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let is_decided = is_refusal(&error);
        let error = call_error(operation, error);
        // Without credentials nothing was sent.
        match is_decided || error.code.starts_with("credentials") {
            true => ItemError::NotDone(self.failure(error)),
            false => ItemError::Unknown(self.failure(error)),
        }
    }

    fn failure(&self, error: CallError) -> ItemFailure {
        let advice = match (error.kind, error.code.as_str()) {
            (ErrorKind::NotFound, _) => Some(missing(&self.table)),
            (_, "ValidationException") => Some(right_keys(&self.table)),
            _ => None,
        };
        ItemFailure::of(error, advice.as_deref())
    }

    async fn put(&self, key: ItemKey, expected: Expected, to: Members) -> Result<Written, ItemError> {
        let Condition { text, names, values } = Condition::of(expected);
        let read_key = key.clone();
        let put = self.client.put_item().table_name(&self.table).set_item(Some(with_key(key, to)));
        let put = put.condition_expression(text).set_expression_attribute_names(names);
        let put = put.set_expression_attribute_values(values);
        match put.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld).send().await {
            Ok(_) => Ok(Written::Done),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                    self.conflict(&read_key, failed.item()).await
                }
                _ => Err(self.failed("PutItem", error)),
            },
        }
    }

    async fn delete(&self, key: ItemKey, expected: Expected) -> Result<Written, ItemError> {
        let Condition { text, names, values } = Condition::of(expected);
        let read_key = key.clone();
        let delete = self.client.delete_item().table_name(&self.table).set_key(Some(with_key(key, Map::new())));
        let delete = delete.condition_expression(text).set_expression_attribute_names(names);
        let delete = delete.set_expression_attribute_values(values);
        let delete = delete.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match delete.send().await {
            Ok(_) => Ok(Written::Done),
            Err(error) => match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(failed)) => {
                    self.conflict(&read_key, failed.item()).await
                }
                _ => Err(self.failed("DeleteItem", error)),
            },
        }
    }

    /// What an item was whose condition failed. Where the answer has none it is read: not every service tells.
    async fn conflict(
        &self,
        key: &ItemKey,
        current: Option<&Attributes<AttributeValue>>,
    ) -> Result<Written, ItemError> {
        match current.filter(|current| !current.is_empty()).cloned().and_then(read_item) {
            Some(item) => Ok(Written::Conflict(Some(item.members))),
            None => {
                let read = self.get_once(key).await;
                read.map(Written::Conflict).map_err(|error| ItemError::Unknown(ItemFailure::of(error, None)))
            }
        }
    }

    async fn get_once(&self, key: &ItemKey) -> Result<Option<Members>, CallError> {
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        let got = get.set_key(Some(with_key(key.clone(), Map::new()))).send().await;
        Ok(got.map_err(|error| call_error("GetItem", error))?.item.and_then(read_item).map(|item| item.members))
    }

    async fn get_or_create(&self, key: &ItemKey) -> Result<Option<Members>, ItemError> {
        let got = match self.get_once(key).await {
            Err(error) if error.kind == ErrorKind::NotFound && self.creates => {
                self.create().await.map_err(|error| ItemError::NotDone(ItemFailure::of(error, None)))?;
                self.get_once(key).await
            }
            got => got,
        };
        got.map_err(|error| ItemError::NotDone(self.failure(error)))
    }

    async fn query_all(&self, partition: &str) -> Result<Vec<Item>, ItemError> {
        let query = self.client.query().table_name(&self.table).consistent_read(true);
        let query = query.key_condition_expression("#partition = :partition");
        let query = query.expression_attribute_names("#partition", PARTITION_KEY);
        let query = query.expression_attribute_values(":partition", AttributeValue::S(partition.to_owned()));
        let (mut pages, mut items) = (query.into_paginator().items().send(), Vec::new());
        while let Some(item) = pages.next().await {
            items.extend(item.map_err(|error| self.failed("Query", error)).map(read_item)?);
        }
        Ok(items)
    }
}

impl ItemTable for AwsItems {
    fn get<'a>(&'a self, key: &'a ItemKey) -> BoxFuture<'a, Result<Option<Members>, ItemError>> {
        self.get_or_create(key).boxed()
    }

    fn query<'a>(&'a self, partition: &'a str) -> BoxFuture<'a, Result<Vec<Item>, ItemError>> {
        self.query_all(partition).boxed()
    }

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Written, ItemError>> {
        let Write { key, expected, to } = write;
        match to {
            Some(to) => self.put(key, expected, to).boxed(),
            None => self.delete(key, expected).boxed(),
        }
    }
}

/// Whether the service has said that it did not do what it was asked for: an error of the caller, or a throttle.
fn is_refusal<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => true,
        // What has no code is not DynamoDB's own word.
        SdkError::ServiceError(service) => service.raw().status().is_client_error() && service.err().code().is_some(),
        _ => false,
    }
}

struct Condition {
    text: &'static str,
    names: Option<Attributes<String>>,
    values: Option<Attributes<AttributeValue>>,
}

#[expect(clippy::disallowed_types, reason = "the SDK's own type; nothing here depends on its order")]
type Attributes<T> = std::collections::HashMap<String, T>;

impl Condition {
    fn of(expected: Expected) -> Self {
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        match expected {
            Expected::Absent => Self {
                text: "attribute_not_exists(#entry)",
                names: Some([pair("#entry", SORT_KEY)].into()),
                values: None,
            },
            Expected::Is(stamp) => {
                let number = |name: &str, number: u64| (name.to_owned(), AttributeValue::N(number.to_string()));
                Self {
                    text: "#epoch = :epoch AND #version = :version",
                    names: Some([pair("#epoch", "epoch"), pair("#version", "version")].into()),
                    values: Some([number(":epoch", stamp.epoch), number(":version", stamp.version)].into()),
                }
            }
        }
    }
}

fn with_key(key: ItemKey, members: Members) -> Attributes<AttributeValue> {
    let mut attributes: Attributes<AttributeValue> =
        members.into_iter().map(|(name, value)| (name, attribute(value))).collect();
    attributes.insert(PARTITION_KEY.to_owned(), AttributeValue::S(key.partition));
    attributes.insert(SORT_KEY.to_owned(), AttributeValue::S(key.entry));
    attributes
}

fn attribute(value: Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(is) => AttributeValue::Bool(is),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        Value::String(text) => AttributeValue::S(text),
        Value::Array(values) => AttributeValue::L(values.into_iter().map(attribute).collect()),
        Value::Object(members) => {
            AttributeValue::M(members.into_iter().map(|(name, value)| (name, attribute(value))).collect())
        }
    }
}

/// An item with its key; none of what has no such key.
fn read_item(attributes: Attributes<AttributeValue>) -> Option<Item> {
    let mut members: Members = attributes.into_iter().map(|(name, attribute)| (name, value(attribute))).collect();
    let mut text = |name: &str| match members.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let key = ItemKey { partition: text(PARTITION_KEY)?, entry: text(SORT_KEY)? };
    Some(Item { key, members })
}

/// What the store never writes becomes a list, which it never reads as anything.
fn value(attribute: AttributeValue) -> Value {
    match attribute {
        AttributeValue::Bool(is) => Value::Bool(is),
        AttributeValue::N(number) => number.parse::<u64>().map_or(Value::String(number), Value::from),
        AttributeValue::S(text) => Value::String(text),
        AttributeValue::M(members) => {
            Value::Object(members.into_iter().map(|(name, attribute)| (name, value(attribute))).collect())
        }
        _ => Value::Array(Vec::new()),
    }
}

fn facts(described: &TableDescription) -> TableFacts {
    let is_active = matches!(described.table_status(), Some(TableStatus::Active | TableStatus::Updating));
    let keys = described.key_schema().iter().map(|key| {
        let defined = described.attribute_definitions().iter().find(|it| it.attribute_name() == key.attribute_name());
        let kind = defined.map_or("?", |defined| defined.attribute_type().as_str());
        format!("{} ({kind}, {})", key.attribute_name(), key.key_type())
    });
    let keys = Vec::from_iter(keys).join(" and ");
    let wrong_keys = (keys != format!("{PARTITION_KEY} (S, HASH) and {SORT_KEY} (S, RANGE)")).then_some(keys);
    TableFacts { arn: described.table_arn().map(str::to_owned), is_active, wrong_keys }
}

/// What creates the table.
pub fn definition(table: &str) -> String {
    let name = table.rsplit('/').next().unwrap_or(table);
    format!(
        "aws dynamodb create-table --table-name {name} --billing-mode PAY_PER_REQUEST \
         --attribute-definitions AttributeName={PARTITION_KEY},AttributeType=S AttributeName={SORT_KEY},AttributeType=S \
         --key-schema AttributeName={PARTITION_KEY},KeyType=HASH AttributeName={SORT_KEY},KeyType=RANGE && {} && {}",
        waiting(name),
        expiry(name)
    )
}

/// What waits until a table of this name is there.
pub fn waiting(name: &str) -> String {
    format!("aws dynamodb wait table-exists --table-name {name}")
}

/// What makes DynamoDB delete the entries of finished shards of a table of this name.
pub fn expiry(name: &str) -> String {
    format!(
        "aws dynamodb update-time-to-live --table-name {name} \
         --time-to-live-specification Enabled=true,AttributeName={EXPIRES}"
    )
}

/// The statement of an IAM policy that lets the store use the table.
pub fn statement(table: &str) -> String {
    let arn = if table.starts_with("arn:") { table.to_owned() } else { format!("arn:aws:dynamodb:*:*:table/{table}") };
    let statement = serde_json::json!({ "Effect": "Allow", "Action": ACTIONS, "Resource": arn });
    statement.to_string()
}

fn missing(table: &str) -> String {
    format!(
        "the table of positions {table} does not exist in this region and account: create it with `positions create-table`, with \
         CHECKPOINT_TABLE_CREATE=true, or with `{}`; the adapter needs this IAM statement: {}",
        definition(table),
        statement(table)
    )
}

fn right_keys(table: &str) -> String {
    format!("the table of positions {table} needs the keys {PARTITION_KEY} (S, HASH) and {SORT_KEY} (S, RANGE)")
}

fn wrong_keys(table: &str, found: &str) -> String {
    format!("{}, and has others: {found}; use another table in CHECKPOINT_STORE", right_keys(table))
}

fn unusable(operation: &'static str, message: String) -> CallError {
    CallError { operation, kind: ErrorKind::Other, code: "other".to_owned(), message }
}

fn incomplete(operation: &'static str, error: &BuildError) -> CallError {
    unusable(operation, error.to_string())
}
