//! Where events go: the sinks' addresses, the CAs that are trusted there, and the credentials that they receive.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use http::uri::{Authority, Parts, PathAndQuery};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use super::delivery::OnUndeliverable;
use super::parse::{self, InvalidValue, Lenient};
use super::reader::{AlreadyReported, Reader, Warning};
use super::variable::{Accepts, Default, Group, Variable, variables};

variables! {
    K_SINK as k_sink: SinkAddress = address {
        group: Group::Delivery,
        default: Default::Required,
        accepts: Accepts::Phrase("an http or https URL, such as `http://broker.example/default`"),
        meaning: "URL of the sink; what must not stand in a URL is percent-encoded. A user and password in it are sent as \
            basic authentication.",
        secret: true,
    }
    K_CA_CERTS as k_ca_certs: Lenient<Certificates> = certificates {
        group: Group::Delivery,
        accepts: Accepts::Phrase("certificates in PEM"),
        meaning: "Trusted CA certificates for https sinks, in addition to those of the system. Those that cannot be used \
            are left out, with a warning.",
        secret: true,
    }
    CA_CERTS_DIR as ca_certs_dir: PathBuf = absolute_path {
        group: Group::Delivery,
        default: Default::Value("/knative-custom-certs"),
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "Folder of files with more trusted CA certificates, read again when they change. The folder may be \
            missing.",
    }
    SINK_CLIENT_CERT_FILE as sink_client_cert_file: PathBuf = absolute_path {
        group: Group::Delivery,
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "Client certificate and its chain, for sinks that request one: PEM, read again when it changes. \
            Requires `SINK_CLIENT_KEY_FILE`.",
    }
    SINK_CLIENT_KEY_FILE as sink_client_key_file: PathBuf = absolute_path {
        group: Group::Delivery,
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "Private key of the client certificate: PEM without a password.",
    }
    SINK_TOKEN_FILE as sink_token_file: PathBuf = absolute_path {
        group: Group::Delivery,
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "File with a bearer token for `K_SINK`, read again when it changes and after a 401; without a valid \
            token nothing is sent. Not set: `/oidc/token` is used if it exists. Cannot be combined with a user in \
            `K_SINK`.",
    }
    SINK_HEADERS_FILE as sink_headers_file: PathBuf = absolute_path {
        group: Group::Delivery,
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "File with headers for every request to `K_SINK`, one line `Name: value` per header, read again when \
            it changes.",
    }
    DEAD_LETTER_SINK as dead_letter_sink: SinkAddress = address {
        group: Group::Delivery,
        accepts: Accepts::Phrase("an http or https URL"),
        meaning: "URL of the sink for undeliverable events; required by `ON_UNDELIVERABLE=dead-letter`. A user and \
            password in it are sent as basic authentication.",
        secret: true,
    }
}

/// The address of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkAddress {
    /// Scheme http or https, a host that is not empty, at least `/` as path, no user and no password. Some sinks are
    /// addressed by a token in the path or the query: a log should show scheme and authority only.
    pub uri: Uri,
    /// The value of `Authorization` that a user and password in `K_SINK` stand for; marked sensitive, so that its
    /// `Debug` form does not show it.
    pub authorization: Option<HeaderValue>,
}

impl SinkAddress {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        reader.value(&given.k_sink)
    }

    /// The sink of what cannot be delivered: required where the policy needs it.
    pub(super) fn read_dead_letter(
        reader: &mut Reader,
        policy: Result<OnUndeliverable, AlreadyReported>,
    ) -> Result<Option<Self>, AlreadyReported> {
        let given: Given = reader.section();
        let sink = reader.optional(&given.dead_letter_sink)?;
        match (policy, &sink) {
            (Ok(OnUndeliverable::DeadLetter), None) => {
                let why = "it is required by ON_UNDELIVERABLE=dead-letter".into();
                return Err(reader.refused(&given.dead_letter_sink, why));
            }
            (Ok(OnUndeliverable::Block | OnUndeliverable::Drop), Some(_)) => {
                reader.warn_no_effect(&given.dead_letter_sink, "ON_UNDELIVERABLE=dead-letter");
            }
            _ => {}
        }
        Ok(sink)
    }
}

