//! Log lines: JSON for machines, text for people, on standard error.
//!
//! A JSON line is one flat object: `timestamp`, `level`, `message`, `target`, and what the event has besides them. How many lines of a
//! kind there are in a minute is bounded by the `LineLimiter`; how long a line is, by `LONGEST_LINE`, whoever wrote what is in it.

use std::io::{self, IsTerminal, Write, stderr};

use serde_json::{Map, Value};
use tracing::{Dispatch, Metadata};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, registry};

use super::line_limiter::LineLimiter;
use super::shortened;

/// More bytes than a line of ours has. Longer ones, such as a library's, are shortened.
const LONGEST_LINE: usize = 8 << 10;

/// Libraries speak only when something is wrong; a filter that names them more closely wins over this. Each matches
/// everything that begins so. What the AWS SDK logs are debug dumps of what it returns as an error too, and that is told.
const QUIET: &str = "info,aws_=off,hyper=warn,h2=warn,rustls=warn,tower=warn";

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    Text,
}

/// Sets up logging for the whole process; call it once. `filter` has the form of `RUST_LOG`.
///
/// # Errors
/// When it was called before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TryInitError> {
    let colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    dispatch(format, filter, colours, stderr).try_init()
}

/// Where events go, and which.
pub(crate) fn dispatch<W>(format: LogFormat, filter: &str, colours: bool, writer: W) -> Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // The configuration has parsed the filter; a directive that is wrong all the same is left out.
    let registry = registry().with(EnvFilter::new(format!("{QUIET},{filter}"))).with(LineLimiter::default());
    let writer = ShortLines { format, writer };
    match format {
        LogFormat::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(layer.with_writer(writer)).into()
        }
        LogFormat::Text => registry.with(fmt::layer().with_target(false).with_ansi(colours).with_writer(writer)).into(),
    }
}

/// Writes lines that are not too long.
struct ShortLines<W> {
    format: LogFormat,
    writer: W,
}

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for ShortLines<W> {
    type Writer = ShortLines<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        ShortLines { format: self.format, writer: self.writer.make_writer() }
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Self::Writer {
        ShortLines { format: self.format, writer: self.writer.make_writer_for(metadata) }
    }
}

/// A line comes in one piece, with its end.
impl<W: Write> Write for ShortLines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match line.len() <= LONGEST_LINE {
            true => self.writer.write_all(line),
            false => self.writer.write_all(&short_line(self.format, line)),
        }
        .map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

fn short_line(format: LogFormat, line: &[u8]) -> Vec<u8> {
    let cut = || format!("{}…", String::from_utf8_lossy(&line[..LONGEST_LINE]));
    let short = match (format, serde_json::from_slice::<Map<String, Value>>(line)) {
        (LogFormat::Json, Ok(members)) => {
            Value::Object(members.into_iter().map(|(name, value)| (name, short_value(value))).collect()).to_string()
        }
        (LogFormat::Json, Err(_)) => Value::String(cut()).to_string(),
        (LogFormat::Text, _) => cut(),
    };
    (short + "\n").into_bytes()
}

fn short_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(shortened(&text)),
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod capture {
    //! What a piece of code logs.

    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::{LogFormat, dispatch};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Lets every event through, to nowhere. Without it an event that another test's thread meets first, where nobody
    /// listens, counts as unwanted for a moment, here too.
    fn listen_everywhere() {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap());
    }

    /// Everything that `work` logs, as it would be written.
    pub(in crate::telemetry) fn text(format: LogFormat, filter: &str, work: impl FnOnce()) -> String {
        listen_everywhere();
        let lines = Lines::default();
        let written = lines.clone();
        tracing::dispatcher::with_default(&dispatch(format, filter, false, move || lines.clone()), work);
        let text = written.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    /// Everything that `work` logs at all levels, as objects.
    pub(crate) fn objects(work: impl FnOnce()) -> Vec<Value> {
        text(LogFormat::Json, "trace", work).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::events::Listening;

    fn listening() {
        Listening { address: "127.0.0.1:8080".parse().unwrap() }.emit();
    }

    #[test]
    fn a_json_line_is_one_flat_object() {
        let text =
            capture::text(LogFormat::Json, "info", || tracing::info_span!("outer", secret = 1).in_scope(listening));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let members: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(members, ["address", "level", "message", "target", "timestamp"]);
        assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"listening".into()));
        assert_eq!(line["address"], "127.0.0.1:8080");
        assert!(chrono::DateTime::parse_from_rfc3339(line["timestamp"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn a_line_stays_one_line_whatever_is_in_it() {
        let hostile = "a\nb\u{1b}[31m\"}";
        for format in [LogFormat::Json, LogFormat::Text] {
            let text = capture::text(format, "info", || tracing::warn!(code = "DSA-X", why = hostile, "{hostile}"));
            assert!(!text.contains('\u{1b}'), "{text:?}");
            if format == LogFormat::Json {
                assert_eq!(text.lines().count(), 1, "{text:?}");
            }
        }
    }

    #[test]
    fn no_line_is_longer_than_a_few_kilobytes_and_one_of_json_stays_json() {
        let long = "é\n".repeat(100_000);
        for format in [LogFormat::Json, LogFormat::Text] {
            let speak = || tracing::warn!(code = "DSA-X", why = %long, times = 3, "{long}");
            let text = capture::text(format, "info", speak);
            assert!(text.len() <= LONGEST_LINE + 64, "{} bytes", text.len());
            if format == LogFormat::Json {
                let line: Value = serde_json::from_str(&text).unwrap();
                assert_eq!((&line["code"], &line["times"]), (&"DSA-X".into(), &3.into()));
                assert!(line["message"].as_str().unwrap().ends_with('…'));
            }
        }
    }

    #[test]
    fn text_is_for_people() {
        let text = capture::text(LogFormat::Text, "info", listening);
        assert!(text.ends_with("INFO listening address=127.0.0.1:8080\n"), "{text:?}");
    }

    #[test]
    fn libraries_are_quiet_until_the_filter_names_them() {
        let speak = || {
            tracing::debug!(target: "dynamodb_streams_adapter::app", "ours in detail");
            tracing::info!(target: "dynamodb_streams_adapter::app", "ours");
            tracing::info!(target: "aws_smithy_runtime::client", "chatter of the SDK");
            tracing::debug!(target: "hyper_util::client", "chatter of the client");
            tracing::warn!(target: "aws_config::profile", "a dump of the SDK");
            tracing::warn!(target: "hyper::proto", "trouble of the client");
        };
        let said = |filter: &str| {
            let text = capture::text(LogFormat::Json, filter, speak);
            let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(said("info"), ["ours", "trouble of the client"]);
        assert_eq!(said("debug"), ["ours in detail", "ours", "trouble of the client"]);
        assert_eq!(said("error"), ["trouble of the client"]);
        assert_eq!(said("warn,hyper=off"), [""; 0]);
        assert_eq!(said("info,hyper_util=debug"), ["ours", "chatter of the client", "trouble of the client"]);
        assert_eq!(said("info,dynamodb_streams_adapter=debug"), ["ours in detail", "ours", "trouble of the client"]);
        assert_eq!(said("info,aws_config=warn"), ["ours", "a dump of the SDK", "trouble of the client"]);
        assert_eq!(said("=/=not a filter"), ["ours", "trouble of the client"]);
    }
}
