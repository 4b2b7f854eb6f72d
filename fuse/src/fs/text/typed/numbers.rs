//! Texts of numbers, ranges and UUIDs.

use crate::fs::text::numbers::{MAX_DIGITS, float_text, parse_float, parse_int};
use persist_core::store::door::literal;

pub(super) fn is_decimal(text: &str) -> bool {
    const MOST: i64 = 999_999_999_999_999_999;
    let body = text.strip_prefix('-').unwrap_or(text);
    let all_digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if body == "Infinity" {
        return true;
    }
    if let Some(payload) = body.strip_prefix("sNaN").or_else(|| body.strip_prefix("NaN")) {
        return all_digits(payload) && !payload.starts_with('0') && payload.len() <= MAX_DIGITS;
    }
    let (mantissa, exponent) = body.split_once('E').unwrap_or((body, "+0"));
    let exponent = match exponent.strip_prefix('+') {
        Some(digits) if all_digits(digits) => digits.parse().ok(),
        Some(_) => None,
        None if exponent.starts_with('-') => exponent.parse::<i64>().ok(),
        None => None,
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let is_number = !whole.is_empty() && !part.is_empty() && all_digits(whole) && all_digits(part);
    is_number && exponent.is_some_and(|e: i64| e.saturating_abs() < MOST - mantissa.len() as i64)
}

pub(super) fn is_fraction(text: &str) -> bool {
    let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
    let is_int = |text: &str| {
        !text.contains(['_', '+', ' ', 'X'])
            && parse_int(text).is_some()
            && (text.contains('x') || text.len() <= MAX_DECIMAL)
    };
    is_int(numerator)
        && is_int(denominator)
        && parse_int(denominator).is_some_and(|n| !n.negative && !n.magnitude.is_empty())
}

/// Decimal digits that every configuration of Python reads.
const MAX_DECIMAL: usize = 618;

pub(super) fn is_uuid(text: &str) -> bool {
    let lower = |group: &str| group.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(lower)
}

/// A float as Python writes it, without a sign.
fn is_float(text: &str) -> bool {
    parse_float(text).is_some_and(|x| float_text(x) == text)
}

pub(super) fn is_complex(text: &str) -> bool {
    let Some(body) = text.strip_suffix('j') else {
        return false;
    };
    // The sign of the imaginary part is the last one that is not of an exponent.
    let sign = body
        .char_indices()
        .rev()
        .find(|(at, c)| matches!(c, '+' | '-') && *at > 0 && !body[..*at].ends_with('e'));
    let Some((at, _)) = sign else {
        return false;
    };
    is_float(&body[..at]) && is_float(&body[at + 1..]) && !body[at + 1..].starts_with('-')
}

pub(super) fn is_range(text: &str) -> bool {
    let inside = text
        .strip_prefix("range(")
        .and_then(|rest| rest.strip_suffix(')'));
    let parts: Vec<&str> = inside.map_or(Vec::new(), |inside| inside.split(", ").collect());
    let is_int = |text: &&str| {
        let is_literal = literal::is_normal(format!("({text},)").as_bytes(), false, &|_, _, _| false);
        let is_number = text
            .trim_start_matches('-')
            .starts_with(|c: char| c.is_ascii_digit());
        is_literal && is_number && (text.contains("0x") || !text.contains(['.', 'e', 'n']))
    };
    parts.len() == 3 && parts.iter().all(is_int) && parts[2] != "0"
}

/// A scalar of numpy.
pub(super) fn is_numpy(kind: &str, text: &str) -> bool {
    let int = |least: i128, most: i128| {
        text.parse::<i128>()
            .is_ok_and(|n| (least..=most).contains(&n) && n.to_string() == text)
    };
    match kind {
        "bool" => matches!(text, "True" | "False"),
        "int8" => int(i8::MIN.into(), i8::MAX.into()),
        "int16" => int(i16::MIN.into(), i16::MAX.into()),
        "int32" => int(i32::MIN.into(), i32::MAX.into()),
        "int64" => int(i64::MIN.into(), i64::MAX.into()),
        "uint8" => int(0, u8::MAX.into()),
        "uint16" => int(0, u16::MAX.into()),
        "uint32" => int(0, u32::MAX.into()),
        "uint64" => int(0, u64::MAX.into()),
        "float16" | "float32" | "float64" => is_float(text),
        "complex64" | "complex128" => is_complex(text),
        _ if kind.starts_with("datetime64[") || kind.starts_with("timedelta64[") => {
            int(i64::MIN.into(), i64::MAX.into())
        }
        // A type that this version does not know is opaque to Python as well.
        _ => true,
    }
}
