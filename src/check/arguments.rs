//! The arguments behind `check`. Pure.

use std::ffi::OsString;
use std::time::Duration;

/// What one check may take unless `--timeout` says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The text of `check --help`, and a part of `--help`.
pub const USAGE: &str = "\
Usage: dynamodb-streams-adapter check [--output text|json] [--send-test-event]
                                      [--timeout <duration>]

Checks everything that the adapter needs, with the same environment variables:
configuration, credentials, every table with every permission, the positions,
the sink, the clock. It changes nothing and reports each problem with its fix.

  --output text|json    one line per check, or one JSON object [default: text]
  --send-test-event     also post an event of type com.amazonaws.dynamodb.check
  --timeout <duration>  limit per check, such as 500ms or 30s [default: 10s]

Exit codes: 0 when no check failed, 64 for an invalid configuration or argument,
69 when a check failed. More: docs/check.md
";

/// The form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// One line a check.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The form of the report.
    pub output: Output,
    /// Whether an event may be posted.
    pub send_test_event: bool,
    /// How long one check may take.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { output: Output::Text, send_test_event: false, timeout: DEFAULT_TIMEOUT }
    }
}

/// What the arguments mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To check.
    Check(Options),
    /// To explain.
    Help,
}

/// Arguments that mean nothing here; its `Display` names all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("check: {}; expected `--output`, `--send-test-event`, `--timeout` or `--help`", .0.join(", "))]
pub struct InvalidArguments(pub Vec<String>);

/// Reads the arguments behind `check`.
///
/// # Errors
/// All that cannot be understood, at once.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, InvalidArguments> {
    let mut arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    let (mut options, mut wrong) = (Options::default(), Vec::new());
    while let Some(argument) = arguments.next() {
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        let taken = match name {
            "--help" | "-h" if inline.is_none() => return Ok(Asked::Help),
            "--send-test-event" if inline.is_none() => {
                options.send_test_event = true;
                Ok(())
            }
            "--output" => inline.or_else(|| arguments.next()).ok_or_else(|| missing(name)).and_then(|value| {
                options.output = output(&value)?;
                Ok(())
            }),
            "--timeout" => inline.or_else(|| arguments.next()).ok_or_else(|| missing(name)).and_then(|value| {
                options.timeout = timeout(&value)?;
                Ok(())
            }),
            _ => Err(format!("unknown argument {argument:?}")),
        };
        wrong.extend(taken.err());
    }
    if wrong.is_empty() { Ok(Asked::Check(options)) } else { Err(InvalidArguments(wrong)) }
}

fn missing(name: &str) -> String {
    format!("{name} needs a value")
}

fn output(text: &str) -> Result<Output, String> {
    match text {
        "text" => Ok(Output::Text),
        "json" => Ok(Output::Json),
        other => Err(format!("--output must be text or json, not {other:?}")),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_secs(3600);
    let duration = humantime::parse_duration(text).ok().filter(|time| !time.is_zero() && *time <= longest);
    duration.ok_or_else(|| format!("--timeout must be a duration up to 1h, such as 500ms or 30s, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Asked, String> {
        parse(text.split_whitespace().map(OsString::from)).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn without_arguments_it_checks_for_people_and_posts_nothing() {
        let options = Options { output: Output::Text, send_test_event: false, timeout: Duration::from_secs(10) };
        assert_eq!(parsed(""), Ok(Asked::Check(options)));
    }

    #[test]
    fn a_value_may_follow_or_be_joined() {
        let options = Options { output: Output::Json, send_test_event: true, timeout: Duration::from_millis(1500) };
        for text in
            ["--output json --send-test-event --timeout 1500ms", "--send-test-event --timeout=1500ms --output=json"]
        {
            assert_eq!(parsed(text), Ok(Asked::Check(options)), "{text}");
        }
        assert_eq!(parsed("--output json --help"), Ok(Asked::Help));
    }

    #[test]
    fn all_that_is_wrong_is_named_at_once() {
        let wrong = parsed("--outptu json --send-test-event=yes --output xml --timeout 0s --timeout").unwrap_err();
        for name in
            ["\"--outptu\"", "\"json\"", "\"--send-test-event=yes\"", "\"xml\"", "\"0s\"", "--timeout needs a value"]
        {
            assert!(wrong.contains(name), "{name} is not named in {wrong}");
        }
    }

    #[test]
    fn the_usage_fits_a_terminal() {
        assert!(USAGE.lines().all(|line| line.chars().count() <= 80), "{USAGE}");
    }
}
