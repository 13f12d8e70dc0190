//! Files that the SDK reads into memory as a whole, whatever they are.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;

use crate::config::shown_path;

/// Those that are named by variables.
const FILES: [&str; 4] = [
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// The most bytes of one: a token has some thousands, and so have the profiles of a machine.
const MAX_BYTES: u64 = 16 << 20;

/// A file is none of those that are meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {path} has more than {} MiB; name the file that is meant", MAX_BYTES >> 20)]
pub struct TooLargeFile {
    variable: &'static str,
    path: String,
}

/// Refuses files without end. What is missing, or is a pipe, is for the SDK to say.
pub(super) fn check() -> Result<(), TooLargeFile> {
    let named = FILES.into_iter().filter_map(|variable| Some((variable, std::env::var(variable).ok()?)));
    match named.into_iter().find(|(_, path)| is_too_large(path).unwrap_or_default()) {
        None => Ok(()),
        Some((variable, path)) => Err(TooLargeFile { variable, path: shown_path(&path).to_owned() }),
    }
}

fn is_too_large(path: &str) -> io::Result<bool> {
    let found = fs::metadata(path)?;
    if !found.file_type().is_char_device() {
        return Ok(found.is_file() && found.len() > MAX_BYTES);
    }
    // Nothing is in `/dev/null`, which stands for no file.
    let read = io::copy(&mut File::open(path)?.take(MAX_BYTES + 1), &mut io::sink())?;
    Ok(read > MAX_BYTES)
}
