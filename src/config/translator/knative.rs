//! What tells Camel's Knative client whom to trust and how to identify itself.
//!
//! Source: `MakeSSLEnvVar` and `makeEnv` in `knative.dev/eventing/pkg/reconciler/integration`.

use super::{Foreign, Translator};
use crate::config::catalog;

const PREFIX: &str = "CAMEL_KNATIVE_CLIENT_";

static CERTIFICATE: Foreign = Foreign {
    names: &["CAMEL_KNATIVE_CLIENT_SSL_CERT_PATH"],
    takes: "the path of a PEM file in the folder of trusted certificates",
    secret: false,
};
static TOKEN: Foreign = Foreign {
    names: &["CAMEL_KNATIVE_CLIENT_OIDC_TOKEN_PATH"],
    takes: "the path of the file that holds the token",
    secret: false,
};
static TOKEN_WANTED: Foreign =
    Foreign { names: &["CAMEL_KNATIVE_CLIENT_OIDC_ENABLED"], takes: "true or false", secret: false };

/// Set by the controller, or true here in any case: TLS is used where the sink's URL says so, and a token is read again
/// when it changes and when the sink refuses it.
const WITHOUT_MEANING: [&str; 3] = [
    "CAMEL_KNATIVE_CLIENT_SSL_ENABLED",
    "CAMEL_KNATIVE_CLIENT_OIDC_RENEW_TOKENS_ON_FORBIDDEN",
    "CAMEL_KNATIVE_CLIENT_OIDC_CACHE_TOKENS",
];

pub(super) fn client(translator: &mut Translator<'_>) {
    if let Some(found) = translator.find(&CERTIFICATE) {
        let path = path(&found.text);
        // The controller names one file of a folder that it may put others into.
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| if folder.is_empty() { "/" } else { folder });
        translator.set(&catalog::CA_CERTS_DIR, &found, Ok(folder.to_owned()));
    }
    let is_wanted = translator.find(&TOKEN_WANTED).is_some_and(|found| found.text.eq_ignore_ascii_case("true"));
    if let Some(found) = translator.find(&TOKEN)
        && is_wanted
    {
        translator.set(&catalog::SINK_TOKEN_FILE, &found, Ok(path(&found.text).to_owned()));
    }
    let known = [&CERTIFICATE, &TOKEN, &TOKEN_WANTED].map(|variable| variable.names[0]);
    let is_known = |name: &str| known.contains(&name) || WITHOUT_MEANING.contains(&name);
    let unknown = translator.environment.names().filter(|name| name.starts_with(PREFIX) && !is_known(name));
    for name in unknown.map(str::to_owned).collect::<Vec<_>>() {
        translator.ignore(&name, "the adapter has no equivalent setting".into());
    }
}

/// `file:///oidc/token` is `/oidc/token`.
fn path(text: &str) -> &str {
    let path = text.strip_prefix("file:").unwrap_or(text);
    path.strip_prefix("//").unwrap_or(path)
}
