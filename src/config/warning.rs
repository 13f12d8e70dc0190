//! What prevents nothing but should be heard.

use std::borrow::Cow;
use std::fmt;

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
                write!(f, "{POSITIONS_IN_MEMORY}; set CHECKPOINT_STORE=file:<path> on a volume to keep positions")
            }
            Self::NoEffect { name, unless } => write!(f, "{name} is set but has no effect without {unless}"),
            Self::Ignored { name, why } => write!(f, "{} is ignored, {why}", name.escape_debug()),
            Self::LoggingConfig { why } => write!(f, "K_LOGGING_CONFIG is ignored, {why}"),
        }
    }
}
