//! The sink, one step after the other: name, connection, certificate, an answer. No event, unless one is asked for.

use std::time::Duration;

use cloudevents::{EventBuilder as _, EventBuilderV10};
use http::header::LOCATION;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use url::Url;

use super::clock_skew::Clocks;
use super::connection::{self, NoResponse, Stream, TlsProblem};
use super::report::{Check, within};
use crate::clock;
use crate::config::{Config, EventMode, OnUndeliverable, SinkAddress};
use crate::event::http::batch;
use crate::event::{Message, Packaging};
use crate::sink::{HttpSink, MAX_REDIRECTS, Sink as _, SinkResponse, SinkSettings, redirect_target};

const EVENT: &str = "sink-event";

/// Type of the test event.
const EVENT_TYPE: &str = "com.amazonaws.dynamodb.check";

/// Source of the test event where no table is named by an ARN.
const EVENT_SOURCE: &str = "dynamodb-streams-adapter";

/// So many of a name's addresses are shown.
const SHOWN_ADDRESSES: usize = 4;

const SINK: SinkSteps = SinkSteps {
    variable: "K_SINK",
    files: "sink-files",
    dns: "sink-dns",
    tcp: "sink-tcp",
    tls: "sink-tls",
    http: "sink-http",
};

const DEAD_LETTER_SINK: SinkSteps = SinkSteps {
    variable: "DEAD_LETTER_SINK",
    files: "dead-letter-sink-files",
    dns: "dead-letter-sink-dns",
    tcp: "dead-letter-sink-tcp",
    tls: "dead-letter-sink-tls",
    http: "dead-letter-sink-http",
};

/// The names of one sink's checks, and of the variable that it comes from.
struct SinkSteps {
    variable: &'static str,
    files: &'static str,
    dns: &'static str,
    tcp: &'static str,
    tls: &'static str,
    http: &'static str,
}

/// All checks of the sink, and of the one for undeliverable events where the configuration uses one.
pub(super) async fn check(config: &Config, send_event: bool, limit: Duration, clocks: &Clocks) -> Vec<Check> {
    let (events, dead_letters) =
        tokio::join!(events(config, send_event, limit, clocks), dead_letters(config, limit, clocks));
    [events, dead_letters].concat()
}

async fn events(config: &Config, send_event: bool, limit: Duration, clocks: &Clocks) -> Vec<Check> {
    let settings = SinkSettings::for_sink(config);
    let probe = Probe { sink: &config.sink, settings, steps: &SINK, limit, clocks };
    let (mut checks, failed) = probe.run().await;
    if send_event {
        checks.push(match failed {
            Some(failed) => Check::skipped(EVENT, failed),
            None => post_test_event(config, limit).await,
        });
    }
    checks
}

async fn dead_letters(config: &Config, limit: Duration, clocks: &Clocks) -> Vec<Check> {
    match config.dead_letter_sink.as_ref().zip(SinkSettings::for_dead_letters(config)) {
        Some((sink, settings)) if config.delivery.on_undeliverable == OnUndeliverable::DeadLetter => {
            let probe = Probe { sink, settings, steps: &DEAD_LETTER_SINK, limit, clocks };
            probe.run().await.0
        }
        _ => Vec::new(),
    }
}

/// One sink to be tried.
struct Probe<'c> {
    sink: &'c SinkAddress,
    settings: SinkSettings,
    steps: &'static SinkSteps,
    limit: Duration,
    clocks: &'c Clocks,
}

/// What a step found, or the check that failed.
type Step<T> = Result<(Check, T), Check>;