fn address(text: &str) -> Result<SinkAddress, InvalidValue> {
    parse::begins_like_a_url(text)?;
    let uri: Uri = parse::sendable_url(text)?.parse().map_err(|_| "not a URL")?;
    let Parts { scheme, authority, path_and_query, .. } = uri.into_parts();
    let scheme = scheme.ok_or("not a URL")?;
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
    Ok(SinkAddress { uri: uri.map_err(|_| "not a URL")?, authorization })
}

fn check_host(host: &Authority) -> Result<(), InvalidValue> {
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
fn basic(user_info: &str) -> Result<HeaderValue, InvalidValue> {
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

/// Where a Knative SinkBinding puts the token of a sink that asks for OIDC.
const PLATFORM_TOKEN: &str = "/oidc/token";

/// TLS trust and client credentials for sinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkCredentials {
    /// Authorities that are trusted besides the system's, for every sink.
    pub ca_certs: Certificates,
    /// A folder of more of them; it need not be there.
    pub ca_certs_dir: PathBuf,
    /// The client certificate for sinks that request one.
    pub client_certificate: Option<ClientCertificateFiles>,
    /// The file of the bearer token for `K_SINK`; no other sink gets it. Not required where `K_SINK` has a user.
    pub token_file: TokenFile,
    /// The file of headers for every request to `K_SINK`; no other sink gets them.
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
    /// Its absolute path.
    pub path: PathBuf,
    /// Whether nothing may be sent without it: the user named it. Otherwise it is looked for where the platform puts
    /// it.
    pub is_required: bool,
}

impl SinkCredentials {
    /// `sink` is `K_SINK`, if it can be used; `has_https` whether certificates matter to any sink.
    pub(super) fn read(
        reader: &mut Reader,
        sink: Option<&SinkAddress>,
        has_https: bool,
    ) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        let sink_has_user = sink.is_some_and(|sink| sink.authorization.is_some());
        let ca_certs = authorities(reader, &given, has_https);
        let ca_certs_dir = reader.value(&given.ca_certs_dir);
        let client_certificate = ClientCertificateFiles::read(reader, &given);
        let token_file = TokenFile::read(reader, &given, sink_has_user);
        let headers_file = reader.optional(&given.sink_headers_file);
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
    fn read(reader: &mut Reader, given: &Given) -> Result<Option<Self>, AlreadyReported> {
        let certificate = reader.optional(&given.sink_client_cert_file);
        let key = reader.optional(&given.sink_client_key_file);
        match (certificate?, key?) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key })),
            (Some(_), None) => {
                Err(reader.refused(&given.sink_client_cert_file, "SINK_CLIENT_KEY_FILE is not set".into()))
            }
            (None, Some(_)) => {
                Err(reader.refused(&given.sink_client_key_file, "SINK_CLIENT_CERT_FILE is not set".into()))
            }
        }
    }
}

impl TokenFile {
    fn read(reader: &mut Reader, given: &Given, sink_has_user: bool) -> Result<Self, AlreadyReported> {
        if let Some(path) = reader.optional(&given.sink_token_file)? {
            return match sink_has_user {
                true => {
                    let why = "it cannot be combined with the user in K_SINK".into();
                    Err(reader.refused(&given.sink_token_file, why))
                }
                false => Ok(Self { path, is_required: true }),
            };
        }
        Ok(Self { path: PathBuf::from(PLATFORM_TOKEN), is_required: false })
    }
}

