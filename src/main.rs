//! The program: its arguments, and what each of them starts.

use std::io::Write as _;
use std::process::ExitCode;

use dynamodb_streams_adapter::app::process;
#[cfg(feature = "scaler")]
use dynamodb_streams_adapter::app::process::ProcessEnd;
use dynamodb_streams_adapter::command_output::{CommandOutput, EXIT_FAULT};
use dynamodb_streams_adapter::commands::{self, Command};
#[cfg(feature = "scaler")]
use dynamodb_streams_adapter::config::ScalerConfig;
#[cfg(feature = "scaler")]
use dynamodb_streams_adapter::scaler::{self, ScalerError};

/// Costs less CPU an event than the system's allocator, and gives memory back within seconds.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let output = match commands::parse(std::env::args_os()) {
        Ok(None) => return process::start(std::env::vars_os()),
        Ok(Some(Command::Check(check))) => check.run(std::env::vars_os(), &process::facts()),
        Ok(Some(Command::Positions(positions))) => positions.run(std::env::vars_os()),
        #[cfg(feature = "scaler")]
        Ok(Some(Command::Scaler)) => return scaler(),
        #[cfg(not(feature = "scaler"))]
        Ok(Some(Command::Scaler)) => commands::without_scaler(),
        Err(instead) => instead,
    };
    finish(&output)
}

#[cfg(feature = "scaler")]
fn scaler() -> ExitCode {
    match ScalerConfig::from_env_vars(std::env::vars_os(), &process::facts()) {
        Err(mistakes) => process::refuse(&mistakes.to_string()),
        Ok(config) => {
            let log = config.log.clone();
            process::supervise(&log, async |stop| {
                scaler::run(config, stop).await.map_err(|error| match error {
                    ScalerError::Fault(_) => ProcessEnd::Fault,
                    error => ProcessEnd::Refused(error.to_string()),
                })
            })
        }
    }
}

fn finish(output: &CommandOutput) -> ExitCode {
    eprint!("{}", output.stderr);
    match std::io::stdout().write_all(output.stdout.as_bytes()) {
        Ok(()) => ExitCode::from(output.exit_code),
        Err(_) => ExitCode::from(EXIT_FAULT),
    }
}
