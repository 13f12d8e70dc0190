//! The sink, one step after the other: name, connection, certificate, an answer. No event, unless one is asked for.

mod connection;
mod event;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};

use super::clock::Clocks;
use super::report::Check;
use super::words::within;
use crate::config::{Config, OnUndeliverable, Sink};

const EVENT: &str = "sink-event";

/// The names of one sink's checks, and of the variable that it comes from.
struct Steps {
    variable: &'static str,
    dns: &'static str,
    tcp: &'static str,
    tls: &'static str,
    http: &'static str,
}

const SINK: Steps = Steps { variable: "K_SINK", dns: "sink-dns", tcp: "sink-tcp", tls: "sink-tls", http: "sink-http" };

const DEAD_LETTER_SINK: Steps = Steps {
    variable: "DEAD_LETTER_SINK",
    dns: "dead-letter-sink-dns",
    tcp: "dead-letter-sink-tcp",
    tls: "dead-letter-sink-tls",
    http: "dead-letter-sink-http",
};

/// All checks of the sink, and of the one for undeliverable events where the configuration uses one.
pub(super) async fn check(config: &Config, send_event: bool, limit: Duration, clocks: &Clocks) -> Vec<Check> {
    let used = config.delivery.on_undeliverable == OnUndeliverable::DeadLetter;
    let others = config.dead_letter_sink.iter().filter(|_| used);
    let dead_letters = others.map(|sink| Probe { sink, steps: &DEAD_LETTER_SINK, limit, clocks }.run());
    let events = async {
        let (mut checks, failed) = Probe { sink: &config.sink, steps: &SINK, limit, clocks }.run().await;
        if send_event {
            checks.push(match failed {
                Some(failed) => Check::skipped(EVENT, failed),
                None => event::send(config, limit).await,
            });
        }
        checks
    };
    let (checks, dead_letters) = tokio::join!(events, join_all(dead_letters));
    checks.into_iter().chain(dead_letters.into_iter().flat_map(|(checks, _)| checks)).collect()
}

struct Probe<'c> {
    sink: &'c Sink,
    steps: &'static Steps,
    limit: Duration,
    clocks: &'c Clocks,
}

