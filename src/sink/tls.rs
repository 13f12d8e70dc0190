//! Whom the sink's certificate is checked against, as whom it is spoken to, and which protocols are offered.

pub(super) mod roots;
pub(super) mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, Error, RootCertStore, SignatureScheme};

use self::session::Tls;
use super::http::SinkSetupError;
use super::settings::HttpSinkSettings;
use crate::config::Certificates;

/// The most bytes of a file with a certificate or a key.
pub(super) const FILE_LIMIT: u64 = 1 << 20;

/// The system's root certificates, `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them; and why there are none, if so.
///
/// A file that cannot be read is passed over, as long as any root is found.
pub(super) fn system_roots() -> (RootCertStore, Option<String>) {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let causes: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    let why_none = roots.is_empty() && !causes.is_empty();
    (roots, why_none.then(|| causes.join("; ")))
}

/// The TLS side of a connection to an https sink with these settings, as [`super::HttpSink`] would make it now.
///
/// # Errors
/// Those of [`super::HttpSink::new`]. A client certificate that cannot be read is left out.
pub fn tls_config(settings: &HttpSinkSettings) -> Result<ClientConfig, SinkSetupError> {
    let mut tls = Tls::new(settings, None)?;
    tls.look();
    Ok(tls.config()?.0)
}

/// TLS 1.2 and 1.3 with these roots; HTTP/2 where the sink chooses it, else HTTP/1.1.
///
/// The cryptography is named here and not left to the process's default, which another library could change.
pub(super) fn client_config(roots: RootCertStore, identity: Arc<Identity>) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificate that a sink gets to see if it asks for one. Remembers whether any did.
#[derive(Debug)]
pub(super) struct Identity {
    certificate: Option<Arc<CertifiedKey>>,
    was_asked: AtomicBool,
}

impl Identity {
    pub(super) fn new(certificate: Option<Arc<CertifiedKey>>) -> Self {
        Self { certificate, was_asked: AtomicBool::new(false) }
    }

    /// Whether a sink asked for a certificate and got none.
    pub(super) fn was_missed(&self) -> bool {
        self.certificate.is_none() && self.was_asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Relaxed);
        self.certificate.clone().filter(|certificate| certificate.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        self.certificate.is_some()
    }
}

/// A client certificate from the PEM texts of its chain and of its key. Says what is wrong without repeating any of it.
pub(super) fn client_certificate(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let chain = Certificates::from_pem(chain).map_err(|invalid| invalid.to_string())?.into_der();
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            "SINK_CLIENT_KEY_FILE contains no private key: expected PEM without a password".to_owned()
        }
        _ => "SINK_CLIENT_KEY_FILE is not valid PEM".to_owned(),
    })?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| match error {
        Error::InconsistentKeys(_) => "SINK_CLIENT_KEY_FILE is not the key of the certificate".to_owned(),
        Error::InvalidCertificate(_) => "its first certificate is not an X.509 certificate of version 3".to_owned(),
        _ => "SINK_CLIENT_KEY_FILE contains an unsupported kind of key".to_owned(),
    })
}
