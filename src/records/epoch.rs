//! Moments as AWS's JSON writes them: seconds since 1970 as a number, whole or with a fraction, sometimes with an
//! exponent (`1.767323046E9`), from emulators also as text (`"1795225260.000"`).

/// The milliseconds since 1970 that a JSON number, or a JSON string that holds one, stands for; what is finer is cut
/// off. Computed in integers, so no digit is lost. Absent for what is no such moment or lies before 1970.
pub(super) fn millis(raw: &str) -> Option<i64> {
    let number = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw);
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number = !whole.is_empty() && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number {
        return None;
    }
    let places = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(3)?;
    shifted(whole.bytes().chain(fraction.bytes()), places)
}

/// The first `places` digits as a number; zeros follow where there are fewer.
fn shifted(digits: impl Iterator<Item = u8>, places: i32) -> Option<i64> {
    let mut number: i64 = 0;
    let mut left = places;
    for digit in digits {
        if left <= 0 {
            return Some(number);
        }
        number = number.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
        left -= 1;
    }
    if number == 0 { Some(0) } else { 10_i64.checked_pow(u32::try_from(left.max(0)).ok()?)?.checked_mul(number) }
}

#[cfg(test)]
mod tests {
    use super::millis;

    #[test]
    fn every_form_on_the_wire_is_exact_to_the_millisecond() {
        let forms = [
            ("1767323045", 1_767_323_045_000),
            ("1.767323046E9", 1_767_323_046_000),
            ("1.767323046e+9", 1_767_323_046_000),
            ("1767323051.789", 1_767_323_051_789),
            ("\"1795225260.000\"", 1_795_225_260_000),
            ("1767323051.7899999", 1_767_323_051_789),
            ("17673230517890000E-7", 1_767_323_051_789),
            ("0", 0),
            ("0.0005", 0),
            ("0E99", 0),
            ("00000000000000000000000000001", 1_000),
        ];
        for (raw, expected) in forms {
            assert_eq!(millis(raw), Some(expected), "{raw}");
        }
    }

    #[test]
    fn what_is_no_moment_is_absent() {
        for raw in
            ["", "\"\"", "null", "true", "-1", "1E", "1E9999999999", "1E30", ".5", "1.2.3", "12a", "\"soon\"", "{}"]
        {
            assert_eq!(millis(raw), None, "{raw}");
        }
    }

    #[test]
    fn no_millisecond_of_a_thousand_is_rounded_away() {
        for milli in 0..1000_i64 {
            assert_eq!(millis(&format!("1767323051.{milli:03}")), Some(1_767_323_051_000 + milli));
        }
    }
}
