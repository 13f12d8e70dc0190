//! Start-up order: arguments, configuration, logs, runtime, the adapter itself, and its end by a signal.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::SystemTime;

use dynamodb_streams_adapter::config::{self, Config, Facts};
use dynamodb_streams_adapter::{app, check, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A fault of our own: `EX_SOFTWARE` of `sysexits.h`.
const EXIT_FAULT: u8 = 70;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().map(|argument| argument.to_string_lossy()).as_deref() {
        None => start(),
        Some("check") => finish(&check::command(arguments, std::env::vars_os(), &facts())),
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

fn start() -> ExitCode {
    let config = match Config::from_env_vars(std::env::vars_os(), &facts()) {
        Ok(config) => config,
        Err(mistakes) => return refuse(&mistakes.to_string()),
    };
    if let Err(error) = telemetry::logs::init(config.log.format, &config.log.filter) {
        return refuse(&error.to_string());
    }
    end_on_panic();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fault(&format!("the runtime cannot start: {error}")),
    };
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        let signals = tokio::spawn(stop_on_signals(stop.clone()));
        let ended = app::run(config, stop).await;
        signals.abort();
        ended
    });
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error.to_string()),
    }
}

fn facts() -> Facts {
    Facts { now: SystemTime::now(), stdout_is_terminal: std::io::stdout().is_terminal() }
}

/// The first signal begins an orderly end, the second ends at once.
async fn stop_on_signals(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return stop.cancel();
    };
    for orderly in [true, false] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        match orderly {
            true => stop.cancel(),
            false => std::process::exit(0),
        }
    }
}

/// A panic anywhere would leave a part standing still: the process ends, and whoever runs it starts it anew.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        tracing::error!(code = "DSA-FAULT", "a fault of the adapter itself: {panic}");
        std::process::exit(i32::from(EXIT_FAULT));
    }));
}

fn say(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_FAULT),
    }
}

fn finish(check: &check::Finished) -> ExitCode {
    eprint!("{}", check.err);
    if say(&check.out) == ExitCode::SUCCESS { ExitCode::from(check.exit_code) } else { ExitCode::from(EXIT_FAULT) }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(config::EXIT_CODE)
}

fn fault(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(EXIT_FAULT)
}
