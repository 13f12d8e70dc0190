//! The variables of other adapters, translated into ours, so that this program takes their place without new settings.
//!
//! Contract: pure. A dialect speaks where its own variables are set. What it says stands in for our variables that are not
//! set; ours win. A mistake in a translated value is reported under the name that was set. What has no meaning here is
//! accepted in silence where a controller sets it, and is a warning where a user must have.

mod camel;
mod knative;
mod triggermesh;

use std::collections::BTreeMap;

use super::aws::AwsOverrides;
use super::environment::Environment;
use super::mistakes::{Held, Mistake};
use super::parse::Refusal;
use super::variable::Variable;
use super::warning::Warning;

/// A variable of somebody else.
pub(super) struct Foreign {
    /// Its spellings; the first that is set counts.
    names: &'static [&'static str],
    /// Which values it takes; completes "it takes ...".
    takes: &'static str,
    /// Whether it is never shown.
    secret: bool,
}

/// A foreign variable that is set.
struct Found {
    variable: &'static Foreign,
    name: &'static str,
    text: String,
}

/// Under which foreign name a value of ours was set.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The foreign variable's name.
    pub(super) name: &'static str,
    held: Held,
    takes: &'static str,
}

/// What a dialect says.
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

/// What the foreign variables mean; nothing where there are none.
pub(super) fn translate(environment: &Environment) -> Translation {
    let mut translator = Translator { environment, translation: Translation::default() };
    if camel::is_spoken(environment) {
        camel::translate(&mut translator);
    } else if triggermesh::is_spoken(environment) {
        triggermesh::translate(&mut translator);
    }
    translator.translation
}

/// Reads foreign variables and writes ours.
struct Translator<'a> {
    environment: &'a Environment,
    translation: Translation,
}

impl Translator<'_> {
    /// What the variable holds; what is not UTF-8 is a mistake, two spellings with two values a warning.
    fn find(&mut self, variable: &'static Foreign) -> Option<Found> {
        let mut found: Option<Found> = None;
        for name in variable.names {
            match (self.environment.value(name), &found) {
                (None, _) => {}
                (Some(Err(_)), _) => self.refuse_held(variable, name, Held::NotUtf8, "only UTF-8 is supported".into()),
                (Some(Ok(text)), None) => found = Some(Found { variable, name, text: text.to_owned() }),
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
    fn set(&mut self, ours: &'static Variable, found: &Found, meant: Result<String, Refusal>) {
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
    fn default(&mut self, ours: &'static Variable, text: &str) {
        if !self.environment.is_set(ours.name) {
            self.translation.values.entry(ours.name).or_insert_with(|| text.to_owned());
        }
    }

    /// A mistake in this variable of ours is one in the foreign value too.
    fn same_origin(&mut self, ours: &'static Variable, found: &Found) {
        if !self.environment.is_set(ours.name) {
            self.translation.origins.insert(ours.name, found.origin());
        }
    }

    /// Which foreign name stands for a variable of ours that is required.
    fn require(&mut self, ours: &'static Variable, variable: &'static Foreign) {
        let origin = Origin { name: variable.names[0], held: Held::Nothing, takes: variable.takes };
        self.translation.origins.entry(ours.name).or_insert(origin);
    }

    fn refuse(&mut self, found: &Found, why: Refusal) {
        self.refuse_held(found.variable, found.name, found.held(), why);
    }

    fn refuse_held(&mut self, variable: &Foreign, name: &'static str, held: Held, why: Refusal) {
        self.translation.mistakes.push(Mistake { variable: name, held, why, takes: variable.takes.to_owned() });
    }

    fn ignore(&mut self, name: &str, why: Refusal) {
        self.translation.warnings.push(Warning::Ignored { name: name.to_owned(), why });
    }
}

impl Found {
    fn held(&self) -> Held {
        Held::shown(self.variable.secret, &self.text)
    }

    fn origin(&self) -> Origin {
        Origin { name: self.name, held: self.held(), takes: self.variable.takes }
    }
}

impl Origin {
    /// The mistake as whoever set the foreign variable can read it.
    pub(super) fn retell(&self, mistake: Mistake) -> Mistake {
        let held = if mistake.held == Held::Nothing { Held::Nothing } else { self.held.clone() };
        Mistake { variable: self.name, held, why: mistake.why, takes: self.takes.to_owned() }
    }
}
