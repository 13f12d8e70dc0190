//! What a shard brings, entry by entry: a [`Record`], one change of one item, or a [`Gap`], where changes may be missing.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::item_key::{ItemKey, LaneId};
use super::position::{Position, RecordNumber, SequenceNumber, StreamDetails};

/// What a record costs besides its own bytes: this struct, and what is kept with it until it is settled: the event around it, its lane
/// and its place there, the entry in the table's progress, the handle that shares its page, and the allocator's slack for all of
/// these. Measured as resident memory an event (`just memory`), with an item of its own for each.
const OVERHEAD: usize = size_of::<Record>() + 1024;

/// Who deletes expired items.
///
/// Source: "Time to Live with DynamoDB Streams" in the DynamoDB developer guide.
const TTL_IDENTITY: UserIdentity<'static> =
    UserIdentity { principal_id: Some("dynamodb.amazonaws.com"), kind: Some("Service") };

/// One change of one item, as views into the page that brought it.
///
/// It keeps its page's memory alive; `detach` ends that. Printed for debugging it shows no item data.
#[derive(Clone)]
pub struct Record {
    /// The record's own text, and behind it the content of members that were sent with escapes.
    pub(super) bytes: Bytes,
    pub(super) len: usize,
    pub(super) operation: Operation,
    pub(super) sequence_number: SequenceNumber,
    pub(super) created_at: Option<i64>,
    pub(super) size_bytes: Option<u64>,
    pub(super) event_id: Span,
    pub(super) keys: Span,
    /// In the order of `keys`.
    pub(super) item_key: ItemKey<Span>,
    pub(super) new_image: Option<Span>,
    pub(super) old_image: Option<Span>,
    pub(super) event_version: Option<Span>,
    pub(super) event_source: Option<Span>,
    pub(super) region: Option<Span>,
    pub(super) view_type: Option<Span>,
    pub(super) identity: Option<(Option<Span>, Option<Span>)>,
}

/// Who made a change, where that was not the application: `userIdentity` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserIdentity<'a> {
    /// `PrincipalId`.
    pub(crate) principal_id: Option<&'a str>,
    /// `Type`.
    pub(crate) kind: Option<&'a str>,
}

impl Record {
    /// `eventID`: globally unique, and the same at every read.
    pub(crate) fn event_id(&self) -> &str {
        self.event_id.of(&self.bytes)
    }

    pub(crate) fn operation(&self) -> Operation {
        self.operation
    }

    /// `eventName`: `INSERT`, `MODIFY` or `REMOVE`.
    pub(crate) fn operation_name(&self) -> &'static str {
        self.operation.name()
    }

    pub(crate) fn event_version(&self) -> Option<&str> {
        self.text(self.event_version)
    }

    /// `eventSource`: `aws:dynamodb`.
    pub(crate) fn event_source(&self) -> Option<&str> {
        self.text(self.event_source)
    }

    /// `awsRegion`.
    pub(crate) fn region(&self) -> Option<&str> {
        self.text(self.region)
    }

    /// The record's place in its shard.
    pub(crate) fn sequence_number(&self) -> SequenceNumber {
        self.sequence_number
    }

    /// `ApproximateCreationDateTime`, which AWS rounds down to the second; absent where none was sent.
    pub(crate) fn created_at(&self) -> Option<SystemTime> {
        let since_epoch = Duration::from_millis(u64::try_from(self.created_at?).ok()?);
        SystemTime::UNIX_EPOCH.checked_add(since_epoch)
    }

    /// The same in milliseconds since 1970.
    pub(crate) fn created_at_millis(&self) -> Option<i64> {
        self.created_at
    }

    /// The item's key, raw JSON text exactly as it was sent.
    pub(crate) fn keys(&self) -> &str {
        self.keys.of(&self.bytes)
    }

    /// The item's key, its attributes in the order in which `schema` names them, partition key first; in the byte order
    /// of their names where `schema` does not name exactly these.
    pub(crate) fn item_key<S: AsRef<str>>(&self, schema: &[S]) -> ItemKey<&str> {
        self.item_key.map(|place| place.of(&self.bytes)).ordered_by(schema)
    }

    /// The lane of the record's item: the same in every build and for all of the table's streams.
    pub fn lane_id(&self) -> LaneId {
        self.item_key.map(|place| place.of(&self.bytes)).lane_id()
    }

    /// The item after the change, raw JSON text of an object exactly as it was sent.
    pub(crate) fn new_image(&self) -> Option<&str> {
        self.text(self.new_image)
    }

    /// The item before the change, raw JSON text of an object exactly as it was sent.
    pub(crate) fn old_image(&self) -> Option<&str> {
        self.text(self.old_image)
    }

    /// The same three as bytes, for who only copies them: a look at a text makes sure that it is one.
    pub(crate) fn keys_as_sent(&self) -> &[u8] {
        self.keys.bytes_of(&self.bytes)
    }

    pub(crate) fn new_image_as_sent(&self) -> Option<&[u8]> {
        self.new_image.map(|image| image.bytes_of(&self.bytes))
    }

    pub(crate) fn old_image_as_sent(&self) -> Option<&[u8]> {
        self.old_image.map(|image| image.bytes_of(&self.bytes))
    }

    /// Bytes of both images' text.
    pub(crate) fn images_len(&self) -> usize {
        [self.new_image, self.old_image].into_iter().flatten().map(|image| image.len as usize).sum()
    }

    /// `SizeBytes`, AWS's own measure of the record.
    pub(crate) fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }

    /// `StreamViewType`: `KEYS_ONLY`, `NEW_IMAGE`, `OLD_IMAGE` or `NEW_AND_OLD_IMAGES`.
    pub(crate) fn view_type(&self) -> Option<&str> {
        self.text(self.view_type)
    }

    /// `userIdentity`; absent on changes that the application made.
    pub(crate) fn identity(&self) -> Option<UserIdentity<'_>> {
        let (principal_id, kind) = self.identity?;
        Some(UserIdentity { principal_id: self.text(principal_id), kind: self.text(kind) })
    }

    /// Whether DynamoDB itself removed the item because its time to live had passed.
    pub(crate) fn is_ttl_delete(&self) -> bool {
        self.operation == Operation::Remove && self.identity() == Some(TTL_IDENTITY)
    }

    /// The whole record, raw JSON text exactly as it was sent.
    #[cfg(test)]
    pub(crate) fn raw(&self) -> &str {
        text_of(&self.bytes[..self.len])
    }

    /// Bytes of its own text; never 0.
    #[expect(clippy::len_without_is_empty, reason = "no record is empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory to count for holding this record: its text and a fixed overhead. The sum over a page's records
    /// is at least the page's own memory, as long as that is mostly records.
    pub(crate) fn cost(&self) -> usize {
        // Long texts leave more of a page, and of what is allocated for a copy, unused.
        self.bytes.len() + self.bytes.len() / 16 + OVERHEAD
    }

    /// Copies the record out of its page, so that the page's memory can be freed while this record must be kept.
    pub(crate) fn detach(&mut self) {
        self.bytes = Bytes::copy_from_slice(&self.bytes);
    }

    fn text(&self, span: Option<Span>) -> Option<&str> {
        span.map(|span| span.of(&self.bytes))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("event_id", &self.event_id())
            .field("operation", &self.operation)
            .field("sequence_number", &self.sequence_number)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// What happened to the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// `INSERT`
    Insert,
    /// `MODIFY`
    Modify,
    /// `REMOVE`
    Remove,
}

