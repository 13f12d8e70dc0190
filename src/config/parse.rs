//! Small parsers: a trimmed text that is not empty, to a value or to what is wrong with it; and enums whose variants
//! have one name each.

use core::net::{Ipv6Addr, SocketAddr};
use std::borrow::Cow;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What is wrong with a value, without repeating it.
pub(super) type InvalidValue = Cow<'static, str>;

/// Whether a value has quotation marks around it: `kubectl create secret --from-env-file` and `docker run --env-file` keep those that a shell
/// would take away.
pub(super) fn is_quoted(text: &str) -> bool {
    ['"', '\''].iter().any(|mark| text.len() > 1 && text.starts_with(*mark) && text.ends_with(*mark))
}

/// What is wrong with a value, and with what is around it: a value that is not shown has to be told from its description alone.
pub(super) fn explained(text: &str, why: InvalidValue) -> InvalidValue {
    match is_quoted(text) {
        true => format!("{why}; the quotation marks around it are a part of the value, leave them out").into(),
        false => why,
    }
}

/// An address without its scheme is the commonest slip, and `host:port` looks like a scheme to a parser.
pub(super) fn begins_like_a_url(text: &str) -> Result<(), InvalidValue> {
    let begins_with = |scheme: &str| text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    match begins_with("http://") || begins_with("https://") {
        true => Ok(()),
        false => Err("it does not begin with http:// or https://".into()),
    }
}

const DURATIONS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);
const SIZES: RangeInclusive<u64> = MIB..=1024 * GIB;
/// Sizes of request bodies.
const SMALL_SIZES: RangeInclusive<u64> = KIB..=GIB;
const CONCURRENCIES: RangeInclusive<usize> = 1..=10_000;
/// Events a second. Below the lower end nothing is delivered within the day for which a stream keeps it.
const RATES: RangeInclusive<f64> = 0.001..=1_000_000.0;
const ATTEMPTS: RangeInclusive<u32> = 1..=1_000_000;
/// A sink may name every failed event in its response: this bounds the response.
const BATCH_EVENTS: RangeInclusive<usize> = 1..=1_000;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Units of sizes, in bytes.
const SIZE_UNITS: [(&str, u64); 7] =
    [("B", 1), ("KiB", KIB), ("MiB", MIB), ("GiB", GIB), ("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];

/// A value of a variable that a platform sets, and what was made of a text that is not quite one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lenient<T> {
    pub(super) value: T,
    /// Each completes "NAME: ...".
    pub(super) notes: Vec<String>,
}

impl<T> From<T> for Lenient<T> {
    fn from(value: T) -> Self {
        Self { value, notes: Vec::new() }
    }
}

impl<T> Lenient<T> {
    pub(super) fn with_note(self, note: impl Into<String>) -> Self {
        Self { notes: [self.notes, vec![note.into()]].concat(), ..self }
    }
}

/// Any text, as it is.
pub(super) fn text(text: &str) -> Result<String, InvalidValue> {
    Ok(text.to_owned())
}

/// The two values of a switch.
pub(super) const FLAGS: &[&str] = &["true", "false"];

/// `true` or `false`, nothing else.
pub(super) fn flag(text: &str) -> Result<bool, InvalidValue> {
    text.parse().map_err(|_| "unknown value".into())
}

/// `500ms`, `30s`, `4h`, `1m30s`.
///
/// The upper end keeps sums of times far from overflow; a stream holds nothing older than that anyway.
pub(super) fn duration(text: &str) -> Result<Duration, InvalidValue> {
    if text.bytes().all(|byte| byte == b'0') {
        return Err("too small".into());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("a number without a unit, did you mean {}s?", clipped(text)).into());
    }
    let duration = humantime::parse_duration(text).map_err(|_| "not a duration")?;
    in_range(duration, &DURATIONS)
}

/// A duration, or `0`: not at all.
pub(super) fn wait(text: &str) -> Result<Duration, InvalidValue> {
    match text {
        "0" | "0s" | "0ms" => Ok(Duration::ZERO),
        _ => duration(text),
    }
}

/// Whole seconds; 0, less, and what is no number are "not set", as in Knative's own adapters.
pub(super) fn seconds(text: &str) -> Result<Lenient<Option<Duration>>, InvalidValue> {
    let Ok(seconds) = text.parse::<i64>() else {
        return Ok(Lenient::from(None).with_note("it is ignored, not a whole number of seconds"));
    };
    Ok(match u64::try_from(seconds).map(Duration::from_secs) {
        Err(_) | Ok(Duration::ZERO) => None.into(),
        Ok(duration) if duration > *DURATIONS.end() => {
            Lenient::from(Some(*DURATIONS.end())).with_note("it is cut to 86400 seconds")
        }
        Ok(duration) => Some(duration).into(),
    })
}

/// `512KiB`, `64MiB`, `1GiB`, `500MB`: bytes.
pub(super) fn size(text: &str) -> Result<usize, InvalidValue> {
    size_in(text, &SIZES)
}

/// A size for the body of one request.
pub(super) fn small_size(text: &str) -> Result<usize, InvalidValue> {
    size_in(text, &SMALL_SIZES)
}

fn size_in(text: &str, range: &RangeInclusive<u64>) -> Result<usize, InvalidValue> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if unit.is_empty() {
        return Err(format!("a number without a unit, did you mean {}MiB?", clipped(number)).into());
    }
    let number: u64 = number.parse().map_err(|_| "not a whole number and a unit")?;
    let unit = SIZE_UNITS.iter().find(|(name, _)| *name == unit.trim_start()).ok_or("not a unit of sizes")?;
    let bytes = number.checked_mul(unit.1).ok_or("too large")?;
    let bytes = in_range(bytes, range)?;
    usize::try_from(bytes).map_err(|_| "too large for this machine".into())
}

