//! The subcommand `check`: it tries everything that the adapter needs, with the adapter's own environment variables.
//!
//! Contract: a check changes nothing. No record is consumed, no file stays, a running adapter is not disturbed, and no
//! event reaches the sink unless one is asked for. Every check ends by itself: each has a limit of time, and what depends
//! on a failed one is not tried. Each problem comes with its fix. No secret is ever printed.
//!
//! The parts below `check/` return `Check`s; `report` makes text or JSON of them.

mod aws;
mod clock_skew;
mod connection;
mod fix;
mod positions_table;
mod report;
mod sink;
mod store;
mod table;
mod web_identity;

use std::ffi::OsString;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use self::clock_skew::Clocks;
use self::report::{Check, Report};
use self::table::Shared;
use self::web_identity::WebIdentity;
use crate::command_output::{CommandOutput, EXIT_FAULT, EXIT_USAGE};
use crate::config::{Config, EnvironmentFacts, Mistakes, Warning};
use crate::streams::AccountPace;

const CONFIGURATION: &str = "configuration";
const GRACE_PERIOD: &str = "grace-period";

/// Tables that are checked at the same time.
const TABLES_AT_ONCE: usize = 8;

/// The beginning of the help of `check`.
pub(crate) const ABOUT: &str = "\
Checks everything that the adapter needs, with the same environment variables:
configuration, credentials, every table with every permission, the positions,
the sink, the clock. It changes nothing and reports each problem with its fix.";

/// The end of the help of `check`.
const EXIT_CODES: &str = "\
Exit codes: 0 when no check failed, 64 for an invalid configuration or argument,
69 when a check failed. More: docs/check.md";

/// The longest `--timeout`.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// The arguments of `check`. The texts are those of its help.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(after_help = EXIT_CODES, args_override_self = true)]
pub struct CheckCommand {
    /// A line per check, or a JSON object
    #[arg(long, value_name = "text|json", value_enum, default_value = "text", hide_possible_values = true)]
    pub(crate) output: Output,
    /// Also post an event com.amazonaws.dynamodb.check
    #[arg(long)]
    pub(crate) send_test_event: bool,
    /// Limit per check, such as 500ms, 30s
    #[arg(long, value_name = "duration", value_parser = timeout, default_value = "10s")]
    pub(crate) timeout: Duration,
    /// SHUTDOWN_TIMEOUT must be below it
    #[arg(long, value_name = "time", value_parser = timeout)]
    pub(crate) grace_period: Option<Duration>,
}

/// The form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// One line a check.
    Text,
    /// One JSON object.
    Json,
}

impl CheckCommand {
    /// Checks what an adapter with these environment variables would need. It starts a runtime of its own.
    pub fn run(
        &self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        facts: &EnvironmentFacts,
    ) -> CommandOutput {
        let variables: Vec<(OsString, OsString)> = variables.into_iter().collect();
        let identity = web_identity(&variables);
        let config = match Config::from_env_vars(variables, facts) {
            Ok(config) => config,
            Err(mistakes) => return misconfigured(&mistakes, self.output),
        };
        match run_to_the_end(&config, self, identity.as_ref()) {
            Ok(report) => CommandOutput::done(report.exit_code(), render(&report, self.output)),
            Err(why) => CommandOutput::failed(EXIT_FAULT, &why),
        }
    }
}

/// Tries everything. It ends within a few times the limit of one check, however many tables there are up to eight.
async fn check_all(config: &Config, command: &CheckCommand, identity: Option<&WebIdentity>) -> Report {
    let (limit, aws_clock, sink_clock) = (command.timeout, Clocks::default(), Clocks::default());
    let tables = async {
        let access = aws::check(config, limit, &aws_clock).await;
        let shared = Shared { access: &access, clocks: &aws_clock, pace: AccountPace::of_process(), limit };
        let tables = stream::iter(&config.source.tables).map(|table| table::check(table, &shared));
        let tables: Vec<Vec<Check>> = tables.buffered(TABLES_AT_ONCE).collect().await;
        [access.checks, tables.concat()].concat()
    };
    let token = async {
        match identity {
            Some(identity) => vec![web_identity::check(identity, limit).await],
            None => Vec::new(),
        }
    };
    let (token, aws, store, sink) = tokio::join!(
        token,
        tables,
        store::check(config, limit),
        sink::check(config, command.send_test_event, limit, &sink_clock)
    );
    let clock = clock_skew::check(&aws_clock, &sink_clock);
    let grace_period = command.grace_period.map(|given| grace_period(given, config.process.shutdown_timeout));
    let first = configured(config).into_iter().chain(grace_period).chain(token).collect();
    Report::new([first, aws, vec![store], sink, vec![clock]].concat())
}

/// What the platform says of the pod's token, if it has one.
fn web_identity(variables: &[(OsString, OsString)]) -> Option<WebIdentity> {
    let value = |name: &str| variables.iter().find(|(variable, _)| variable == name).map(|(_, value)| value);
    let token_file = value("AWS_WEB_IDENTITY_TOKEN_FILE").filter(|path| !path.is_empty())?.into();
    let role = value("AWS_ROLE_ARN").and_then(|role| role.to_str()).map(str::to_owned);
    Some(WebIdentity { token_file, role })
}

/// Whether the process can end in order before it is killed.
fn grace_period(given: Duration, needed: Duration) -> Check {
    let shown = humantime::format_duration;
    let (limit, time) = (shown(given), shown(needed));
    let detail =
        |relation: &str| format!("SHUTDOWN_TIMEOUT is {time}, which is {relation} the grace period of {limit}");
    if needed < given {
        return Check::ok(GRACE_PERIOD, &detail("below"));
    }
    let detail = format!("{}: the process is killed while it drains", detail("not below"));
    Check::fail(GRACE_PERIOD, &detail).with_fix("raise terminationGracePeriodSeconds, or lower SHUTDOWN_TIMEOUT")
}

fn run_to_the_end(config: &Config, command: &CheckCommand, identity: Option<&WebIdentity>) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime cannot start: {error}"))?;
    let report = Ok(runtime.block_on(check_all(config, command, identity)));
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
fn misconfigured(mistakes: &Mistakes, output: Output) -> CommandOutput {
    let refused = CommandOutput::failed(EXIT_USAGE, &mistakes.to_string());
    if output == Output::Text {
        return refused;
    }
    let failed = mistakes.mistakes.iter().map(|mistake| {
        Check::fail(CONFIGURATION, &mistake.to_string())
            .with_fix(format!("set {} to {}", mistake.variable, mistake.accepts))
    });
    let noted = mistakes.warnings.iter().map(|warning| Check::warn(CONFIGURATION, &warning.to_string()));
    CommandOutput { stdout: Report::new(failed.chain(noted).collect()).json(), ..refused }
}

fn render(report: &Report, output: Output) -> String {
    match output {
        Output::Text => report.text(),
        Output::Json => report.json(),
    }
}

fn timeout(text: &str) -> Result<Duration, &'static str> {
    let duration = humantime::parse_duration(text).ok().filter(|time| !time.is_zero() && *time <= LONGEST_TIMEOUT);
    duration.ok_or("a duration up to 1h, such as 500ms or 30s")
}
