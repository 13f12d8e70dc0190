//! The record as an AWS Lambda function gets it.
//!
//! Members are the Lambda event's, absent ones left out; keys and images are copied byte for byte. `eventID`,
//! `eventName`, `awsRegion` and `dynamodb.SizeBytes` are always there, because `aws_lambda_events` refuses a record
//! without them, and the time is in whole seconds, because it misreads a fraction.

use super::writer::Object;
use crate::event::Stream;
use crate::records::Record;

/// More than all names and fixed members of a record need.
const FRAME: usize = 512;

/// Writes a record's data.
pub(in crate::event) fn write(stream: &Stream, record: &Record) -> Vec<u8> {
    let images = record.new_image().map_or(0, str::len) + record.old_image().map_or(0, str::len);
    let expected = FRAME + stream.stream_arn.len() + record.keys().len() + images;
    let mut data = Object::open(Vec::with_capacity(expected));
    data.text("eventID", record.event_id());
    data.text("eventName", record.operation_name());
    data.optional_text("eventVersion", record.event_version());
    data.optional_text("eventSource", record.event_source());
    data.text("awsRegion", record.region().unwrap_or(&stream.region));
    data.nested("dynamodb", |change| write_change(change, record));
    if let Some(identity) = record.identity() {
        data.nested("userIdentity", |user| {
            user.optional_text("principalId", identity.principal_id);
            user.optional_text("type", identity.kind);
        });
    }
    data.text("eventSourceARN", &stream.stream_arn);
    data.close()
}

fn write_change(change: &mut Object, record: &Record) {
    if let Some(millis) = record.created_at_millis() {
        change.number("ApproximateCreationDateTime", millis.div_euclid(1000));
    }
    change.raw("Keys", record.keys());
    change.optional_raw("NewImage", record.new_image());
    change.optional_raw("OldImage", record.old_image());
    change.raw("SequenceNumber", &format!("\"{}\"", record.sequence_number()));
    change.number("SizeBytes", record.size_bytes().unwrap_or(0));
    change.optional_text("StreamViewType", record.view_type());
}
