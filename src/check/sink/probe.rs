//! The steps to one sink. Each needs the one before it.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::net::TcpStream;

use super::connection::{self, Insecure, Stream};
use super::files;
use crate::check::clock::Clocks;
use crate::check::report::{Check, within};
use crate::clock;
use crate::config::SinkAddress;
use crate::sink::{SinkSettings, about_alert};

/// So many of a name's addresses are shown.
const SHOWN_ADDRESSES: usize = 4;

/// The names of one sink's checks, and of the variable that it comes from.
pub(super) struct Steps {
    pub(super) variable: &'static str,
    pub(super) files: &'static str,
    pub(super) dns: &'static str,
    pub(super) tcp: &'static str,
    pub(super) tls: &'static str,
    pub(super) http: &'static str,
}

/// One sink to be tried.
pub(super) struct Probe<'c> {
    pub(super) sink: &'c SinkAddress,
    pub(super) settings: SinkSettings,
    pub(super) steps: &'static Steps,
    pub(super) limit: Duration,
    pub(super) clocks: &'c Clocks,
}

/// What a step found, or the check that failed.
type Step<T> = Result<(Check, T), Check>;

impl Probe<'_> {
    /// The files and all steps, those that could not be tried included, and what failed.
    pub(super) async fn run(&self) -> (Vec<Check>, Option<&'static str>) {
        let (files, headers) = files::check(self.steps.files, &self.settings);
        let (steps, failed) = self.run_steps(&headers).await;
        let broken = files.as_ref().filter(|files| files.has_failed()).map(|files| files.name);
        (files.into_iter().chain(steps).collect(), failed.or(broken))
    }

    async fn run_steps(&self, headers: &HeaderMap) -> (Vec<Check>, Option<&'static str>) {
        let mut checks = Vec::new();
        let Err(failed) = self.try_steps(headers, &mut checks).await else { return (checks, None) };
        let name = failed.name;
        checks.push(failed);
        let Steps { dns, tcp, tls, http, .. } = self.steps;
        let names = [Some(dns), Some(tcp), Some(tls).filter(|_| self.is_https()), Some(http)];
        let tried = checks.len();
        checks.extend(names.into_iter().flatten().skip(tried).map(|untried| Check::skipped(untried, name)));
        (checks, Some(name))
    }

    /// # Errors
    /// The first check that fails; those before it are in `checks`.
    async fn try_steps(&self, headers: &HeaderMap, checks: &mut Vec<Check>) -> Result<(), Check> {
        let (check, addresses) = self.resolve().await?;
        checks.push(check);
        let (check, stream) = self.connect(&addresses).await?;
        checks.push(check);
        let stream = match self.is_https() {
            false => Stream::Plain(stream),
            true => {
                let (check, stream) = self.secure(stream).await?;
                checks.push(check);
                stream
            }
        };
        checks.push(self.ask(stream, headers).await?);
        Ok(())
    }

    async fn resolve(&self) -> Step<Vec<SocketAddr>> {
        let (host, name) = (self.host(), self.steps.dns);
        let failed = |why: &str| Check::fail(name, why).mended_by(format!("getent ahosts {host}"));
        let found =
            within(self.limit, tokio::net::lookup_host((host, self.port()))).await.map_err(|late| failed(&late))?;
        let addresses: Vec<SocketAddr> =
            found.map_err(|error| failed(&format!("{host} has no address: {error}")))?.collect();
        if addresses.is_empty() {
            return Err(failed(&format!("{host} has no address")));
        }
        let shown: Vec<String> =
            addresses.iter().take(SHOWN_ADDRESSES).map(|address| address.ip().to_string()).collect();
        Ok((Check::ok(name, &format!("{host} is {}", shown.join(", "))), addresses))
    }

    async fn connect(&self, addresses: &[SocketAddr]) -> Step<TcpStream> {
        let (host, port, name) = (self.host(), self.port(), self.steps.tcp);
        let connected = within(self.limit, connection::connect(addresses)).await.and_then(|connected| connected);
        match connected {
            Ok(stream) => Ok((Check::ok(name, &format!("connected to {host}:{port}")), stream)),
            Err(why) => Err(Check::fail(name, &why).mended_by(format!(
                "start the server on {host}:{port}, or allow connections to it; nc -vz {host} {port} tests the connection"
            ))),
        }
    }

    async fn secure(&self, stream: TcpStream) -> Step<Stream> {
        let name = self.steps.tls;
        let secured = within(self.limit, connection::secure(stream, self.host(), &self.settings)).await;
        let secured = secured.unwrap_or_else(|late| Err(Insecure::silent(late)));
        match secured {
            Ok((stream, version)) => Ok((Check::ok(name, &format!("{version}, the certificate is trusted")), stream)),
            Err(Insecure { what, remedy }) => Err(Check::fail(name, &what).mended_by(remedy)),
        }
    }

    /// `OPTIONS` makes no event anywhere; whatever the answer, the sink is there.
    async fn ask(&self, stream: Stream, headers: &HeaderMap) -> Result<Check, Check> {
        let sent = clock::now();
        let asked = connection::options(stream, &self.sink.uri, headers);
        let answer = within(self.limit, asked).await.and_then(|answer| answer);
        let (status, headers) = answer.map_err(|why| {
            let Steps { http, variable, .. } = self.steps;
            let remedy = format!("check that {variable} has the host, port and scheme of an HTTP server");
            Check::fail(http, &format!("no answer to OPTIONS: {why}"))
                .mended_by(about_alert(&why).map_or(remedy, str::to_owned))
        })?;
        if let Some(date) = headers.get("date").and_then(|date| date.to_str().ok()) {
            self.clocks.note(date, sent);
        }
        Ok(judge(self.steps, status))
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

/// What a status says about POSTs to come. Many receivers know only POST: 405 and 501 are as good as 200.
fn judge(steps: &Steps, status: StatusCode) -> Check {
    let Steps { http, variable, .. } = steps;
    let said = format!("the sink answers OPTIONS with {}", status.as_u16());
    match status.as_u16() {
        401 | 403 => Check::warn(http, &format!("{said}: POST may require credentials, too")).mended_by(
            format!("give the adapter credentials for {variable}, see docs/sink.md, or allow requests without credentials at the sink"),
        ),
        404 | 410 => Check::warn(http, &format!("{said}: the path may be wrong"))
            .mended_by(format!("check the path of {variable}")),
        429 => Check::warn(http, &format!("{said}: the sink is overloaded, the adapter would wait and retry"))
            .mended_by("check the sink's log"),
        501 => Check::ok(http, &said),
        500..=599 => Check::warn(http, &format!("{said}: the sink is reachable but fails, the adapter would retry"))
            .mended_by("check the sink's log"),
        _ => Check::ok(http, &said),
    }
}

#[cfg(test)]
mod tests {
    use super::super::SINK;
    use super::*;
    use crate::check::report::Verdict;

    #[test]
    fn any_status_is_an_answer() {
        for (status, verdict) in [
            (200, Verdict::Ok),
            (308, Verdict::Ok),
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