impl Probe<'_> {
    /// The files and all steps, those that could not be tried included, and what failed.
    async fn run(&self) -> (Vec<Check>, Option<&'static str>) {
        let (files, headers) = check_files(self.steps.files, &self.settings);
        let (steps, failed) = self.run_steps(&headers).await;
        let broken = files.as_ref().filter(|files| files.has_failed()).map(|files| files.name);
        (files.into_iter().chain(steps).collect(), failed.or(broken))
    }

    async fn run_steps(&self, headers: &HeaderMap) -> (Vec<Check>, Option<&'static str>) {
        let mut checks = Vec::new();
        let Err(failed) = self.try_steps(headers, &mut checks).await else { return (checks, None) };
        let name = failed.name;
        checks.push(failed);
        let SinkSteps { dns, tcp, tls, http, .. } = self.steps;
        let names = [Some(dns), Some(tcp), Some(tls).filter(|_| self.is_https()), Some(http)];
        let tried = checks.len();
        checks.extend(names.into_iter().flatten().skip(tried).map(|untried| Check::skipped(untried, name)));
        (checks, Some(name))
    }

    /// # Errors
    /// The first check that fails; those before it are in `checks`.
    async fn try_steps(&self, headers: &HeaderMap, checks: &mut Vec<Check>) -> Result<(), Check> {
        checks.push(self.resolve().await?);
        let (check, stream) = self.connect().await?;
        checks.push(check);
        let stream = match self.is_https() {
            false => Stream::Plain(stream),
            true => {
                let (check, stream) = self.secure(stream).await?;
                checks.push(check);
                stream
            }
        };
        checks.push(self.answer(stream, headers).await?);
        Ok(())
    }

    async fn resolve(&self) -> Result<Check, Check> {
        let (host, name) = (self.host(), self.steps.dns);
        let failed = |why: &str| Check::fail(name, why).with_fix(format!("getent ahosts {host}"));
        let found = within(self.limit, connection::resolve(host)).await.map_err(|late| failed(&late))?;
        let addresses = found.map_err(|error| failed(&format!("{host} has no address: {error}")))?;
        if addresses.is_empty() {
            return Err(failed(&format!("{host} has no address")));
        }
        let shown: Vec<String> = addresses.iter().take(SHOWN_ADDRESSES).map(ToString::to_string).collect();
        Ok(Check::ok(name, &format!("{host} is {}", shown.join(", "))))
    }

    async fn connect(&self) -> Step<TcpStream> {
        let (host, port, name) = (self.host(), self.port(), self.steps.tcp);
        let connected = within(self.limit, connection::connect(&self.sink.uri)).await;
        let connected = connected
            .and_then(|connected| connected.map_err(|error| format!("cannot connect to {host}:{port}: {error}")));
        match connected {
            Ok(stream) => Ok((Check::ok(name, &format!("connected to {host}:{port}")), stream)),
            Err(why) => Err(Check::fail(name, &why).with_fix(format!(
                "start the server on {host}:{port}, or allow connections to it; nc -vz {host} {port} tests the connection"
            ))),
        }
    }

    async fn secure(&self, stream: TcpStream) -> Step<Stream> {
        let name = self.steps.tls;
        let secured = within(self.limit, connection::secure(stream, self.host(), &self.settings)).await;
        let secured = secured.unwrap_or_else(|late| Err(TlsProblem::silent(late)));
        match secured {
            Ok((stream, version)) => Ok((Check::ok(name, &format!("{version}, the certificate is trusted")), stream)),
            Err(TlsProblem { what, fix }) => Err(Check::fail(name, &what).with_fix(fix)),
        }
    }

    /// What the answer says about POSTs to come: where redirects lead to, as the adapter follows them.
    async fn answer(&self, stream: Stream, headers: &HeaderMap) -> Result<Check, Check> {
        let (mut url, mut connected) = (self.sink.uri.clone(), Some(stream));
        for _ in 0..=MAX_REDIRECTS {
            let stream = match connected.take() {
                Some(stream) => stream,
                None => self.connect_again().await?,
            };
            let (status, answered) = self.ask(stream, &url, headers).await?;
            let Some(next) = redirect_target(&url, status, &answered) else {
                let place = (url != self.sink.uri).then(|| url.path());
                return Ok(judge_status(self.steps, status, place, set_to(&url, &answered)));
            };
            url = next;
        }
        let detail = format!("the sink redirects more than {MAX_REDIRECTS} times: an event is undeliverable");
        Ok(Check::warn(self.steps.http, &detail)
            .with_fix(format!("set {} to the URL that takes the events", self.steps.variable)))
    }

    /// For the next request: many servers close after a redirect.
    async fn connect_again(&self) -> Result<Stream, Check> {
        let (_, stream) = self.connect().await.map_err(|failed| Check { name: self.steps.http, ..failed })?;
        if !self.is_https() {
            return Ok(Stream::Plain(stream));
        }
        let secured = self.secure(stream).await;
        secured.map(|(_, stream)| stream).map_err(|failed| Check { name: self.steps.http, ..failed })
    }

    /// `OPTIONS` makes no event anywhere; whatever the answer, the sink is there.
    async fn ask(&self, stream: Stream, url: &Uri, headers: &HeaderMap) -> Result<(StatusCode, HeaderMap), Check> {
        let sent = clock::now();
        let asked = connection::options(stream, url, headers);
        let answer = within(self.limit, asked).await;
        let answer = answer.unwrap_or_else(|late| Err(NoResponse { what: late, advice: None }));
        let (status, headers) = answer.map_err(|NoResponse { what, advice }| {
            let SinkSteps { http, variable, .. } = self.steps;
            let fix = format!("check that {variable} has the host, port and scheme of an HTTP server");
            Check::fail(http, &format!("no answer to OPTIONS: {what}")).with_fix(advice.map_or(fix, str::to_owned))
        })?;
        if let Some(date) = headers.get("date").and_then(|date| date.to_str().ok()) {
            self.clocks.note(date, sent);
        }
        Ok((status, headers))
    }

    fn is_https(&self) -> bool {
        self.sink.uri.scheme_str() == Some("https")
    }

    fn host(&self) -> &str {
        self.sink.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    fn port(&self) -> u16 {
        self.sink.uri.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 })
    }
}

