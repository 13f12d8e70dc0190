//! A thread that notices when the runtime runs no task any more. No probe could: it would not be answered.
//!
//! Contract: it calls `blocked` once when no beat came for [`Heartbeat::patience`]. It counts its own steps, not the clock:
//! a process that was suspended, its runtime and this thread with it, is not blocked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;

/// How long the runtime may run no task.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// How often the runtime must beat, and how many beats may be missing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heartbeat {
    step: Duration,
    steps: u64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        let step = Duration::from_secs(1);
        Self { step, steps: PATIENCE.as_secs() }
    }
}

/// Watches `runtime` until its process ends, or until it is shut down.
///
/// # Errors
/// When the operating system gives no thread.
pub(super) fn watch(
    heartbeat: Heartbeat,
    runtime: &Handle,
    blocked: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let beats = Arc::new(AtomicU64::new(0));
    // The task goes with its runtime, and the thread with the task: it holds the only other reference.
    let (beating, Heartbeat { step, steps }) = (beats.clone(), heartbeat);
    runtime.spawn(async move {
        loop {
            beating.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(step).await;
        }
    });
    thread::Builder::new().name("heartbeat".to_owned()).spawn(move || {
        let (mut last, mut missing) = (None, 0);
        while missing < steps {
            thread::sleep(step);
            if Arc::strong_count(&beats) == 1 {
                return;
            }
            let now = Some(beats.load(Ordering::Relaxed));
            missing = if now == last { missing + 1 } else { 0 };
            last = now;
        }
        blocked();
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const BLOCKED: &str = "HEARTBEAT_TEST_BLOCKED";
    const QUICK: Heartbeat = Heartbeat { step: Duration::from_millis(20), steps: 10 };

    /// A runtime with one worker, which is the one that a task can block.
    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn a_blocked_runtime_is_noticed() {
        let (runtime, (noticed, notice)) = (runtime(), mpsc::channel());
        watch(QUICK, runtime.handle(), move || noticed.send(()).unwrap()).unwrap();
        let (release, released) = mpsc::channel::<()>();
        runtime.spawn(async move { released.recv() });
        notice.recv_timeout(Duration::from_secs(10)).expect("nobody noticed that no task runs");
        release.send(()).unwrap();
    }

    /// The process of the next test.
    #[test]
    #[ignore = "started by the next test, as a process of its own"]
    fn process_with_a_blocked_runtime() {
        if std::env::var_os(BLOCKED).is_some() {
            crate::telemetry::logs::init(crate::telemetry::logs::LogFormat::Text, "info").unwrap();
            let runtime = runtime();
            watch(QUICK, runtime.handle(), super::super::process::exit_when_blocked).unwrap();
            runtime.spawn(async { thread::sleep(Duration::from_secs(60)) });
            thread::sleep(Duration::from_secs(60));
        }
    }

    #[test]
    fn a_blocked_runtime_ends_the_process_with_70_and_a_code_in_the_log() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "app::heartbeat::tests::process_with_a_blocked_runtime", "--ignored", "--nocapture"])
            .env(BLOCKED, "yes")
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.code(), Some(70), "{log}");
        assert!(log.contains("DSA-FAULT") && log.contains("the runtime has run no task"), "{log}");
    }

    #[test]
    fn a_runtime_that_runs_its_tasks_is_left_alone_and_the_thread_ends_with_it() {
        let (runtime, (noticed, notice)) = (runtime(), mpsc::channel());
        watch(QUICK, runtime.handle(), move || noticed.send(()).unwrap()).unwrap();
        let error = notice.recv_timeout(3 * QUICK.step * 10).unwrap_err();
        assert_eq!(error, mpsc::RecvTimeoutError::Timeout, "it took a runtime that turns for a blocked one");
        drop(runtime);
        let error = notice.recv_timeout(Duration::from_secs(10)).unwrap_err();
        assert_eq!(error, mpsc::RecvTimeoutError::Disconnected, "the thread outlives its runtime");
    }

    const UNREAD: &str = "HEARTBEAT_TEST_UNREAD";

    /// The process of the next test.
    #[test]
    #[ignore = "started by the next test, as a process of its own"]
    fn process_whose_log_nobody_reads() {
        let Some(way) = std::env::var_os(UNREAD) else { return };
        crate::telemetry::logs::init(crate::telemetry::logs::LogFormat::Text, "info").unwrap();
        let runtime = runtime();
        if way == "blocked" {
            watch(QUICK, runtime.handle(), super::super::process::exit_when_blocked).unwrap();
        }
        runtime.spawn(async {
            loop {
                crate::telemetry::events::Fault { what: &"x".repeat(1_000) }.emit();
            }
        });
        thread::sleep(Duration::from_millis(500));
        if way == "panic" {
            super::super::process::exit_on_panic();
            panic!("a panic while the log is blocked");
        }
        thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn a_log_that_nobody_reads_keeps_no_fault_from_ending_the_process() {
        for way in ["blocked", "panic"] {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "app::heartbeat::tests::process_whose_log_nobody_reads", "--ignored", "--nocapture"])
                .env(UNREAD, way)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let begun = std::time::Instant::now();
            while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(15) {
                thread::sleep(Duration::from_millis(50));
            }
            let ended = child.try_wait().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(ended.and_then(|status| status.code()), Some(70), "{way}: it waits for its log for ever");
        }
    }
}
