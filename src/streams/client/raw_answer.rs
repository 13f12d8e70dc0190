//! Keeps what the SDK would decode or throw away: the raw body of `GetRecords`, and the date of an answer.
//!
//! Decoding 1,000 records into the SDK's types and encoding them again is most of what an adapter built the usual way
//! spends its time on. This interceptor stores a response deserializer of its own, which keeps the body of a success as
//! it came and hands everything else to the SDK's own deserializer: retries, signing, endpoints and typed errors stay
//! the SDK's.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodbstreams::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeSerializationInterceptorContextMut,
};
use aws_sdk_dynamodbstreams::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodbstreams::error::BoxError;
use aws_sdk_dynamodbstreams::operation::get_records::{GetRecords, GetRecordsOutput};
use aws_smithy_runtime_api::client::interceptors::context::{Error, Output};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::FrozenLayer;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;

/// Where one call's answer is put.
#[derive(Debug, Clone)]
pub(super) struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Slot<T> {
    fn put(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    /// What was put there last.
    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Keeps the body of a successful `GetRecords` in its slot; the typed output stays empty.
#[derive(Debug, Default)]
pub(super) struct KeepBody(pub(super) Slot<Bytes>);

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for KeepBody {
    fn name(&self) -> &'static str {
        "KeepBody"
    }

    fn modify_before_serialization(
        &self,
        _context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // The operation's own layer holds the deserializer that this one stands before.
        let stock = GetRecords::new().config().ok_or("GetRecords has no configuration")?;
        let keeping = SharedResponseDeserializer::new(Keeping {
            stock,
            body: self.0.clone(),
        });
        config.interceptor_state().store_put(keeping);
        Ok(())
    }
}

#[derive(Debug)]
struct Keeping {
    stock: FrozenLayer,
    body: Slot<Bytes>,
}

impl DeserializeResponse for Keeping {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        config: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        match whole(response.body()) {
            Some(body) if response.status().as_u16() == 200 => {
                self.body.put(body);
                Ok(Output::erase(GetRecordsOutput::builder().build()))
            }
            _ => match self.stock.load::<SharedResponseDeserializer>() {
                Some(stock) => stock.deserialize_nonstreaming_with_config(response, config),
                None => Err(OrchestratorError::other("GetRecords has no deserializer")),
            },
        }
    }
}

/// A body that was read whole, shared rather than copied.
fn whole(body: &SdkBody) -> Option<Bytes> {
    match body.try_clone() {
        Some(shared) => Some(shared.collect().now_or_never()?.ok()?.to_bytes()),
        None => body.bytes().map(Bytes::copy_from_slice),
    }
}

/// Keeps the `Date` of an answer: AWS's clock, whatever this machine's says.
#[derive(Debug, Default)]
pub(super) struct KeepDate(pub(super) Slot<String>);

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for KeepDate {
    fn name(&self) -> &'static str {
        "KeepDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.0.put(date.to_owned());
        }
        Ok(())
    }
}
