//! The settings of an HTTP sink, what tests alone change of them, and why a sink cannot be set up.

use std::path::PathBuf;
use std::time::Duration;

use ::http::header::AUTHORIZATION;
use ::http::{HeaderMap, Uri};

use super::connection::DEAD_PEER_TIMEOUT;
use crate::config::{self, Certificates, ClientCertificateFiles, Config, EventMode, TokenFile};

/// How many bytes of a response's body are read unless the settings say otherwise.
const RESPONSE_LIMIT: usize = 128 * 1024;

/// How long an idle connection is kept, unless the sink says that it keeps its own for less. Common servers close theirs after 5 s
/// (Node.js, Apache) or later: be first, so that a request does not meet a connection that is just being closed.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How often the files of credentials are read again.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// What an HTTP sink is made with.
#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// Where to post to; http or https.
    pub(crate) url: Uri,
    /// How many attempts run at once: so many idle connections are kept.
    pub(crate) concurrency: usize,
    /// Headers for every request, besides the message's own; they win over those.
    pub(crate) headers: HeaderMap,
    /// The most bytes of a response's body that are read; a longer one costs the connection.
    pub(crate) response_limit: usize,
    /// Whether the body of a success means anything. If not it is not waited for.
    pub(crate) reads_answers: bool,
    /// Which authorities may have issued the certificate of an https sink.
    pub(crate) trust: TlsTrust,
    /// For an https sink that asks for a certificate.
    pub(crate) client_certificate: Option<ClientCertificateFiles>,
    /// Where a bearer token is. It is for this URL alone. A header `Authorization` in `headers` wins over it.
    pub(crate) token_file: Option<TokenFile>,
    /// Where more headers for every request are.
    pub(crate) headers_file: Option<PathBuf>,
}

/// Authorities that are trusted besides the system's.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsTrust {
    pub(crate) certificates: Certificates,
    /// Every file in it holds more of them. It need not be there, and is read again.
    pub(crate) folder: Option<PathBuf>,
}

impl SinkSettings {
    /// Posts to `url` with no more than the message's own headers, and trusts the system's roots.
    pub fn new(url: Uri, concurrency: usize) -> Self {
        Self {
            url,
            concurrency,
            headers: HeaderMap::new(),
            response_limit: RESPONSE_LIMIT,
            reads_answers: false,
            trust: TlsTrust::default(),
            client_certificate: None,
            token_file: None,
            headers_file: None,
        }
    }

    /// As the configuration has it for `K_SINK`.
    pub(crate) fn for_sink(config: &Config) -> Self {
        Self {
            token_file: Some(config.sink_credentials.token_file.clone()),
            headers_file: config.sink_credentials.headers_file.clone(),
            reads_answers: config.event.mode == EventMode::Batch,
            ..Self::for_any(&config.sink, config)
        }
    }

    /// As the configuration has it for `DEAD_LETTER_SINK`, where there is one. It gets neither the token nor the headers
    /// of files: they are meant for `K_SINK`, and nobody else may see them.
    pub(crate) fn for_dead_letters(config: &Config) -> Option<Self> {
        config.dead_letter_sink.as_ref().map(|sink| Self::for_any(sink, config))
    }

    fn for_any(sink: &config::SinkAddress, config: &Config) -> Self {
        let credentials = &config.sink_credentials;
        Self {
            headers: sink.authorization.iter().map(|value| (AUTHORIZATION, value.clone())).collect(),
            trust: TlsTrust {
                certificates: credentials.ca_certs.clone(),
                folder: Some(credentials.ca_certs_dir.clone()),
            },
            client_certificate: credentials.client_certificate.clone(),
            ..Self::new(sink.uri.clone(), config.delivery.concurrency.get())
        }
    }
}

/// A sink that cannot work as configured.
#[derive(Debug, thiserror::Error)]
pub enum SinkSetupError {
    /// Not a URL that can be posted to.
    #[error("the sink's URL must be absolute and begin with http:// or https://")]
    Url,
    /// Nothing to check the sink's certificate against.
    #[error(
        "no trusted root certificate was found for the https sink: set K_CA_CERTS, put a PEM file into the folder of \
         CA_CERTS_DIR, or install the system's ca-certificates ({0})"
    )]
    NoRoots(String),
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up for the sink: {0}")]
    Tls(String),
}

/// What only tests change.
#[derive(Debug)]
pub(super) struct Tuning {
    pub(super) idle_timeout: Duration,
    pub(super) reload_interval: Duration,
    pub(super) dead_peer_timeout: Duration,
    /// Instead of the system's.
    pub(super) system_roots: Option<Certificates>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            idle_timeout: IDLE_TIMEOUT,
            reload_interval: RELOAD_INTERVAL,
            dead_peer_timeout: DEAD_PEER_TIMEOUT,
            system_roots: None,
        }
    }
}
