//! Pieces of text by their place in a record.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::ops::Range;

use bytes::Bytes;

/// Where a piece of text lies in a record's own bytes. It never lies at 0, where the record's brace is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: NonZeroU32,
    len: u32,
}

impl Span {
    fn new(range: Range<usize>) -> Option<Self> {
        let start = NonZeroU32::new(u32::try_from(range.start).ok()?)?;
        Some(Self { start, len: u32::try_from(range.len()).ok()? })
    }

    /// The text at this place.
    pub(super) fn of(self, bytes: &Bytes) -> &str {
        let start = self.start.get() as usize;
        text_of(&bytes[start..start + self.len as usize])
    }
}

/// The text that `bytes` are.
pub(super) fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("a record is cut out of text at the boundaries of JSON values")
}

/// Where `part`, a slice of `whole`, lies in it.
pub(super) fn range_in(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// The content of a JSON string; absent if the value is none, or if it is no valid text once decoded.
pub(super) fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// Places values in a record. What has escapes is decoded into a tail that is kept behind the record's own text, so
/// that a place is always enough to find a value.
pub(super) struct Places<'a> {
    raw: &'a str,
    tail: String,
}

impl<'a> Places<'a> {
    pub(super) fn new(raw: &'a str) -> Self {
        Self { raw, tail: String::new() }
    }

    /// The place of a value's JSON text.
    pub(super) fn json(&self, value: &str) -> Option<Span> {
        Span::new(range_in(self.raw, value))
    }

    /// The place of a JSON string's content.
    pub(super) fn string(&mut self, value: &str) -> Option<Span> {
        match string(value)? {
            Cow::Borrowed(content) => Span::new(range_in(self.raw, content)),
            Cow::Owned(content) => {
                let start = self.raw.len() + self.tail.len();
                self.tail.push_str(&content);
                Span::new(start..start + content.len())
            }
        }
    }

    /// The record's bytes: a view into its page, or a copy if something had to be decoded.
    pub(super) fn bytes(&self, page: &Bytes, extent: Range<usize>) -> Bytes {
        if self.tail.is_empty() { page.slice(extent) } else { [self.raw, &self.tail].concat().into() }
    }
}
