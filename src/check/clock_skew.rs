//! This machine's clock against those of AWS and of the sink, by the `Date` header of their answers.
//!
//! AWS refuses signatures that are more than five minutes off. The SDK learns the difference from a refusal and signs
//! with it, but session credentials, certificates and times in events still go by this clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use super::report::Check;
use crate::clock;

const NAME: &str = "clock";

/// Beyond this the check fails: times are useless. Reading goes on: AWS refuses the first call, for a signature that is five minutes off, and
/// the SDK signs by AWS's clock from then on.
const TOO_FAR: Duration = Duration::from_secs(4 * 60);

/// Beyond this it warns.
const NOTICEABLE: Duration = Duration::from_secs(30);

/// A `Date` header has whole seconds.
const RESOLUTION: Duration = Duration::from_secs(1);

/// How far another clock is from this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skew {
    by: Duration,
    is_ahead: bool,
}

impl Skew {
    /// Of an answer that says `date` to a request sent and answered at these moments of this clock: the least that
    /// explains it.
    fn between(date: SystemTime, sent: SystemTime, answered: SystemTime) -> Self {
        let ahead = date.duration_since(answered).unwrap_or_default();
        let behind = sent.duration_since(date + RESOLUTION).unwrap_or_default();
        Self { by: ahead.max(behind), is_ahead: ahead > behind }
    }
}

/// The clocks that were seen. Clones share what they saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Clocks(Arc<Mutex<Option<Skew>>>);

impl Clocks {
    /// Takes the `Date` header of an answer to a request that was sent at `sent`. What is no date is ignored.
    pub(super) fn note(&self, header: &str, sent: SystemTime) {
        let Ok(date) = httpdate::parse_http_date(header) else { return };
        let skew = Skew::between(date, sent, clock::now());
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Signatures are checked by all of these clocks: one that disagrees is enough.
        *seen = Some(seen.filter(|seen| seen.by >= skew.by).unwrap_or(skew));
    }

    fn skew(&self) -> Option<Skew> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An HTTP client for the SDK that does what `client` does and takes every answer's date.
    pub(super) fn watching(&self, client: SharedHttpClient) -> SharedHttpClient {
        SharedHttpClient::new(Watching { client, clocks: self.clone() })
    }
}

/// The clock's check: AWS's word counts more than the sink's.
pub(super) fn check(aws: &Clocks, sink: &Clocks) -> Check {
    match (aws.skew(), sink.skew()) {
        (Some(skew), _) => judge(skew, "AWS's"),
        (None, Some(skew)) => judge(skew, "the sink's"),
        (None, None) => Check::skipped(NAME, "reading the time from a response of AWS or the sink"),
    }
}

fn judge(skew: Skew, whose: &str) -> Check {
    let by = humantime::format_duration(Duration::from_secs(skew.by.as_secs()));
    let side = if skew.is_ahead { "behind" } else { "ahead of" };
    let off = format!("this machine's clock is {by} {side} {whose}");
    let fix = "chronyc makestep";
    if skew.by > TOO_FAR {
        let effect = "lag, headroom and times in events are wrong by the same amount, and certificates and tokens may count as invalid";
        Check::fail(NAME, &format!("{off}: {effect}")).with_fix(fix)
    } else if skew.by > NOTICEABLE {
        Check::warn(NAME, &format!("{off}: times in events and metrics are wrong by the same amount")).with_fix(fix)
    } else {
        Check::ok(NAME, &format!("less than {} from {whose}", humantime::format_duration(NOTICEABLE)))
    }
}

#[derive(Debug)]
struct Watching {
    client: SharedHttpClient,
    clocks: Clocks,
}

impl HttpClient for Watching {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let connector = self.client.http_connector(settings, components);
        SharedHttpConnector::new(WatchingConnector { connector, clocks: self.clocks.clone() })
    }
}

#[derive(Debug)]
struct WatchingConnector {
    connector: SharedHttpConnector,
    clocks: Clocks,
}

impl HttpConnector for WatchingConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (sent, clocks, answer) = (clock::now(), self.clocks.clone(), self.connector.call(request));
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            if let Some(date) = answer.headers().get("date") {
                clocks.note(date, sent);
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::CheckResult;
    use super::*;

    fn result(seconds_ahead: i64) -> (CheckResult, String) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let by = Duration::from_secs(seconds_ahead.unsigned_abs());
        let date = if seconds_ahead < 0 { now - by } else { now + by };
        let check = judge(Skew::between(date, now, now), "AWS's");
        (check.result, check.detail)
    }

    #[test]
    fn half_a_minute_is_noticeable_and_four_minutes_are_too_far() {
        for (seconds, expected) in [
            (0, CheckResult::Ok),
            (30, CheckResult::Ok),
            (31, CheckResult::Warn),
            (240, CheckResult::Warn),
            (241, CheckResult::Fail),
            (-31, CheckResult::Ok),
            (-32, CheckResult::Warn),
            (-242, CheckResult::Fail),
        ] {
            assert_eq!(result(seconds).0, expected, "{seconds} s");
        }
        assert!(result(600).1.starts_with("this machine's clock is 10m behind AWS's"));
        assert!(result(-601).1.starts_with("this machine's clock is 10m ahead of AWS's"));
    }

    #[test]
    fn a_slow_answer_is_no_skew() {
        let sent = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let skew = Skew::between(sent, sent, sent + Duration::from_secs(500));
        assert_eq!(skew.by, Duration::ZERO);
    }
}
