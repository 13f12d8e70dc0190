//! What TLS connections to a sink are made with: the authorities that are trusted, the client certificate, the protocols that are
//! offered. Authorities and the client certificate come from files, which are read again when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, Error, RootCertStore, SignatureScheme};

use super::reloading_file::{FileProblem, ReloadingFile};
use super::settings::{SinkSettings, SinkSetupError};
use crate::config::Certificates;

/// The most bytes of a file with a certificate or a key.
const CLIENT_CERTIFICATE_LIMIT: u64 = 1 << 20;

/// The most bytes of one file: a ConfigMap holds 1 MiB.
const AUTHORITIES_LIMIT: u64 = 4 << 20;

/// The most files that are read, so that a folder which was named by mistake costs little.
const MAX_FILES: usize = 1000;

/// How deep folders are followed.
const MAX_DEPTH: usize = 8;

/// The TLS side of a connection to an https sink with these settings, as [`super::HttpSink`] would make it now.
///
/// # Errors
/// Those of [`super::HttpSink::new`]. A client certificate that cannot be read is left out.
pub(crate) fn client_tls(settings: &SinkSettings) -> Result<ClientTls, SinkSetupError> {
    let mut tls = TlsFiles::new(settings, None)?;
    tls.reload();
    tls.client_tls()
}

/// Where the authorities and the client certificate come from.
#[derive(Debug)]
pub(super) struct TlsFiles {
    roots: Roots,
    pub(super) identity: Option<ReloadingFile<Arc<CertifiedKey>>>,
}

impl TlsFiles {
    /// Reads the authorities for the first time; `instead` take the place of the system's.
    pub(super) fn new(settings: &SinkSettings, instead: Option<Certificates>) -> Result<Self, SinkSetupError> {
        let (mut fixed, why_none) = match instead {
            Some(certificates) => (store_of(&certificates), None),
            None => system_roots(),
        };
        settings.trust.certificates.add_to(&mut fixed);
        let mut roots = Roots::new(fixed, settings.trust.folder.clone());
        roots.reload();
        if roots.has_no_source() {
            return Err(SinkSetupError::NoRoots(why_none.unwrap_or_else(|| "none is installed".to_owned())));
        }
        let identity = settings.client_certificate.clone().map(|files| {
            ReloadingFile::new(vec![files.certificate, files.key], CLIENT_CERTIFICATE_LIMIT, |contents| {
                client_certificate(&contents[0], &contents[1]).map(Arc::new)
            })
        });
        Ok(Self { roots, identity })
    }

    /// What cannot be read of the authorities, by its path.
    pub(super) fn authority_problems(&self) -> impl Iterator<Item = (&Path, String)> {
        self.roots.problems()
    }

    /// What connections are to be made with now.
    ///
    /// TLS 1.2 and 1.3; HTTP/2 where the sink chooses it, else HTTP/1.1. The cryptography is named here and not left to
    /// the process's default, which another library could change.
    pub(super) fn client_tls(&self) -> Result<ClientTls, SinkSetupError> {
        let certificate = self.identity.as_ref().and_then(|identity| identity.value().cloned());
        let identity = Arc::new(ClientIdentity { certificate, was_asked: AtomicBool::new(false) });
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| SinkSetupError::Tls(error.to_string()))?
            .with_root_certificates(self.roots.store())
            .with_client_cert_resolver(identity.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(ClientTls { config: Arc::new(config), identity })
    }

    /// Reads what changed; says whether anything did.
    pub(super) fn reload(&mut self) -> bool {
        let roots = self.roots.reload();
        let identity = self.identity.as_mut().is_some_and(ReloadingFile::reload);
        roots || identity
    }
}

/// What connections of one generation are made with.
#[derive(Debug, Clone)]
pub(crate) struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    /// Belongs to `config`.
    pub(crate) identity: Arc<ClientIdentity>,
}

/// The client certificate for a sink that asks for one. Remembers whether one did.
#[derive(Debug)]
pub(crate) struct ClientIdentity {
    certificate: Option<Arc<CertifiedKey>>,
    was_asked: AtomicBool,
}

