//! JSON numbers as whole milliseconds, without a float's surprises.

/// A number of seconds, as JSON writes it, in milliseconds; a finer fraction is cut off. Nothing if it is no number or
/// out of range.
pub(super) fn millis(seconds: &str) -> Option<i64> {
    let (mantissa, exponent) = match seconds.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (seconds, 0),
    };
    let (negative, mantissa) = mantissa
        .strip_prefix('-')
        .map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number = !whole.is_empty() && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number {
        return None;
    }
    let digits = whole.bytes().chain(fraction.bytes()).skip_while(|digit| *digit == b'0');
    let value = digits.clone().try_fold(0i128, |value, digit| {
        value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))
    })?;
    let scale = exponent
        .checked_add(3)?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scaled = if scale >= 0 {
        if value == 0 {
            0
        } else {
            value.checked_mul(10i128.checked_pow(scale.unsigned_abs())?)?
        }
    } else {
        10i128
            .checked_pow(scale.unsigned_abs())
            .map_or(0, |power| value / power)
    };
    i64::try_from(if negative { -scaled } else { scaled }).ok()
}

#[cfg(test)]
mod tests {
    use super::millis;
    use proptest::prelude::*;

    #[test]
    fn every_form_that_services_send_is_read_exactly() {
        assert_eq!(millis("1767323045"), Some(1_767_323_045_000));
        assert_eq!(millis("1.767323046E9"), Some(1_767_323_046_000));
        assert_eq!(millis("1767323051.789"), Some(1_767_323_051_789));
        assert_eq!(millis("1795225260.000"), Some(1_795_225_260_000));
        assert_eq!(millis("1.7673230519999E9"), Some(1_767_323_051_999));
        assert_eq!(millis("0"), Some(0));
        assert_eq!(millis("0e400"), Some(0));
        assert_eq!(millis("-1.5"), Some(-1_500));
        assert_eq!(millis("1e-400"), Some(0));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "-",
            "abc",
            "\"1\"",
            "1.2.3",
            "1e",
            "1e400",
            "{}",
            "99999999999999999999999999",
        ] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whole_milliseconds_survive(value in 0i64..99_999_999_999_999) {
            let text = format!("{}.{:03}", value / 1000, value % 1000);
            prop_assert_eq!(millis(&text), Some(value));
        }
    }
}
