//! The files that a sink's connections and requests are made with: read at the start, and again when they change.
//!
//! Contract:
//! - They are looked at when an attempt begins, at most once a second, outside the asynchronous threads. After a 401 they
//!   are looked at once more.
//! - What was good is used until there is something better: a file that breaks or disappears is said and changes nothing.
//! - New roots or a new client certificate make a new pool of connections. Attempts under way keep theirs to their end.
//! - No content of a file is ever told, in no message and no log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, timeout_at};

use super::http::Client;
use super::reloading_file::{FileProblem, ReloadingFile};
use super::settings::{SinkSettings, SinkSetupError, Tuning};
use super::tls::TlsFiles;
use crate::config::TokenFile;
use crate::telemetry::events;

/// How long an attempt waits for files at most; then it goes on with what was known before.
const PATIENCE: Duration = Duration::from_secs(1);

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
#[derive(Debug, Clone)]
pub(super) struct CredentialSnapshot {
    /// The connections.
    pub(super) client: Client,
    /// Headers for every request.
    pub(super) headers: HeaderMap,
    /// Whether the header `Authorization` is the token of the file.
    pub(super) has_token: bool,
    /// Why no attempt can be made.
    pub(super) missing: Option<String>,
}

/// The files of one sink.
#[derive(Debug)]
pub(super) struct Credentials {
    inner: Arc<Inner>,
    next_look: Mutex<Instant>,
    recheck: Duration,
}

#[derive(Debug)]
struct Inner {
    /// Locked while files are read, and never by an asynchronous thread.
    sources: Mutex<CredentialSources>,
    current: RwLock<Arc<CredentialSnapshot>>,
}

impl Credentials {
    /// Reads everything for the first time.
    pub(super) fn read(settings: SinkSettings, tuning: Tuning) -> Result<Self, SinkSetupError> {
        let recheck = tuning.recheck;
        let (sources, current) = CredentialSources::read(settings, tuning)?;
        let inner = Arc::new(Inner { sources: Mutex::new(sources), current: RwLock::new(Arc::new(current)) });
        Ok(Self { inner, next_look: Mutex::new(Instant::now() + recheck), recheck })
    }

    /// What an attempt is to be made with that begins now.
    pub(super) async fn current(&self, deadline: Instant) -> Arc<CredentialSnapshot> {
        if self.is_due() {
            self.look(deadline, |inner| {
                // Whoever is still reading does it for all.
                if let Ok(mut sources) = inner.sources.try_lock() {
                    inner.look(&mut sources);
                }
            })
            .await;
        }
        self.inner.current()
    }

    /// The same after a refusal: everything is looked at, however recently that was done.
    pub(super) async fn read_again(&self, deadline: Instant) -> Arc<CredentialSnapshot> {
        self.look(deadline, |inner| {
            let mut sources = inner.sources.lock().unwrap_or_else(PoisonError::into_inner);
            inner.look(&mut sources);
        })
        .await;
        self.inner.current()
    }

    /// What was found at the last look.
    pub(super) fn newest(&self) -> Arc<CredentialSnapshot> {
        self.inner.current()
    }

    /// What is wrong with files that are not needed.
    pub(super) fn unused(&self) -> Vec<String> {
        self.inner.sources.lock().unwrap_or_else(PoisonError::into_inner).survivable_problems()
    }

    fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut next = self.next_look.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = *next <= now;
        if is_due {
            *next = now + self.recheck;
        }
        is_due
    }

    /// A file system that does not answer keeps a thread, but no attempt.
    async fn look(&self, deadline: Instant, look: impl FnOnce(&Inner) + Send + 'static) {
        let inner = self.inner.clone();
        let looked = tokio::task::spawn_blocking(move || look(&inner));
        drop(timeout_at(deadline.min(Instant::now() + PATIENCE), looked).await);
    }
}

impl Inner {
    fn current(&self) -> Arc<CredentialSnapshot> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look(&self, sources: &mut CredentialSources) {
        if let Some(newer) = sources.look(&self.current()) {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer);
        }
    }
}

