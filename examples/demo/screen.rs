//! What a person sees.

use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::story::Summary;

/// Back to the line's beginning, and nothing on it.
const CLEAR: &str = "\r\x1b[2K";

/// Standard output, with one line at its end that is drawn again and again if it is a terminal.
pub struct Screen {
    terminal: bool,
    /// The line at the end, as it was last drawn.
    line: Mutex<String>,
}

/// Prints and gives an exit code.
pub fn say(text: &str, code: u8) -> ExitCode {
    print!("{text}");
    ExitCode::from(code)
}

impl Screen {
    pub fn new() -> Self {
        Self { terminal: stdout().is_terminal(), line: Mutex::default() }
    }

    pub fn introduce(&self, database: &str, sink: &str, page: &str, log: &Path, chaos: bool) {
        println!("A shop writes orders into a DynamoDB table. The table keeps a stream of every change.");
        println!("The adapter reads that stream and posts each change, as a CloudEvent, to a sink.\n");
        println!("  the table    Orders, in an embedded DynamoDB at {database}");
        println!("  the adapter  a process of its own; its log is {}", log.display());
        println!("               its status page is {page}");
        println!("  the sink     a web server at {sink}: it prints each event that arrives\n");
        println!("Watch that the changes of one order always come in their order, while orders overtake each other.");
        if chaos {
            println!(
                "Lines with * are troubles made on purpose; in the end everything must have arrived all the same."
            );
        }
        println!("Ctrl-C ends the demo with a verdict.\n");
    }

    /// One event, in words.
    pub fn event(&self, text: &str) {
        self.above_the_line(text);
    }

    /// Something that the demo itself does.
    pub fn note(&self, text: &str) {
        self.above_the_line(&format!("* {text}"));
    }

    pub fn summary_interval(&self) -> Duration {
        if self.terminal { Duration::from_millis(200) } else { Duration::from_secs(5) }
    }

    pub fn summary(&self, summary: &Summary) {
        let Summary { written, delivered, out_of_order, last } = summary;
        let order = if *out_of_order == 0 { "all in order".to_owned() } else { format!("{out_of_order} OUT OF ORDER") };
        let waiting = written.saturating_sub(*delivered);
        let line = format!(
            "  written {written}   delivered {delivered}   waiting {waiting}   {order}   last one took {:.1} s",
            last.as_secs_f64()
        );
        if self.terminal {
            let mut last = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            *last = format!("\x1b[7m{line}\x1b[0m");
            print!("{CLEAR}{last}");
            let _ = stdout().flush();
        } else {
            println!("{line}");
        }
    }

    /// Ends the line that is drawn again and again.
    pub fn clear_line(&self) {
        if self.terminal {
            self.line.lock().unwrap_or_else(PoisonError::into_inner).clear();
            print!("{CLEAR}");
        }
    }

    fn above_the_line(&self, text: &str) {
        if self.terminal {
            let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            print!("{CLEAR}{text}\n{line}");
            let _ = stdout().flush();
        } else {
            println!("{text}");
        }
    }
}
