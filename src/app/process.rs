//! The process, from its environment to its exit code.
//!
//! Contract: an invalid configuration ends with 64 before anything starts. SIGTERM or SIGINT begin an orderly end and exit
//! code 0, a second signal ends at once. A panic, a task that ends unasked, and a runtime that does not turn end with 70,
//! whether or not anybody reads the log.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::heartbeat::{self, Heartbeat};
use super::{RunError, run};
use crate::clock;
use crate::command_output::{EXIT_FAULT, EXIT_OK, EXIT_USAGE};
use crate::config::{self, Config, EnvironmentFacts};
use crate::memory_limit::memory_limit;
use crate::telemetry::logs::LogFormat;
use crate::telemetry::{self, events};

/// How long a process that ends over a fault waits for its last line in the log.
const LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a process ends although nobody asked it to.
#[derive(Debug)]
pub enum ProcessEnd {
    /// It cannot run as configured: 64.
    Refused(String),
    /// A fault of this program, which the log has: 70.
    Fault,
}

/// Runs the adapter as these environment variables say, until a signal or a fault ends it. It sets up logging and a panic
/// hook, so a process calls it once.
pub fn start(variables: impl Iterator<Item = (OsString, OsString)>) -> ExitCode {
    let config = match Config::from_env_vars(variables, &facts()) {
        Ok(config) => config,
        Err(mistakes) => return refuse(&mistakes.to_string()),
    };
    let log = config.log.clone();
    supervise(&log, async |stop| {
        run(config, stop).await.map_err(|error| match error {
            RunError::Start(error) => ProcessEnd::Refused(error.to_string()),
            RunError::Fault(_) => ProcessEnd::Fault,
        })
    })
}

/// Does work until a signal or a fault ends it: its token is cancelled by the first signal. It sets up logging and a panic hook, so a process
/// calls it once.
pub fn supervise(log: &config::Log, work: impl AsyncFnOnce(CancellationToken) -> Result<(), ProcessEnd>) -> ExitCode {
    if let Err(error) = telemetry::logs::init(log_format(log.format), &log.filter) {
        return refuse(&error.to_string());
    }
    exit_on_panic();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fault(&format!("the runtime cannot start: {error}")),
    };
    if let Err(error) = heartbeat::watch(Heartbeat::default(), runtime.handle(), exit_when_blocked) {
        return fault(&format!("the thread that watches the runtime cannot start: {error}"));
    }
    let ended = runtime.block_on(until_signal(work));
    // A thread may still ask for credentials, for ever where their file is a pipe. Dropping the runtime would make its timers panic
    // there, and the process ends now in any case.
    std::mem::forget(runtime);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(ProcessEnd::Refused(why)) => refuse(&why),
        Err(ProcessEnd::Fault) => ExitCode::from(EXIT_FAULT),
    }
}

/// What the environment of this process is, apart from its variables. The limit of open files is raised as far as it may be.
pub fn facts() -> EnvironmentFacts {
    let (now, stdout_is_terminal) = (clock::now(), std::io::stdout().is_terminal());
    EnvironmentFacts { now, stdout_is_terminal, open_files: raise_open_files(), memory_limit: memory_limit() }
}

/// Raises the soft limit of open files to the hard one, and tells what it is then. The soft one is low for the sake of programs
/// that use `select`, which this one does not.
fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

async fn until_signal(work: impl AsyncFnOnce(CancellationToken) -> Result<(), ProcessEnd>) -> Result<(), ProcessEnd> {
    let stop = CancellationToken::new();
    // It would end the process where a file may not grow; heard, it leaves an error of the write, as a full disk does.
    let _file_too_large = signal(SignalKind::from_raw(rustix::process::Signal::Xfsz as i32));
    // From here on a signal is heard, whatever the start waits for.
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let signals = tokio::spawn(stop_on_signals(terminate, interrupt, stop.clone()));
    let ended = work(stop).await;
    signals.abort();
    ended
}

/// The first signal begins an orderly end, the second ends at once.
async fn stop_on_signals(terminate: io::Result<Signal>, interrupt: io::Result<Signal>, stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else { return stop.cancel() };
    for orderly in [true, false] {
        select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        match orderly {
            true => stop.cancel(),
            false => std::process::exit(i32::from(EXIT_OK)),
        }
    }
}

/// A panic in one task would leave that part standing still: the whole process ends, and its supervisor starts it anew.
pub(super) fn exit_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        exit_with_fault(|| {
            report(panic);
            events::Fault { what: &panic.to_string() }.emit();
        });
    }));
}

pub(super) fn exit_when_blocked() {
    let patience = heartbeat::PATIENCE.as_secs();
    exit_with_fault(|| events::Fault { what: &format!("the runtime has run no task for {patience} s") }.emit());
}

/// Ends the process once `log` is written, and also if that is blocked, as by a pipe that nobody reads.
fn exit_with_fault(log: impl FnOnce()) -> ! {
    let exit = || std::process::exit(i32::from(EXIT_FAULT));
    let end_after_all = std::thread::Builder::new().spawn(move || {
        std::thread::sleep(LOG_TIMEOUT);
        exit();
    });
    if end_after_all.is_ok() {
        log();
    }
    exit()
}

fn log_format(format: config::LogFormat) -> LogFormat {
    match format {
        config::LogFormat::Json => LogFormat::Json,
        config::LogFormat::Text => LogFormat::Text,
    }
}

/// A configuration that cannot work.
pub fn refuse(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(EXIT_USAGE)
}

fn fault(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(EXIT_FAULT)
}
