//! One event that says what it is, posted as the adapter posts all others.

use std::time::Duration;

use cloudevents::message::BinaryDeserializer as _;
use cloudevents::{EventBuilder as _, EventBuilderV10};
use serde_json::json;
use tokio::task::JoinSet;

use super::EVENT;
use crate::check::report::Check;
use crate::clock;
use crate::config::{Config, EventMode};
use crate::event::Message;
use crate::event::http::{BinaryMode, StructuredMode, batch};
use crate::sink::{HttpSink, Sink as _, SinkResponse, SinkSettings};

/// The event's type.
const TYPE: &str = "com.amazonaws.dynamodb.check";

/// Its source where no table is named by an ARN.
const SOURCE: &str = "dynamodb-streams-adapter";

/// Posts it, once.
pub(super) async fn send(config: &Config, limit: Duration) -> Check {
    let (sink, reloader) = match HttpSink::new(SinkSettings { concurrency: 1, ..SinkSettings::for_sink(config) }) {
        Ok(made) => made,
        Err(error) => return Check::fail(EVENT, &error.to_string()),
    };
    let id = format!("check-{:032x}", fastrand::u128(..));
    let message = match message(config, &id) {
        Ok(message) => message,
        Err(error) => return Check::fail(EVENT, &format!("the test event cannot be created: {error}")),
    };
    let mut reloading = JoinSet::new();
    reloading.spawn(reloader.run());
    let response = sink.post(message, limit).await;
    reloading.shutdown().await;
    judge(&id, response)
}

fn judge(id: &str, answer: SinkResponse) -> Check {
    let remedy = "search the sink's log for the event";
    match answer {
        SinkResponse::Accepted { status, .. } => {
            Check::ok(EVENT, &format!("{TYPE} with id {id} was accepted with {}", status.as_u16()))
        }
        SinkResponse::Refused { status, .. } => {
            let detail = format!("{TYPE} with id {id} was refused with {}", status.as_u16());
            Check::fail(EVENT, &detail).mended_by(format!("{remedy} {id}"))
        }
        SinkResponse::Failed { message, .. } => {
            let detail = format!("{TYPE} with id {id} may not have arrived: {message}");
            Check::fail(EVENT, &detail).mended_by(format!("{remedy} {id}"))
        }
    }
}

fn message(config: &Config, id: &str) -> Result<Message, Box<dyn std::error::Error>> {
    let tables: Vec<&str> = config.source.tables.iter().map(|table| table.as_str()).collect();
    let source = config.source.tables.iter().find_map(|table| table.table_arn()).unwrap_or(SOURCE);
    let event = EventBuilderV10::new()
        .id(id)
        .ty(TYPE)
        .source(source)
        .time(chrono::DateTime::<chrono::Utc>::from(clock::now()))
        .data("application/json", json!({ "tables": tables }));
    let overrides = config.event.overrides.iter();
    let event = overrides.fold(event, |event, (name, value)| event.extension(name, value.clone())).build()?;
    Ok(match config.event.mode {
        EventMode::Binary => event.deserialize_binary(BinaryMode::new())?,
        EventMode::Structured => event.deserialize_binary(StructuredMode::new())?,
        EventMode::Batch => batch(std::iter::once(&event.deserialize_binary(StructuredMode::new())?)),
    })
}
