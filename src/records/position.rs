//! Places: which stream and shard, and where in the shard a reader stands.
//!
//! A sequence number is a run of digits: 21 to 40 by AWS's model, 56 from LocalStack, more than any integer type holds. It is kept
//! as the text that was received, because that text is sent back, and compared as the integer that it stands for.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::clock::{parse_rfc3339, rfc3339};

/// Two moments that different machines tell are in this order only if so much time is between them.
///
/// Ids of shards, labels of streams and times of records come from different machines of AWS, and nothing says how far their clocks
/// are apart. Five minutes is how far AWS lets the clock of a signed request be off, and more than the second to which times of
/// records are rounded. Too much of it costs a few calls on shards that hold nothing; too little would lose changes.
pub(crate) const CLOCK_MARGIN: Duration = Duration::from_mins(5);

/// How long DynamoDB Streams keeps a record.
///
/// Source: "stream records have a lifetime of 24 hours" in the DynamoDB Developer Guide.
pub(crate) const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// To how many digits a sequence number is padded where it orders as text.
///
/// Source: `SequenceNumber` in the DynamoDB Streams API model, "minimum length of 21, maximum length of 40".
pub(crate) const PADDED_DIGITS: usize = 40;

/// The most digits of a sequence number. The longest that any service is known to send has 56.
const MAX_DIGITS: usize = 79;

/// A record's place in its shard: compared as an integer, kept as the text that AWS sent.
#[derive(Clone, Copy)]
pub struct SequenceNumber {
    digits: [u8; MAX_DIGITS],
    len: u8,
}

/// The text is not a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sequence number has 1 to {MAX_DIGITS} decimal digits and nothing else")]
pub struct InvalidSequenceNumber;

impl SequenceNumber {
    /// The lowest one, which AWS gives to no record.
    pub(crate) const ZERO: Self = {
        let mut digits = [0; MAX_DIGITS];
        digits[0] = b'0';
        Self { digits, len: 1 }
    };

    /// The text exactly as it was received.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.text()).expect("only ASCII digits are let in")
    }

    /// The number left-padded with zeros to so many digits, so that it orders as text.
    pub(crate) fn padded(&self, width: usize) -> String {
        let text = self.as_str();
        let mut padded = String::with_capacity(width.max(text.len()));
        padded.extend(std::iter::repeat_n('0', width.saturating_sub(text.len())));
        padded.push_str(text);
        padded
    }

    fn text(&self) -> &[u8] {
        &self.digits[..usize::from(self.len)]
    }

    fn significant(&self) -> &[u8] {
        let text = self.text();
        let zeros = text.iter().take_while(|digit| **digit == b'0').count();
        &text[zeros..]
    }
}

