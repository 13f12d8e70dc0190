//! The sink of an adapter that posts too much, too little or too late, or does not listen.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dynamodb_streams_adapter::event::Message;
use dynamodb_streams_adapter::sink::{BodyEnd, Sink, SinkResponse};
use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::time::sleep;

use super::{Sabotage, is_each};

pub struct BentSink {
    sabotage: Sabotage,
    sink: Arc<dyn Sink>,
    posts: AtomicU32,
    before: Mutex<Option<Message>>,
}

impl BentSink {
    pub fn new(sabotage: Sabotage, sink: Arc<dyn Sink>) -> Self {
        Self { sabotage, sink, posts: AtomicU32::new(0), before: Mutex::default() }
    }

    fn swap_before(&self, message: Message) -> Option<Message> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner).replace(message)
    }
}

impl Sink for BentSink {
    fn post(&self, message: Message, timeout: Duration) -> BoxFuture<'_, SinkResponse> {
        Box::pin(async move {
            match self.sabotage {
                Sabotage::PostsTwice => {
                    self.sink.post(message.clone(), timeout).await;
                }
                Sabotage::PostsTheOneBeforeAgain => {
                    let response = self.sink.post(message.clone(), timeout).await;
                    if let Some(before) = self.swap_before(message) {
                        self.sink.post(before, timeout).await;
                    }
                    return response;
                }
                Sabotage::PostsNotAll if is_each(20, &self.posts) => return accepted(),
                Sabotage::TakesRefusalForSuccess => {
                    self.sink.post(message, timeout).await;
                    return accepted();
                }
                Sabotage::PostsWithoutWaiting => {
                    let sink = self.sink.clone();
                    tokio::spawn(async move { sink.post(message, timeout).await });
                    return accepted();
                }
                Sabotage::PostsLate => sleep(Duration::from_secs(60)).await,
                Sabotage::APostHangs if is_each(10, &self.posts) => std::future::pending().await,
                _ => {}
            }
            self.sink.post(message, timeout).await
        })
    }
}

fn accepted() -> SinkResponse {
    SinkResponse::Accepted { status: StatusCode::OK, body: Bytes::new(), end: BodyEnd::Whole }
}
