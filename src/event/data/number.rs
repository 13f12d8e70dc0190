//! Decimal numbers as JSON writes them (RFC 8259, section 6).

/// Appends the JSON number that a decimal text stands for, all its digits kept; tells whether it stands for one.
///
/// What JSON forbids is put right: `+1` is 1, `007` is 7, `.5` is 0.5, `1.` is 1.
pub(super) fn push(json: &mut Vec<u8>, text: &str) -> bool {
    let Some(number) = Decimal::parse(text) else {
        return false;
    };
    json.extend_from_slice(if number.negative { b"-" } else { b"" });
    let whole = number.whole.trim_start_matches('0');
    json.extend_from_slice(if whole.is_empty() { b"0" } else { whole.as_bytes() });
    if !number.fraction.is_empty() {
        json.push(b'.');
        json.extend_from_slice(number.fraction.as_bytes());
    }
    json.extend_from_slice(number.exponent.as_bytes());
    true
}

/// The parts of a decimal number.
struct Decimal<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    /// With its letter, or nothing.
    exponent: &'a str,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = unsigned.split_at(unsigned.find(['e', 'E']).unwrap_or(unsigned.len()));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_decimal = are_digits(whole) && are_digits(fraction) && !(whole.is_empty() && fraction.is_empty());
        (is_decimal && is_exponent(exponent)).then_some(Self { negative, whole, fraction, exponent })
    }
}

fn are_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_exponent(text: &str) -> bool {
    let digits = text.get(1..).map(|signed| signed.strip_prefix(['+', '-']).unwrap_or(signed));
    digits.is_none_or(|digits| !digits.is_empty() && are_digits(digits))
}

#[cfg(test)]
mod tests {
    use super::push;

    fn written(text: &str) -> Option<String> {
        let mut json = Vec::new();
        push(&mut json, text).then(|| String::from_utf8(json).expect("ASCII"))
    }

    #[test]
    fn what_json_can_write_stays_as_it_is() {
        for text in ["0", "-0", "7", "-12.5", "0.5", "10", "1E-130", "9.9E+125", "1e007", "1.50", "0E0"] {
            assert_eq!(written(text).as_deref(), Some(text));
        }
        let digits = "-1.2345678901234567890123456789012345678";
        assert_eq!(written(digits).as_deref(), Some(digits));
    }

    #[test]
    fn what_json_forbids_becomes_the_same_number_as_json_writes_it() {
        for (text, number) in [
            ("+1", "1"),
            (".5", "0.5"),
            ("-.5", "-0.5"),
            ("1.", "1"),
            ("-1.E5", "-1E5"),
            ("007", "7"),
            ("-007.10", "-7.10"),
            ("00", "0"),
            ("+00.5e+3", "0.5e+3"),
        ] {
            assert_eq!(written(text).as_deref(), Some(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", ".", "-", "+", "+-1", "e5", ".e5", "1e", "1e+", "1e5.5", "1.2.3", "NaN", "Infinity", " 1", "1 ", "0x1",
            "１",
        ] {
            assert_eq!(written(text), None, "{text:?}");
        }
    }
}