impl FromStr for SequenceNumber {
    type Err = InvalidSequenceNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let mut digits = [0; MAX_DIGITS];
        match (digits.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(len)) if is_number => {
                place.copy_from_slice(text.as_bytes());
                Ok(Self { digits, len })
            }
            _ => Err(InvalidSequenceNumber),
        }
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        let (this, that) = (self.significant(), other.significant());
        this.len().cmp(&that.len()).then_with(|| this.cmp(that))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SequenceNumber {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for SequenceNumber {}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for SequenceNumber {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for SequenceNumber {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One record of a shard. AWS gives each record a sequence number of its own; other services may give several records one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordNumber {
    pub sequence: SequenceNumber,
    /// How many records of the shard with this sequence number come before it.
    pub repeat: u32,
}

/// The text is no record's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record is named by its sequence number, with `#<count>` behind it where others before it have the same one")]
pub struct InvalidRecordNumber;

impl RecordNumber {
    /// The number of the record behind this one that has this sequence number.
    #[must_use]
    pub fn followed_by(self, sequence: SequenceNumber) -> Self {
        Self { sequence, repeat: if self.sequence == sequence { self.repeat.saturating_add(1) } else { 0 } }
    }
}

impl From<SequenceNumber> for RecordNumber {
    fn from(sequence: SequenceNumber) -> Self {
        Self { sequence, repeat: 0 }
    }
}

/// `<sequence number>`, with `#<repeat>` behind it unless that is 0.
impl fmt::Display for RecordNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.repeat {
            0 => write!(f, "{}", self.sequence),
            repeat => write!(f, "{}#{repeat}", self.sequence),
        }
    }
}

impl FromStr for RecordNumber {
    type Err = InvalidRecordNumber;

    fn from_str(text: &str) -> Result<Self, InvalidRecordNumber> {
        let (sequence, repeat) = text.split_once('#').unwrap_or((text, "0"));
        let number = sequence.parse().ok().zip(repeat.parse().ok());
        number.map(|(sequence, repeat)| Self { sequence, repeat }).ok_or(InvalidRecordNumber)
    }
}

impl Serialize for RecordNumber {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RecordNumber {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where reading of a shard goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At the oldest record that the shard still holds.
    Start,
    /// At the first record created at this moment or later, by AWS's clock in whole seconds.
    Since(SystemTime),
    /// Behind this record.
    After(RecordNumber),
}

impl Position {
    /// Behind the first record with this sequence number.
    pub fn after(sequence: SequenceNumber) -> Self {
        Self::After(sequence.into())
    }

    /// Whether this record lies before it; a moment says nothing about records.
    pub fn is_behind(self, record: RecordNumber) -> bool {
        matches!(self, Self::After(last) if record <= last)
    }

    /// The number of the next record, which has this sequence number.
    pub fn next(self, sequence: SequenceNumber) -> RecordNumber {
        match self {
            Self::After(last) => last.followed_by(sequence),
            Self::Start | Self::Since(_) => sequence.into(),
        }
    }

    /// The number of something that is missing next. Where it has no sequence number of its own that is the lowest one behind
    /// the position: that of a further record with the number of the last one, or 0.
    pub(crate) fn gap(self, sequence: Option<SequenceNumber>) -> RecordNumber {
        match (self, sequence) {
            (_, Some(sequence)) => self.next(sequence),
            (Self::After(last), None) => last.followed_by(last.sequence),
            (Self::Start | Self::Since(_), None) => SequenceNumber::ZERO.into(),
        }
    }

    /// The position behind that.
    pub(crate) fn behind_gap(self, sequence: Option<SequenceNumber>) -> Self {
        Self::After(self.gap(sequence))
    }

    /// Whether it lies before the first record, behind something that is missing there: nobody can be asked for what follows it.
    pub(crate) fn is_before_records(self) -> bool {
        matches!(self, Self::After(last) if last.sequence == SequenceNumber::ZERO)
    }
}

/// Where to begin with a stream that was never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialPosition {
    /// With what is written from now on.
    Latest,
    /// With what was written since this moment of the process, whatever its wall clock shows.
    WrittenSince(Instant),
    /// With records of this moment or later that are still there.
    Since(SystemTime),
    /// With everything: an earlier stream of the table was being read.
    Everything,
}

impl InitialPosition {
    /// Whether no shard is opened before the first whole listing, because that decides which ones are not read at all.
    ///
    /// A shard of the first page is the oldest of its lineage: opened at once it would be read for nothing, and its descendants
    /// from their start, older changes included. The price is time: a listing of 700 pages, as of a table with 10,000
    /// partitions, takes 88 s. From the oldest record on nothing is skipped, so nothing is waited for.
    pub(crate) fn needs_whole_listing(self) -> bool {
        match self {
            Self::Latest | Self::WrittenSince(_) => true,
            Self::Since(moment) => moment > SystemTime::UNIX_EPOCH,
            Self::Everything => false,
        }
    }

    /// The same by AWS's clock, which shows `now` at the moment `here` of the process.
    pub(crate) fn by_clock(self, now: SystemTime, here: Instant) -> Self {
        match self {
            Self::WrittenSince(begun) => Self::Since(now - here.duration_since(begun)),
            Self::Latest | Self::Since(_) | Self::Everything => self,
        }
    }

    /// Where shards begin, at this moment.
    pub(crate) fn position(self, now: SystemTime) -> Position {
        match self {
            Self::Latest | Self::WrittenSince(_) => Position::Since(now),
            Self::Since(moment) => Position::Since(moment),
            Self::Everything => Position::Start,
        }
    }
}

/// The text is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a position is `start`, `since <time in RFC 3339>` or `after <sequence number>`; `#<n>` behind the number: and n more with it"
)]
pub struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        match text.split_once(' ') {
            None if text == "start" => Ok(Self::Start),
            Some(("since", moment)) => parse_rfc3339(moment).map(Self::Since).ok_or(InvalidPosition),
            Some(("after", record)) => record.parse().map(Self::After).map_err(|_| InvalidPosition),
            _ => Err(InvalidPosition),
        }
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// As it stands in logs, on the status page and in the file of positions: `start`, `since <time>` or `after <record>`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Start => f.write_str("start"),
            Position::Since(moment) => write!(f, "since {}", rfc3339(*moment)),
            Position::After(record) => write!(f, "after {record}"),
        }
    }
}

