//! The kinds of faults. A seed has a few of them; each was seen in AWS's service, in other programs' bug reports, or in clusters.

use std::time::Duration;

use crate::plan::{hours, minutes};

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $name:ident,)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[doc = $doc])* $name,)+
        }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$name,)+];
        }
    };
}

faults! {
    // The process.
    /// It is stopped in an orderly way and started again.
    Stops,
    /// It is killed.
    Kills,
    /// Its node is lost.
    PowerLoss,
    /// It is away for hours or days.
    LongAbsence,
    /// It stands still for seconds to hours, and goes on.
    Pauses,
    /// It is restarted with another start position, order or mode.
    ChangedSettings,
    /// It is restarted with another spelling of the table.
    ChangedSpelling,
    /// Its clock is off by minutes.
    ClockOff,
    /// `TABLE` names streams, two of a table where it has two.
    StreamArns,

    // What listings show.
    /// New shards are listed late.
    LateShards,
    /// Shards are left out of listings for up to minutes.
    HiddenShards,
    /// Listings come in any order.
    ShuffledListings,
    /// Pages of a listing repeat themselves or lead nowhere.
    RepeatingPages,
    /// A question for children is answered with nothing for a while.
    LateChildren,
    /// `DescribeStream` and `DescribeTable` tell an old state.
    LateStatus,

    // Calls of AWS.
    /// A single `ResourceNotFoundException` for what is there.
    WrongNotFound,
    Throttling,
    /// Others read some of the shards too: `LimitExceededException`.
    CrowdedShards,
    /// 5xx, resets, answers that cannot be read.
    Outages,
    /// Calls take up to their limit.
    SlowCalls,
    /// One or more operations are denied.
    Denials,
    /// The same for more than a day.
    LongDenials,
    /// Iterators expire at any time.
    ExpiringIterators,
    /// Pages of a few records, and empty ones before the end.
    SmallPages,
    /// Members of records absent, null or empty, and records that are none.
    OddRecords,
    LargeRecords,
    /// A position at a trimmed record is refused although nothing behind it was trimmed.
    StrictTrimming,
    /// A closed shard goes on giving iterators and empty pages.
    LingeringShards,

    // Systems that are not quite AWS.
    /// Ids with blanks and without times, no trimming errors, filters that are ignored.
    NotQuiteAws,
    /// Sequence numbers repeat within a shard.
    RepeatedNumbers,
    /// Shards and streams that nobody knows any more are answered with empty pages, for ever.
    UnknownShards,
    /// An iterator is never absent.
    EndlessIterators,
    /// A disabled stream is unknown at once.
    GoneAtOnce,
    /// Each stream of a table has shards of the same ids.
    SameShardIds,
    /// Times are cut to the minute.
    MinuteTimes,

    // Streams.
    /// The stream is disabled and enabled again, several times.
    Recreation,
    /// The table is deleted and made anew under its name.
    TableReplaced,
    /// All shards roll over at once.
    MassRollover,

    // The sink.
    /// Responses take up to longer than the timeout.
    SlowSink,
    /// The sink takes so many requests a second and answers 429 beyond.
    LimitedSink,
    /// It is scaled to nothing and takes its time to come back.
    ColdStart,
    SinkOutage,
    /// The same for more than a day.
    LongSinkOutage,
    /// Some events are refused again and again.
    Poison,
    /// Requests are taken and their responses lost.
    LostResponses,

    // The volume.
    FullDisk,
    FailingDisk,
    /// Writes take seconds.
    SlowDisk,
}

impl Fault {
    /// Whether it is there at times only.
    pub fn comes_in_episodes(self) -> bool {
        use Fault::*;
        !matches!(
            self,
            Stops
                | Kills
                | PowerLoss
                | LongAbsence
                | ChangedSettings
                | ChangedSpelling
                | ClockOff
                | StreamArns
                | OddRecords
                | LargeRecords
                | StrictTrimming
                | NotQuiteAws
                | RepeatedNumbers
                | UnknownShards
                | EndlessIterators
                | GoneAtOnce
                | SameShardIds
                | MinuteTimes
                | Recreation
                | TableReplaced
                | MassRollover
                | SmallPages
                | ShuffledListings
        )
    }

    /// The shortest and the longest time that an episode lasts.
    pub fn lengths(self) -> (Duration, Duration) {
        use Fault::*;
        match self {
            LongDenials | LongSinkOutage => (hours(25), hours(48)),
            Poison => (minutes(5), hours(30)),
            Pauses => (Duration::from_secs(1), hours(2)),
            WrongNotFound => (Duration::from_secs(1), minutes(10)),
            SlowCalls | SlowSink | LimitedSink | SlowDisk => (Duration::from_secs(10), minutes(20)),
            CrowdedShards => (minutes(1), hours(12)),
            LingeringShards => (Duration::from_secs(5), minutes(2)),
            RepeatingPages => (minutes(1), minutes(20)),
            _ => (Duration::from_secs(1), minutes(30)),
        }
    }

    /// Whether the service is another than AWS's.
    pub fn is_of_another_service(self) -> bool {
        use Fault::*;
        matches!(
            self,
            NotQuiteAws | RepeatedNumbers | UnknownShards | EndlessIterators | GoneAtOnce | SameShardIds | MinuteTimes
        )
    }

    /// Whether a world with it must last for days.
    pub fn takes_days(self) -> bool {
        matches!(self, Fault::LongDenials | Fault::LongSinkOutage | Fault::LongAbsence)
    }
}