impl Operation {
    /// The name on the wire.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Modify => "MODIFY",
            Self::Remove => "REMOVE",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Insert, Self::Modify, Self::Remove].into_iter().find(|operation| operation.name() == name)
    }
}

/// Why one record of a page could not be decoded; its neighbours could.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Undecodable {
    /// What is wrong with it; no item data.
    pub(crate) reason: String,
    /// The record's own place, where that at least could be read.
    pub(crate) sequence_number: Option<SequenceNumber>,
}

/// What a shard brings.
#[derive(Debug)]
pub enum Entry {
    Record(Record),
    /// Something is missing here.
    Gap(Gap),
}

impl Entry {
    /// What it takes of the buffer until it is settled, in bytes.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Entry::Record(record) => record.cost(),
            Entry::Gap(_) => Gap::COST,
        }
    }

    /// Whether reading stops here.
    pub(crate) fn stops(&self) -> bool {
        matches!(self, Entry::Gap(Gap { resume: None, .. }))
    }
}

/// A place in a stream where continuity cannot be proved: changes may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub(crate) table_arn: String,
    pub(crate) stream_arn: String,
    /// The shard; none where the whole stream is gone.
    pub(crate) shard: Option<String>,
    /// The last record before the gap; none where nothing was read before it.
    pub(crate) after: Option<RecordNumber>,
    /// The first record behind the gap, where it is known.
    pub(crate) before: Option<SequenceNumber>,
    /// The lost record's own place, where a single record is lost and its place is known.
    pub(crate) lost: Option<SequenceNumber>,
    pub(crate) reason: LossReason,
    /// How many items' lanes lost something, where that is known.
    pub(crate) lanes: Option<usize>,
    /// Where reading goes on behind the gap; none where it stops here and the position stays.
    pub(crate) resume: Option<Position>,
}

impl Gap {
    /// What a gap takes of the buffer.
    const COST: usize = 1024;

    /// A gap behind a position, after which reading goes on at that same position.
    pub(crate) fn at(stream: &StreamDetails, shard: Option<&str>, position: Position, reason: LossReason) -> Self {
        let after = match position {
            Position::After(record) => Some(record),
            Position::Start | Position::Since(_) => None,
        };
        Self {
            table_arn: stream.table_arn.clone(),
            stream_arn: stream.arn.clone(),
            shard: shard.map(str::to_owned),
            after,
            before: None,
            lost: None,
            reason,
            lanes: None,
            resume: Some(position),
        }
    }
}

/// Why data was lost, or may have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LossReason {
    /// The position has been trimmed.
    Trimmed,
    /// The shard is gone and was not read to its end.
    ShardMissing,
    /// The stream is gone and was not read to its end.
    StreamMissing,
    /// One record could not be decoded.
    Undecodable,
}

impl LossReason {
    /// The name in metrics, logs and events.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            LossReason::Trimmed => "trimmed",
            LossReason::ShardMissing => "shard-missing",
            LossReason::StreamMissing => "stream-missing",
            LossReason::Undecodable => "undecodable",
        }
    }
}

/// Where a piece of text lies in a record's own bytes. It never lies at 0, where the record's brace is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: NonZeroU32,
    len: u32,
}

impl Span {
    pub(super) fn new(range: Range<usize>) -> Option<Self> {
        let start = NonZeroU32::new(u32::try_from(range.start).ok()?)?;
        Some(Self { start, len: u32::try_from(range.len()).ok()? })
    }

    /// The text at this place.
    pub(super) fn of(self, bytes: &Bytes) -> &str {
        text_of(self.bytes_of(bytes))
    }

    fn bytes_of(self, bytes: &Bytes) -> &[u8] {
        let start = self.start.get() as usize;
        &bytes[start..start + self.len as usize]
    }
}

/// The text that `bytes` are.
fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("a record is cut out of text at the boundaries of JSON values")
}
