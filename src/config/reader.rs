//! What is set and what is wrong with it: the environment, the reader that the sections use, mistakes and warnings.
//!
//! A section gets all of its variables from [`Reader::section`] and reads each of them before it gives up on one, so
//! that all mistakes are reported at once, none twice, and under the name that was set.
//!
//! `envy` panics on what is not UTF-8, stops at the first error, takes a blank for a value and refuses a name that
//! comes twice. It is given only what [`Environment`] and [`Reader::take`] let through: known names, once each, not
//! blank, UTF-8.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::num::NonZeroUsize;

use serde::de::DeserializeOwned;

use super::parse::{self, InvalidValue, Lenient};
use super::variable::{Declared, Default, Setting, Variable};
use crate::error_text;

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

    /// Whether `value` leaves out nothing of what is set.
    pub(super) fn is_trimmed(&self, name: &str) -> bool {
        let value = self.0.get(name).and_then(|value| value.to_str());
        value.is_none_or(|value| value == value.trim())
    }
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

/// A mistake was recorded; go on with the next variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AlreadyReported;

/// The values of our variables, and what was wrong with them so far.
#[derive(Debug)]
pub(super) struct Reader {
    /// Names and values, trimmed.
    texts: Vec<(String, String)>,
    origins: BTreeMap<&'static str, Origin>,
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
}

impl Reader {
    /// Begins with what the translation of other adapters' variables has found.
    pub(super) fn new(origins: BTreeMap<&'static str, Origin>, mistakes: Vec<Mistake>, warnings: Vec<Warning>) -> Self {
        Self { texts: Vec::new(), origins, mistakes, warnings }
    }

    /// Takes the values of these variables; a value that is not UTF-8 is a mistake.
    pub(super) fn take(&mut self, environment: &Environment, variables: impl Iterator<Item = &'static Variable>) {
        for variable in variables {
            match environment.value(variable.name) {
                None => {}
                Some(Ok(text)) => self.texts.push((variable.name.to_owned(), text.to_owned())),
                Some(Err(NotUtf8)) => {
                    self.report(Mistake::new(variable, GivenValue::NotUtf8, "only UTF-8 is supported"));
                }
            }
        }
    }

    /// The settings of one section: the struct that `variables!` declares there.
    pub(super) fn section<S: DeserializeOwned>(&self) -> S {
        envy::from_iter(self.texts.iter().cloned()).expect("a section takes any text, and each name comes once")
    }

    /// A variable that is required or has a default.
    pub(super) fn value<V: Declared>(&mut self, setting: &Setting<V>) -> Result<V::Value, AlreadyReported> {
        self.value_by(setting, V::parse)
    }

    /// The same, where what a text means depends on more than the text.
    pub(super) fn value_by<V: Declared, T>(
        &mut self,
        setting: &Setting<V>,
        parse: impl FnOnce(&str) -> Result<T, InvalidValue>,
    ) -> Result<T, AlreadyReported> {
        if self.is_reported(V::VARIABLE) {
            return Err(AlreadyReported);
        }
        match setting.text().or(V::VARIABLE.default_value()) {
            Some(text) => parse(text).map_err(|why| self.refused(setting, why)),
            None => Err(self.missing(V::VARIABLE)),
        }
    }

    /// A variable that the program does without; its default, if it has one, is left to the caller.
    pub(super) fn optional<V: Declared>(&mut self, setting: &Setting<V>) -> Result<Option<V::Value>, AlreadyReported> {
        if self.is_reported(V::VARIABLE) {
            return Err(AlreadyReported);
        }
        setting.text().map(V::parse).transpose().map_err(|why| self.refused(setting, why))
    }

    /// A variable that a platform sets; what was made of it is said.
    pub(super) fn lenient<V: Declared<Value = Lenient<T>>, T>(
        &mut self,
        setting: &Setting<V>,
    ) -> Result<Option<T>, AlreadyReported> {
        let given = self.optional(setting)?;
        Ok(given.map(|Lenient { value, notes }| {
            let said = notes.into_iter().map(|what| Warning::Adjusted { name: V::VARIABLE.name, what });
            self.warnings.extend(said);
            value
        }))
    }

