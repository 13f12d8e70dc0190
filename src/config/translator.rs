//! Reads the variables of other adapters and writes ours, so that this program takes their place without new settings.
//!
//! Contract: pure. What a foreign variable says stands in for our variables that are not set; ours win. A mistake in a
//! translated value is reported under the name that was set. What has no meaning here is accepted in silence where a
//! controller sets it, and causes a warning where a user must have set it.
//!
//! The variables of Knative's Camel client stand here too: every Kamelet may come with them.

use std::collections::BTreeMap;

use super::aws::AwsOverrides;
use super::parse::InvalidValue;
use super::reader::{Environment, GivenValue, Mistake, Origin, Warning};
use super::sink;
use super::variable::Variable;

/// A variable of somebody else.
pub(super) struct Foreign {
    /// Its spellings; the first that is set counts.
    pub(super) names: &'static [&'static str],
    /// Which values it accepts; completes "expected ...".
    pub(super) accepts: &'static str,
    /// Whether its value is never shown.
    pub(super) secret: bool,
}

/// A foreign variable that is set.
pub(super) struct ForeignValue {
    variable: &'static Foreign,
    /// The spelling that is set.
    pub(super) name: &'static str,
    /// Its value.
    pub(super) text: String,
}

/// What foreign variables say.
#[derive(Default)]
pub(super) struct Translation {
    /// Values of our variables.
    pub(super) values: BTreeMap<&'static str, String>,
    /// Where values come from, by the name of our variable.
    pub(super) origins: BTreeMap<&'static str, Origin>,
    /// What is told to the AWS SDK in place of its own search.
    pub(super) aws: AwsOverrides,
    /// What is wrong with foreign values.
    pub(super) mistakes: Vec<Mistake>,
    /// What is not honoured.
    pub(super) warnings: Vec<Warning>,
}

/// Reads foreign variables and writes ours.
pub(super) struct Translator<'a> {
    pub(super) environment: &'a Environment,
    pub(super) translation: Translation,
}

impl<'a> Translator<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        Self { environment, translation: Translation::default() }
    }

    /// What the variable holds; what is not UTF-8 is a mistake, two spellings with two values a warning.
    pub(super) fn find(&mut self, variable: &'static Foreign) -> Option<ForeignValue> {
        let mut found: Option<ForeignValue> = None;
        for name in variable.names {
            match (self.environment.value(name), &found) {
                (None, _) => {}
                (Some(Err(_)), _) => {
                    self.refuse_given(variable, name, GivenValue::NotUtf8, "only UTF-8 is supported".into())
                }
                (Some(Ok(text)), None) => found = Some(ForeignValue { variable, name, text: text.to_owned() }),
                (Some(Ok(text)), Some(first)) if text == first.text => {}
                (Some(Ok(_)), Some(first)) => {
                    let why = format!("{} has a different value", first.name);
                    self.ignore(name, why.into());
                }
            }
        }
        found
    }

    /// Sets one of our variables, unless the environment does, to what the foreign value means.
    pub(super) fn set(&mut self, ours: &'static Variable, found: &ForeignValue, meant: Result<String, InvalidValue>) {
        if self.environment.is_set(ours.name) {
            return;
        }
        self.translation.origins.insert(ours.name, found.origin());
        match meant {
            Ok(text) => drop(self.translation.values.insert(ours.name, text)),
            Err(why) => self.refuse(found, why),
        }
    }

    /// What holds in this dialect when nobody says otherwise.
    pub(super) fn default(&mut self, ours: &'static Variable, text: &str) {
        if !self.environment.is_set(ours.name) {
            self.translation.values.entry(ours.name).or_insert_with(|| text.to_owned());
        }
    }

    /// A mistake in this variable of ours is one in the foreign value too.
    pub(super) fn same_origin(&mut self, ours: &'static Variable, found: &ForeignValue) {
        if !self.environment.is_set(ours.name) {
            self.translation.origins.insert(ours.name, found.origin());
        }
    }

    /// Which foreign name stands for a variable of ours that is required.
    pub(super) fn require(&mut self, ours: &'static Variable, variable: &'static Foreign) {
        let origin = Origin { name: variable.names[0], given: GivenValue::Nothing, accepts: variable.accepts };
        self.translation.origins.entry(ours.name).or_insert(origin);
    }

    pub(super) fn refuse(&mut self, found: &ForeignValue, why: InvalidValue) {
        self.refuse_given(found.variable, found.name, found.given(), why);
    }

    fn refuse_given(&mut self, variable: &Foreign, name: &'static str, given: GivenValue, why: InvalidValue) {
        self.translation.mistakes.push(Mistake { variable: name, given, why, accepts: variable.accepts.to_owned() });
    }

    pub(super) fn ignore(&mut self, name: &str, why: InvalidValue) {
        self.translation.warnings.push(Warning::Ignored { name: name.to_owned(), why });
    }

    /// Warns of the names with this prefix that are not known.
    pub(super) fn ignore_unknown(&mut self, prefix: &str, is_known: impl Fn(&str) -> bool) {
        for name in self.environment.names().filter(|name| name.starts_with(prefix) && !is_known(name)) {
            self.ignore(name, "the adapter has no equivalent setting".into());
        }
    }
}