/// What a status says about POSTs to come. Many receivers know only POST: 405 and 501 are as good as 200. Whatever else delivery would
/// give up an event for is a warning: the answer to a POST may be a different one.
fn judge_status(steps: &SinkSteps, status: StatusCode, redirected_to: Option<&str>, target: Option<String>) -> Check {
    let SinkSteps { http, variable, .. } = steps;
    let said = match redirected_to {
        None => format!("the sink answers OPTIONS with {}", status.as_u16()),
        Some(path) => format!("the sink redirects to {path}, and answers OPTIONS there with {}", status.as_u16()),
    };
    match status.as_u16() {
        401 | 403 => Check::warn(http, &format!("{said}: POST may require credentials, too")).with_fix(
            format!("give the adapter credentials for {variable}, see docs/sink.md, or allow requests without credentials at the sink"),
        ),
        404 | 410 => Check::warn(http, &format!("{said}: the path may be wrong"))
            .with_fix(format!("check the path of {variable}")),
        429 => Check::warn(http, &format!("{said}: the sink is overloaded, the adapter would wait and retry"))
            .with_fix("check the sink's log"),
        200..=299 | 405 | 501 => Check::ok(http, &said),
        300..=399 => {
            let detail = format!("{said}: the adapter follows only 307 and 308 to the same scheme and host; an event that gets this answer is undeliverable");
            let target = target.unwrap_or_else(|| "the URL that takes the events".to_owned());
            Check::warn(http, &detail).with_fix(format!("set {variable} to {target}"))
        }
        408 | 409 | 425 | 500..=599 => Check::warn(http, &format!("{said}: the sink is reachable but fails, the adapter would retry"))
            .with_fix("check the sink's log"),
        _ => Check::warn(http, &format!("{said}: an event that gets this answer is undeliverable"))
            .with_fix(format!("check {variable}; --send-test-event shows what a POST gets")),
    }
}

/// Where an answer leads to, as a URL to set. A query may hold a secret, a user always does.
fn set_to(from: &Uri, headers: &HeaderMap) -> Option<String> {
    let location = headers.get(LOCATION)?.to_str().ok()?;
    let mut target = Url::parse(&from.to_string()).ok()?.join(location).ok().filter(Url::has_host)?;
    let has_secrets = target.query().is_some() || !target.username().is_empty() || target.password().is_some();
    target.set_query(None);
    target.set_fragment(None);
    // Only a URL that has no host refuses these.
    let _ = (target.set_username(""), target.set_password(None));
    let more = if has_secrets { " with the user and query of the sink's answer, which are not shown" } else { "" };
    Some(format!("{target}{more}"))
}