    /// A variable with several values, separated by commas; every bad one is a mistake.
    pub(super) fn list<V: Declared, T>(
        &mut self,
        setting: &Setting<V>,
        parse: impl Fn(&str, &[T]) -> Result<T, InvalidValue>,
    ) -> Result<Vec<T>, AlreadyReported> {
        let Some(text) = setting.text() else {
            return Err(self.missing(V::VARIABLE));
        };
        let known_mistakes = self.mistakes.len();
        let mut values = Vec::new();
        // A password in it may have a comma.
        let is_secret = V::VARIABLE.secret || may_hold_secret(text);
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match parse(entry, &values) {
                Ok(value) => values.push(value),
                Err(why) => {
                    let quoted = if parse::is_quoted(text) { text } else { entry };
                    let why = parse::explained(quoted, why);
                    self.report(Mistake::new(V::VARIABLE, GivenValue::shown(is_secret, entry), why));
                }
            }
        }
        if self.mistakes.len() > known_mistakes {
            return Err(AlreadyReported);
        }
        if values.is_empty() {
            return Err(self.refused(setting, "an empty entry between commas".into()));
        }
        Ok(values)
    }

    /// Records that a value cannot be used, because of itself or of another variable.
    pub(super) fn refused<V: Declared>(&mut self, setting: &Setting<V>, why: InvalidValue) -> AlreadyReported {
        let given = match setting.text() {
            Some(text) => GivenValue::of(V::VARIABLE, text),
            None => GivenValue::Nothing,
        };
        let why = parse::explained(setting.text().unwrap_or_default(), why);
        self.report(Mistake::new(V::VARIABLE, given, why));
        AlreadyReported
    }

    /// Records that two values do not go together, at the one that was set.
    pub(super) fn refused_pair<L: Declared, H: Declared>(
        &mut self,
        low: &Setting<L>,
        high: &Setting<H>,
        why: InvalidValue,
    ) -> AlreadyReported {
        match high.text() {
            Some(_) => self.refused(high, why),
            None => self.refused(low, why),
        }
    }

    /// Records a mistake, under the name that was set.
    pub(super) fn report(&mut self, mistake: Mistake) {
        let origin = self.origins.get(mistake.variable);
        self.mistakes.push(match origin {
            Some(origin) => origin.retell(mistake),
            None => mistake,
        });
    }

    /// Warns that a setting other than the default has no effect.
    pub(super) fn warn_no_effect<V: Declared>(&mut self, setting: &Setting<V>, unless: &'static str) {
        if setting.text().is_some_and(|text| Some(text) != V::VARIABLE.default_value()) {
            self.warn(Warning::NoEffect { name: V::VARIABLE.name, unless });
        }
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
    /// Its value.
    pub(super) given: GivenValue,
    /// Which values it accepts.
    pub(super) accepts: &'static str,
}

impl Origin {
    /// The mistake in terms of the foreign variable: its name, its value, which values it accepts.
    pub(super) fn retell(&self, mistake: Mistake) -> Mistake {
        let given = if mistake.given == GivenValue::Nothing { GivenValue::Nothing } else { self.given.clone() };
        Mistake { variable: self.name, given, why: mistake.why, accepts: self.accepts.to_owned() }
    }
}

/// How many characters of a long value are shown.
const SHOWN_CHARACTERS: usize = 80;

/// All that is wrong; its `Display` is one message for people, a line for each mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes {
    /// At least one.
    pub mistakes: Vec<Mistake>,
    /// What may explain a mistake: names that are set and look misspelt.
    pub warnings: Vec<Warning>,
}

impl Mistakes {
    /// With those of the warnings that may explain one.
    pub(super) fn explained(mistakes: Vec<Mistake>, mut warnings: Vec<Warning>) -> Self {
        warnings.retain(|warning| matches!(warning, Warning::Misspelt { .. }));
        Self { mistakes, warnings }
    }
}