impl ForeignValue {
    fn given(&self) -> GivenValue {
        GivenValue::shown(self.variable.secret, &self.text)
    }

    fn origin(&self) -> Origin {
        Origin { name: self.name, given: self.given(), accepts: self.variable.accepts }
    }
}

/// What tells Camel's Knative client whom to trust and how to identify itself.
///
/// Source: `MakeSSLEnvVar` and `makeEnv` in `knative.dev/eventing/pkg/reconciler/integration`.
const KNATIVE_CLIENT: &str = "CAMEL_KNATIVE_CLIENT_";

static CERTIFICATE: Foreign = Foreign {
    names: &["CAMEL_KNATIVE_CLIENT_SSL_CERT_PATH"],
    accepts: "the path of a PEM file in the folder of trusted certificates",
    secret: false,
};
static TOKEN: Foreign = Foreign {
    names: &["CAMEL_KNATIVE_CLIENT_OIDC_TOKEN_PATH"],
    accepts: "the path of the file that holds the token",
    secret: false,
};
static TOKEN_WANTED: Foreign =
    Foreign { names: &["CAMEL_KNATIVE_CLIENT_OIDC_ENABLED"], accepts: "true or false", secret: false };

/// Set by the controller, or true here in any case: TLS is used where the sink's URL says so, and a token is read again
/// when it changes and when the sink refuses it.
const WITHOUT_MEANING: [&str; 3] = [
    "CAMEL_KNATIVE_CLIENT_SSL_ENABLED",
    "CAMEL_KNATIVE_CLIENT_OIDC_RENEW_TOKENS_ON_FORBIDDEN",
    "CAMEL_KNATIVE_CLIENT_OIDC_CACHE_TOKENS",
];

/// What the variables of Camel's Knative client say: a folder of certificates, the file of a token.
pub(super) fn knative_client(translator: &mut Translator<'_>) {
    if let Some(found) = translator.find(&CERTIFICATE) {
        let path = path(&found.text);
        // The controller names one file of a folder that it may put others into.
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| if folder.is_empty() { "/" } else { folder });
        translator.set(&sink::CA_CERTS_DIR, &found, Ok(folder.to_owned()));
    }
    let is_wanted = translator.find(&TOKEN_WANTED).is_some_and(|found| found.text.eq_ignore_ascii_case("true"));
    if let Some(found) = translator.find(&TOKEN)
        && is_wanted
    {
        translator.set(&sink::SINK_TOKEN_FILE, &found, Ok(path(&found.text).to_owned()));
    }
    let known = [&CERTIFICATE, &TOKEN, &TOKEN_WANTED].map(|variable| variable.names[0]);
    let is_known = |name: &str| known.contains(&name) || WITHOUT_MEANING.contains(&name);
    translator.ignore_unknown(KNATIVE_CLIENT, is_known);
}

/// `file:///oidc/token` is `/oidc/token`.
fn path(text: &str) -> &str {
    let path = text.strip_prefix("file:").unwrap_or(text);
    path.strip_prefix("//").unwrap_or(path)
}