impl ClientIdentity {
    /// Whether a sink asked for a certificate and got none.
    pub(crate) fn was_missed(&self) -> bool {
        self.certificate.is_none() && self.was_asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for ClientIdentity {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Relaxed);
        self.certificate.clone().filter(|certificate| certificate.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        self.certificate.is_some()
    }
}

/// A client certificate from the PEM texts of its chain and of its key. Says what is wrong without repeating any of it.
fn client_certificate(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
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

/// Roots, and the folder from which some of them come.
#[derive(Debug)]
struct Roots {
    /// The system's and those of the configuration.
    fixed: RootCertStore,
    folder: Option<PathBuf>,
    files: BTreeMap<PathBuf, ReloadingFile<Certificates>>,
    folder_problem: Option<FileProblem>,
}

impl Roots {
    /// Nothing of the folder is read before the first [`Roots::reload`].
    fn new(fixed: RootCertStore, folder: Option<PathBuf>) -> Self {
        Self { fixed, folder, files: BTreeMap::new(), folder_problem: None }
    }

    /// Reads what changed in the folder; says whether anything did.
    fn reload(&mut self) -> bool {
        let Some(folder) = &self.folder else {
            return false;
        };
        let found = match files_under(folder) {
            Ok(found) => found,
            Err(problem) => {
                let is_new = self.folder_problem.as_ref() != Some(&problem);
                self.folder_problem = Some(problem);
                return is_new;
            }
        };
        let was_unreadable = self.folder_problem.take().is_some();
        let known = self.files.len();
        self.files.retain(|path, _| found.contains(path));
        let mut changed = was_unreadable || self.files.len() < known;
        for path in found {
            let file = self
                .files
                .entry(path)
                .or_insert_with_key(|path| ReloadingFile::new(vec![path.clone()], AUTHORITIES_LIMIT, parse));
            changed |= file.reload();
        }
        changed
    }

    fn store(&self) -> RootCertStore {
        let mut roots = self.fixed.clone();
        for certificates in self.files.values().filter_map(ReloadingFile::value) {
            certificates.add_to(&mut roots);
        }
        roots
    }

    /// Whether there is none, and no folder from which one could come.
    fn has_no_source(&self) -> bool {
        self.fixed.is_empty() && !self.folder.as_deref().is_some_and(Path::is_dir)
    }

    /// What cannot be read, by its path.
    fn problems(&self) -> impl Iterator<Item = (&Path, String)> {
        let files = self.files.values().filter_map(|file| Some((file.path(), file.problem()?.to_string())));
        let folder = self.folder.as_deref().zip(self.folder_problem.as_ref().map(FileProblem::to_string));
        folder.into_iter().chain(files)
    }
}

fn parse(contents: &[Vec<u8>]) -> Result<Certificates, String> {
    let certificates = Certificates::from_pem(&contents[0]).map_err(|invalid| invalid.to_string())?;
    // A bundle of all the world's authorities may hold some that are too odd for the verifier; the others are of use.
    match certificates.add_to(&mut RootCertStore::empty()) == certificates.len() {
        true => Err("none of its certificates can be a trusted CA".to_owned()),
        false => Ok(certificates),
    }
}

/// Every file under a folder, by the name under which it is seen first; nothing that begins with a dot. Kubernetes keeps
/// the files of a volume in such a folder and shows each by a link.
fn files_under(folder: &Path) -> Result<BTreeSet<PathBuf>, FileProblem> {
    let mut found = FoundFiles::default();
    match found.collect(folder, 0) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileProblem::of(folder, &error)),
        _ => Ok(found.files),
    }
}

#[derive(Default)]
struct FoundFiles {
    files: BTreeSet<PathBuf>,
    /// Device and inode: what a file is, whatever it is called.
    seen: BTreeSet<(u64, u64)>,
}

impl FoundFiles {
    fn collect(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            // What is gone meanwhile, or a link to nowhere, is no file.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            if !is_hidden && self.files.len() < MAX_FILES && self.is_new(&metadata) {
                match metadata.is_dir() {
                    true if depth < MAX_DEPTH => self.collect(&entry.path(), depth + 1)?,
                    true => {}
                    false => drop(self.files.insert(entry.path())),
                }
            }
        }
        Ok(())
    }

    fn is_new(&mut self, metadata: &Metadata) -> bool {
        self.seen.insert((metadata.dev(), metadata.ino()))
    }
}

fn store_of(certificates: &Certificates) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    certificates.add_to(&mut roots);
    roots
}

/// The system's root certificates, `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them; and why there are none, if so.
///
/// A file that cannot be read is passed over, as long as any root is found.
fn system_roots() -> (RootCertStore, Option<String>) {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let causes: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    let why_none = roots.is_empty() && !causes.is_empty();
    (roots, why_none.then(|| causes.join("; ")))
}
