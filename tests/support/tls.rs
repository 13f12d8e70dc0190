//! TLS in front of a scripted sink.

use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::sink::TestSink;

/// Who issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `localhost` and its key, in PEM.
    pub fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.acceptor_for(&[])
    }

    /// With a certificate for `localhost`, and these protocols.
    pub fn acceptor_for(&self, protocols: &[&str]) -> TlsAcceptor {
        self.acceptor_named(vec!["localhost".to_owned()], protocols)
    }

    fn acceptor_named(&self, names: Vec<String>, protocols: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Takes TLS connections for `localhost` and hands what comes to a sink. It ends when it is dropped.
pub struct TlsFront {
    port: u16,
    acceptor: Arc<Mutex<TlsAcceptor>>,
    server: JoinHandle<()>,
}

impl TlsFront {
    /// With a certificate of this authority.
    pub async fn start(authority: &Authority, sink: &TestSink) -> Self {
        Self::before(authority, &sink.url()).await
    }

    /// In front of whatever listens there.
    pub async fn before(authority: &Authority, url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = Arc::new(Mutex::new(authority.acceptor()));
        let url = url::Url::parse(url).unwrap();
        let backend = url.port().unwrap();
        let server = tokio::spawn(serve(listener, acceptor.clone(), backend));
        Self { port, acceptor, server }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/events", self.port)
    }

    pub fn origin(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// New connections see a certificate of this authority.
    pub fn change_to(&self, authority: &Authority) {
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = authority.acceptor();
    }

    /// New connections see a certificate of this authority for these names and no others.
    pub fn change_to_names(&self, authority: &Authority, names: Vec<String>) {
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = authority.acceptor_named(names, &[]);
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, acceptor: Arc<Mutex<TlsAcceptor>>, backend: u16) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let acceptor = acceptor.lock().unwrap_or_else(PoisonError::into_inner).clone();
        connections.spawn(async move {
            let Ok(mut front) = acceptor.accept(stream).await else { return };
            let Ok(mut back) = TcpStream::connect(("127.0.0.1", backend)).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut front, &mut back).await;
        });
    }
}
