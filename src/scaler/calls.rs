//! KEDA's calls in the words of this program, and what replicas add to the calls that they pass on.

use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use super::answers::{Refusal, TriggerOf};
use super::externalscaler::ScaledObjectRef;
use super::standing::OtherReader;
use super::tables::NotWatched;

/// Of a call that was passed on: the run of a process that it is for. Of an error: the one that has answered so.
const READER: &str = "x-scaler-reader";

pub(super) fn asked(reference: &ScaledObjectRef) -> TriggerOf<'_> {
    TriggerOf { namespace: &reference.namespace, name: &reference.name, metadata: &reference.scaler_metadata }
}

pub(super) fn status(refusal: &Refusal) -> Status {
    let why = refusal.to_string();
    match refusal {
        Refusal::Invalid(_) | Refusal::OtherMetric(_) => Status::invalid_argument(why),
        Refusal::NotAllowed(_) => Status::permission_denied(why),
        Refusal::NotWatched(NotWatched::TooMany) | Refusal::TooManyGroups(_) => Status::resource_exhausted(why),
        Refusal::NotWatched(NotWatched::NotReading) | Refusal::Unknown(_) => Status::unavailable(why),
    }
}

/// The replica that a passed-on call is meant for; none: the call is KEDA's own.
pub(super) fn passed_on_to<T>(request: &Request<T>) -> Option<String> {
    request.metadata().get(READER).map(|value| value.to_str().unwrap_or_default().to_owned())
}

/// A call for this replica and no other.
pub(super) fn passed_on<M>(reader: &OtherReader, message: M) -> Request<M> {
    let mut request = Request::new(message);
    if let Ok(owner) = MetadataValue::try_from(&*reader.owner) {
        request.metadata_mut().insert(READER, owner);
    }
    request
}

/// The error as the one that reads gives it to a replica that has passed the call on.
pub(super) fn signed(mut status: Status, owner: &str) -> Status {
    if let Ok(owner) = MetadataValue::try_from(owner) {
        status.metadata_mut().insert(READER, owner);
    }
    status
}

/// Whether this replica has answered so, and not whatever lies between.
pub(super) fn is_signed_by(status: &Status, reader: &OtherReader) -> bool {
    status.metadata().get(READER).is_some_and(|owner| owner.as_bytes() == reader.owner.as_bytes())
}
