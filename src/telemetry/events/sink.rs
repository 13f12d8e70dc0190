//! What happens to the files that the sink's connections and requests are made with.

use tracing::{error, info, warn};

/// A file cannot be used as it is now.
pub struct SinkFileUnusable<'a> {
    /// Which, and why; nothing of its content.
    pub text: &'a str,
    /// Whether nothing can be sent. Otherwise the other files, or what this one held before, are used.
    pub stops_delivery: bool,
}

impl SinkFileUnusable<'_> {
    /// Says so; attempts that fail for it are counted where they are made.
    pub fn emit(&self) {
        let text = self.text;
        match self.stops_delivery {
            true => error!(code = "DSA-SINK-FILE", "delivery stopped: {text}"),
            false => {
                warn!(
                    code = "DSA-SINK-FILE",
                    "a sink file is not usable, delivery continues without it or with its previous content: {text}"
                )
            }
        }
    }
}

/// A file can be used that could not be used before, or is not there any more and not needed.
pub struct SinkFileUsable<'a> {
    /// Which.
    pub path: &'a str,
}

impl SinkFileUsable<'_> {
    /// Says so.
    pub fn emit(&self) {
        info!(path = self.path, "the sink file is usable again");
    }
}
