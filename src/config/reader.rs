//! Reads variables one by one and remembers every mistake.
//!
//! `envy` panics on what is not UTF-8, stops at the first error, takes a blank for a value and refuses a name that comes
//! twice. It is given only what survives here: known names, once each, not blank, UTF-8.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

use super::parse::InvalidValue;
use super::variable::{Default, Variable};

/// What is set: no blanks, no name that is not UTF-8, the first of each name.
pub(super) struct Environment(BTreeMap<String, OsString>);

/// The value is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotUtf8;

impl Environment {
    pub(super) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut set = BTreeMap::new();
        for (name, value) in variables {
            if let Ok(name) = name.into_string() {
                set.entry(name).or_insert(value);
            }
        }
        set.retain(|_, value| !is_blank(value));
        Self(set)
    }

    /// Sets variables that are not set.
    pub(super) fn fill(&mut self, values: BTreeMap<&'static str, String>) {
        for (name, text) in values {
            self.0.entry(name.to_owned()).or_insert(text.into());
        }
    }

    /// All names that are set.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// What a variable holds, trimmed; an error where it is not UTF-8.
    pub(super) fn value(&self, name: &str) -> Option<Result<&str, NotUtf8>> {
        let value = self.0.get(name)?;
        Some(value.to_str().map(str::trim).ok_or(NotUtf8))
    }
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

/// A mistake was recorded; go on with the next variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AlreadyReported;

/// The values given, and what was wrong with them so far.
///
/// Sections read all of their variables before they give up on one, so that every mistake is found.
#[derive(Debug)]
pub(super) struct Reader {
    given: BTreeMap<&'static str, String>,
    origins: BTreeMap<&'static str, Origin>,
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
}

impl Reader {
    /// What is wrong with the environment before a section is read.
    pub(super) fn new(origins: BTreeMap<&'static str, Origin>, mistakes: Vec<Mistake>, warnings: Vec<Warning>) -> Self {
        Self { given: BTreeMap::new(), origins, mistakes, warnings }
    }

    /// Takes what these variables hold; what is not UTF-8 is a mistake.
    pub(super) fn take(&mut self, environment: &Environment, variables: impl Iterator<Item = &'static Variable>) {
        for variable in variables {
            match environment.value(variable.name) {
                None => {}
                Some(Ok(text)) => drop(self.given.insert(variable.name, text.to_owned())),
                Some(Err(NotUtf8)) => {
                    self.report(Mistake::new(variable, GivenValue::NotUtf8, "only UTF-8 is supported"));
                }
            }
        }
    }

    fn given(&self, variable: &Variable) -> Option<&str> {
        self.given.get(variable.name).map(String::as_str)
    }

    /// A variable that is required or has a default.
    pub(super) fn value<T>(
        &mut self,
        variable: &'static Variable,
        parse: impl FnOnce(&str) -> Result<T, InvalidValue>,
    ) -> Result<T, AlreadyReported> {
        if self.is_reported(variable) {
            return Err(AlreadyReported);
        }
        match self.given(variable).or(variable.default_value()) {
            Some(text) => parse(text).map_err(|why| self.refused(variable, why)),
            None => Err(self.missing(variable)),
        }
    }

    /// A variable that the program does without; its default, if it has one, is left to the caller.
    pub(super) fn optional<T>(
        &mut self,
        variable: &'static Variable,
        parse: impl FnOnce(&str) -> Result<T, InvalidValue>,
    ) -> Result<Option<T>, AlreadyReported> {
        if self.is_reported(variable) {
            return Err(AlreadyReported);
        }
        let parsed = self.given(variable).map(parse).transpose();
        parsed.map_err(|why| self.refused(variable, why))
    }

    /// A variable with several values, separated by commas; every bad one is a mistake.
    pub(super) fn list<T>(
        &mut self,
        variable: &'static Variable,
        parse: impl Fn(&str, &[T]) -> Result<T, InvalidValue>,
    ) -> Result<Vec<T>, AlreadyReported> {
        let Some(text) = self.given(variable).map(str::to_owned) else {
            return Err(self.missing(variable));
        };
        let known_mistakes = self.mistakes.len();
        let mut values = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match parse(entry, &values) {
                Ok(value) => values.push(value),
                Err(why) => self.report(Mistake::new(variable, GivenValue::of(variable, entry), why)),
            }
        }
        if self.mistakes.len() > known_mistakes {
            return Err(AlreadyReported);
        }
        if values.is_empty() {
            return Err(self.refused(variable, "an empty entry between commas".into()));
        }
        Ok(values)
    }

    /// Records that a value cannot be used, because of itself or of another variable.
    pub(super) fn refused(&mut self, variable: &'static Variable, why: InvalidValue) -> AlreadyReported {
        let given = match self.given(variable) {
            Some(text) => GivenValue::of(variable, text),
            None => GivenValue::Nothing,
        };
        self.report(Mistake::new(variable, given, why));
        AlreadyReported
    }

    /// Records that two values do not go together, at the one that was set.
    pub(super) fn refused_pair(
        &mut self,
        low: &'static Variable,
        high: &'static Variable,
        why: InvalidValue,
    ) -> AlreadyReported {
        let at = if self.is_given(high) { high } else { low };
        self.refused(at, why)
    }

    pub(super) fn is_given(&self, variable: &Variable) -> bool {
        self.given(variable).is_some()
    }

    /// Whether a variable is set to something other than its default.
    pub(super) fn is_changed(&self, variable: &'static Variable) -> bool {
        self.given(variable).is_some_and(|value| Some(value) != variable.default_value())
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

    /// All mistakes and warnings.
    pub(super) fn finish(self) -> (Vec<Mistake>, Vec<Warning>) {
        (self.mistakes, self.warnings)
    }

    fn missing(&mut self, variable: &'static Variable) -> AlreadyReported {
        debug_assert_eq!(variable.default, Default::Required);
        if !self.is_reported(variable) {
            self.report(Mistake::new(variable, GivenValue::Nothing, "it is required"));
        }
        AlreadyReported
    }

    fn is_reported(&self, variable: &Variable) -> bool {
        let name = self.origins.get(variable.name).map_or(variable.name, |origin| origin.name);
        self.mistakes.iter().any(|mistake| mistake.variable == name)
    }
}

