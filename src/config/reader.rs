//! Reads variables one by one and remembers every mistake.

use std::collections::BTreeMap;

use super::Config;
use super::aws::AwsOverrides;
use super::catalog::{self, Given};
use super::mistakes::{Held, Mistake, Mistakes};
use super::parse::Refusal;
use super::translator::{Origin, Translation};
use super::variable::{Fallback, Group, Variable};
use super::warning::Warning;

/// A mistake was recorded; go on with the next variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reported;

/// The values given, and what was wrong with them so far.
///
/// Sections read all of their variables before they give up on one, so that every mistake is found.
#[derive(Debug)]
pub(super) struct Reader {
    given: Given,
    origins: BTreeMap<&'static str, Origin>,
    aws: AwsOverrides,
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
}

impl Reader {
    pub(super) fn new(warnings: Vec<Warning>, translation: Translation) -> Self {
        let Translation { origins, aws, mistakes, warnings: ignored, .. } = translation;
        let warnings = warnings.into_iter().chain(ignored).collect();
        Self { given: Given::default(), origins, aws, mistakes, warnings }
    }

    pub(super) fn take(&mut self, given: Given) {
        self.given = given;
    }

    /// What a dialect tells the AWS SDK.
    pub(super) fn take_aws(&mut self) -> AwsOverrides {
        std::mem::take(&mut self.aws)
    }

    /// A variable that is required or has a default.
    pub(super) fn value<T>(
        &mut self,
        variable: &'static Variable,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Result<T, Reported> {
        if self.is_reported(variable) {
            return Err(Reported);
        }
        match self.given.value(variable).or(variable.default_value()) {
            Some(text) => parse(text).map_err(|refusal| self.refused(variable, refusal)),
            None => Err(self.missing(variable)),
        }
    }

    /// A variable that the program does without; its default, if it has one, is left to the caller.
    pub(super) fn optional<T>(
        &mut self,
        variable: &'static Variable,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Result<Option<T>, Reported> {
        if self.is_reported(variable) {
            return Err(Reported);
        }
        let parsed = self.given.value(variable).map(parse).transpose();
        parsed.map_err(|refusal| self.refused(variable, refusal))
    }

    /// A variable with several values, separated by commas; every bad one is a mistake.
    pub(super) fn list<T>(
        &mut self,
        variable: &'static Variable,
        parse: impl Fn(&str, &[T]) -> Result<T, Refusal>,
    ) -> Result<Vec<T>, Reported> {
        let Some(text) = self.given.value(variable).map(str::to_owned) else {
            return Err(self.missing(variable));
        };
        let known_mistakes = self.mistakes.len();
        let mut values = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match parse(entry, &values) {
                Ok(value) => values.push(value),
                Err(refusal) => self.report(Mistake::new(variable, Held::of(variable, entry), refusal)),
            }
        }
        if self.mistakes.len() > known_mistakes {
            return Err(Reported);
        }
        if values.is_empty() {
            return Err(self.refused(variable, "an empty entry between commas".into()));
        }
        Ok(values)
    }

    /// Records that a value cannot be used, because of itself or of another variable.
    pub(super) fn refused(&mut self, variable: &'static Variable, refusal: Refusal) -> Reported {
        let held = match self.given.value(variable) {
            Some(text) => Held::of(variable, text),
            None => Held::Nothing,
        };
        self.report(Mistake::new(variable, held, refusal));
        Reported
    }

    /// Records that two values do not go together, at the one that was set.
    pub(super) fn refused_pair(&mut self, low: &'static Variable, high: &'static Variable, why: Refusal) -> Reported {
        let at = if self.given.value(high).is_some() { high } else { low };
        self.refused(at, why)
    }

    /// Whether a variable is set to something other than its default.
    pub(super) fn is_changed(&self, variable: &'static Variable) -> bool {
        let default = match variable.fallback {
            Fallback::Value(value) | Fallback::Else { value, .. } => Some(value),
            Fallback::Required | Fallback::Nothing => None,
        };
        self.given.value(variable).is_some_and(|value| Some(value) != default)
    }

    /// Records a mistake, under the name that was set.
    pub(super) fn report(&mut self, mistake: Mistake) {
        let origin = self.origins.get(mistake.variable);
        self.mistakes.push(match origin {
            Some(origin) => origin.retell(mistake),
            None => mistake,
        });
    }

    pub(super) fn warn(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }

    /// Nothing that is asked for may be ignored.
    pub(super) fn refuse_what_comes_later(&mut self) {
        for variable in catalog::ALL.iter().filter(|variable| variable.group == Group::Later) {
            if self.given.value(variable).is_some() {
                self.refused(variable, "not in this version".into());
            }
        }
    }

    /// The configuration, if nothing was wrong.
    pub(super) fn finish(mut self, config: Result<Config, Reported>) -> Result<Config, Mistakes> {
        match config {
            Ok(config) if self.mistakes.is_empty() => Ok(Config { warnings: self.warnings, ..config }),
            _ => {
                self.warnings.retain(|warning| matches!(warning, Warning::Misspelt { .. }));
                Err(Mistakes { mistakes: self.mistakes, warnings: self.warnings })
            }
        }
    }

    fn missing(&mut self, variable: &'static Variable) -> Reported {
        debug_assert_eq!(variable.fallback, Fallback::Required);
        if !self.is_reported(variable) {
            self.report(Mistake::new(variable, Held::Nothing, "it is required"));
        }
        Reported
    }

    fn is_reported(&self, variable: &Variable) -> bool {
        let name = self.origins.get(variable.name).map_or(variable.name, |origin| origin.name);
        self.mistakes.iter().any(|mistake| mistake.variable == name)
    }
}
