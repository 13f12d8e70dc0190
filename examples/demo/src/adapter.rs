//! The adapter as a process of its own, as it is in a cluster: this program again, with the argument [`ARGUMENT`].

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;

/// What makes this program the adapter.
pub const ARGUMENT: &str = "adapter";

/// A running adapter. It ends with the demo, however that ends.
pub struct Adapter {
    child: Child,
    command: Command,
    log: PathBuf,
    /// Where its status page is.
    page: String,
}

impl Adapter {
    pub async fn start(database: &str, sink: &str, folder: &Path) -> Result<Self, Failure> {
        let log = folder.join("adapter.log");
        // The same port after a restart, so that an open page goes on.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(ARGUMENT)
            .env_clear()
            .env("TABLE", "Orders")
            .env("K_SINK", sink)
            .env("AWS_ENDPOINT_URL", database)
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "demo")
            .env("AWS_SECRET_ACCESS_KEY", "demo")
            .env("CHECKPOINT_STORE", format!("file:{}", folder.join("positions.json").display()))
            .env("START_POSITION", "trim-horizon")
            .env("POLL_INTERVAL", "50ms")
            .env("IDLE_POLL_INTERVAL_MAX", "200ms")
            .env("RETRY_BACKOFF_MAX", "2s")
            .env("DELIVERY_TIMEOUT", "5s")
            .env("HTTP_ADDRESS", address.to_string())
            .env("LOG_FORMAT", "text")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = spawn(&mut command, &log)?;
        Ok(Self { child, command, log, page: format!("http://{address}/") })
    }

    pub fn page(&self) -> &str {
        &self.page
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Ends it without a chance to tidy up, as a node that dies would.
    pub async fn kill_and_restart(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&mut self.command, &self.log)?;
        Ok(())
    }

    /// Ends it as a cluster would: SIGTERM, and a little patience.
    pub async fn stop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a process group of its own: the terminal's Ctrl-C is for the demo, which lets the adapter deliver the tail.
fn spawn(command: &mut Command, log: &Path) -> Result<Child, Failure> {
    let log: File = OpenOptions::new().create(true).append(true).open(log)?;
    Ok(command.stderr(Stdio::from(log)).process_group(0).spawn()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminals_ctrl_c_does_not_reach_the_adapter() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = spawn(Command::new("sleep").arg("60"), &folder.path().join("log")).unwrap();
        let group = Command::new("ps").args(["-o", "pgid=", "-p", &child.id().to_string()]).output().unwrap().stdout;
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(String::from_utf8(group).unwrap().trim(), child.id().to_string(), "it shares the demo's group");
    }
}