/// Under which foreign name a value of ours was set.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The foreign variable's name.
    pub(super) name: &'static str,
    /// What it held.
    pub(super) given: GivenValue,
    /// What it takes.
    pub(super) accepts: &'static str,
}

impl Origin {
    /// The mistake as whoever set the foreign variable can read it.
    pub(super) fn retell(&self, mistake: Mistake) -> Mistake {
        let given = if mistake.given == GivenValue::Nothing { GivenValue::Nothing } else { self.given.clone() };
        Mistake { variable: self.name, given, why: mistake.why, accepts: self.accepts.to_owned() }
    }
}

/// Of a long value so many characters are shown.
const SHOWN_CHARACTERS: usize = 80;

/// All that is wrong; its `Display` is one message for people, a line for each mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes {
    /// At least one.
    pub mistakes: Vec<Mistake>,
    /// What may explain a mistake: names that are set and look misspelt.
    pub warnings: Vec<Warning>,
}

/// One variable that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The variable's name.
    pub variable: &'static str,
    /// What it held.
    pub given: GivenValue,
    /// What is wrong with that; shows no secret.
    pub why: Cow<'static, str>,
    /// What it takes instead.
    pub accepts: String,
}

/// What a variable held, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenValue {
    /// It was not set, or blank.
    Nothing,
    /// This, possibly cut; control characters are still in it.
    Text(String),
    /// Something that may carry a secret.
    Secret,
    /// Bytes that are not UTF-8.
    NotUtf8,
}

impl GivenValue {
    /// What may be shown of a variable's value.
    pub(super) fn of(variable: &Variable, value: &str) -> Self {
        Self::shown(variable.secret, value)
    }

    pub(super) fn shown(secret: bool, value: &str) -> Self {
        if secret {
            return Self::Secret;
        }
        match value.char_indices().nth(SHOWN_CHARACTERS) {
            Some((end, _)) => Self::Text(format!("{}…", &value[..end])),
            None => Self::Text(value.to_owned()),
        }
    }
}

impl Mistake {
    pub(super) fn new(variable: &Variable, given: GivenValue, why: impl Into<Cow<'static, str>>) -> Self {
        let accepts = variable.accepts.to_string().replace('`', "");
        Self { variable: variable.name, given, why: why.into(), accepts }
    }
}

impl fmt::Display for GivenValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("is not set"),
            Self::Text(text) => write!(f, "has the value {text:?}"),
            Self::Secret => f.write_str("has a value that is not shown because it may contain a secret"),
            Self::NotUtf8 => f.write_str("has a value that is not UTF-8"),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}; expected {}", self.variable, self.given, self.why, self.accepts)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => write!(f, "the configuration has 1 error:")?,
            count => write!(f, "the configuration has {count} errors:")?,
        }
        for mistake in &self.mistakes {
            write!(f, "\n  {mistake}")?;
        }
        for warning in &self.warnings {
            write!(f, "\n  note: {warning}")?;
        }
        write!(f, "\nrun with --help for all variables")
    }
}

/// What positions in memory mean for a restart; a part of the warning that `check` prints before its fix.
pub(crate) const POSITIONS_IN_MEMORY: &str = "positions are kept in memory: after a restart, changes written while the \
    process was away are not delivered with START_POSITION=latest (with trim-horizon everything of the last 24 hours is \
    delivered again)";

/// Something to log once at start; its `Display` is a log message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A variable that is not ours looks like one of ours.
    Misspelt {
        /// The name that is set, and not read.
        found: String,
        /// The name that was probably meant.
        known: &'static str,
    },
    /// Positions do not outlive the process.
    PositionsInMemory,
    /// Something is set that nothing reads.
    NoEffect {
        /// The variable.
        name: &'static str,
        /// The setting that would read it.
        unless: &'static str,
    },
    /// A variable of another adapter that cannot be honoured.
    Ignored {
        /// Its name.
        name: String,
        /// Why.
        why: Cow<'static, str>,
    },
    /// `K_LOGGING_CONFIG` cannot be read, so its level is not honoured.
    LoggingConfig {
        /// What is wrong with it.
        why: &'static str,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misspelt { found, known } => {
                write!(f, "{} is set but not read, did you mean {known}?", found.escape_debug())
            }
            Self::PositionsInMemory => {
                write!(f, "{POSITIONS_IN_MEMORY}; set CHECKPOINT_STORE=file:<path> on a volume to keep them")
            }
            Self::NoEffect { name, unless } => write!(f, "{name} is set but has no effect without {unless}"),
            Self::Ignored { name, why } => write!(f, "{} is ignored, {why}", name.escape_debug()),
            Self::LoggingConfig { why } => write!(f, "K_LOGGING_CONFIG is ignored, {why}"),
        }
    }
}
