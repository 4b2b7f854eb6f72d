//! Numbers as text: ints of any size, and floats as Python's `repr` writes them.
//!
//! Decimal conversion takes time quadratic in the number of digits, so it has the same limit as in Python. Longer ints
//! are written and read in hexadecimal (`0x...`), which takes linear time.

use num_bigint::BigUint;

/// The maximal number of decimal digits written or read (Python's `sys.int_info.default_max_str_digits`).
pub(crate) const MAX_DIGITS: usize = 4300;
/// An int with more bits than this has more digits than `MAX_DIGITS`.
const MAX_DECIMAL_BITS: u64 = 1786 * 8;

/// The text of an int, given as sign and little-endian magnitude.
pub(crate) fn int_text(negative: bool, magnitude: &[u8]) -> String {
    let magnitude = BigUint::from_bytes_le(magnitude);
    let sign = if negative { "-" } else { "" };
    if magnitude.bits() <= MAX_DECIMAL_BITS {
        let digits = magnitude.to_string();
        if digits.len() <= MAX_DIGITS {
            return format!("{sign}{digits}");
        }
    }
    format!("{sign}{magnitude:#x}")
}

/// An int that was parsed from text: sign and little-endian magnitude without trailing zeros.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BigInt {
    /// True if the int is below zero.
    pub(crate) negative: bool,
    /// Little-endian, without trailing zeros.
    pub(crate) magnitude: Vec<u8>,
}

impl BigInt {
    /// The int as 64 bits, if it fits.
    pub(crate) fn small(&self) -> Option<i64> {
        if self.magnitude.len() > 8 {
            return None;
        }
        let mut bytes = [0u8; 8];
        bytes[..self.magnitude.len()].copy_from_slice(&self.magnitude);
        let size = u64::from_le_bytes(bytes);
        if self.negative {
            0i64.checked_sub_unsigned(size)
        } else {
            i64::try_from(size).ok()
        }
    }
}

/// Parse an int as Python's `int(text, 0)` does for decimal and hexadecimal (leading zeros and single underscores
/// between digits are allowed). None if the text is not an int, or too long in decimal.
pub(crate) fn parse_int(text: &str) -> Option<BigInt> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hexadecimal = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X"));
    let digits = strip_underscores(hexadecimal.unwrap_or(body))?;
    if digits.is_empty() {
        return None;
    }
    let radix = if hexadecimal.is_some() { 16 } else { 10 };
    if (radix == 10 && digits.len() > MAX_DIGITS) || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let mut magnitude = BigUint::parse_bytes(digits.as_bytes(), radix)?.to_bytes_le();
    while magnitude.last() == Some(&0) {
        magnitude.pop();
    }
    Some(BigInt {
        negative: negative && !magnitude.is_empty(),
        magnitude,
    })
}

/// Remove underscores between digits; None if an underscore stands elsewhere.
fn strip_underscores(text: &str) -> Option<String> {
    if text.starts_with('_') || text.ends_with('_') || text.contains("__") {
        return None;
    }
    Some(text.chars().filter(|c| *c != '_').collect())
}

/// The text of a float, as Python's `repr` writes it: the shortest that reads back as the same float.
pub(crate) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    // Rust's digits are the shortest too; only the layout differs.
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    if !(-4..16).contains(&exponent) {
        let point = if digits.len() > 1 {
            format!("{}.{}", &digits[..1], &digits[1..])
        } else {
            digits
        };
        let mark = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{point}e{mark}{:02}", exponent.abs());
    }
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize));
    }
    let whole = exponent as usize + 1;
    if digits.len() > whole {
        format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
    } else {
        format!("{sign}{digits}{}.0", "0".repeat(whole - digits.len()))
    }
}

/// Parse a float as Python's `float(text)` does (without surrounding blanks).
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let text = strip_underscores(text)?;
    // Rust accepts the same forms as Python, and the empty string, which fails here.
    let body = text.trim_start_matches(['+', '-']);
    if body.is_empty() || text.len() - body.len() > 1 {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn floats_as_python_prints_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (123456.789, "123456.789"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.25e-7, "1.25e-07"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float_text(value), text);
        }
    }

    #[test]
    fn floats_read() {
        for bad in ["", "+", "--1", "1_", "_1", "1__0", "0x10", "1e", "abc"] {
            assert_eq!(parse_float(bad), None, "{bad}");
        }
        assert_eq!(parse_float("1_000.5"), Some(1000.5));
        assert_eq!(parse_float("-Infinity"), Some(f64::NEG_INFINITY));
        assert!(parse_float("NaN").is_some_and(f64::is_nan));
    }

    #[test]
    fn ints_read() {
        for bad in ["", "-", "+-1", "1.0", "0x", "1_", "__1", "1 2", "ten"] {
            assert_eq!(parse_int(bad), None, "{bad}");
        }
        assert_eq!(
            parse_int("-9223372036854775808").and_then(|i| i.small()),
            Some(i64::MIN)
        );
        assert_eq!(
            parse_int("9223372036854775807").and_then(|i| i.small()),
            Some(i64::MAX)
        );
        assert_eq!(parse_int("9223372036854775808").and_then(|i| i.small()), None);
        assert_eq!(parse_int("-0").map(|i| i.negative), Some(false));
        assert_eq!(parse_int("0xFf").and_then(|i| i.small()), Some(255));
        assert_eq!(parse_int(&"9".repeat(MAX_DIGITS + 1)), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn ints_come_back(negative: bool, mut magnitude in proptest::collection::vec(any::<u8>(), 0..80)) {
            while magnitude.last() == Some(&0) { magnitude.pop(); }
            let negative = negative && !magnitude.is_empty();
            let text = int_text(negative, &magnitude);
            prop_assert_eq!(parse_int(&text), Some(BigInt { negative, magnitude }));
        }

        #[test]
        fn small_ints_print_as_rust_prints_them(value: i64) {
            prop_assert_eq!(int_text(value < 0, &value.unsigned_abs().to_le_bytes()), value.to_string());
        }

        #[test]
        fn long_ints_come_back(byte in 1u8.., len in 1700usize..2000) {
            let text = int_text(true, &vec![byte; len]);
            prop_assert_eq!(parse_int(&text), Some(BigInt { negative: true, magnitude: vec![byte; len] }));
        }

        #[test]
        fn floats_come_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(parse_float(&float_text(value)).map(f64::to_bits), Some(bits));
        }
    }
}