impl Probe<'_> {
    /// All steps, those that could not be tried included, and the one that failed.
    async fn run(&self) -> (Vec<Check>, Option<&'static str>) {
        let mut checks = Vec::new();
        let failed = self.try_steps(&mut checks).await.err();
        let Steps { dns, tcp, tls, http, .. } = self.steps;
        let names = [Some(dns), Some(tcp), Some(tls).filter(|_| self.is_https()), Some(http)];
        if let Some(failed) = failed {
            let tried = checks.len();
            checks.extend(names.into_iter().flatten().skip(tried).map(|name| Check::skipped(name, failed)));
        }
        (checks, failed)
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

    /// # Errors
    /// The step that failed.
    async fn try_steps(&self, checks: &mut Vec<Check>) -> Result<(), &'static str> {
        let (host, port) = (self.host(), self.port());
        let addresses = step(
            checks,
            DNS,
            self.resolve().await,
            || format!("getent ahosts {host}"),
            |addresses| {
                let shown: Vec<String> = addresses.iter().take(4).map(|address| address.ip().to_string()).collect();
                format!("{host} is {}", shown.join(", "))
            },
        )?;
        let connected = within(self.limit, connection::connect(&addresses)).await.and_then(|connected| connected);
        let remedy = || format!("nc -vz {host} {port} shows whether anything listens there and may be reached");
        let stream = step(checks, self.steps.tcp, connected, remedy, |_| format!("connected to {host}:{port}"))?;
        let stream = match self.is_https() {
            false => connection::Stream::Plain(stream),
            true => self.secure(checks, stream).await?,
        };
        self.ask(checks, stream).await
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let (host, port) = (self.host(), self.port());
        let looked_up = within(self.limit, tokio::net::lookup_host((host, port))).await?;
        let addresses: Vec<SocketAddr> =
            looked_up.map_err(|error| format!("{host} has no address: {error}"))?.collect();
        if addresses.is_empty() { Err(format!("{host} has no address")) } else { Ok(addresses) }
    }

    async fn secure(
        &self,
        checks: &mut Vec<Check>,
        stream: tokio::net::TcpStream,
    ) -> Result<connection::Stream, &'static str> {
        let secured = within(self.limit, connection::secure(stream, self.host())).await;
        match secured {
            Ok(Ok((stream, version))) => {
                checks.push(Check::ok(self.steps.tls, &format!("{version}, its certificate is trusted")));
                Ok(stream)
            }
            Ok(Err(connection::Insecure { what, remedy })) => {
                checks.push(Check::fail(self.steps.tls, &what).mended_by(remedy));
                Err(self.steps.tls)
            }
            Err(late) => {
                checks.push(
                    Check::fail(self.steps.tls, &late)
                        .mended_by("check that the port speaks TLS, or make the URL's scheme http"),
                );
                Err(self.steps.tls)
            }
        }
    }

    /// `OPTIONS` makes no event anywhere; whatever the answer, the sink is there.
    async fn ask(&self, checks: &mut Vec<Check>, stream: connection::Stream) -> Result<(), &'static str> {
        let sent = SystemTime::now();
        let asked = connection::options(stream, &self.sink.uri, self.sink.authorization.as_ref());
        let answer = within(self.limit, asked).await.and_then(|answer| answer);
        let variable = self.steps.variable;
        let remedy = || format!("check that host, port and scheme of {variable} are those of an HTTP server");
        let (status, headers): (StatusCode, HeaderMap) = match answer {
            Ok(answer) => answer,
            Err(why) => {
                checks.push(Check::fail(self.steps.http, &format!("no answer to OPTIONS: {why}")).mended_by(remedy()));
                return Err(self.steps.http);
            }
        };
        if let Some(date) = headers.get("date").and_then(|date| date.to_str().ok()) {
            self.clocks.note(date, sent);
        }
        checks.push(judge(self.steps, status));
        Ok(())
    }
}

/// Keeps a step's check; goes on with what it found.
fn step<T>(
    checks: &mut Vec<Check>,
    name: &'static str,
    outcome: Result<T, String>,
    remedy: impl Fn() -> String,
    detail: impl Fn(&T) -> String,
) -> Result<T, &'static str> {
    match outcome {
        Ok(found) => {
            checks.push(Check::ok(name, &detail(&found)));
            Ok(found)
        }
        Err(why) => {
            checks.push(Check::fail(name, &why).mended_by(remedy()));
            Err(name)
        }
    }
}

/// What a status says about POSTs to come. Many receivers know only POST: 405 and 501 are as good as 200.
fn judge(steps: &Steps, status: StatusCode) -> Check {
    let Steps { http, variable, .. } = steps;
    let said = format!("answers OPTIONS with {}", status.as_u16());
    match status.as_u16() {
        401 | 403 => Check::warn(http, &format!("{said}: it may want credentials for POST as well")).mended_by(
            format!("set user and password in {variable}, or allow this client at the sink; --send-test-event tells"),
        ),
        404 | 410 => Check::warn(http, &format!("{said}: it may not know the path of {variable}"))
            .mended_by(format!("check the path of {variable}; --send-test-event tells")),
        405 | 501 => Check::ok(http, &said),
        429 => Check::warn(http, &format!("{said}: it is busy, the adapter would wait and try again")),
        500..=599 => Check::warn(http, &format!("{said}: it is reachable and fails, the adapter would try again"))
            .mended_by("look at the sink's own log"),
        _ => Check::ok(http, &said),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn any_status_is_an_answer() {
        for (status, verdict) in [
            (200, Verdict::Ok),
            (405, Verdict::Ok),
            (501, Verdict::Ok),
            (400, Verdict::Ok),
            (401, Verdict::Warn),
            (404, Verdict::Warn),
            (429, Verdict::Warn),
            (503, Verdict::Warn),
        ] {
            assert_eq!(judge(&SINK, StatusCode::from_u16(status).expect("a status")).result, verdict, "{status}");
        }
    }
}
