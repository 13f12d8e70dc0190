//! Where events go, whom the sink must be, and as whom it is spoken to.

mod certificates;

use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

pub use self::certificates::{Certificates, InvalidCertificates};
use super::parse::Refusal;
use super::reader::{Reader, Reported};
use super::variables;

/// Where a Knative SinkBinding puts the token of a sink that asks for OIDC.
const PLATFORM_TOKEN: &str = "/oidc/token";

/// Where events go, whom the sink must be, and as whom it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// Scheme http or https, a host that is not empty, at least `/` as path, no user and no password. Some sinks are
    /// addressed by a token in the path or the query: a log should show scheme and authority only.
    pub uri: Uri,
    /// The value of `Authorization` that a user and password in `K_SINK` stand for; marked sensitive, so that its
    /// `Debug` form does not show it.
    pub authorization: Option<HeaderValue>,
    /// Authorities that are trusted besides the system's, for every sink.
    pub ca_certs: Certificates,
    /// A folder of more of them; it need not be there.
    pub ca_certs_dir: PathBuf,
    /// As whom every sink is spoken to that asks for a certificate.
    pub client_certificate: Option<ClientCertificateFiles>,
    /// Where the bearer token for `K_SINK` is. Never together with `authorization` where it is required.
    pub token_file: TokenFile,
    /// Where headers for every request to `K_SINK` are.
    pub headers_file: Option<PathBuf>,
}

/// An address to post to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As in [`Sink::uri`].
    pub uri: Uri,
    /// As in [`Sink::authorization`].
    pub authorization: Option<HeaderValue>,
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

impl Sink {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Reported> {
        let endpoint = reader.value(&variables::K_SINK, parse);
        let ca_certs = reader.optional(&variables::K_CA_CERTS, certificates);
        let ca_certs_dir = reader.value(&variables::CA_CERTS_DIR, absolute_path);
        let client_certificate = ClientCertificateFiles::read(reader);
        let has_user = endpoint.as_ref().is_ok_and(|endpoint| endpoint.authorization.is_some());
        let token_file = TokenFile::read(reader, has_user);
        let headers_file = reader.optional(&variables::SINK_HEADERS_FILE, absolute_path);
        let Endpoint { uri, authorization } = endpoint?;
        Ok(Self {
            uri,
            authorization,
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
        let certificate = reader.optional(&variables::SINK_CLIENT_CERT_FILE, absolute_path);
        let key = reader.optional(&variables::SINK_CLIENT_KEY_FILE, absolute_path);
        match (certificate?, key?) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key })),
            (Some(_), None) => {
                Err(reader.refused(&variables::SINK_CLIENT_CERT_FILE, "SINK_CLIENT_KEY_FILE is not set".into()))
            }
            (None, Some(_)) => {
                Err(reader.refused(&variables::SINK_CLIENT_KEY_FILE, "SINK_CLIENT_CERT_FILE is not set".into()))
            }
        }
    }
}

impl TokenFile {
    fn read(reader: &mut Reader, has_user: bool) -> Result<Self, Reported> {
        if let Some(path) = reader.optional(&variables::SINK_TOKEN_FILE, absolute_path)? {
            return match has_user {
                true => {
                    let why = "K_SINK has a user, and a request can carry only one of the two".into();
                    Err(reader.refused(&variables::SINK_TOKEN_FILE, why))
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

/// The address of a sink: an http or https URL with a host. Used for every variable that takes one.
pub(super) fn parse(text: &str) -> Result<Endpoint, Refusal> {
    let uri: Uri = text.parse().map_err(|_| "not a URL")?;
    let Parts { scheme, authority, path_and_query, .. } = uri.into_parts();
    let scheme = scheme.filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    let scheme = scheme.ok_or("its scheme is neither http nor https")?;
    let authority = authority.ok_or("it has no host")?;
    let (user_info, host) = match authority.as_str().rsplit_once('@') {
        Some((user_info, host)) => (Some(user_info), host),
        None => (None, authority.as_str()),
    };
    let host: Authority = host.parse().map_err(|_| "its host cannot be read")?;
    check_host(&host)?;
    let authorization = user_info.map(basic).transpose()?;
    let path_and_query = path_and_query.unwrap_or(PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(path_and_query).build();
    Ok(Endpoint { uri: uri.map_err(|_| "not a URL")?, authorization })
}

fn check_host(host: &Authority) -> Result<(), Refusal> {
    if matches!(host.host(), "" | "[]") {
        return Err("it has no host".into());
    }
    let has_port = host.as_str().len() > host.host().len();
    if has_port && host.port_u16().is_none_or(|port| port == 0) {
        return Err("its port is not a number from 1 to 65535".into());
    }
    Ok(())
}

/// Basic authentication, RFC 7617, from the user information of a URL.
fn basic(user_info: &str) -> Result<HeaderValue, Refusal> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let mut credentials: Vec<u8> = percent_decode_str(user).collect();
    if credentials.contains(&b':') {
        return Err("its user has a colon, which basic authentication cannot carry".into());
    }
    credentials.push(b':');
    credentials.extend(percent_decode_str(password));
    let value = format!("Basic {}", BASE64_STANDARD.encode(credentials));
    let mut value = HeaderValue::from_str(&value).map_err(|_| "its user or password cannot be sent")?;
    value.set_sensitive(true);
    Ok(value)
}
