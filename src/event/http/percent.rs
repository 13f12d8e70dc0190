//! Percent-encoding of header values, section 3.1.3.2 of the CloudEvents HTTP protocol binding.
//!
//! Space, double quote, percent and everything outside U+0021 to U+007E become `%XX` for each byte of their UTF-8
//! form; the rest stays. The outcome is always a legal header value, and decoding gives the text back.

use bytes::Bytes;
use http::HeaderValue;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The header value that stands for a text.
pub(super) fn header_value(text: String) -> HeaderValue {
    let encoded = if text.bytes().all(stays) { text } else { encode(&text) };
    HeaderValue::from_maybe_shared(Bytes::from(encoded)).expect("percent-encoded text is printable ASCII")
}

/// How many characters a text has in a header.
pub(in crate::event) fn wire_len(text: &str) -> usize {
    text.bytes().map(|byte| if stays(byte) { 1 } else { 3 }).sum()
}

/// Whether a byte of UTF-8 goes into a header as it is.
fn stays(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'%'
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(wire_len(text));
    for byte in text.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 0xf)]));
        }
    }
    encoded
}