/// What is known of a stream besides its shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDetails {
    /// The stream's ARN, opaque.
    pub(crate) arn: String,
    pub(crate) table_arn: String,
    pub(crate) table: String,
    /// The names of the key's attributes, partition key first.
    pub(crate) key_schema: Vec<String>,
    /// `KEYS_ONLY`, `NEW_IMAGE`, `OLD_IMAGE` or `NEW_AND_OLD_IMAGES`.
    pub(crate) view_type: Option<String>,
}

impl StreamDetails {
    /// What a stream's ARN alone tells: the table's ARN lies before `/stream/`, and the table's name ends that.
    pub fn from_arn(arn: &str) -> Self {
        let table_arn = arn.split_once("/stream/").map_or(arn, |(table, _)| table).to_owned();
        let table = table_arn.rsplit('/').next().unwrap_or_default().to_owned();
        Self { arn: arn.to_owned(), table_arn, table, key_schema: Vec::new(), view_type: None }
    }

    /// When the stream was created, less the margin for clocks, if the end of its ARN says so as that of AWS's does.
    pub(crate) fn created_at(&self) -> Option<SystemTime> {
        let label = self.arn.rsplit('/').next()?;
        parse_rfc3339(&format!("{label}Z"))?.checked_sub(CLOCK_MARGIN)
    }
}

/// A shard's id: opaque text.
pub(crate) type ShardId = Arc<str>;

/// A shard's number within one table; never used twice in a process.
pub(crate) type ShardNumber = u32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> SequenceNumber {
        text.parse().expect("digits")
    }

    #[test]
    fn numbers_of_different_lengths_compare_as_integers() {
        let ascending = [
            "0",
            "9",
            "10",
            "300000000000000499659",
            "1111000000000001234567890",
            &"9".repeat(40),
            &"1".repeat(56),
            &"1".repeat(64),
            &"2".repeat(MAX_DIGITS),
        ];
        for (lower, higher) in ascending.iter().zip(&ascending[1..]) {
            assert!(number(lower) < number(higher), "{lower} {higher}");
        }
    }

    #[test]
    fn leading_zeros_are_kept_and_count_for_nothing() {
        let padded = number("000000000000000000001");
        assert_eq!(padded, number("1"));
        assert_eq!(padded.as_str(), "000000000000000000001");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let too_long = "1".repeat(MAX_DIGITS + 1);
        for text in ["", " 1", "-1", "+1", "1e3", "1.0", "x", "１", "1 2", &too_long] {
            assert_eq!(text.parse::<SequenceNumber>(), Err(InvalidSequenceNumber), "{text}");
        }
    }

    #[test]
    fn a_stored_number_is_read_back_as_it_was_sent() {
        let sent = number("000000000000000000001");
        let stored = serde_json::to_string(&sent).expect("JSON");
        assert_eq!(stored, r#""000000000000000000001""#);
        let read: SequenceNumber = serde_json::from_str(&stored).expect("a number");
        assert_eq!(read.as_str(), sent.as_str());
        assert!(serde_json::from_str::<SequenceNumber>(r#""1x""#).is_err());
    }

    #[test]
    fn an_arn_names_the_table_and_nothing_else() {
        let arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-02T03:04:05.678";
        let details = StreamDetails::from_arn(arn);
        let table_arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders";
        assert_eq!((&*details.arn, &*details.table_arn, &*details.table), (arn, table_arn, "Orders"));
        assert_eq!((details.key_schema.len(), details.view_type), (0, None));
        assert_eq!(StreamDetails::from_arn("opaque").table_arn, "opaque");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn order_is_that_of_integers(left in any::<(u128, u32)>(), right in any::<(u128, u32)>(), zeros in 0..3_usize) {
            let [left, right] = [left, right].map(|(digits, shift)| digits >> (shift % 128));
            let (padded, plain) = (number(&format!("{}{left}", "0".repeat(zeros % 2))), number(&right.to_string()));
            prop_assert_eq!(padded.cmp(&plain), left.cmp(&right));
            let texts = [&padded, &plain].map(|number| number.padded(PADDED_DIGITS));
            prop_assert_eq!(texts[0].cmp(&texts[1]), left.cmp(&right));
            prop_assert_eq!(padded == plain, left == right);
            prop_assert_eq!(texts[0].len(), PADDED_DIGITS);
        }

        #[test]
        fn a_number_of_any_length_is_stored_and_read_back_as_it_was_sent(text in "[0-9]{1,79}") {
            let stored = serde_json::to_string(&Position::after(number(&text))).expect("JSON");
            prop_assert_eq!(&stored, &format!("\"after {text}\""));
            let Position::After(read) = serde_json::from_str(&stored).expect("a position") else { panic!("{stored}") };
            prop_assert_eq!(read.sequence.as_str(), &*text);
            prop_assert_eq!(read.sequence.as_str().len(), text.len());
        }
    }
}
