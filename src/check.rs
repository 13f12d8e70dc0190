//! A look ahead: everything that the adapter will need, tried with its own environment variables.
//!
//! Contract: a check changes nothing. No record is consumed, no file stays, a running adapter is not disturbed, and no
//! event reaches the sink unless one is asked for. Every check ends by itself: each has a limit of time, and what depends
//! on a failed one is not tried. Whatever is wrong comes with what mends it. No secret is ever told.
//!
//! Probing and telling are apart: the parts below `check/` find out and return [`Check`]s, [`report`] tells them.

pub mod arguments;
pub mod report;

mod aws;
mod clock;
mod remedy;
mod sink;
mod store;
mod table;

use std::ffi::OsString;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;

pub use self::arguments::{Asked, Options, Output, USAGE};
use self::clock::Clocks;
pub use self::report::{Check, Report};
use self::table::Shared;
use crate::command_output::{CommandOutput, EXIT_FAULT, EXIT_OK, EXIT_USAGE};
use crate::config::{Config, EnvironmentFacts, Mistakes, Warning};
use crate::streams::RateLimiter;

const CONFIGURATION: &str = "configuration";

/// Tables that are checked at the same time.
const TABLES_AT_ONCE: usize = 8;

/// The whole command: the arguments behind `check`, and the environment. It starts a runtime of its own.
pub fn command<A, V>(arguments: A, variables: V, facts: &EnvironmentFacts) -> CommandOutput
where
    A: IntoIterator<Item = OsString>,
    V: IntoIterator<Item = (OsString, OsString)>,
{
    let options = match arguments::parse(arguments) {
        Ok(Asked::Check(options)) => options,
        Ok(Asked::Help) => return CommandOutput::done(EXIT_OK, USAGE.to_owned()),
        Err(error) => return CommandOutput::failed(EXIT_USAGE, &error.to_string()),
    };
    let config = match Config::from_env_vars(variables, facts) {
        Ok(config) => config,
        Err(mistakes) => return misconfigured(&mistakes, options.output),
    };
    match run_to_the_end(&config, &options) {
        Ok(report) => CommandOutput::done(report.exit_code(), told(&report, options.output)),
        Err(why) => CommandOutput::failed(EXIT_FAULT, &why),
    }
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
    let clock = clock::check(&aws_clock, &sink_clock);
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
fn misconfigured(mistakes: &Mistakes, output: Output) -> CommandOutput {
    let refused = CommandOutput::failed(EXIT_USAGE, &mistakes.to_string());
    if output == Output::Text {
        return refused;
    }
    let failed = mistakes.mistakes.iter().map(|mistake| {
        Check::fail(CONFIGURATION, &mistake.to_string())
            .mended_by(format!("set {} to {}", mistake.variable, mistake.accepts))
    });
    let noted = mistakes.warnings.iter().map(|warning| Check::warn(CONFIGURATION, &warning.to_string()));
    CommandOutput { stdout: Report::new(failed.chain(noted).collect()).json(), ..refused }
}

fn told(report: &Report, output: Output) -> String {
    match output {
        Output::Text => report.text(),
        Output::Json => report.json(),
    }
}
