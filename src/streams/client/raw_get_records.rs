//! `GetRecords` without the SDK's decoding of records.
//!
//! Decoding attribute values into the SDK's types and writing them out again costs ten times what a look at the body's
//! structure does, and loses how AWS wrote them. So an interceptor puts its own deserializer in the place of the
//! operation's: it makes a [`Page`] of a successful answer's body and hands everything else to the one that it
//! replaced. Retries, signing, endpoints and errors stay the SDK's.

use aws_sdk_dynamodbstreams::operation::get_records::{GetRecords, GetRecordsOutput};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{BeforeSerializationInterceptorContextMut, Error, Output};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::{ConfigBag, FrozenLayer};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;

use super::interceptors::Slot;
use crate::records::Page;

/// The operation's own configuration, which holds its deserializer; the SDK gives no other way to it.
pub(super) fn stock_configuration() -> FrozenLayer {
    GetRecords::new().config().expect("every operation of the SDK brings its configuration")
}

/// Puts [`KeepPage`] in the place of the operation's deserializer, for one call.
#[derive(Debug)]
pub(super) struct RawGetRecords {
    pub stock: FrozenLayer,
    pub page: Slot<Page>,
}

#[dyn_dispatch_hint]
impl Intercept for RawGetRecords {
    fn name(&self) -> &'static str {
        "RawGetRecords"
    }

    fn modify_before_serialization(
        &self,
        _context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let keep = KeepPage { stock: self.stock.clone(), page: self.page.clone() };
        cfg.interceptor_state().store_put(SharedResponseDeserializer::new(keep));
        Ok(())
    }
}

/// Reads a successful answer as a [`Page`] and puts it aside; the SDK gets an output without records.
#[derive(Debug)]
struct KeepPage {
    stock: FrozenLayer,
    page: Slot<Page>,
}

impl DeserializeResponse for KeepPage {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        cfg: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        if !response.status().is_success() {
            return match self.stock.load::<SharedResponseDeserializer>() {
                Some(stock) => stock.deserialize_nonstreaming_with_config(response, cfg),
                None => Err(OrchestratorError::other("the SDK's own deserializer of GetRecords is not where it was")),
            };
        }
        // A response error, unlike an operation's error, is one that the SDK tries again.
        let page = Page::parse(bytes_of(response.body())).map_err(|error| OrchestratorError::response(error.into()))?;
        self.page.put(Some(page));
        Ok(Output::erase(GetRecordsOutput::builder().build()))
    }
}

/// The body, which the SDK has loaded already, without a copy.
fn bytes_of(body: &SdkBody) -> Bytes {
    let shared = body.try_clone().and_then(|body| body.collect().now_or_never());
    match shared {
        Some(Ok(collected)) => collected.to_bytes(),
        _ => Bytes::copy_from_slice(body.bytes().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_not_copied() {
        let body = SdkBody::from(Bytes::from_static(b"a page"));
        let bytes = bytes_of(&body);
        assert_eq!(bytes, "a page");
        assert_eq!(Some(bytes.as_ptr()), body.bytes().map(<[u8]>::as_ptr));
        assert_eq!(bytes_of(&SdkBody::empty()), "");
    }

    #[test]
    fn the_operation_brings_the_deserializer_that_errors_are_handed_to() {
        assert!(stock_configuration().load::<SharedResponseDeserializer>().is_some());
    }
}
