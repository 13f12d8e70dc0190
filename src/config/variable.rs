//! A variable: its declaration for people (name, default, accepted values, meaning) and for the program (type and
//! parser), both in one entry of `variables!`.

use std::fmt;
use std::marker::PhantomData;

use super::parse::InvalidValue;

/// What people are told of a variable: its line in `--help`, its row in the documents. The default is parsed like a
/// value that is set.
///
/// Texts are Markdown with backticks around what is typed literally; they hold no line feed and no `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// The name, exactly as it is set.
    pub name: &'static str,
    /// Under which heading it is listed.
    pub group: Group,
    /// What holds when it is not set.
    pub default: Default,
    /// Which values it accepts.
    pub accepts: Accepts,
    /// What it does, in sentences.
    pub meaning: &'static str,
    /// Whether its value may carry a secret and is therefore never shown.
    pub secret: bool,
}

/// What holds when a variable is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// Nothing: it must be set.
    Required,
    /// The program does without.
    Nothing,
    /// This value, as if it had been set.
    Value(&'static str),
    /// Something else first, and only then a value.
    Else {
        /// The value in the end, as if it had been set.
        value: &'static str,
        /// The whole rule, for readers.
        rule: &'static str,
    },
}

/// Which values a variable accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// Exactly one of these.
    OneOf(&'static [&'static str]),
    /// What the phrase says; it completes "expected ...".
    Phrase(&'static str),
    /// A time span; lists explain once how it is written.
    Duration,
    /// Bytes; lists explain once how they are written.
    Size,
    /// Any text: nothing that a list would have to say.
    Text,
}

/// The headings under which variables are listed, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Tables, where to begin, pace.
    Source,
    /// Where positions are stored, and who may write them.
    Positions,
    /// The shape of events.
    Event,
    /// The sink, order, retries.
    Delivery,
    /// Memory, shutdown, port.
    Process,
    /// Logs.
    Log,
    /// Credentials beyond the SDK's own settings.
    Aws,
    /// Names from the platform.
    PlatformNames,
    /// The scaler for KEDA.
    Scaler,
}

impl Group {
    /// The groups that lists show, in their order.
    pub(super) const LISTED: [Self; 9] = [
        Self::Source,
        Self::Positions,
        Self::Event,
        Self::Delivery,
        Self::Process,
        Self::Log,
        Self::Aws,
        Self::PlatformNames,
        Self::Scaler,
    ];

    /// The heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Source => "Tables",
            Self::Positions => "Positions",
            Self::Event => "Event format",
            Self::Delivery => "Delivery",
            Self::Process => "Memory, shutdown, ports",
            Self::Log => "Logs",
            Self::Aws => "AWS, in addition to the SDK's own variables",
            Self::PlatformNames => "Names, usually set by the platform",
            Self::Scaler => "The scaler for KEDA",
        }
    }
}

/// How durations are written.
pub(super) const DURATION: &str = "a duration from `1ms` to `24h`, such as `500ms`, `30s` or `1m30s`";

/// How sizes are written.
pub(super) const SIZE: &str = "a size from `1MiB` to `1024GiB`, such as `2048KiB`, `64MiB` or `1GiB`";

impl Accepts {
    /// For lists that explain durations and sizes once; empty for any text.
    pub(super) fn listed(&self) -> String {
        match self {
            Self::Duration => "a duration".to_owned(),
            Self::Size => "a size".to_owned(),
            Self::Text => String::new(),
            Self::OneOf(_) | Self::Phrase(_) => self.to_string(),
        }
    }
}

impl Variable {
    /// What holds when it is not set, for readers.
    pub fn shown_default(&self) -> String {
        match self.default {
            Default::Required => "required".to_owned(),
            Default::Nothing => String::new(),
            Default::Value(value) => format!("`{value}`"),
            Default::Else { rule, .. } => rule.to_owned(),
        }
    }

    /// The value that counts as set when there is none.
    pub(super) fn default_value(&self) -> Option<&'static str> {
        match self.default {
            Default::Required | Default::Nothing => None,
            Default::Value(value) | Default::Else { value, .. } => Some(value),
        }
    }
}

impl fmt::Display for Accepts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match self {
            Self::Phrase(phrase) => return f.write_str(phrase),
            Self::Duration => return f.write_str(DURATION),
            Self::Size => return f.write_str(SIZE),
            Self::Text => return f.write_str("any text"),
            Self::OneOf(names) => names,
        };
        for (place, name) in names.iter().enumerate() {
            let separator = match place {
                0 => "",
                _ if place + 1 == names.len() => " or ",
                _ => ", ",
            };
            write!(f, "{separator}`{name}`")?;
        }
        Ok(())
    }
}

/// A declared variable as a type, so that what was set knows how it is parsed.
pub(super) trait Declared {
    type Value;
    const VARIABLE: &'static Variable;

    fn parse(text: &str) -> Result<Self::Value, InvalidValue>;
}

/// What one variable holds, if it is set. Any text will do here: it is parsed when its section reads it, so that a
/// mistake is reported beside all others.
#[derive(serde::Deserialize)]
#[serde(transparent, bound = "")]
pub(super) struct Setting<V> {
    text: Option<String>,
    #[serde(skip)]
    variable: PhantomData<V>,
}

impl<V> Setting<V> {
    /// Trimmed, never blank.
    pub(super) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

/// What a declaration need not say.
pub(super) const UNDECLARED: Variable = Variable {
    name: "",
    group: Group::Source,
    default: Default::Nothing,
    accepts: Accepts::Text,
    meaning: "",
    secret: false,
};

/// Declares the variables of a section, each as `NAME as name: Type = parser { members of Variable }`: a constant and a
/// type of that name, the list of them, and the struct that `envy` fills with what is set.
macro_rules! variables {
    ($($name:ident as $field:ident: $value:ty = $parse:path { $($member:ident: $text:expr),* $(,)? })*) => {
        $(
            #[allow(clippy::needless_update, reason = "some declarations have all members")]
            pub(super) const $name: Variable = Variable {
                name: stringify!($name),
                $($member: $text,)*
                ..$crate::config::variable::UNDECLARED
            };

            #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "called like the variable")]
            enum $name {}

            impl $crate::config::variable::Declared for $name {
                type Value = $value;
                const VARIABLE: &'static Variable = &$name;

                fn parse(text: &str) -> Result<$value, $crate::config::parse::InvalidValue> {
                    $parse(text)
                }
            }
        )*

        /// The variables of this section, in the order of the lists.
        pub(super) const VARIABLES: &[&Variable] = &[$(&$name),*];

        /// What is set of this section.
        #[derive(serde::Deserialize)]
        struct Given {
            $($field: $crate::config::variable::Setting<$name>,)*
        }
    };
}

pub(super) use variables;
