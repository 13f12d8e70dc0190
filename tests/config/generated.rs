//! Whatever the environment holds, the answer is a configuration or a list of mistakes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use dynamodb_streams_adapter::config::{Config, Variable, variables};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{NEEDED, facts, os};

/// Pieces that values are made of.
const PIECES: [&str; 38] = [
    "file:",
    "dynamodb:",
    "memory",
    "arn:aws:dynamodb:",
    "table/",
    "/stream/",
    ":",
    ",",
    "/",
    "//",
    "@",
    "%",
    "%4",
    "http",
    "https",
    "://",
    "[",
    "]",
    "0",
    "1",
    "99999999999999999999",
    ".",
    "-",
    "s",
    "ms",
    "h",
    "µ",
    "MiB",
    "GiB",
    "T",
    "Z",
    "{",
    "}",
    "\"",
    "=",
    "\0",
    "ö",
    "262143-12-31T23:59:60Z",
];

fn variable() -> impl Strategy<Value = &'static Variable> {
    select(variables().collect::<Vec<_>>())
}

fn name() -> impl Strategy<Value = OsString> {
    let known = variable().prop_map(|variable| OsString::from(variable.name));
    prop_oneof![8 => known, 1 => "[A-Z_]{1,20}".prop_map(OsString::from), 1 => bytes()]
}

fn bytes() -> impl Strategy<Value = OsString> {
    vec(any::<u8>(), 0..24).prop_map(OsString::from_vec)
}

fn value() -> impl Strategy<Value = OsString> {
    let pieces = vec(select(PIECES.as_slice()), 0..8).prop_map(|pieces| OsString::from(pieces.concat()));
    prop_oneof![3 => pieces, 1 => any::<String>().prop_map(OsString::from), 1 => bytes()]
}

proptest! {
    #[test]
    fn no_environment_makes_parsing_panic(variables in vec((name(), value()), 0..12)) {
        match Config::from_env_vars(variables, &facts()) {
            Ok(config) => prop_assert!(!config.source.tables.is_empty()),
            Err(mistakes) => {
                prop_assert!(!mistakes.mistakes.is_empty());
                let lines = 2 + mistakes.mistakes.len() + mistakes.warnings.len();
                prop_assert_eq!(mistakes.to_string().lines().count(), lines);
            }
        }
    }

    #[test]
    fn one_value_makes_mistakes_only_about_its_own_variable(variable in variable(), value in value()) {
        let others = NEEDED.into_iter().map(os).filter(|(name, _)| name != variable.name);
        if let Err(mistakes) = Config::from_env_vars(others.chain([(variable.name.into(), value)]), &facts()) {
            prop_assert!(mistakes.mistakes.iter().all(|mistake| mistake.variable == variable.name), "{}", mistakes);
        }
    }

    #[test]
    fn every_duration_in_range_is_read_back(millis in 1_u64..=86_400_000) {
        let duration = std::time::Duration::from_millis(millis);
        let text = humantime::format_duration(duration).to_string();
        let variables = NEEDED.into_iter().map(os).chain([("SHUTDOWN_TIMEOUT".into(), text.into())]);
        let config = Config::from_env_vars(variables, &facts());
        prop_assert_eq!(config.expect("in range").process.shutdown_timeout, duration);
    }
}
