//! Authorities, and certificates of all kinds that they issue.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use crate::config::Certificates;

pub(in crate::sink) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub(in crate::sink) struct Leaf {
    pub(in crate::sink) der: CertificateDer<'static>,
    pub(in crate::sink) pem: String,
    pub(in crate::sink) key: KeyPair,
}

impl Authority {
    pub(in crate::sink) fn new() -> Self {
        Self::named("Test Authority")
    }

    pub(in crate::sink) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// What trusts this authority and nobody else.
    pub(in crate::sink) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        roots
    }

    /// The same for a client.
    pub(in crate::sink) fn certificates(&self) -> Certificates {
        Certificates::from_pem(self.pem().as_bytes()).expect("PEM")
    }

    pub(in crate::sink) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this name.
    pub(in crate::sink) fn leaf(&self, name: &str) -> Leaf {
        self.issue(name, false)
    }

    pub(in crate::sink) fn issue(&self, name: &str, expired: bool) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Leaf { der: certificate.der().clone(), pem: certificate.pem(), key }
    }

    /// A server's side with a certificate for `host`, offering these protocols.
    pub(in crate::sink) fn server(&self, host: &str, expired: bool, protocols: &[&str]) -> TlsAcceptor {
        acceptor(&self.issue(host, expired), &Side { protocols, ..Side::default() })
    }
}

/// What a server does beside showing its certificate.
pub(in crate::sink) struct Side<'a> {
    pub(in crate::sink) protocols: &'a [&'a str],
    pub(in crate::sink) versions: &'a [&'static SupportedProtocolVersion],
    /// It asks for a certificate from these.
    pub(in crate::sink) clients: Option<RootCertStore>,
    /// It lets those in who have none.
    pub(in crate::sink) lets_anybody_in: bool,
}

impl Default for Side<'_> {
    fn default() -> Self {
        Self { protocols: &[], versions: rustls::DEFAULT_VERSIONS, clients: None, lets_anybody_in: false }
    }
}

pub(in crate::sink) fn acceptor(leaf: &Leaf, side: &Side) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(side.versions);
    let builder = builder.expect("versions that there are");
    let builder = match &side.clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider);
            let verifier = if side.lets_anybody_in { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().expect("roots"))
        }
    };
    let key = PrivatePkcs8KeyDer::from(leaf.key.serialize_der()).into();
    let mut config = builder.with_single_cert(vec![leaf.der.clone()], key).expect("they belong together");
    config.alpn_protocols = side.protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}
