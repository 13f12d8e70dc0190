//! What a sink behind a URL needs to be told.

use std::path::PathBuf;

use ::http::{HeaderMap, Uri};

use crate::config::{Certificates, ClientCertificateFiles, TokenFile};

/// How much of an answer's body is read unless somebody wants more.
pub const ANSWER_LIMIT: usize = 128 * 1024;

/// What a sink behind a URL needs to be told.
#[derive(Debug, Clone)]
pub struct HttpSinkSettings {
    /// Where to post to; http or https.
    pub url: Uri,
    /// How many attempts run at once: so many idle connections are kept.
    pub concurrency: usize,
    /// Headers for every request, besides the message's own; they win over those.
    pub headers: HeaderMap,
    /// The most bytes of an answer's body that are read; a longer one costs the connection.
    pub answer_limit: usize,
    /// Whom an https sink's certificate may come from, besides the system's roots.
    pub trust: Trust,
    /// As whom an https sink is spoken to that asks for a certificate.
    pub client_certificate: Option<ClientCertificateFiles>,
    /// Where a bearer token is. It is for this URL alone. A header `Authorization` in `headers` wins over it.
    pub token_file: Option<TokenFile>,
    /// Where more headers for every request are.
    pub headers_file: Option<PathBuf>,
}

/// Authorities that are trusted besides the system's.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// These.
    pub certificates: Certificates,
    /// And those in every file of this folder, which need not be there and is looked at again.
    pub folder: Option<PathBuf>,
}

impl HttpSinkSettings {
    /// Posts to `url` with no more than the message's own headers, and trusts the system's roots.
    pub fn new(url: Uri, concurrency: usize) -> Self {
        Self {
            url,
            concurrency,
            headers: HeaderMap::new(),
            answer_limit: ANSWER_LIMIT,
            trust: Trust::default(),
            client_certificate: None,
            token_file: None,
            headers_file: None,
        }
    }
}
