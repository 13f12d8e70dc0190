//! Reads the variables of other adapters and writes ours, so that this program takes their place without new settings.
//!
//! Contract: pure. What a foreign variable says stands in for our variables that are not set; ours win. A mistake in a
//! translated value is reported under the name that was set. What has no meaning here is accepted in silence where a
//! controller sets it, and causes a warning where a user must have set it.

use std::collections::BTreeMap;

use super::aws::AwsOverrides;
use super::parse::{InvalidValue, explained};
use super::reader::{Environment, GivenValue, Mistake, Origin, Warning};
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
        self.refuse_given(found.variable, found.name, found.given(), explained(&found.text, why));
    }

    fn refuse_given(&mut self, variable: &Foreign, name: &'static str, given: GivenValue, why: InvalidValue) {
        self.translation.mistakes.push(Mistake { variable: name, given, why, accepts: variable.accepts.to_owned() });
    }

    pub(super) fn ignore(&mut self, name: &str, why: InvalidValue) {
        self.translation.warnings.push(Warning::Ignored { name: name.to_owned(), why });
    }

    /// Warns of a value that is used.
    pub(super) fn remark(&mut self, name: &'static str, what: &'static str) {
        self.translation.warnings.push(Warning::Remark { name, what });
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
        // An address may have a password before its host.
        GivenValue::shown(self.variable.secret, &self.text)
    }

    fn origin(&self) -> Origin {
        Origin { name: self.name, given: self.given(), accepts: self.variable.accepts }
    }
}