/// All that a sink is made from: what is fixed, and what comes from files.
#[derive(Debug)]
struct CredentialSources {
    tls: Option<TlsFiles>,
    fixed: HeaderMap,
    headers: Option<ReloadingFile<HeaderMap>>,
    token: Option<Token>,
    reported: ReportedProblems,
    tuning: Tuning,
    concurrency: usize,
}

#[derive(Debug)]
struct Token {
    file: ReloadingFile<HeaderValue>,
    is_required: bool,
}

impl CredentialSources {
    /// Reads everything for the first time.
    fn read(settings: SinkSettings, mut tuning: Tuning) -> Result<(Self, CredentialSnapshot), SinkSetupError> {
        let tls = match settings.url.scheme_str() {
            Some("http") => None,
            Some("https") => Some(TlsFiles::new(&settings, tuning.system_roots.take())?),
            _ => return Err(SinkSetupError::Url),
        };
        let is_free = !settings.headers.contains_key(AUTHORIZATION)
            && !settings.token_file.as_ref().is_some_and(|token| token.is_required);
        let headers = settings
            .headers_file
            .map(|path| ReloadingFile::new(vec![path], FILE_LIMIT, move |contents| headers(&contents[0], is_free)));
        let token = settings.token_file.and_then(|token| Token::new(token, &settings.headers));
        let mut sources = Self {
            tls,
            fixed: settings.headers,
            headers,
            token,
            reported: ReportedProblems::new(),
            tuning,
            concurrency: settings.concurrency,
        };
        sources.read_changes();
        let client = sources.client()?;
        let current = sources.compose(client);
        Ok((sources, current))
    }

    /// Reads what changed; none where nothing did.
    fn look(&mut self, current: &CredentialSnapshot) -> Option<CredentialSnapshot> {
        let changes = self.read_changes();
        if !changes.connections && !changes.requests {
            return None;
        }
        let client = match changes.connections {
            // Everything in it was checked when it was read.
            true => self.client().unwrap_or_else(|_| current.client.clone()),
            false => current.client.clone(),
        };
        Some(self.compose(client))
    }

    fn read_changes(&mut self) -> Changes {
        let connections = self.tls.as_mut().is_some_and(TlsFiles::reload);
        // Both are to be looked at.
        let headers = self.headers.as_mut().is_some_and(ReloadingFile::reload);
        let token = self.token.as_mut().is_some_and(|token| token.file.reload());
        let changes = Changes { connections, requests: headers || token };
        self.report_problems();
        changes
    }

    fn client(&self) -> Result<Client, SinkSetupError> {
        let Some(tls) = &self.tls else {
            return Ok(Client::plain(self.concurrency, self.tuning.idle_timeout));
        };
        let (config, identity) = tls.config()?;
        Ok(Client::tls(self.concurrency, self.tuning.idle_timeout, config, identity))
    }

    fn compose(&self, client: Client) -> CredentialSnapshot {
        let from_file = self.headers.as_ref().and_then(ReloadingFile::value);
        let mut headers = from_file.map_or_else(|| self.fixed.clone(), |more| with_ours(self.fixed.clone(), more));
        let token = self.token.as_ref().and_then(|token| token.file.value());
        let token = token.filter(|_| !headers.contains_key(AUTHORIZATION)).cloned();
        let has_token = token.is_some();
        headers.extend(token.map(|token| (AUTHORIZATION, token)));
        let agent = HeaderValue::from_static(concat!("dynamodb-streams-adapter/", env!("CARGO_PKG_VERSION")));
        headers.entry(USER_AGENT).or_insert(agent);
        CredentialSnapshot { client, headers, has_token, missing: self.missing() }
    }

    /// Says what is wrong with files, and what is right again.
    fn report_problems(&mut self) {
        let problems = self.problems();
        for (path, (text, severity)) in &problems {
            if self.reported.get(path) != Some(text) {
                events::SinkFileUnusable { text, stops_delivery: *severity == Severity::StopsDelivery }.emit();
            }
        }
        for path in self.reported.keys().filter(|path| !problems.contains_key(*path)) {
            events::SinkFileUsable { path }.emit();
        }
        self.reported = problems.into_iter().map(|(path, (text, _))| (path, text)).collect();
    }

