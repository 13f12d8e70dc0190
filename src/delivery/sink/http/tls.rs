//! Whom the sink's certificate is checked against, and which protocols are offered.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

use super::SinkSetupError;

/// The system's root certificates; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them.
///
/// A file that cannot be read is passed over, as long as any root is found.
pub(super) fn system_roots() -> Result<RootCertStore, SinkSetupError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (trusted, _unusable) = roots.add_parsable_certificates(found.certs);
    if trusted > 0 {
        return Ok(roots);
    }
    let causes: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    Err(SinkSetupError::NoRoots(if causes.is_empty() { "none is installed".to_owned() } else { causes.join("; ") }))
}

/// TLS 1.2 and 1.3 with these roots; HTTP/2 where the sink chooses it, else HTTP/1.1.
///
/// The cryptography is named here and not left to the process's default, which another library could change.
pub(super) fn client_config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