/// The check of the files, where there are any or one is broken, and the headers of every request.
fn check_files(name: &'static str, settings: &SinkSettings) -> (Option<Check>, HeaderMap) {
    let Ok((sink, _)) = HttpSink::new(settings.clone()) else {
        // A sink that cannot be made for want of roots is told by the check of its certificate.
        return (None, settings.headers.clone());
    };
    (judge_files(name, sink.obstacle(), &sink.unused_files(), names_files(settings)), sink.headers())
}

fn judge_files(name: &'static str, obstacle: Option<String>, unused: &[String], are_named: bool) -> Option<Check> {
    match obstacle {
        Some(why) => Some(
            Check::fail(name, &format!("the adapter would send nothing: {why}"))
                .with_fix("correct the file; the adapter reads it again automatically"),
        ),
        None if !unused.is_empty() => Some(
            Check::warn(name, &format!("not used: {}", unused.join("; "))).with_fix("replace that file, or remove it"),
        ),
        None => are_named.then(|| Check::ok(name, "all files are valid")),
    }
}

fn names_files(settings: &SinkSettings) -> bool {
    settings.headers_file.is_some()
        || settings.client_certificate.is_some()
        || settings.token_file.as_ref().is_some_and(|token| token.is_required)
}

/// Posts it, once.
async fn post_test_event(config: &Config, limit: Duration) -> Check {
    let (sink, reloader) = match HttpSink::new(SinkSettings { concurrency: 1, ..SinkSettings::for_sink(config) }) {
        Ok(made) => made,
        Err(error) => return Check::fail(EVENT, &error.to_string()),
    };
    let id = format!("check-{:032x}", fastrand::u128(..));
    let message = match test_event(config, &id) {
        Ok(message) => message,
        Err(error) => return Check::fail(EVENT, &format!("the test event cannot be created: {error}")),
    };
    let mut reloading = JoinSet::new();
    reloading.spawn(reloader.run());
    let response = sink.post(message, limit).await;
    reloading.shutdown().await;
    judge_response(&id, response)
}

fn judge_response(id: &str, response: SinkResponse) -> Check {
    let fix = "search the sink's log for the event";
    match response {
        SinkResponse::Accepted { status, .. } => {
            Check::ok(EVENT, &format!("{EVENT_TYPE} with id {id} was accepted with {}", status.as_u16()))
        }
        SinkResponse::Refused { status, .. } => {
            let detail = format!("{EVENT_TYPE} with id {id} was refused with {}", status.as_u16());
            Check::fail(EVENT, &detail).with_fix(format!("{fix} {id}"))
        }
        SinkResponse::Failed { message, .. } => {
            let detail = format!("{EVENT_TYPE} with id {id} may not have arrived: {message}");
            Check::fail(EVENT, &detail).with_fix(format!("{fix} {id}"))
        }
    }
}

fn test_event(config: &Config, id: &str) -> Result<Message, Box<dyn std::error::Error>> {
    let tables: Vec<&str> = config.source.tables.iter().map(|table| table.as_str()).collect();
    let source = config.source.tables.iter().find_map(|table| table.table_arn()).unwrap_or(EVENT_SOURCE);
    let event = EventBuilderV10::new()
        .id(id)
        .ty(EVENT_TYPE)
        .source(source)
        .time(chrono::DateTime::<chrono::Utc>::from(clock::now()))
        .data("application/json", json!({ "tables": tables }));
    let (mode, event) = (config.event.mode, event.build()?);
    let message = Packaging::new(mode, &config.event.overrides).message_of(&event);
    Ok(if mode == EventMode::Batch { batch(std::iter::once(&message)) } else { message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::CheckResult;

    #[test]
    fn any_status_is_an_answer() {
        for (status, result) in [
            (200, CheckResult::Ok),
            (301, CheckResult::Warn),
            (308, CheckResult::Warn),
            (405, CheckResult::Ok),
            (501, CheckResult::Ok),
            (400, CheckResult::Warn),
            (410, CheckResult::Warn),
            (413, CheckResult::Warn),
            (415, CheckResult::Warn),
            (401, CheckResult::Warn),
            (404, CheckResult::Warn),
            (429, CheckResult::Warn),
            (503, CheckResult::Warn),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(judge_status(&SINK, status, None, None).result, result, "{status}");
        }
    }
}
