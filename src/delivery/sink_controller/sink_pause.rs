//! `Retry-After` of the sink as a whole: what it tells one lane is that lane's matter. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// So many lanes speak for the sink.
const LANES: usize = 3;

/// No pause is longer, whatever the sink says.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Which lanes were asked to wait lately, and until when nothing starts.
#[derive(Debug, Default)]
pub(super) struct SinkPause {
    asked: [Option<Asked>; LANES],
    until: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    lane: u64,
    at: Instant,
    until: Instant,
    /// How many requests the sink had taken by then.
    taken: u64,
}

/// What the sink has asked of one lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct LanePause {
    pub(super) lane: u64,
    pub(super) pause: Duration,
    /// How many requests the sink had taken by then.
    pub(super) taken: u64,
}

impl SinkPause {
    /// A lane was asked to wait. Returns how long the sink asks for if so many lanes were within a round trip, or with nothing
    /// that the sink took in between: a sink that refuses everything answers fewer than that in a round trip, if its answers
    /// are quick.
    pub(super) fn asked(&mut self, asked: LanePause, round_trip: Duration, now: Instant) -> Option<Duration> {
        let LanePause { lane, pause, taken } = asked;
        let is_over = |asked: &Asked| asked.taken != taken && now.saturating_duration_since(asked.at) > round_trip;
        for place in &mut self.asked {
            *place = place.filter(|asked| asked.lane != lane && !is_over(asked));
        }
        let place = self.asked.iter_mut().find(|place| place.is_none())?;
        *place = Some(Asked { lane, at: now, until: now + pause.min(LONGEST), taken });
        if self.asked.iter().any(Option::is_none) {
            return None;
        }
        let until = self.asked.iter().flatten().map(|asked| asked.until).max()?;
        self.asked = [None; LANES];
        self.until = Some(self.until.map_or(until, |known| known.max(until)));
        Some(until.saturating_duration_since(now)).filter(|pause| !pause.is_zero())
    }

    /// Until when nothing starts, if it is not over.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}