/// A number of requests in flight.
pub(super) fn concurrency(text: &str) -> Result<NonZeroUsize, InvalidValue> {
    count(text, &CONCURRENCIES)
}

/// A number of events in one request.
pub(super) fn batch_events(text: &str) -> Result<NonZeroUsize, InvalidValue> {
    count(text, &BATCH_EVENTS)
}

fn count(text: &str, range: &RangeInclusive<usize>) -> Result<NonZeroUsize, InvalidValue> {
    let number = text.parse().map_err(|_| "not a whole number in range")?;
    NonZeroUsize::new(in_range(number, range)?).ok_or("too small".into())
}

/// A rate: a decimal number such as `500` or `0.5`; no exponent, which nobody means.
pub(super) fn rate(text: &str) -> Result<f64, InvalidValue> {
    if text.bytes().any(|byte| !byte.is_ascii_digit() && byte != b'.') {
        return Err("not a positive number such as 500 or 0.5".into());
    }
    let rate = text.parse().map_err(|_| "not a positive number such as 500 or 0.5")?;
    in_range(rate, &RATES)
}

/// A number of attempts.
pub(super) fn attempts(text: &str) -> Result<NonZeroU32, InvalidValue> {
    let number = text.parse().map_err(|_| "not a whole number in range")?;
    NonZeroU32::new(in_range(number, &ATTEMPTS)?).ok_or("too small".into())
}

/// What RFC 3986 allows nowhere in a URL, besides everything that is not ASCII.
const UNSENDABLE: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// A URL as it can be sent: what is allowed in one stays to the letter, everything else is percent-encoded, and a host of another
/// script gets its name in DNS.
pub(super) fn sendable_url(text: &str) -> Result<String, InvalidValue> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(text.to_owned()) };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user_info, host) = match authority.rsplit_once('@') {
        Some((user_info, host)) => (format!("{}@", percent_encoded(user_info)), host),
        None => (String::new(), authority),
    };
    let host = if host.is_ascii() { host.to_owned() } else { ascii_host(host)? };
    Ok(format!("{scheme}://{user_info}{host}{}", percent_encoded(path)))
}

/// A percent sign that begins no code is one that was meant.
fn percent_encoded(text: &str) -> String {
    let encoded = utf8_percent_encode(text, UNSENDABLE).to_string();
    let mut parts = encoded.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |sent, part| {
        let is_code = part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
        format!("{sent}{}{part}", if is_code { "%" } else { "%25" })
    })
}

fn ascii_host(host: &str) -> Result<String, InvalidValue> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, format!(":{port}")),
        _ => (host, String::new()),
    };
    match url::Host::parse(name) {
        Ok(url::Host::Domain(name)) => Ok(format!("{name}{port}")),
        Ok(_) | Err(_) => Err("its host cannot be read".into()),
    }
}

/// `127.0.0.1:8080`; `[::]:8080`, or `:8080` for short, means every address of both families.
pub(super) fn address(text: &str) -> Result<SocketAddr, InvalidValue> {
    let parsed = match text.strip_prefix(':') {
        Some(port) => port.parse().ok().map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        None => text.parse().ok(),
    };
    parsed.ok_or("not an IP address and port".into())
}

/// A name that can be part of a path or a key in any store.
pub(super) fn group_name(text: &str) -> Result<String, InvalidValue> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if text.len() > 255 {
        return Err("too long".into());
    }
    match text.bytes().all(is_allowed) {
        true => Ok(text.to_owned()),
        false => Err("it has other characters".into()),
    }
}

/// Whether it can be the name of a consumer group.
#[cfg(feature = "scaler")]
pub(crate) fn is_group_name(text: &str) -> bool {
    group_name(text).is_ok()
}

fn in_range<T: PartialOrd>(value: T, range: &RangeInclusive<T>) -> Result<T, InvalidValue> {
    if value < *range.start() {
        return Err("too small".into());
    }
    if value > *range.end() {
        return Err("too large".into());
    }
    Ok(value)
}

/// A number for a hint; long ones are not repeated.
fn clipped(digits: &str) -> &str {
    if digits.len() <= 9 { digits } else { "30" }
}

/// Why two durations do not go together.
pub(super) fn reversed(low: &str, low_value: Duration, high: &str, high_value: Duration) -> InvalidValue {
    let (low_value, high_value) = (humantime::format_duration(low_value), humantime::format_duration(high_value));
    format!("{low} ({low_value}) is longer than {high} ({high_value})").into()
}

/// A closed set of names.
pub(super) trait Choice: Copy + 'static {
    /// Every variant with the name that selects it.
    const CHOICES: &'static [(&'static str, Self)];

    /// The variant of exactly this name.
    fn parse(name: &str) -> Result<Self, InvalidValue> {
        let choice = Self::CHOICES.iter().find(|(known, _)| *known == name);
        choice.map(|(_, choice)| *choice).ok_or("unknown value".into())
    }
}

/// A path is shown wherever its file is missing, so it must be none of the texts that may hold a secret.
pub(super) fn path(text: &str) -> Result<PathBuf, InvalidValue> {
    let small = text.to_ascii_lowercase();
    match ["http:", "https:", "http//", "https//", "://"].iter().any(|sign| small.contains(sign)) {
        true => Err("a URL and not a path".into()),
        false => Ok(PathBuf::from(text)),
    }
}

/// Defines an enum and the name of each variant; one more variant is one more line.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            pub(super) const NAMES: &'static [&'static str] = &[$($text),+];
        }

        impl $crate::config::parse::Choice for $name {
            const CHOICES: &'static [(&'static str, Self)] = &[$(($text, Self::$variant)),+];
        }
    };
}

pub(super) use choices;