    /// In words, what is wrong with files that nothing waits for.
    fn survivable_problems(&self) -> Vec<String> {
        let problems = self.problems().into_values();
        problems.filter(|(_, severity)| *severity == Severity::Survivable).map(|(text, _)| text).collect()
    }

    fn problems(&self) -> BTreeMap<String, (String, Severity)> {
        let mut problems = BTreeMap::new();
        if let Some(tls) = &self.tls {
            for (path, why) in tls.authority_problems() {
                problems.insert(path.display().to_string(), (why, Severity::Survivable));
            }
        }
        let identity = self.tls.as_ref().and_then(|tls| tls.identity.as_ref()).and_then(problem_of);
        let headers = self.headers.as_ref().and_then(problem_of);
        let token = self.token.as_ref().filter(|token| token.problem().is_some());
        let token = token.and_then(|token| problem_of(&token.file));
        problems.extend([identity, headers, token].into_iter().flatten());
        problems
    }

    /// Why nothing can be sent: a file without which nothing may be sent has never been good.
    fn missing(&self) -> Option<String> {
        let headers = self.headers.as_ref().and_then(unread).map(|why| format!("SINK_HEADERS_FILE {why}"));
        let identity = self.tls.as_ref().and_then(|tls| tls.identity.as_ref()).and_then(unread);
        let identity = identity.map(|why| format!("SINK_CLIENT_CERT_FILE and SINK_CLIENT_KEY_FILE: {why}"));
        let token = self.token.as_ref().and_then(Token::missing).map(|why| format!("SINK_TOKEN_FILE {why}"));
        let reasons: Vec<String> = [token, headers, identity].into_iter().flatten().collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// What changed.
struct Changes {
    connections: bool,
    requests: bool,
}

/// Why a file has no value.
fn unread<T>(file: &ReloadingFile<T>) -> Option<String> {
    file.problem().filter(|_| file.value().is_none()).map(FileProblem::to_string)
}

impl Token {
    /// None where the sink's URL has a user.
    fn new(token: TokenFile, fixed: &HeaderMap) -> Option<Self> {
        if !fixed.contains_key(AUTHORIZATION) {
            let file = ReloadingFile::new(vec![token.path], FILE_LIMIT, |contents| bearer(&contents[0]));
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

/// The message's headers, each replaced where `ours` has it too.
pub(super) fn with_ours(mut headers: HeaderMap, ours: &HeaderMap) -> HeaderMap {
    for name in ours.keys() {
        headers.remove(name);
    }
    for (name, value) in ours {
        headers.append(name, value.clone());
    }
    headers
}

/// What was said about files, by their path: the same is said once.
type ReportedProblems = BTreeMap<String, String>;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// Nothing can be sent.
    StopsDelivery,
    /// The others, or what was there before, are used.
    Survivable,
}

fn problem_of<T>(file: &ReloadingFile<T>) -> Option<(String, (String, Severity))> {
    let severity = if file.value().is_some() { Severity::Survivable } else { Severity::StopsDelivery };
    Some((file.path().display().to_string(), (file.problem()?.to_string(), severity)))
}

/// The header `Authorization` for a file that holds a bearer token, RFC 6750. One line end behind it is allowed.
fn bearer(content: &[u8]) -> Result<HeaderValue, String> {
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

/// The headers of a file, a line `Name: value` for each; blank lines and lines that begin with `#` say nothing.
fn headers(content: &[u8], authorization_is_free: bool) -> Result<HeaderMap, String> {
    let text = str::from_utf8(content).map_err(|_| "it is not UTF-8")?;
    let mut headers = HeaderMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = header(line, authorization_is_free).map_err(|why| format!("line {}: {why}", index + 1))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn header(line: &str, authorization_is_free: bool) -> Result<(HeaderName, HeaderValue), String> {
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
