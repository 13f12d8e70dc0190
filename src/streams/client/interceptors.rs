//! What a call's answer holds besides its output.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::{DateTime, Format};

/// Carries one value out of the SDK's machinery to the caller; a retry's value replaces the one before.
#[derive(Debug)]
pub(super) struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Slot<T> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn put(&self, value: Option<T>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Keeps the moment of the answer by the service's own clock: its `Date` header.
#[derive(Debug)]
pub(super) struct AnsweredAt(pub Slot<SystemTime>);

#[dyn_dispatch_hint]
impl Intercept for AnsweredAt {
    fn name(&self) -> &'static str {
        "AnsweredAt"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.put(context.response().headers().get("date").and_then(moment));
        Ok(())
    }
}

fn moment(header: &str) -> Option<SystemTime> {
    DateTime::from_str(header, Format::HttpDate).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_date_header_is_a_moment_in_whole_seconds() {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        assert_eq!(moment("Fri, 02 Jan 2026 03:04:05 GMT"), Some(expected));
        for header in ["", "soon", "2026-01-02T03:04:05Z"] {
            assert_eq!(moment(header), None, "{header}");
        }
    }
}
