//! Walks through JSON text that has been parsed before.
//!
//! Keys and images are known to be JSON when a record gets here, so a walk only has to find where each part ends. It
//! needs no memory, and no depth of nesting can exhaust the stack. On text that is no JSON it finds nothing.

use std::borrow::Cow;

/// A place in JSON text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'r> {
    rest: &'r str,
}

/// What stands between the quotes of a JSON string, with its escapes as they were sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'r>(&'r str);

impl<'r> Cursor<'r> {
    /// The beginning of a text.
    pub(super) fn new(json: &'r str) -> Self {
        Self { rest: json }
    }

    /// Takes a bracket, a colon or a comma, if it is what comes next.
    pub(super) fn take(&mut self, mark: u8) -> Option<()> {
        if self.next()? != mark {
            return None;
        }
        self.advance(1)
    }

    /// Takes a string.
    pub(super) fn string(&mut self) -> Option<Text<'r>> {
        self.take(b'"')?;
        let bytes = self.rest.as_bytes();
        let mut end = 0;
        loop {
            end += bytes.get(end..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            if bytes[end] == b'"' {
                break;
            }
            end += 2;
        }
        let content = self.rest.get(..end)?;
        self.advance(end + 1)?;
        Some(Text(content))
    }

    /// Takes `true` or `false`.
    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.value()? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// Takes a list or an object, and gives what stands between its brackets.
    pub(super) fn between(&mut self, open: char, close: char) -> Option<&'r str> {
        self.value()?.strip_prefix(open)?.strip_suffix(close)
    }

    /// Takes a value of any kind.
    pub(super) fn value(&mut self) -> Option<&'r str> {
        let mut open_brackets = 0_usize;
        self.next()?;
        let start = *self;
        loop {
            match self.next()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    open_brackets += 1;
                    self.advance(1)?;
                }
                b'}' | b']' => {
                    open_brackets = open_brackets.checked_sub(1)?;
                    self.advance(1)?;
                }
                b',' | b':' if open_brackets > 0 => self.advance(1)?,
                _ => self.bare()?,
            }
            if open_brackets == 0 {
                return start.until(*self);
            }
        }
    }

    /// The text from here to a later place.
    pub(super) fn until(self, end: Cursor<'r>) -> Option<&'r str> {
        self.rest.get(..self.rest.len().checked_sub(end.rest.len())?)
    }

    /// Whether only white space is left; where not, a comma between two parts has been taken.
    pub(super) fn is_at_end(&mut self) -> bool {
        // A separator is due before every part but the first.
        let _ = self.take(b',');
        self.next().is_none()
    }

    /// Takes a number, `true`, `false` or `null`.
    fn bare(&mut self) -> Option<()> {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        match self.rest.bytes().take_while(is_part).count() {
            0 => None,
            length => self.advance(length),
        }
    }

    /// The next byte that is no white space, which is passed over.
    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.rest.as_bytes().first()?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.advance(1)?;
        }
    }

    fn advance(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }
}

impl<'r> Text<'r> {
    /// The text as it was sent, without its quotes.
    pub(super) fn as_sent(self) -> &'r str {
        self.0
    }

    /// The text that is meant.
    pub(super) fn decoded(self) -> Cow<'r, str> {
        if !self.0.contains('\\') {
            return Cow::Borrowed(self.0);
        }
        let mut decoded = String::with_capacity(self.0.len());
        self.each_part(|part| match part {
            Part::Plain(text) => decoded.push_str(text),
            Part::Escaped(character) => decoded.push(character),
        });
        Cow::Owned(decoded)
    }

    /// Hands over the text piece by piece.
    ///
    /// Half of a surrogate pair stands for no character: it becomes U+FFFD, as in Go's `encoding/json`.
    pub(super) fn each_part(self, mut each: impl FnMut(Part<'r>)) {
        let mut rest = self.0;
        while let Some((plain, escape)) = rest.split_once('\\') {
            each(Part::Plain(plain));
            let (character, behind) = unescape(escape);
            each(Part::Escaped(character));
            rest = behind;
        }
        each(Part::Plain(rest));
    }
}

/// A piece of a JSON string.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'r> {
    /// Text without any escape; it may be empty.
    Plain(&'r str),
    /// What an escape stands for.
    Escaped(char),
}

/// The character that an escape stands for, and what follows it; `escape` begins behind the backslash.
fn unescape(escape: &str) -> (char, &str) {
    let mut letters = escape.chars();
    let character = match letters.next() {
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('u') => return unescape_unicode(letters.as_str()),
        Some(itself) => itself,
        None => char::REPLACEMENT_CHARACTER,
    };
    (character, letters.as_str())
}

/// The same for an escape of four hexadecimal digits, or two of them that are one character.
fn unescape_unicode(digits: &str) -> (char, &str) {
    let Some((first, behind)) = code_unit(digits) else {
        return (char::REPLACEMENT_CHARACTER, digits);
    };
    if let Some(character) = char::from_u32(u32::from(first)) {
        return (character, behind);
    }
    let pair = behind.strip_prefix("\\u").and_then(code_unit);
    let character = pair.and_then(|(second, _)| char::decode_utf16([first, second]).next()?.ok());
    match (character, pair) {
        (Some(character), Some((_, behind))) => (character, behind),
        _ => (char::REPLACEMENT_CHARACTER, behind),
    }
}

fn code_unit(digits: &str) -> Option<(u16, &str)> {
    let (digits, behind) = digits.split_at_checked(4)?;
    Some((u16::from_str_radix(digits, 16).ok()?, behind))
}
