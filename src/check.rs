//! A look ahead: everything that the adapter will need, tried with its own environment variables.
//!
//! Contract: a check changes nothing. No record is consumed, no file stays, a running adapter is not disturbed, and no
//! event reaches the sink unless one is asked for. Every check ends by itself: each has a limit of time, and what depends
//! on a failed one is not tried. Each problem comes with its fix. No secret is ever printed.
//!
//! The parts below `check/` return [`Check`]s; [`report`] makes text or JSON of them.

pub mod report;

mod aws;
mod clock_skew;
mod connection;
mod fix;
mod sink;
mod store;
mod table;
mod words;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use self::clock_skew::Clocks;
pub use self::report::{Check, Report};
use self::table::Shared;
use crate::config::{self, Config, Facts, Mistakes, Warning};
use crate::streams::RateLimiter;

const CONFIGURATION: &str = "configuration";

/// Tables that are checked at the same time.
const TABLES_AT_ONCE: usize = 8;

/// A fault of our own: `EX_SOFTWARE` of `sysexits.h`.
const EXIT_FAULT: u8 = 70;

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

/// What the process is to print, and how it is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub err: String,
    /// 0, 64, 69 or 70.
    pub exit_code: u8,
}

impl Finished {
    fn refused(why: &str) -> Self {
        Self { out: String::new(), err: format!("{why}\n"), exit_code: config::EXIT_CODE }
    }
}

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

/// The whole command: the arguments behind `check`, and the environment. It starts a runtime of its own.
pub fn command<A, V>(arguments: A, variables: V, facts: &Facts) -> Finished
where
    A: IntoIterator<Item = OsString>,
    V: IntoIterator<Item = (OsString, OsString)>,
{
    let options = match parse(arguments) {
        Ok(Asked::Check(options)) => options,
        Ok(Asked::Help) => return Finished { out: USAGE.to_owned(), err: String::new(), exit_code: 0 },
        Err(error) => return Finished::refused(&error.to_string()),
    };
    let config = match Config::from_env_vars(variables, facts) {
        Ok(config) => config,
        Err(mistakes) => return misconfigured(&mistakes, options.output),
    };
    match run_to_the_end(&config, &options) {
        Ok(report) => {
            Finished { out: render(&report, options.output), err: String::new(), exit_code: report.exit_code() }
        }
        Err(why) => Finished { out: String::new(), err: format!("{why}\n"), exit_code: EXIT_FAULT },
    }
}

/// Reads the arguments behind `check`.
///
/// # Errors
/// All that cannot be understood, at once.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, InvalidArguments> {
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

/// Tries everything. It ends within a few times the limit of one check, however many tables there are up to eight.
pub async fn run(config: &Config, options: &Options) -> Report {
    let (limit, aws_clock, sink_clock) = (options.timeout, Clocks::default(), Clocks::default());
    let tables = async {
        let access = aws::check(config, limit, &aws_clock).await;
        let describe_rate = Arc::new(RateLimiter::describe_stream());
        let shared = Shared { access: &access, clocks: &aws_clock, describe_rate, limit };
        let tables = stream::iter(&config.source.tables).map(|table| table::check(table, &shared));
        let tables: Vec<Vec<Check>> = tables.buffered(TABLES_AT_ONCE).collect().await;
        [access.checks, tables.concat()].concat()
    };
    let (aws, store, sink) = tokio::join!(
        tables,
        store::check(config, limit),
        sink::check(config, options.send_test_event, limit, &sink_clock)
    );
    let clock = clock_skew::check(&aws_clock, &sink_clock);
    Report::new([configured(config), aws, vec![store], sink, vec![clock]].concat())
}

fn run_to_the_end(config: &Config, options: &Options) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime cannot start: {error}"))?;
    let report = Ok(runtime.block_on(run(config, options)));
    // A volume or a resolver that hangs must not hold up the end.
    runtime.shutdown_background();
    report
}

/// A configuration that can be used, with what its reader should hear about it.
fn configured(config: &Config) -> Vec<Check> {
    // The check `checkpoint-store` gives this warning, with its fix.
    let warnings = config.warnings.iter().filter(|warning| **warning != Warning::PositionsInMemory);
    let checks: Vec<Check> = warnings.map(|warning| Check::warn(CONFIGURATION, &warning.to_string())).collect();
    match checks.is_empty() {
        true => vec![Check::ok(CONFIGURATION, "all variables are valid")],
        false => checks,
    }
}

/// The mistakes as ever; as checks only where a program reads them.
fn misconfigured(mistakes: &Mistakes, output: Output) -> Finished {
    let refused = Finished::refused(&mistakes.to_string());
    if output == Output::Text {
        return refused;
    }
    let failed = mistakes.mistakes.iter().map(|mistake| {
        Check::fail(CONFIGURATION, &mistake.to_string())
            .with_fix(format!("set {} to {}", mistake.variable, mistake.takes))
    });
    let noted = mistakes.warnings.iter().map(|warning| Check::warn(CONFIGURATION, &warning.to_string()));
    Finished { out: Report::new(failed.chain(noted).collect()).json(), ..refused }
}

fn render(report: &Report, output: Output) -> String {
    match output {
        Output::Text => report.text(),
        Output::Json => report.json(),
    }
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
