//! Environments as values.

use std::ffi::OsString;
use std::time::{Duration, SystemTime};

use dynamodb_streams_adapter::config::{Config, EnvironmentFacts, GivenValue, Mistake, Mistakes};

/// What must be set.
pub const NEEDED: [(&str, &str); 2] = [("TABLE", "orders"), ("K_SINK", "http://broker.example/default")];

/// 2026-01-31T12:00:00Z
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_860_800)
}

pub fn facts() -> EnvironmentFacts {
    EnvironmentFacts { now: now(), stdout_is_terminal: false, open_files: None, memory_limit: None }
}

pub fn os<N: Into<OsString>, V: Into<OsString>>((name, value): (N, V)) -> (OsString, OsString) {
    (name.into(), value.into())
}

/// These variables alone.
pub fn exactly(variables: &[(&str, &str)]) -> Result<Config, Mistakes> {
    Config::from_env_vars(variables.iter().copied().map(os), &facts())
}

/// These variables, and what must be set where they do not set it.
pub fn with(variables: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let is_given = |name: &str| variables.iter().any(|(given, _)| *given == name);
    let needed = NEEDED.iter().filter(|(name, _)| !is_given(name));
    exactly(&needed.chain(variables).copied().collect::<Vec<_>>())
}

/// The configuration that these variables make.
#[track_caller]
pub fn accepted(variables: &[(&str, &str)]) -> Config {
    with(variables).unwrap_or_else(|mistakes| panic!("{variables:?} was refused: {mistakes}"))
}

/// The only mistake in these variables.
#[track_caller]
pub fn refused(variables: &[(&str, &str)]) -> Mistake {
    let mistakes = with(variables).expect_err("these variables were accepted");
    assert_eq!(mistakes.mistakes.len(), 1, "{variables:?}: {mistakes}");
    mistakes.mistakes[0].clone()
}

/// Each of these values is refused, alone, with the variable and the value in the message.
#[track_caller]
pub fn all_refused(variable: &str, values: &[&str]) {
    for value in values {
        let mistake = refused(&[(variable, value)]);
        assert_eq!(mistake.variable, variable, "{value:?}");
        assert_eq!(mistake.given, GivenValue::Text((*value).to_owned()), "{variable}");
        assert!(!mistake.accepts.is_empty(), "{variable} does not say what it accepts");
    }
}
