//! TLS trust and client credentials for sinks.

mod certificates;

use std::path::{Path, PathBuf};

pub use self::certificates::{Certificates, InvalidCertificates};
use super::catalog;
use super::parse::Refusal;
use super::reader::{Reader, Reported};

/// Where a Knative SinkBinding puts the token of a sink that asks for OIDC.
const PLATFORM_TOKEN: &str = "/oidc/token";

/// TLS trust and client credentials for sinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Authorities that are trusted besides the system's, for every sink.
    pub ca_certs: Certificates,
    /// A folder of more of them; it need not be there.
    pub ca_certs_dir: PathBuf,
    /// As whom every sink is spoken to that asks for a certificate.
    pub client_certificate: Option<ClientCertificateFiles>,
    /// Where the bearer token for `K_SINK` is, and for nobody else. Not required where `K_SINK` has a user.
    pub token_file: TokenFile,
    /// Where headers for every request to `K_SINK` are, and to nobody else.
    pub headers_file: Option<PathBuf>,
}

/// The files of a client certificate, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificateFiles {
    /// The certificate, and after it those between it and an authority that the sink knows.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The file of a bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether nothing may be sent without it: it was named by the user, and is not just looked for where the platform
    /// puts it.
    pub is_required: bool,
}

impl Access {
    /// `sink_has_user`: whether `K_SINK` has a user.
    pub(super) fn read(reader: &mut Reader, sink_has_user: bool) -> Result<Self, Reported> {
        let ca_certs = reader.optional(&catalog::K_CA_CERTS, certificates);
        let ca_certs_dir = reader.value(&catalog::CA_CERTS_DIR, absolute_path);
        let client_certificate = ClientCertificateFiles::read(reader);
        let token_file = TokenFile::read(reader, sink_has_user);
        let headers_file = reader.optional(&catalog::SINK_HEADERS_FILE, absolute_path);
        Ok(Self {
            ca_certs: ca_certs?.unwrap_or_default(),
            ca_certs_dir: ca_certs_dir?,
            client_certificate: client_certificate?,
            token_file: token_file?,
            headers_file: headers_file?,
        })
    }
}

impl ClientCertificateFiles {
    fn read(reader: &mut Reader) -> Result<Option<Self>, Reported> {
        let certificate = reader.optional(&catalog::SINK_CLIENT_CERT_FILE, absolute_path);
        let key = reader.optional(&catalog::SINK_CLIENT_KEY_FILE, absolute_path);
        match (certificate?, key?) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key })),
            (Some(_), None) => {
                Err(reader.refused(&catalog::SINK_CLIENT_CERT_FILE, "SINK_CLIENT_KEY_FILE is not set".into()))
            }
            (None, Some(_)) => {
                Err(reader.refused(&catalog::SINK_CLIENT_KEY_FILE, "SINK_CLIENT_CERT_FILE is not set".into()))
            }
        }
    }
}

impl TokenFile {
    fn read(reader: &mut Reader, sink_has_user: bool) -> Result<Self, Reported> {
        if let Some(path) = reader.optional(&catalog::SINK_TOKEN_FILE, absolute_path)? {
            return match sink_has_user {
                true => {
                    let why = "it cannot be combined with the user in K_SINK".into();
                    Err(reader.refused(&catalog::SINK_TOKEN_FILE, why))
                }
                false => Ok(Self { path, is_required: true }),
            };
        }
        Ok(Self { path: PathBuf::from(PLATFORM_TOKEN), is_required: false })
    }
}

fn certificates(text: &str) -> Result<Certificates, Refusal> {
    Certificates::all_usable(text.as_bytes()).map_err(|invalid| invalid.to_string().into())
}

/// Files are given by absolute paths: what the process's working directory is, nobody should have to know.
fn absolute_path(text: &str) -> Result<PathBuf, Refusal> {
    match Path::new(text).is_absolute() {
        true => Ok(PathBuf::from(text)),
        false => Err("not an absolute path".into()),
    }
}
