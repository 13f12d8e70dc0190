//! What is wrong with the environment, told once, completely, and without secrets.

use std::borrow::Cow;
use std::fmt;

use super::variable::Variable;
use super::warning::Warning;

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
    pub held: Held,
    /// What is wrong with that; shows no secret.
    pub why: Cow<'static, str>,
    /// What it takes instead.
    pub takes: String,
}

/// What a variable held, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// It was not set, or blank.
    Nothing,
    /// This, possibly cut; control characters are still in it.
    Text(String),
    /// Something that may carry a secret.
    Secret,
    /// Bytes that are not UTF-8.
    NotUtf8,
}

impl Held {
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
    pub(super) fn new(variable: &Variable, held: Held, why: impl Into<Cow<'static, str>>) -> Self {
        let takes = variable.takes.to_string().replace('`', "");
        Self { variable: variable.name, held, why: why.into(), takes }
    }
}

impl fmt::Display for Held {
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
        write!(f, "{} {}: {}; expected {}", self.variable, self.held, self.why, self.takes)
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
