//! Log lines: JSON for machines, text for people, on standard error.

use std::io::stderr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::LogFormat;

/// Libraries speak only when something is wrong; a filter that names them wins over this.
const QUIET: &str = "aws_config=warn,aws_smithy_runtime=warn,aws_runtime=warn,aws_sdk_sts=warn,hyper=warn,hyper_util=warn,\
                     h2=warn,rustls=warn";

/// Sets up logging for the whole process; call it once.
///
/// # Errors
/// When it was called before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TryInitError> {
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}")).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(layer.with_writer(stderr)).try_init()
        }
        LogFormat::Text => registry.with(fmt::layer().with_target(false).with_writer(stderr)).try_init(),
    }
}