/// As Knative's adapters do, which look at certificates for https alone.
fn authorities(reader: &mut Reader, given: &Given, has_https: bool) -> Result<Option<Certificates>, AlreadyReported> {
    let is_unusable = given.k_ca_certs.text().is_some_and(|text| certificates(text).is_err());
    if is_unusable && !has_https {
        let what = "it holds no certificate that can be used, and no sink needs one".to_owned();
        reader.warn(Warning::Adjusted { name: K_CA_CERTS.name, what });
        return Ok(None);
    }
    reader.lenient(&given.k_ca_certs)
}

fn certificates(text: &str) -> Result<Lenient<Certificates>, InvalidValue> {
    let (certificates, left_out) =
        Certificates::usable(text.as_bytes()).map_err(|invalid| InvalidValue::from(invalid.to_string()))?;
    let read = Lenient::from(certificates);
    Ok(match left_out.first() {
        None => read,
        Some(first) => {
            read.with_note(format!("{} of its certificates cannot be used and are left out: {first}", left_out.len()))
        }
    })
}

/// Paths are absolute, so that they do not depend on the process's working directory.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, InvalidValue> {
    match Path::new(text).is_absolute() {
        true => parse::path(text),
        false => Err("not an absolute path".into()),
    }
}

/// Certificates of authorities, in the order of their text.
///
/// Its `Debug` form shows how many there are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Certificates(Vec<CertificateDer<'static>>);

/// A text that holds no usable certificates. Nothing of the text is repeated: it may be a key that went astray.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificates {
    /// No section of the right kind.
    #[error("it contains no certificate: expected PEM with -----BEGIN CERTIFICATE-----")]
    None,
    /// The frame or the base64 of a section is broken.
    #[error("its certificate number {number} is not valid PEM: {why}")]
    Pem {
        /// Which section, from 1.
        number: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Well-formed PEM of something that is no certificate.
    #[error("its certificate number {number} is not an X.509 certificate that can be a trusted CA")]
    Content {
        /// Which certificate, from 1.
        number: usize,
    },
}

impl Certificates {
    /// The certificates of a PEM text, whatever stands between them.
    ///
    /// # Errors
    /// When there is none, or one is not valid PEM. What they hold is not looked at.
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, InvalidCertificates> {
        let mut found = Vec::new();
        for section in CertificateDer::pem_slice_iter(text) {
            let number = found.len() + 1;
            found.push(section.map_err(|error| InvalidCertificates::Pem { number, why: reason(&error) })?);
        }
        if found.is_empty() {
            return Err(InvalidCertificates::None);
        }
        Ok(Self(found))
    }

    /// Those of a PEM text that can be authorities, and what is wrong with the others.
    ///
    /// # Errors
    /// When there is none; the first reason.
    pub(crate) fn usable(text: &[u8]) -> Result<(Self, Vec<InvalidCertificates>), InvalidCertificates> {
        let (mut found, mut left_out) = (Vec::new(), Vec::new());
        for (place, section) in CertificateDer::pem_slice_iter(text).enumerate() {
            let number = place + 1;
            match section {
                Ok(one) if RootCertStore::empty().add(one.clone()).is_ok() => found.push(one),
                Ok(_) => left_out.push(InvalidCertificates::Content { number }),
                Err(error) => left_out.push(InvalidCertificates::Pem { number, why: reason(&error) }),
            }
        }
        match found.is_empty() {
            true => Err(left_out.first().copied().unwrap_or(InvalidCertificates::None)),
            false => Ok((Self(found), left_out)),
        }
    }

    /// Adds them to what is trusted; returns how many could not be.
    pub(crate) fn add_to(&self, roots: &mut RootCertStore) -> usize {
        roots.add_parsable_certificates(self.0.iter().cloned()).1
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The certificates in DER, in their order.
    pub(crate) fn into_der(self) -> Vec<CertificateDer<'static>> {
        self.0
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({})", self.0.len())
    }
}

fn reason(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "its END line is missing",
        pem::Error::IllegalSectionStart { .. } => "its BEGIN line is broken",
        pem::Error::Base64Decode(_) => "its base64 is broken",
        _ => "it cannot be read",
    }
}
