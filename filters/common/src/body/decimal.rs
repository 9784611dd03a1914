//! Decimal numbers as whole ones, exactly: 19.99 times 100 is 1999, and never 1998.

/// Why a number is not a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWhole {
    /// It is not a number as JSON has them.
    NoNumber,
    /// Something is left behind the point.
    Fraction,
    /// It is beyond the 64 bits of an `i64`.
    TooLarge,
}

/// `number`, as JSON writes it, times `scale`, if that is whole. No floating-point number is involved: what is written is what counts.
pub fn scaled(number: &str, scale: u64) -> Result<i64, NotWhole> {
    let Parts {
        negative,
        digits,
        exponent,
    } = Parts::of(number).ok_or(NotWhole::NoNumber)?;
    let digits = times(digits, scale);
    let Some(last) = digits.iter().rposition(|digit| *digit != 0) else {
        return Ok(0);
    };
    let zeros = digits.len() - 1 - last;
    let exponent = exponent.saturating_add_unsigned(zeros as u64);
    if exponent < 0 {
        return Err(NotWhole::Fraction);
    }
    let mut value: i64 = 0;
    for digit in digits.iter().take(last + 1) {
        // Away from zero at each step, because there is one more number below it than above.
        let digit = i64::from(*digit);
        let digit = if negative { -digit } else { digit };
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(digit))
            .ok_or(NotWhole::TooLarge)?;
    }
    // It is not zero, so the loop has an early end, however large the exponent is.
    for _ in 0..exponent {
        value = value.checked_mul(10).ok_or(NotWhole::TooLarge)?;
    }
    Ok(value)
}

/// A number is `digits` (0 to 9 each, as a whole number) times ten to the power of `exponent`.
struct Parts {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Parts {
    fn of(number: &str) -> Option<Self> {
        let (negative, number) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number),
        };
        let (mantissa, power) = match number.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, Some(power)),
            None => (number, None),
        };
        let (before, after) = match mantissa.split_once('.') {
            Some((before, after)) => (before, Some(after)),
            None => (mantissa, None),
        };
        let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(before)
            || (before.len() > 1 && before.starts_with('0'))
            || !after.is_none_or(all_digits)
        {
            return None;
        }
        let power = match power {
            None => 0,
            Some(power) => {
                let (down, power) = match power.strip_prefix('-') {
                    Some(power) => (true, power),
                    None => (false, power.strip_prefix('+').unwrap_or(power)),
                };
                if !all_digits(power) {
                    return None;
                }
                // An exponent beyond this makes every number but zero too large or a fraction.
                let power = power.parse().unwrap_or(i64::MAX / 2);
                if down { -power } else { power }
            }
        };
        let after = after.unwrap_or_default();
        Some(Self {
            negative,
            digits: before
                .bytes()
                .chain(after.bytes())
                .map(|b| b - b'0')
                .collect(),
            exponent: power.saturating_sub_unsigned(after.len() as u64),
        })
    }
}

