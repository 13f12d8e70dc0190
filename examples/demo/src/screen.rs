//! What a person sees: lines that stay, and on a terminal one line below them that shows how far things are.

use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::story::Summary;

/// `println!` would end the demo, and not its adapter in order, when nobody reads the pipe any more.
macro_rules! line {
    ($($text:tt)*) => {{
        let _ = writeln!(stdout(), $($text)*);
    }};
}

/// Standard output. On a terminal its last line is drawn again and again; elsewhere, in a pipe say, everything is a line.
pub struct Screen {
    live: Option<ProgressBar>,
    /// The last summary that became a line of its own.
    last: Mutex<String>,
}

/// Prints and gives an exit code.
pub fn say(text: &str, code: u8) -> ExitCode {
    let _ = write!(stdout(), "{text}");
    ExitCode::from(code)
}

impl Screen {
    pub fn new() -> Self {
        let live = stdout().is_terminal().then(|| {
            let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            // It is cut where the window ends.
            line.set_style(ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
            line
        });
        Self { live, last: Mutex::default() }
    }

    pub fn introduce(&self, database: &str, sink: &str, page: &str, log: &Path, chaos: bool) {
        line!("A shop writes orders into a DynamoDB table. The table keeps a stream of every change.");
        line!("The adapter reads that stream and posts each change, as a CloudEvent, to a sink.\n");
        line!("  the table    Orders, in an embedded DynamoDB at {database}");
        line!("  the adapter  a process of its own; its log is {}", log.display());
        line!("               its status page is {page}");
        line!("  the sink     a web server at {sink}: it prints each event that arrives\n");
        line!("Watch that the changes of one order always come in their order, while orders overtake each other.");
        if chaos {
            line!("Lines with * are faults made on purpose; in the end everything must have arrived all the same.");
        }
        line!("Ctrl-C ends the demo with a verdict.\n");
    }

    /// One event, in words.
    pub fn event(&self, text: &str) {
        self.line(text);
    }

    /// Something that the demo itself does.
    pub fn note(&self, text: &str) {
        self.line(&format!("* {text}"));
    }

    pub fn summary_interval(&self) -> Duration {
        if self.live.is_some() { Duration::from_millis(200) } else { Duration::from_secs(5) }
    }

    pub fn summary(&self, summary: &Summary) {
        let Summary { written, delivered, out_of_order, last } = summary;
        let order = if *out_of_order == 0 { "all in order".to_owned() } else { format!("{out_of_order} OUT OF ORDER") };
        let waiting = written.saturating_sub(*delivered);
        let line = format!(
            "  written {written}   delivered {delivered}   waiting {waiting}   {order}   last one took {:.1} s",
            last.as_secs_f64()
        );
        match &self.live {
            Some(live) => live.set_message(line),
            None => self.print_if_new(line),
        }
    }

    fn print_if_new(&self, line: String) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != line {
            line!("{line}");
            *last = line;
        }
    }

    /// Ends the line that is drawn again and again.
    pub fn clear_line(&self) {
        if let Some(live) = &self.live {
            live.finish_and_clear();
        }
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        match &self.live {
            Some(live) => live.println(text),
            None => line!("{text}"),
        }
    }
}
