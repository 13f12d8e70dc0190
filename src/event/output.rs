//! Where a body's JSON goes: into memory, or nowhere, where only its length is asked for.
//!
//! What writes JSON is written once, for any [`Output`]. So a computed length is that of the body by construction: there is no
//! second description of a form that could differ from the first.

use std::io;

/// Takes JSON piece by piece. The methods are those that a vector has.
pub(super) trait Output: io::Write {
    /// Whether what is written is looked at; where not, the order of an object's members means nothing.
    const IS_READ: bool;

    /// Bytes so far.
    fn len(&self) -> usize;

    fn push(&mut self, byte: u8);

    fn extend_from_slice(&mut self, bytes: &[u8]);

    /// Takes back what was written beyond the first `len` bytes.
    fn truncate(&mut self, len: usize);
}

impl Output for Vec<u8> {
    const IS_READ: bool = true;

    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn push(&mut self, byte: u8) {
        Vec::push(self, byte);
    }

    fn extend_from_slice(&mut self, bytes: &[u8]) {
        Vec::extend_from_slice(self, bytes);
    }

    fn truncate(&mut self, len: usize) {
        Vec::truncate(self, len);
    }
}

/// Counts what is written, and keeps nothing of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Length(usize);

impl Output for Length {
    const IS_READ: bool = false;

    fn len(&self) -> usize {
        self.0
    }

    fn push(&mut self, _: u8) {
        self.0 += 1;
    }

    fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn truncate(&mut self, len: usize) {
        self.0 = self.0.min(len);
    }
}

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends a text as JSON, its quotes included.
pub(super) fn push_text(json: &mut impl Output, text: &str) {
    // Nearly every text stays as it is: found at a glance.
    if text.bytes().fold(false, |any, byte| any | is_escaped(byte)) {
        return serde_json::to_writer(json, text).expect("a text is JSON, and an output takes it");
    }
    json.push(b'"');
    json.extend_from_slice(text.as_bytes());
    json.push(b'"');
}

/// RFC 8259, section 7: quotation mark, reverse solidus and the control characters up to U+001F.
fn is_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// How many bytes a text takes as JSON, its quotes included.
pub(super) fn json_len(text: &str) -> usize {
    let mut length = Length::default();
    push_text(&mut length, text);
    length.0
}
