//! Text as JSON, escaped as two other JSON libraries do it, so that bodies can be compared byte for byte.

use super::json_text::{Part, Text};

/// How a library writes characters that it does not leave as they are.
pub(super) struct Escapes {
    /// For each character of ASCII: what is written instead; empty where it stays.
    ascii: [&'static str; 128],
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
        Self { ascii: with(with(ascii, COMMON), own) }
    }

    /// Appends a text of the wire, its quotes included.
    pub(super) fn push_sent(&self, json: &mut Vec<u8>, text: Text<'_>) {
        json.push(b'"');
        text.each_part(|part| match part {
            Part::Plain(plain) => self.push_content(json, plain),
            Part::Escaped(character) => self.push_content(json, character.encode_utf8(&mut [0; 4])),
        });
        json.push(b'"');
    }

    /// Appends a text, its quotes included.
    pub(super) fn push_text(&self, json: &mut Vec<u8>, text: &str) {
        json.push(b'"');
        self.push_content(json, text);
        json.push(b'"');
    }

    fn push_content(&self, json: &mut Vec<u8>, text: &str) {
        let bytes = text.as_bytes();
        let mut written = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let (escape, length) = match byte {
                0..0x80 => (self.ascii[usize::from(*byte)], 1),
                0xe2 => (separator(&bytes[at..]), 3),
                _ => continue,
            };
            if !escape.is_empty() {
                json.extend_from_slice(&bytes[written..at]);
                json.extend_from_slice(escape.as_bytes());
                written = at + length;
            }
        }
        json.extend_from_slice(&bytes[written..]);
    }
}

const fn with(mut ascii: [&'static str; 128], escapes: &[(u8, &'static str)]) -> [&'static str; 128] {
    let mut at = 0;
    while at < escapes.len() {
        ascii[escapes[at].0 as usize] = escapes[at].1;
        at += 1;
    }
    ascii
}

/// Both escape the separators U+2028 and U+2029, which end a line in JavaScript.
fn separator(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xe2, 0x80, 0xa8, ..] => r"\u2028",
        [0xe2, 0x80, 0xa9, ..] => r"\u2029",
        _ => "",
    }
}
