//! The program: its arguments, and what each of them starts.

use std::io::Write as _;
use std::process::ExitCode;

use dynamodb_streams_adapter::app::process;
use dynamodb_streams_adapter::command_output::{CommandOutput, EXIT_FAULT};
use dynamodb_streams_adapter::commands::{self, Command};

/// Costs less CPU an event than the system's allocator, and gives memory back within seconds.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let output = match commands::parse(std::env::args_os()) {
        Ok(None) => return process::start(std::env::vars_os()),
        Ok(Some(Command::Check(check))) => check.run(std::env::vars_os(), &process::facts()),
        Ok(Some(Command::Positions(positions))) => positions.run(std::env::vars_os()),
        Err(instead) => instead,
    };
    finish(&output)
}

fn finish(output: &CommandOutput) -> ExitCode {
    eprint!("{}", output.stderr);
    match std::io::stdout().write_all(output.stdout.as_bytes()) {
        Ok(()) => ExitCode::from(output.exit_code),
        Err(_) => ExitCode::from(EXIT_FAULT),
    }
}
