//! What the files say, put together.

use ::http::header::{AUTHORIZATION, USER_AGENT};
use ::http::{HeaderMap, HeaderValue};

use super::Current;
use super::headers::{self, FILE_LIMIT};
use super::said::Said;
use crate::config::TokenFile;
use crate::sink::http::client::Client;
use crate::sink::http::{SinkSetupError, Tuning, with_ours};
use crate::sink::reloading_file::{Problem, Watched};
use crate::sink::settings::HttpSinkSettings;
use crate::sink::tls::session::Tls;
use crate::telemetry::events;

/// All that a sink is made from: what is fixed, and what comes from files.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) tls: Option<Tls>,
    fixed: HeaderMap,
    pub(super) headers: Option<Watched<HeaderMap>>,
    pub(super) token: Option<Token>,
    pub(super) said: Said,
    tuning: Tuning,
    concurrency: usize,
}

#[derive(Debug)]
pub(super) struct Token {
    pub(super) file: Watched<HeaderValue>,
    is_required: bool,
}

impl Parts {
    /// Reads everything for the first time.
    pub(super) fn read(settings: HttpSinkSettings, mut tuning: Tuning) -> Result<(Self, Current), SinkSetupError> {
        let tls = match settings.url.scheme_str() {
            Some("http") => None,
            Some("https") => Some(Tls::new(&settings, tuning.system_roots.take())?),
            _ => return Err(SinkSetupError::Url),
        };
        let is_free = !settings.headers.contains_key(AUTHORIZATION)
            && !settings.token_file.as_ref().is_some_and(|token| token.is_required);
        let headers = settings
            .headers_file
            .map(|path| Watched::new(vec![path], FILE_LIMIT, move |contents| headers::headers(&contents[0], is_free)));
        let token = settings.token_file.and_then(|token| Token::new(token, &settings.headers));
        let mut parts = Self {
            tls,
            fixed: settings.headers,
            headers,
            token,
            said: Said::new(),
            tuning,
            concurrency: settings.concurrency,
        };
        parts.read_changes();
        let client = parts.client()?;
        let current = parts.compose(client);
        Ok((parts, current))
    }

    /// Reads what changed; none where nothing did.
    pub(super) fn look(&mut self, current: &Current) -> Option<Current> {
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
        let connections = self.tls.as_mut().is_some_and(Tls::look);
        // Both are to be looked at.
        let headers = self.headers.as_mut().is_some_and(Watched::look);
        let token = self.token.as_mut().is_some_and(|token| token.file.look());
        let changes = Changes { connections, requests: headers || token };
        self.say();
        changes
    }

    fn client(&self) -> Result<Client, SinkSetupError> {
        let Some(tls) = &self.tls else {
            return Ok(Client::plain(self.concurrency, self.tuning.idle_timeout));
        };
        let (config, identity) = tls.config()?;
        Ok(Client::tls(self.concurrency, self.tuning.idle_timeout, config, identity))
    }

    fn compose(&self, client: Client) -> Current {
        let from_file = self.headers.as_ref().and_then(Watched::value);
        let mut headers = from_file.map_or_else(|| self.fixed.clone(), |more| with_ours(self.fixed.clone(), more));
        let token = self.token.as_ref().and_then(|token| token.file.value());
        let token = token.filter(|_| !headers.contains_key(AUTHORIZATION)).cloned();
        let has_token = token.is_some();
        headers.extend(token.map(|token| (AUTHORIZATION, token)));
        let agent = HeaderValue::from_static(concat!("dynamodb-streams-adapter/", env!("CARGO_PKG_VERSION")));
        headers.entry(USER_AGENT).or_insert(agent);
        Current { client, headers, has_token, missing: self.missing() }
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
fn unread<T>(file: &Watched<T>) -> Option<String> {
    file.problem().filter(|_| file.value().is_none()).map(Problem::to_string)
}

impl Token {
    /// None where the sink's URL has a user.
    fn new(token: TokenFile, fixed: &HeaderMap) -> Option<Self> {
        if !fixed.contains_key(AUTHORIZATION) {
            let file = Watched::new(vec![token.path], FILE_LIMIT, |contents| headers::bearer(&contents[0]));
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
        self.problem().filter(|_| self.file.value().is_none()).map(Problem::to_string)
    }

    /// What is wrong with it. Where the platform has put none, nothing is.
    pub(super) fn problem(&self) -> Option<&Problem> {
        self.file.problem().filter(|problem| {
            let was_never_there = matches!(problem, Problem::Missing(_)) && self.file.value().is_none();
            self.is_required || !was_never_there
        })
    }
}
