//! What requests to a sink carry, and what its TLS connections are made with: read from files at the start, and again when
//! they change.
//!
//! Contract:
//! - One task, [`CredentialReloader::run`], reads the files once a second and whenever an attempt asks for it. An attempt takes
//!   the newest [`CredentialSnapshot`] and waits for no volume; only after a 401 does it wait for one reading, and not for long.
//! - What was good is used until there is something better: a file that breaks or disappears is reported and changes nothing.
//! - New authorities or a new client certificate make a new generation: `HttpSink` makes new connections then. This file knows none.
//! - No message and no log shows anything of a file's content.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::reloading_file::{FileProblem, ReloadingFile};
use super::settings::{SinkSettings, SinkSetupError, Tuning};
use super::tls::{ClientTls, TlsFiles};
use crate::config::TokenFile;
use crate::telemetry::events;

/// How many attempts may ask for a reading at once without waiting for their turn to ask.
const REQUESTS: usize = 64;

/// The most bytes of a file with a token or with headers.
const FILE_LIMIT: u64 = 64 * 1024;

/// What the client itself says about a request and its connection.
const OURS: [HeaderName; 11] = [
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The same, where there is no constant for the name.
const OURS_TOO: [&str; 2] = ["keep-alive", "proxy-connection"];

/// What an attempt is made with.
#[derive(Debug)]
pub(super) struct CredentialSnapshot {
    /// Headers for every request.
    pub(super) headers: HeaderMap,
    /// Whether the header `Authorization` is the token of the file.
    pub(super) has_token: bool,
    /// Why no attempt can be made.
    pub(super) missing: Option<String>,
    /// What is wrong with files that no attempt waits for; one text a file.
    pub(super) unused: Vec<String>,
    /// What connections are made with; none for an http sink.
    pub(super) tls: Option<ClientTls>,
    /// Grows with each change of `tls`: connections of an older generation are not used for new attempts.
    pub(super) generation: u64,
}

/// The newest snapshot, for attempts.
#[derive(Debug)]
pub(super) struct Credentials {
    snapshot: watch::Receiver<Arc<CredentialSnapshot>>,
    requests: mpsc::Sender<oneshot::Sender<()>>,
}

impl Credentials {
    /// Reads everything for the first time.
    pub(super) fn read(settings: SinkSettings, tuning: Tuning) -> Result<(Self, CredentialReloader), SinkSetupError> {
        let interval = tuning.reload_interval;
        let sources = CredentialSources::read(settings, tuning)?;
        let (sender, snapshot) = watch::channel(Arc::new(sources.snapshot()));
        let (asking, requests) = mpsc::channel(REQUESTS);
        let reloader = CredentialReloader { sources, snapshot: sender, requests, interval };
        Ok((Self { snapshot, requests: asking }, reloader))
    }

    /// What an attempt is to be made with that begins now.
    pub(super) fn newest(&self) -> Arc<CredentialSnapshot> {
        self.snapshot.borrow().clone()
    }

    /// The same after a refusal: everything is read again, however recently that was done. From `until` on, or without a
    /// reloader, it is what was known before.
    pub(super) async fn read_again(&self, until: Instant) -> Arc<CredentialSnapshot> {
        let (asking, read) = oneshot::channel();
        let reading = async {
            if self.requests.send(asking).await.is_ok() {
                drop(read.await);
            }
        };
        drop(timeout_at(until, reading).await);
        self.newest()
    }
}

/// The task that reads the files of one sink again.
#[derive(Debug)]
#[must_use = "credentials are not read again unless it runs"]
pub struct CredentialReloader {
    sources: CredentialSources,
    snapshot: watch::Sender<Arc<CredentialSnapshot>>,
    /// From attempts that wait for a reading which begins after they ask.
    requests: mpsc::Receiver<oneshot::Sender<()>>,
    interval: Duration,
}

impl CredentialReloader {
    /// Reads the files until the sink is gone.
    pub async fn run(mut self) {
        let mut waiting = Vec::new();
        loop {
            let woken = timeout(self.interval, self.requests.recv_many(&mut waiting, REQUESTS)).await;
            if matches!(woken, Ok(0)) {
                return;
            }
            self = self.reload().await;
            for attempt in waiting.drain(..) {
                // It may have stopped waiting.
                let _ = attempt.send(());
            }
        }
    }

    /// A file system that does not answer keeps a thread and this task, but no attempt.
    async fn reload(mut self) -> Self {
        let reading = tokio::task::spawn_blocking(move || {
            if let Some(newer) = self.sources.reload() {
                self.snapshot.send_replace(Arc::new(newer));
            }
            self
        });
        match reading.await {
            Ok(reloader) => reloader,
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            // The runtime is ending.
            Err(_) => std::future::pending().await,
        }
    }
}

/// All that snapshots are made from: what is fixed, and what comes from files.
#[derive(Debug)]
struct CredentialSources {
    fixed: HeaderMap,
    headers: Option<ReloadingFile<HeaderMap>>,
    token: Option<Token>,
    tls_files: Option<TlsFiles>,
    /// What the files of TLS made when they were read last.
    tls: Option<ClientTls>,
    generation: u64,
    reported: ReportedProblems,
}

impl CredentialSources {
    /// Reads everything for the first time.
    fn read(settings: SinkSettings, tuning: Tuning) -> Result<Self, SinkSetupError> {
        let tls_files = match settings.url.scheme_str() {
            Some("http") => None,
            Some("https") => Some(TlsFiles::new(&settings, tuning.system_roots)?),
            _ => return Err(SinkSetupError::Url),
        };
        let is_free = !settings.headers.contains_key(AUTHORIZATION)
            && !settings.token_file.as_ref().is_some_and(|token| token.is_required);
        let headers = settings.headers_file.map(|path| {
            ReloadingFile::new(vec![path], FILE_LIMIT, move |contents| parse_headers(&contents[0], is_free))
        });
        let token = settings.token_file.and_then(|token| Token::new(token, &settings.headers));
        let reported = ReportedProblems::default();
        let mut sources =
            Self { fixed: settings.headers, headers, token, tls_files, tls: None, generation: 0, reported };
        sources.read_files();
        sources.tls = sources.tls_files.as_ref().map(TlsFiles::client_tls).transpose()?;
        Ok(sources)
    }

    /// Reads what changed; none where nothing did.
    fn reload(&mut self) -> Option<CredentialSnapshot> {
        let changes = self.read_files();
        if changes.tls {
            self.renew_tls();
        }
        (changes.tls || changes.headers).then(|| self.snapshot())
    }

    fn read_files(&mut self) -> Changes {
        let tls = self.tls_files.as_mut().is_some_and(TlsFiles::reload);
        // Both are to be read.
        let headers = self.headers.as_mut().is_some_and(ReloadingFile::reload);
        let token = self.token.as_mut().is_some_and(|token| token.file.reload());
        self.reported.report(self.problems());
        Changes { tls, headers: headers || token }
    }

    fn renew_tls(&mut self) {
        // Everything in it was checked when it was read.
        if let Some(Ok(newer)) = self.tls_files.as_ref().map(TlsFiles::client_tls) {
            self.tls = Some(newer);
            self.generation += 1;
        }
    }

    fn snapshot(&self) -> CredentialSnapshot {
        let from_file = self.headers.as_ref().and_then(ReloadingFile::value);
        let mut headers = from_file.map_or_else(|| self.fixed.clone(), |more| replaced(self.fixed.clone(), more));
        let token = self.token.as_ref().and_then(|token| token.file.value());
        let token = token.filter(|_| !headers.contains_key(AUTHORIZATION)).cloned();
        let has_token = token.is_some();
        headers.extend(token.map(|token| (AUTHORIZATION, token)));
        let agent = HeaderValue::from_static(concat!("dynamodb-streams-adapter/", env!("CARGO_PKG_VERSION")));
        headers.entry(USER_AGENT).or_insert(agent);
        let survivable = self.problems().into_values().filter(|problem| !problem.stops_delivery);
        CredentialSnapshot {
            headers,
            has_token,
            missing: self.missing(),
            unused: survivable.map(|problem| problem.text).collect(),
            tls: self.tls.clone(),
            generation: self.generation,
        }
    }

    /// Why nothing can be sent: a file without which nothing may be sent has never been good.
    fn missing(&self) -> Option<String> {
        let headers = self.headers.as_ref().and_then(unread).map(|why| format!("SINK_HEADERS_FILE {why}"));
        let identity = self.tls_files.as_ref().and_then(|tls| tls.identity.as_ref()).and_then(unread);
        let identity = identity.map(|why| format!("SINK_CLIENT_CERT_FILE and SINK_CLIENT_KEY_FILE: {why}"));
        let token = self.token.as_ref().and_then(Token::missing).map(|why| format!("SINK_TOKEN_FILE {why}"));
        let reasons: Vec<String> = [token, headers, identity].into_iter().flatten().collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// What is wrong with files, by their path.
    fn problems(&self) -> BTreeMap<String, Problem> {
        let mut problems = BTreeMap::new();
        if let Some(tls) = &self.tls_files {
            for (path, text) in tls.authority_problems() {
                problems.insert(path.display().to_string(), Problem { text, stops_delivery: false });
            }
        }
        let identity = self.tls_files.as_ref().and_then(|tls| tls.identity.as_ref()).and_then(Problem::of);
        let headers = self.headers.as_ref().and_then(Problem::of);
        let token = self.token.as_ref().filter(|token| token.problem().is_some());
        let token = token.and_then(|token| Problem::of(&token.file));
        problems.extend([identity, headers, token].into_iter().flatten());
        problems
    }
}

/// What a reading has changed.
struct Changes {
    tls: bool,
    headers: bool,
}

/// The file of a bearer token.
#[derive(Debug)]
struct Token {
    file: ReloadingFile<HeaderValue>,
    is_required: bool,
}

impl Token {
    /// None where the sink's URL has a user.
    fn new(token: TokenFile, fixed: &HeaderMap) -> Option<Self> {
        if !fixed.contains_key(AUTHORIZATION) {
            let file = ReloadingFile::new(vec![token.path], FILE_LIMIT, |contents| parse_bearer(&contents[0]));
            return Some(Self { file, is_required: token.is_required });
        }
        if token.path.exists() {
            let path = token.path.display();
            let text = format!("{path} exists and is not used: the user in K_SINK has priority, remove one of the two");
            events::ConfigWarning { text: &text }.emit();
        }
        None
    }

    fn missing(&self) -> Option<String> {
        self.problem().filter(|_| self.file.value().is_none()).map(FileProblem::to_string)
    }

    /// What is wrong with it. Where the platform has put none, nothing is.
    fn problem(&self) -> Option<&FileProblem> {
        self.file.problem().filter(|problem| {
            let was_never_there = matches!(problem, FileProblem::Missing(_)) && self.file.value().is_none();
            self.is_required || !was_never_there
        })
    }
}

/// What is wrong with a file.
#[derive(Debug)]
struct Problem {
    text: String,
    /// Nothing can be sent. Otherwise the other files, or what this one held before, are used.
    stops_delivery: bool,
}

impl Problem {
    /// With the path of the file.
    fn of<T>(file: &ReloadingFile<T>) -> Option<(String, Self)> {
        let problem = Self { text: file.problem()?.to_string(), stops_delivery: file.value().is_none() };
        Some((file.path().display().to_string(), problem))
    }
}

/// Why a file has no value.
fn unread<T>(file: &ReloadingFile<T>) -> Option<String> {
    file.problem().filter(|_| file.value().is_none()).map(FileProblem::to_string)
}

/// The texts of problems that were reported, by the file's path: each is reported once, and so is its end.
#[derive(Debug, Default)]
struct ReportedProblems(BTreeMap<String, String>);

impl ReportedProblems {
    fn report(&mut self, problems: BTreeMap<String, Problem>) {
        for (path, Problem { text, stops_delivery }) in &problems {
            if self.0.get(path) != Some(text) {
                events::SinkFileUnusable { text, stops_delivery: *stops_delivery }.emit();
            }
        }
        for path in self.0.keys().filter(|path| !problems.contains_key(*path)) {
            events::SinkFileUsable { path }.emit();
        }
        self.0 = problems.into_iter().map(|(path, problem)| (path, problem.text)).collect();
    }
}

/// The headers, each replaced where `by` has it too, and the others of `by`.
pub(super) fn replaced(mut headers: HeaderMap, by: &HeaderMap) -> HeaderMap {
    for name in by.keys() {
        headers.remove(name);
    }
    for (name, value) in by {
        headers.append(name, value.clone());
    }
    headers
}

/// The header `Authorization` for a file that holds a bearer token, RFC 6750. One line end behind it is allowed.
fn parse_bearer(content: &[u8]) -> Result<HeaderValue, String> {
    let content = without_mark(content);
    let token = content.strip_suffix(b"\n").unwrap_or(content);
    let token = token.strip_suffix(b"\r").unwrap_or(token);
    if token.is_empty() {
        return Err("it is empty: expected a token".to_owned());
    }
    if token.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Err("it has several lines: expected one token and nothing else".to_owned());
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err("it has blanks or characters that are not allowed in a token".to_owned());
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).map_err(|_| "it cannot be sent")?;
    value.set_sensitive(true);
    Ok(value)
}

/// A text in UTF-8 without the mark U+FEFF that editors of Windows and some libraries put before it.
pub(crate) fn without_mark(content: &[u8]) -> &[u8] {
    content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content)
}

/// The headers of a file, a line `Name: value` for each; blank lines and lines that begin with `#` say nothing.
fn parse_headers(content: &[u8], authorization_is_free: bool) -> Result<HeaderMap, String> {
    let text = str::from_utf8(without_mark(content)).map_err(|_| "it is not UTF-8")?;
    let mut headers = HeaderMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) =
            parse_header(line, authorization_is_free).map_err(|why| format!("line {}: {why}", index + 1))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn parse_header(line: &str, authorization_is_free: bool) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = line.split_once(':').ok_or("expected `Name: value`")?;
    let name: HeaderName = name.parse().map_err(|_| "the text before the colon is not a header name")?;
    if name.as_str().starts_with("ce-") || OURS.contains(&name) || OURS_TOO.contains(&name.as_str()) {
        return Err(format!("{name} is set by the adapter itself"));
    }
    if name == AUTHORIZATION && !authorization_is_free {
        return Err("authorization is set already, by SINK_TOKEN_FILE or by the user in K_SINK".to_owned());
    }
    let mut value: HeaderValue = value
        .trim()
        .parse()
        .map_err(|_| format!("the value of {name} has characters that are not allowed in a header"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests;