/// Long multiplication.
fn times(mut digits: Vec<u8>, scale: u64) -> Vec<u8> {
    let mut carry = 0;
    for digit in digits.iter_mut().rev() {
        carry += u128::from(*digit) * u128::from(scale);
        *digit = (carry % 10) as u8;
        carry /= 10;
    }
    while carry > 0 {
        digits.insert(0, (carry % 10) as u8);
        carry /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_exact() {
        use NotWhole::{Fraction, NoNumber, TooLarge};
        for (number, scale, expected) in [
            ("19.99", 100, Ok(1999)),
            ("19.999", 100, Err(Fraction)),
            ("0.07", 100, Ok(7)),
            ("1.10", 100, Ok(110)),
            ("4.35", 100, Ok(435)),
            ("-19.99", 100, Ok(-1999)),
            ("12", 1, Ok(12)),
            ("12.000", 1, Ok(12)),
            ("1e3", 1, Ok(1000)),
            ("1E+3", 1, Ok(1000)),
            ("1500e-2", 1, Ok(15)),
            ("15e-1", 1, Err(Fraction)),
            ("0.125", 8, Ok(1)),
            ("0.1", 3, Err(Fraction)),
            ("0", 100, Ok(0)),
            ("-0.00e99999999999999999999", 100, Ok(0)),
            ("9223372036854775807", 1, Ok(i64::MAX)),
            ("9223372036854775808", 1, Err(TooLarge)),
            ("-9223372036854775808", 1, Ok(i64::MIN)),
            ("-9223372036854775809", 1, Err(TooLarge)),
            (
                "0.9223372036854775807",
                10_000_000_000_000_000_000,
                Ok(i64::MAX),
            ),
            ("1e18", 1, Ok(1_000_000_000_000_000_000)),
            ("1e19", 1, Err(TooLarge)),
            ("1e99999999999999999999", 1, Err(TooLarge)),
            ("1e-99999999999999999999", u64::MAX, Err(Fraction)),
            ("1", u64::MAX, Err(TooLarge)),
            ("5e-1", u64::MAX - 1, Ok(i64::MAX)),
            ("", 1, Err(NoNumber)),
            ("-", 1, Err(NoNumber)),
            ("01", 1, Err(NoNumber)),
            ("+1", 1, Err(NoNumber)),
            ("1.", 1, Err(NoNumber)),
            (".5", 1, Err(NoNumber)),
            ("1e", 1, Err(NoNumber)),
            ("1e+-1", 1, Err(NoNumber)),
            ("1 ", 1, Err(NoNumber)),
            ("NaN", 1, Err(NoNumber)),
            ("0x10", 1, Err(NoNumber)),
            ("١", 1, Err(NoNumber)),
        ] {
            assert_eq!(scaled(number, scale), expected, "{number} times {scale}");
        }
    }

    /// The same with numbers that have no bounds.
    fn reference(whole: &BigInt, power: i32, scale: u64) -> Result<i64, NotWhole> {
        let ten = BigInt::from(10).pow(power.unsigned_abs());
        let scaled = whole * scale;
        let value = if power >= 0 {
            scaled * ten
        } else if &scaled % &ten == BigInt::ZERO {
            scaled / ten
        } else {
            return Err(NotWhole::Fraction);
        };
        value.try_into().map_err(|_| NotWhole::TooLarge)
    }

    /// Scales that amounts have, and others.
    fn scales() -> impl Strategy<Value = u64> {
        prop_oneof![
            (0..20_u32).prop_map(|power| 10_u64.pow(power)),
            (0..64_u32).prop_map(|power| 1 << power),
            1..1000_u64,
            1..=u64::MAX,
        ]
    }

    proptest! {
        #[test]
        fn it_is_what_unbounded_numbers_say(
            negative: bool,
            digits in "(0|[1-9][0-9]{0,30})0{0,8}",
            point in 0..40_usize,
            power in proptest::option::of(-40..40_i32),
            scale in scales(),
        ) {
            // The digits with a point somewhere in them.
            let digits = if digits.starts_with('0') { "0".to_owned() } else { digits };
            let mut number = if point == 0 {
                digits.clone()
            } else {
                let digits = format!("{digits:0>width$}", width = point + 1);
                let (before, after) = digits.split_at(digits.len() - point);
                format!("{before}.{after}")
            };
            if let Some(power) = power {
                number.push_str(&format!("e{power}"));
            }
            let mut whole: BigInt = digits.parse().unwrap();
            if negative {
                number.insert(0, '-');
                whole = -whole;
            }
            let power = power.unwrap_or(0) - point as i32;
            prop_assert_eq!(scaled(&number, scale), reference(&whole, power, scale), "{} times {}", number, scale);
        }

        #[test]
        fn cents_are_read_back(cents: i64) {
            let (sign, amount) = (if cents < 0 { "-" } else { "" }, cents.unsigned_abs());
            let number = format!("{sign}{}.{:02}", amount / 100, amount % 100);
            prop_assert_eq!(scaled(&number, 100), Ok(cents));
        }

        #[test]
        fn what_is_a_number_is_what_json_says(text in "[-+0-9.eE]{0,8}") {
            let number = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(scaled(&text, 1) != Err(NotWhole::NoNumber), number);
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}", scale: u64) {
            let _ = scaled(&text, scale);
        }
    }
}
