//! DynamoDB's attribute values in their JSON form, `{"S":"text"}`, read and written again without copying them in between.
//!
//! An attribute value is an object of exactly one member, named by one of the ten types, whose content is of that type.
//! Anything else in its place is [`Content::Unknown`]: a form passes it on as AWS sent it, so that nothing is lost.
//!
//! Below the values: [`Cursor`] walks through their JSON text, and [`Escapes`] writes texts as other JSON libraries do.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::event::output::Output;

/// How deep values are read; DynamoDB nests them 32 levels deep. What is deeper is passed on as AWS sent it.
///
/// Source: "Quotas in Amazon DynamoDB", Nested attribute depth.
pub(super) const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'r> {
    /// The value as it was sent.
    pub(super) raw: &'r str,
    pub(super) content: Content<'r>,
}

/// What an attribute's value says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'r> {
    /// `S`
    Text(Text<'r>),
    /// `N`
    Number(Text<'r>),
    /// `B`, base64
    Binary(Text<'r>),
    /// `BOOL`
    Flag(bool),
    /// `NULL`, which is always true on AWS
    Null(bool),
    /// `SS`
    TextSet(Texts<'r>),
    /// `NS`
    NumberSet(Texts<'r>),
    /// `BS`
    BinarySet(Texts<'r>),
    /// `L`
    List(List<'r>),
    /// `M`
    Map(Map<'r>),
    Unknown,
}

/// The texts of a set, in the order of the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texts<'r>(&'r str);

/// The values of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct List<'r>(&'r str);

/// Names and values, in the order of the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map<'r>(&'r str);

impl<'r> Attribute<'r> {
    fn read(cursor: &mut Cursor<'r>) -> Option<Self> {
        let (mut known, start) = (*cursor, *cursor);
        if let Some(content) = Content::read(&mut known) {
            *cursor = known;
            return Some(Self { raw: start.until(known)?, content });
        }
        Some(Self { raw: cursor.value()?, content: Content::Unknown })
    }
}

impl<'r> Content<'r> {
    fn read(cursor: &mut Cursor<'r>) -> Option<Self> {
        cursor.take(b'{')?;
        let name = cursor.string()?.decoded();
        cursor.take(b':')?;
        let content = match &*name {
            "S" => Self::Text(cursor.string()?),
            "N" => Self::Number(cursor.string()?),
            "B" => Self::Binary(cursor.string()?),
            "BOOL" => Self::Flag(cursor.flag()?),
            "NULL" => Self::Null(cursor.flag()?),
            "SS" => Self::TextSet(Texts::read(cursor)?),
            "NS" => Self::NumberSet(Texts::read(cursor)?),
            "BS" => Self::BinarySet(Texts::read(cursor)?),
            "L" => Self::List(List(cursor.between('[', ']')?)),
            "M" => Self::Map(Map(cursor.between('{', '}')?)),
            _ => return None,
        };
        cursor.take(b'}')?;
        Some(content)
    }
}

impl<'r> Texts<'r> {
    fn read(cursor: &mut Cursor<'r>) -> Option<Self> {
        let content = cursor.between('[', ']')?;
        let mut texts = Cursor::new(content);
        while !texts.is_at_end() {
            texts.string()?;
        }
        Some(Self(content))
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Text<'r>> {
        parts(self.0, Cursor::string)
    }
}

impl<'r> List<'r> {
    pub(super) fn iter(self) -> impl Iterator<Item = Attribute<'r>> {
        parts(self.0, Attribute::read)
    }
}

impl<'r> Map<'r> {
    /// The attributes of an item or a key. `json` is an object.
    pub(super) fn of_item(json: &'r str) -> Self {
        Self(Cursor::new(json).between('{', '}').unwrap_or_default())
    }

    pub(super) fn iter(self) -> impl Iterator<Item = (Text<'r>, Attribute<'r>)> {
        parts(self.0, |cursor| {
            let name = cursor.string()?;
            cursor.take(b':')?;
            Some((name, Attribute::read(cursor)?))
        })
    }
}

/// The parts of a list or an object, which stand between commas.
fn parts<'r, T>(json: &'r str, read: impl Fn(&mut Cursor<'r>) -> Option<T>) -> impl Iterator<Item = T> {
    let mut cursor = Cursor::new(json);
    std::iter::from_fn(move || if cursor.is_at_end() { None } else { read(&mut cursor) })
}

/// A place in JSON text that has been parsed before.
///
/// Keys and images are known to be JSON when a record gets here, so a walk only has to find where each part ends. It
/// needs no memory, and no depth of nesting can exhaust the stack. On text that is no JSON it finds nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'r> {
    json: &'r str,
    /// In bytes.
    at: usize,
}

/// What stands between the quotes of a JSON string, with its escapes as they were sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'r>(&'r str);

impl<'r> Cursor<'r> {
    /// The beginning of a text.
    pub(super) fn new(json: &'r str) -> Self {
        Self { json, at: 0 }
    }

    /// Takes a bracket, a colon or a comma, if it is what comes next.
    pub(super) fn take(&mut self, mark: u8) -> Option<()> {
        if self.next()? != mark {
            return None;
        }
        self.at += 1;
        Some(())
    }

    pub(super) fn string(&mut self) -> Option<Text<'r>> {
        self.take(b'"')?;
        let (bytes, start) = (self.json.as_bytes(), self.at);
        let mut end = start;
        loop {
            end += quote_or_escape(bytes.get(end..)?)?;
            if bytes[end] == b'"' {
                break;
            }
            end += 2;
        }
        self.at = end + 1;
        Some(Text(self.json.get(start..end)?))
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
                    self.at += 1;
                }
                b'}' | b']' => {
                    open_brackets = open_brackets.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if open_brackets > 0 => self.at += 1,
                _ => self.bare()?,
            }
            if open_brackets == 0 {
                return start.until(*self);
            }
        }
    }

    /// The text from here to a later place.
    pub(super) fn until(self, end: Cursor<'r>) -> Option<&'r str> {
        self.json.get(self.at..end.at)
    }

    /// Whether only white space is left; where not, a comma between two parts has been taken.
    pub(super) fn is_at_end(&mut self) -> bool {
        // A separator is due before every part but the first.
        let _ = self.take(b',');
        self.next().is_none()
    }

    /// Takes a number, `true`, `false` or `null`.
    fn bare(&mut self) -> Option<()> {
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        match self.json.as_bytes().get(self.at..)?.iter().take_while(is_part).count() {
            0 => None,
            length => {
                self.at += length;
                Some(())
            }
        }
    }

    /// The next byte that is no white space, which is passed over.
    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.json.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }
}

/// Where a string ends or an escape begins.
fn quote_or_escape(bytes: &[u8]) -> Option<usize> {
    /// Most names and values are so short that a search of many bytes at a time is set up for nothing.
    const SHORT: usize = 16;
    let (short, rest) = bytes.split_at(bytes.len().min(SHORT));
    let found = short.iter().position(|byte| matches!(byte, b'"' | b'\\'));
    found.or_else(|| memchr2(b'"', b'\\', rest).map(|at| short.len() + at))
}

impl<'r> Text<'r> {
    /// The text as it was sent, without its quotes.
    pub(super) fn as_sent(self) -> &'r str {
        self.0
    }

    /// The text that is meant.
    pub(super) fn decoded(self) -> Cow<'r, str> {
        if !self.0.as_bytes().contains(&b'\\') {
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
        while let Some(at) = memchr(b'\\', rest.as_bytes()) {
            each(Part::Plain(&rest[..at]));
            let (character, behind) = unescape(&rest[at + 1..]);
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

/// How a JSON library writes the characters that it does not leave as they are, so that bodies can be compared byte for
/// byte.
pub(super) struct Escapes {
    /// For each character of ASCII: what is written instead; empty where it stays.
    ascii: [&'static str; 128],
    /// The bytes at which one may begin that does not stay.
    starts: [bool; 256],
}

/// Go's `encoding/json` before Go 1.22, with its HTML escaping.
pub(super) static GO: Escapes = Escapes::new(&[(b'<', r"\u003c"), (b'>', r"\u003e"), (b'&', r"\u0026")]);

/// Gson with its HTML escaping, which is its default.
pub(super) static GSON: Escapes = Escapes::new(&[
    (0x08, r"\b"),
    (0x0c, r"\f"),
    (b'<', r"\u003c"),
    (b'>', r"\u003e"),
    (b'&', r"\u0026"),
    (b'=', r"\u003d"),
    (b'\'', r"\u0027"),
]);

/// What both do: RFC 8259 asks for it, with a choice of spelling.
const COMMON: &[(u8, &str)] = &[(b'"', r#"\""#), (b'\\', r"\\"), (b'\n', r"\n"), (b'\r', r"\r"), (b'\t', r"\t")];

const CONTROLS: [&str; 32] = [
    r"\u0000", r"\u0001", r"\u0002", r"\u0003", r"\u0004", r"\u0005", r"\u0006", r"\u0007", r"\u0008", r"\u0009",
    r"\u000a", r"\u000b", r"\u000c", r"\u000d", r"\u000e", r"\u000f", r"\u0010", r"\u0011", r"\u0012", r"\u0013",
    r"\u0014", r"\u0015", r"\u0016", r"\u0017", r"\u0018", r"\u0019", r"\u001a", r"\u001b", r"\u001c", r"\u001d",
    r"\u001e", r"\u001f",
];

impl Escapes {
    const fn new(own: &[(u8, &'static str)]) -> Self {
        let mut ascii = [""; 128];
        let mut at = 0;
        while at < CONTROLS.len() {
            ascii[at] = CONTROLS[at];
            at += 1;
        }
        let ascii = with(with(ascii, COMMON), own);
        Self { ascii, starts: starts(&ascii) }
    }

    /// Appends a text of the wire, its quotes included.
    pub(super) fn push_sent(&self, json: &mut impl Output, text: Text<'_>) {
        json.push(b'"');
        text.each_part(|part| match part {
            Part::Plain(plain) => self.push_content(json, plain),
            Part::Escaped(character) => self.push_content(json, character.encode_utf8(&mut [0; 4])),
        });
        json.push(b'"');
    }

    /// Appends a text, its quotes included.
    pub(super) fn push_text(&self, json: &mut impl Output, text: &str) {
        json.push(b'"');
        self.push_content(json, text);
        json.push(b'"');
    }

    fn push_content(&self, json: &mut impl Output, text: &str) {
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|byte| self.starts[usize::from(*byte)]) {
            let (escape, length) = match rest[at] {
                ascii @ 0..0x80 => (self.ascii[usize::from(ascii)], 1),
                _ => (separator(&rest[at..]), 3),
            };
            let stays = if escape.is_empty() { at + length } else { at };
            json.extend_from_slice(&rest[..stays]);
            json.extend_from_slice(escape.as_bytes());
            rest = &rest[at + length..];
        }
        json.extend_from_slice(rest);
    }
}

const fn starts(ascii: &[&str; 128]) -> [bool; 256] {
    let mut starts = [false; 256];
    let mut at = 0;
    while at < ascii.len() {
        starts[at] = !ascii[at].is_empty();
        at += 1;
    }
    starts[SEPARATOR_START as usize] = true;
    starts
}

const fn with(mut ascii: [&'static str; 128], escapes: &[(u8, &'static str)]) -> [&'static str; 128] {
    let mut at = 0;
    while at < escapes.len() {
        ascii[escapes[at].0 as usize] = escapes[at].1;
        at += 1;
    }
    ascii
}

/// The first of three bytes.
const SEPARATOR_START: u8 = 0xe2;

/// Both escape the separators U+2028 and U+2029, which end a line in JavaScript.
fn separator(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xe2, 0x80, 0xa8, ..] => r"\u2028",
        [0xe2, 0x80, 0xa9, ..] => r"\u2029",
        _ => "",
    }
}
