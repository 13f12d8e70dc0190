//! The TLS side of the port: certificate, key and the authorities of those who call, from files that are read again when they change.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
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
pub(super) type CurrentTls = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Reads the files again and again. Until they were read once the process is not ready.
pub(super) struct TlsReloader {
    health: Arc<Health>,
    files: Option<ReloadingFile<Arc<ServerConfig>>>,
    current: watch::Sender<Option<Arc<ServerConfig>>>,
}

impl TlsReloader {
    /// Nothing is read yet.
    pub(super) fn new(tls: &ScalerTls, health: &Arc<Health>) -> Self {
        health.starts_with(Some("the certificate of SCALER_TLS_CERT_FILE".to_owned()));
        let paths = [Some(&tls.certificate), Some(&tls.key), tls.client_authorities.as_ref()];
        let files = ReloadingFile::new(paths.into_iter().flatten().cloned().collect(), LIMIT, |contents| {
            server_config(&contents[0], &contents[1], contents.get(2).map(Vec::as_slice)).map(Arc::new)
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
    pub(super) async fn keep(mut self) -> io::Result<()> {
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

    fn show(&self, files: &ReloadingFile<Arc<ServerConfig>>) {
        match files.problem() {
            Some(problem) => events::ScalerTlsFailing { why: &problem.to_string() }.emit(),
            None => {
                events::ScalerTlsLoaded.emit();
                self.current.send_replace(files.value().cloned());
                self.health.starts_with(None);
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
            let mut roots = rustls::RootCertStore::empty();
            let certificates =
                Certificates::from_pem(pem).map_err(|error| format!("SCALER_CLIENT_CA_FILE: {error}"))?;
            for certificate in certificates.into_der() {
                roots.add(certificate).map_err(|error| format!("SCALER_CLIENT_CA_FILE: {error}"))?;
            }
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| format!("SCALER_CLIENT_CA_FILE: {error}"))?
        }
    };
    let chain: Vec<CertificateDer<'static>> =
        Certificates::from_pem(chain).map_err(|error| format!("SCALER_TLS_CERT_FILE: {error}"))?.into_der();
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "SCALER_TLS_KEY_FILE has no private key: expected PEM without a password".to_owned())?;
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
