//! The sink, one step after the other: name, connection, certificate, an answer. No event, unless one is asked for.

mod connection;
mod event;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, Uri};

use super::clock::Clocks;
use super::report::Check;
use super::words::within;
use crate::config::Config;

const DNS: &str = "sink-dns";
const TCP: &str = "sink-tcp";
const TLS: &str = "sink-tls";
const HTTP: &str = "sink-http";
const EVENT: &str = "sink-event";

/// All checks of the sink.
pub(super) async fn check(config: &Config, send_event: bool, limit: Duration, clocks: &Clocks) -> Vec<Check> {
    let probe = Probe { uri: &config.sink.uri, config, limit, clocks };
    let mut checks = Vec::new();
    let stopped_by = probe.run(&mut checks).await.err();
    if let Some(failed) = stopped_by {
        let steps = probe.steps();
        checks.extend(steps.iter().skip(checks.len()).map(|name| Check::skipped(name, failed)));
    }
    if send_event {
        checks.push(match stopped_by {
            Some(failed) => Check::skipped(EVENT, failed),
            None => event::send(config, limit).await,
        });
    }
    checks
}

struct Probe<'c> {
    uri: &'c Uri,
    config: &'c Config,
    limit: Duration,
    clocks: &'c Clocks,
}

impl Probe<'_> {
    fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    fn steps(&self) -> &'static [&'static str] {
        if self.is_https() { &[DNS, TCP, TLS, HTTP] } else { &[DNS, TCP, HTTP] }
    }

    fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// # Errors
    /// The step that failed.
    async fn run(&self, checks: &mut Vec<Check>) -> Result<(), &'static str> {
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
        let stream = step(checks, TCP, connected, remedy, |_| format!("connected to {host}:{port}"))?;
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
                checks.push(Check::ok(TLS, &format!("{version}, its certificate is trusted")));
                Ok(stream)
            }
            Ok(Err(connection::Insecure { what, remedy })) => {
                checks.push(Check::fail(TLS, &what).mended_by(remedy));
                Err(TLS)
            }
            Err(late) => {
                checks.push(
                    Check::fail(TLS, &late).mended_by("check that the port speaks TLS, or set K_SINK to http://"),
                );
                Err(TLS)
            }
        }
    }

    /// `OPTIONS` makes no event anywhere; whatever the answer, the sink is there.
    async fn ask(&self, checks: &mut Vec<Check>, stream: connection::Stream) -> Result<(), &'static str> {
        let sent = SystemTime::now();
        let asked = connection::options(stream, self.uri, self.config.sink.authorization.as_ref());
        let answer = within(self.limit, asked).await.and_then(|answer| answer);
        let remedy = || "check that K_SINK's host, port and scheme are those of an HTTP server".to_owned();
        let (status, headers): (StatusCode, HeaderMap) = match answer {
            Ok(answer) => answer,
            Err(why) => {
                checks.push(Check::fail(HTTP, &format!("no answer to OPTIONS: {why}")).mended_by(remedy()));
                return Err(HTTP);
            }
        };
        if let Some(date) = headers.get("date").and_then(|date| date.to_str().ok()) {
            self.clocks.note(date, sent);
        }
        checks.push(judge(status));
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
fn judge(status: StatusCode) -> Check {
    let said = format!("answers OPTIONS with {}", status.as_u16());
    match status.as_u16() {
        401 | 403 => Check::warn(HTTP, &format!("{said}: it may want credentials for POST as well"))
            .mended_by("set user and password in K_SINK, or allow this client at the sink; --send-test-event tells"),
        404 | 410 => Check::warn(HTTP, &format!("{said}: it may not know the path of K_SINK"))
            .mended_by("check the path of K_SINK; --send-test-event tells"),
        405 | 501 => Check::ok(HTTP, &said),
        429 => Check::warn(HTTP, &format!("{said}: it is busy, the adapter would wait and try again")),
        500..=599 => Check::warn(HTTP, &format!("{said}: it is reachable and fails, the adapter would try again"))
            .mended_by("look at the sink's own log"),
        _ => Check::ok(HTTP, &said),
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
            assert_eq!(judge(StatusCode::from_u16(status).expect("a status")).result, verdict, "{status}");
        }
    }
}
