//! What the files say, put together.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::http::header::{AUTHORIZATION, USER_AGENT};
use ::http::{HeaderMap, HeaderValue};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};

use super::Current;
use super::credentials::{self, FILE_LIMIT};
use super::roots::Roots;
use super::watched::{Problem, Watched};
use crate::config::TokenFile;
use crate::delivery::sink::http::client::Client;
use crate::delivery::sink::http::{HttpSinkSettings, SinkSetupError, Tuning, tls, with_ours};
use crate::telemetry::events;

/// All that a sink is made from: what is fixed, and what comes from files.
#[derive(Debug)]
pub(super) struct Parts {
    tls: Option<Tls>,
    fixed: HeaderMap,
    headers: Option<Watched<HeaderMap>>,
    token: Option<Token>,
    said: Said,
    tuning: Tuning,
    concurrency: usize,
}

#[derive(Debug)]
struct Tls {
    roots: Roots,
    identity: Option<Watched<Arc<CertifiedKey>>>,
}

#[derive(Debug)]
struct Token {
    file: Watched<HeaderValue>,
    is_required: bool,
}

/// What was said about files, by their path: the same is said once.
type Said = BTreeMap<String, String>;

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
        let headers = settings.headers_file.map(|path| {
            Watched::new(vec![path], FILE_LIMIT, move |contents| credentials::headers(&contents[0], is_free))
        });
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
            let file = Watched::new(vec![token.path], FILE_LIMIT, |contents| credentials::bearer(&contents[0]));
            return Some(Self { file, is_required: token.is_required });
        }
        if token.path.exists() {
            let path = token.path.display();
            let text = format!("{path} is there and not used: the user in K_SINK wins, remove one of the two");
            events::ConfigWarning { text: &text }.emit();
        }
        None
    }

    fn missing(&self) -> Option<String> {
        self.problem().filter(|_| self.file.value().is_none()).map(Problem::to_string)
    }

    /// What is wrong with it. Where the platform has put none, nothing is.
    fn problem(&self) -> Option<&Problem> {
        self.file.problem().filter(|problem| {
            let was_never_there = matches!(problem, Problem::Missing(_)) && self.file.value().is_none();
            self.is_required || !was_never_there
        })
    }
}

/// What connections of an https sink with these settings would be made with now.
pub(in super::super) fn tls_config(settings: &HttpSinkSettings) -> Result<ClientConfig, SinkSetupError> {
    let mut tls = Tls::new(settings, None)?;
    tls.look();
    Ok(tls.config()?.0)
}

impl Tls {
    fn new(settings: &HttpSinkSettings, system_roots: Option<RootCertStore>) -> Result<Self, SinkSetupError> {
        let (mut fixed, why_none) = match system_roots {
            Some(roots) => (roots, None),
            None => tls::system_roots(),
        };
        settings.trust.certificates.add_to(&mut fixed);
        let mut roots = Roots::new(fixed, settings.trust.folder.clone());
        roots.look();
        if roots.is_hopeless() {
            return Err(SinkSetupError::NoRoots(why_none.unwrap_or_else(|| "none is installed".to_owned())));
        }
        let identity = settings.client_certificate.clone().map(|files| {
            Watched::new(vec![files.certificate, files.key], tls::FILE_LIMIT, |contents| {
                tls::client_certificate(&contents[0], &contents[1]).map(Arc::new)
            })
        });
        Ok(Self { roots, identity })
    }

    /// What connections are to be made with now, and the part of it that knows who was asked for.
    fn config(&self) -> Result<(ClientConfig, Arc<tls::Identity>), rustls::Error> {
        let certificate = self.identity.as_ref().and_then(|identity| identity.value().cloned());
        let identity = Arc::new(tls::Identity::new(certificate));
        Ok((tls::client_config(self.roots.store(), identity.clone())?, identity))
    }

    fn look(&mut self) -> bool {
        let roots = self.roots.look();
        let identity = self.identity.as_mut().is_some_and(Watched::look);
        roots || identity
    }
}

impl Parts {
    /// Says what is wrong with files, and what is right again.
    fn say(&mut self) {
        let problems = self.problems();
        for (path, (text, severity)) in &problems {
            if self.said.get(path) != Some(text) {
                events::SinkFileUnusable { text, stops_delivery: *severity == Severity::StopsDelivery }.emit();
            }
        }
        for path in self.said.keys().filter(|path| !problems.contains_key(*path)) {
            events::SinkFileUsable { path }.emit();
        }
        self.said = problems.into_iter().map(|(path, (text, _))| (path, text)).collect();
    }

    /// In words, what is wrong with files that nothing waits for.
    pub(super) fn survivable_problems(&self) -> Vec<String> {
        let problems = self.problems().into_values();
        problems.filter(|(_, severity)| *severity == Severity::Survivable).map(|(text, _)| text).collect()
    }

    fn problems(&self) -> BTreeMap<String, (String, Severity)> {
        let mut problems = BTreeMap::new();
        if let Some(tls) = &self.tls {
            for (path, why) in tls.roots.problems() {
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
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// Nothing can be sent.
    StopsDelivery,
    /// The others, or what was there before, are used.
    Survivable,
}

fn problem_of<T>(file: &Watched<T>) -> Option<(String, (String, Severity))> {
    let severity = if file.value().is_some() { Severity::Survivable } else { Severity::StopsDelivery };
    Some((file.path().display().to_string(), (file.problem()?.to_string(), severity)))
}
