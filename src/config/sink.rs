//! Where events go.

use base64::prelude::{BASE64_STANDARD, Engine};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::catalog;
use super::delivery::OnUndeliverable;
use super::parse::Refusal;
use super::reader::{Reader, Reported};
use super::warning::Warning;

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// Scheme http or https, a host that is not empty, at least `/` as path, no user and no password. Some sinks are
    /// addressed by a token in the path or the query: a log should show scheme and authority only.
    pub uri: Uri,
    /// The value of `Authorization` that a user and password in `K_SINK` stand for; marked sensitive, so that its
    /// `Debug` form does not show it.
    pub authorization: Option<HeaderValue>,
}

impl Sink {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Reported> {
        reader.value(&catalog::K_SINK, parse)
    }

    /// The sink of what cannot be delivered: required where the policy needs it.
    pub(super) fn read_dead_letter(
        reader: &mut Reader,
        policy: Result<OnUndeliverable, Reported>,
    ) -> Result<Option<Self>, Reported> {
        let sink = reader.optional(&catalog::DEAD_LETTER_SINK, parse)?;
        match (policy, &sink) {
            (Ok(OnUndeliverable::DeadLetter), None) => {
                let why = "it is required by ON_UNDELIVERABLE=dead-letter".into();
                return Err(reader.refused(&catalog::DEAD_LETTER_SINK, why));
            }
            (Ok(OnUndeliverable::Block | OnUndeliverable::Drop), Some(_)) => {
                let unless = "ON_UNDELIVERABLE=dead-letter";
                reader.warn(Warning::NoEffect { name: catalog::DEAD_LETTER_SINK.name, unless });
            }
            _ => {}
        }
        Ok(sink)
    }
}

fn parse(text: &str) -> Result<Sink, Refusal> {
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
    Ok(Sink { uri: uri.map_err(|_| "not a URL")?, authorization })
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
