//! The TLS side of the port: certificate, key and the authorities of those who call, from files that are read again when they change.
//!
//! Replicas call each other with the same certificate, which is for all of them: the name that one expects of another is the first one of
//! its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::{Certificates, ScalerTls};
use crate::readiness::Health;
use crate::sink::ReloadingFile;
use crate::telemetry::events;

/// How often it is looked whether the files have changed.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// The most bytes of one file.
const LIMIT: u64 = 1 << 20;

/// What connections are made with from now on; none: nobody can connect.
pub(super) type CurrentTls = watch::Receiver<Option<LoadedTls>>;

/// What was read.
#[derive(Debug, Clone)]
pub(super) struct LoadedTls {
    /// For those who call.
    pub(super) server: Arc<ServerConfig>,
    /// To call another replica; none if there is one.
    pub(super) peer: Option<Arc<PeerTls>>,
}

/// How another replica is called.
#[derive(Debug)]
pub(super) struct PeerTls {
    pub(super) config: ClientConfig,
    /// What its certificate must be for; none: its address.
    pub(super) name: Option<ServerName<'static>>,
}

/// Reads the files again and again. Until they were read once the process is not ready.
pub(super) struct TlsReloader {
    health: Arc<Health>,
    files: Option<ReloadingFile<LoadedTls>>,
    current: watch::Sender<Option<LoadedTls>>,
}

impl TlsReloader {
    /// Nothing is read yet.
    pub(super) fn new(tls: &ScalerTls, health: &Arc<Health>) -> Self {
        health.set_starting(Some("the certificate of SCALER_TLS_CERT_FILE".to_owned()));
        let (has_clients, has_peers) = (tls.client_authorities.is_some(), tls.peer_authorities.is_some());
        let paths =
            [Some(&tls.certificate), Some(&tls.key), tls.client_authorities.as_ref(), tls.peer_authorities.as_ref()];
        let files = ReloadingFile::new(paths.into_iter().flatten().cloned().collect(), LIMIT, move |contents| {
            let mut contents = contents.iter().map(Vec::as_slice);
            let (chain, key) = (contents.next().unwrap_or_default(), contents.next().unwrap_or_default());
            let clients = if has_clients { contents.next() } else { None };
            let peers = if has_peers { contents.next() } else { None };
            let server = Arc::new(server_config(chain, key, clients)?);
            let peer = peers.map(|peers| peer_tls(chain, key, peers)).transpose()?.map(Arc::new);
            Ok(LoadedTls { server, peer })
        });
        Self { health: health.clone(), files: Some(files), current: watch::Sender::new(None) }
    }

    pub(super) fn current(&self) -> CurrentTls {
        self.current.subscribe()
    }

    /// Reads until it is dropped: a volume that hangs holds up nobody else.
    ///
    /// # Errors
    /// When the runtime has no thread for it any more.
    pub(super) async fn run(mut self) -> io::Result<()> {
        loop {
            let Some(mut files) = self.files.take() else { return Ok(()) };
            let (files, has_changed) = tokio::task::spawn_blocking(move || {
                let has_changed = files.reload();
                (files, has_changed)
            })
            .await
            .map_err(io::Error::other)?;
            if has_changed {
                self.show(&files);
            }
            self.files = Some(files);
            sleep(RELOAD_INTERVAL).await;
        }
    }

    fn show(&self, files: &ReloadingFile<LoadedTls>) {
        match files.problem() {
            Some(problem) => events::ScalerTlsFailing { why: &problem.to_string() }.emit(),
            None => {
                events::ScalerTlsLoaded.emit();
                self.current.send_replace(files.value().cloned());
                self.health.set_starting(None);
            }
        }
    }
}

/// Says what is wrong without repeating any of it.
fn server_config(chain: &[u8], key: &[u8], authorities: Option<&[u8]>) -> Result<ServerConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = match authorities {
        None => Arc::new(NoClientAuth),
        Some(pem) => {
            let roots = Arc::new(authorities_of("SCALER_CLIENT_CA_FILE", pem)?);
            WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(|error| format!("SCALER_CLIENT_CA_FILE: {error}"))?
        }
    };
    let chain = chain_of(chain)?;
    let key = key_of(key)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| format!("SCALER_TLS_CERT_FILE and SCALER_TLS_KEY_FILE: {error}"))?;
    // gRPC clients insist on it.
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn peer_tls(chain: &[u8], key: &[u8], authorities: &[u8]) -> Result<PeerTls, String> {
    let roots = authorities_of("SCALER_PEER_CA_FILE", authorities)?;
    let (chain, key) = (chain_of(chain)?, key_of(key)?);
    let own = chain.first().and_then(|own| webpki::EndEntityCert::try_from(own).ok());
    let name = own.and_then(|own| {
        own.valid_dns_names().next().and_then(|name| ServerName::try_from(without_wildcard(name)).ok())
    });
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("SCALER_TLS_CERT_FILE and SCALER_TLS_KEY_FILE: {error}"))?;
    Ok(PeerTls { config, name })
}

/// A name that a certificate for this one is for.
fn without_wildcard(name: &str) -> String {
    name.strip_prefix("*.").map_or_else(|| name.to_owned(), |domain| format!("scaler.{domain}"))
}

fn authorities_of(variable: &str, pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = Certificates::from_pem(pem).map_err(|error| format!("{variable}: {error}"))?;
    for certificate in certificates.into_der() {
        roots.add(certificate).map_err(|error| format!("{variable}: {error}"))?;
    }
    Ok(roots)
}

fn chain_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    Ok(Certificates::from_pem(pem).map_err(|error| format!("SCALER_TLS_CERT_FILE: {error}"))?.into_der())
}

fn key_of(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| "SCALER_TLS_KEY_FILE has no private key: expected PEM without a password".to_owned())
}
