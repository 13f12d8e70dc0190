//! The files that requests to a sink are made with, and the headers that come from them.

use http::HeaderMap;

use crate::check::report::Check;
use crate::sink::{HttpSink, SinkSettings};

/// The check of the files, where there are any or one is broken, and the headers of every request.
pub(super) fn check(name: &'static str, settings: &SinkSettings) -> (Option<Check>, HeaderMap) {
    let Ok((sink, _)) = HttpSink::new(settings.clone()) else {
        // A sink that cannot be made for want of roots is told by the check of its certificate.
        return (None, settings.headers.clone());
    };
    (judge(name, sink.obstacle(), &sink.unused_files(), names_files(settings)), sink.headers())
}

fn judge(name: &'static str, obstacle: Option<String>, unused: &[String], are_named: bool) -> Option<Check> {
    match obstacle {
        Some(why) => Some(
            Check::fail(name, &format!("the adapter would send nothing: {why}"))
                .mended_by("correct the file; the adapter reads it again automatically"),
        ),
        None if !unused.is_empty() => Some(
            Check::warn(name, &format!("not used: {}", unused.join("; "))).mended_by("replace that file, or remove it"),
        ),
        None => are_named.then(|| Check::ok(name, "all files are valid")),
    }
}

fn names_files(settings: &SinkSettings) -> bool {
    settings.headers_file.is_some()
        || settings.client_certificate.is_some()
        || settings.token_file.as_ref().is_some_and(|token| token.is_required)
}