/// One variable that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The variable's name.
    pub variable: &'static str,
    /// Its value.
    pub given: GivenValue,
    /// What is wrong with the value; shows no secret.
    pub why: Cow<'static, str>,
    /// Which values the variable accepts.
    pub accepts: String,
}

/// A value, as far as it may be shown.
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
        if secret || may_hold_secret(value) {
            return Self::Secret;
        }
        match value.char_indices().nth(SHOWN_CHARACTERS) {
            Some((end, _)) => Self::Text(format!("{}…", &value[..end])),
            None => Self::Text(value.to_owned()),
        }
    }
}

/// A path as messages may show it: none of it where it may hold a secret, by mistake.
pub(crate) fn shown_path(path: &str) -> &str {
    if may_hold_secret(path) { "its file" } else { path }
}

/// Whether a value may be a URL with a user and a password, or with a token in its query, as it should be or mistyped, whatever the variable
/// is for; or has another form of secrets. A word that looks like none is shown, and so is an address with nothing but host, port and path.
fn may_hold_secret(value: &str) -> bool {
    let small = value.to_ascii_lowercase();
    let has = |signs: &[&str]| signs.iter().any(|sign| small.contains(sign));
    has(&["@", "%40"]) || has(&["//", "http:", "https:"]) && has(&["?"]) || error_text::holds_secret(value)
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
        let why = error_text::shown(&self.why);
        write!(f, "{} {}: {why}; expected {}", self.variable, self.given, self.accepts)
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
pub(crate) const POSITIONS_IN_MEMORY: &str = "positions are kept in memory: after a restart, START_POSITION=latest loses \
    undelivered changes and those written while the process did not run; trim-horizon sends the last 24 hours again; a \
    time or duration sends the changes since then again";

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
        why: Cow<'static, str>,
    },
    /// A value was not quite right; what was made of it.
    Adjusted {
        /// The variable.
        name: &'static str,
        what: String,
    },
    /// A setting asks for more than the limit of open files allows.
    Cut {
        /// The variable.
        name: &'static str,
        wanted: NonZeroUsize,
        fitting: NonZeroUsize,
        open_files: u64,
    },
    /// What is configured can take more memory than the process may use.
    Memory {
        /// `BUFFER_MEMORY`, in bytes like the others.
        buffer: u64,
        /// `DELIVERY_CONCURRENCY`
        requests: u64,
        needed: u64,
        limit: u64,
    },
    /// The value may not mean what was meant.
    Remark {
        /// The variable.
        name: &'static str,
        /// What is to be known of its value.
        what: &'static str,
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
                write!(
                    f,
                    "{POSITIONS_IN_MEMORY}; set CHECKPOINT_STORE=file:<path> on a volume, or dynamodb:<table>, to keep positions"
                )
            }
            Self::NoEffect { name, unless } => write!(f, "{name} is set but has no effect without {unless}"),
            Self::Ignored { name, why } => {
                write!(f, "{} is ignored, {}", name.escape_debug(), error_text::shown(why))
            }
            Self::Adjusted { name, what } => write!(f, "{name}: {}", error_text::shown(what)),
            Self::Cut { name, wanted, fitting, open_files } => write!(
                f,
                "{name} is cut from {wanted} to {fitting}: the process may have {open_files} files and connections \
                 open; raise that limit (ulimit -Hn; LimitNOFILE= of the service or of the container runtime)"
            ),
            Self::Memory { buffer, requests, needed, limit } => write!(
                f,
                "BUFFER_MEMORY ({}) and DELIVERY_CONCURRENCY ({requests}) can make the process take {} of memory, and its limit is \
                 {}: beyond that the kernel kills it (exit code 137); lower BUFFER_MEMORY, or raise the limit \
                 (resources.limits.memory of the container, MemoryMax= of the service)",
                mebibytes(*buffer),
                mebibytes(*needed),
                mebibytes(*limit)
            ),
            Self::Remark { name, what } => write!(f, "{name} {what}"),
            Self::LoggingConfig { why } => write!(f, "K_LOGGING_CONFIG is ignored, {why}"),
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{}MiB", bytes >> 20)
}
