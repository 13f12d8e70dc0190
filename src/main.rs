//! The program: its arguments, and what each of them starts.

use std::process::ExitCode;

use dynamodb_streams_adapter::app::process;
use dynamodb_streams_adapter::command_output::{CommandOutput, EXIT_FAULT, EXIT_USAGE};
use dynamodb_streams_adapter::{check, config};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().map(|argument| argument.to_string_lossy()).as_deref() {
        None => process::start(std::env::vars_os()),
        Some("check") => finish(&check::command(arguments, std::env::vars_os(), &process::facts())),
        Some("--help" | "-h" | "help") => say(&format!("{}\n{}", config::help(), check::USAGE)),
        Some("--version" | "-V") => say(&version()),
        Some(other) => refuse(&format!("unknown argument {other:?}; expected `check`, `--help` or `--version`")),
    }
}

/// The revision is what the build was told by the variable `VCS_REF`, as the image's build is.
fn version() -> String {
    let revision = option_env!("VCS_REF").unwrap_or("unknown");
    format!("dynamodb-streams-adapter {} (revision {revision})\n", env!("CARGO_PKG_VERSION"))
}

fn say(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_FAULT),
    }
}

fn finish(check: &CommandOutput) -> ExitCode {
    eprint!("{}", check.stderr);
    if say(&check.stdout) == ExitCode::SUCCESS { ExitCode::from(check.exit_code) } else { ExitCode::from(EXIT_FAULT) }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(EXIT_USAGE)
}
