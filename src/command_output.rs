//! What a subcommand prints and its exit code, and the exit codes of the whole program. Pure: `main` prints.

/// Everything was done; of `check`, that no check failed.
pub const EXIT_OK: u8 = 0;

/// The arguments or the configuration are invalid: `EX_USAGE` of `sysexits.h`.
pub const EXIT_USAGE: u8 = 64;

/// Something outside does not work: `EX_UNAVAILABLE` of `sysexits.h`.
pub const EXIT_UNAVAILABLE: u8 = 69;

/// A fault of this program: `EX_SOFTWARE` of `sysexits.h`.
pub const EXIT_FAULT: u8 = 70;

/// What the process is to print, and how it is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// One of the exit codes above.
    pub exit_code: u8,
    /// With its last line feed.
    pub stdout: String,
    /// With its last line feed.
    pub stderr: String,
}

impl CommandOutput {
    /// The command did its work; `exit_code` says with what outcome.
    pub(crate) fn done(exit_code: u8, stdout: String) -> Self {
        Self { exit_code, stdout, stderr: String::new() }
    }

    /// The command did not do its work, for this reason.
    pub(crate) fn failed(exit_code: u8, why: &str) -> Self {
        Self { exit_code, stdout: String::new(), stderr: format!("{why}\n") }
    }
}
