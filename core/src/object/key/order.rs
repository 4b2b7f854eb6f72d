//! The order of keys, as Python compares them: numbers of all types by value, str by code points, bytes by bytes,
//! dates, times and datetimes (those with an offset by the moment, and not with those without), timedeltas, UUIDs. Keys
//! of different families have no order, and neither have None, complex numbers and NaN.

use super::{DOUBLE, Num, num_float, num_int};
use crate::object::canonical::{self, Form};
use crate::object::value::Key;
use std::cmp::Ordering;

/// Compare two keys. None if they have no order.
#[must_use]
pub fn order(a: &Key<'_>, b: &Key<'_>) -> Option<Ordering> {
    match (a, b) {
        // The order of UTF-8 is that of the code points, lone surrogates included.
        (Key::Str(a), Key::Str(b)) | (Key::Bytes(a), Key::Bytes(b)) => Some(a.cmp(b)),
        (Key::Typed(_), _) | (_, Key::Typed(_)) => typed(a, b),
        _ => {
            let (mut here, mut there) = ([0; DOUBLE], [0; DOUBLE]);
            numbers(number(a, &mut here)?, number(b, &mut there)?)
        }
    }
}

#[cold]
fn typed(a: &Key<'_>, b: &Key<'_>) -> Option<Ordering> {
    if let (Key::Typed(a), Key::Typed(b)) = (a, b)
        && a.name == b.name
    {
        match &*a.name {
            // The text of one is as long as that of another, with the year or the highest digit first.
            "date" | "uuid" => return Some(a.payload.cmp(&b.payload)),
            "timedelta" => return Some(delta(&a.payload)?.cmp(&delta(&b.payload)?)),
            _ => {}
        }
    }
    canonical::compare(&form(a)?, &form(b)?)
}

/// The form of a key whose type has an order.
fn form(key: &Key<'_>) -> Option<Form> {
    Some(match *key {
        Key::Int(n) => Form::Int(n < 0, n.unsigned_abs().to_le_bytes().to_vec()),
        Key::Bool(b) => Form::Int(false, vec![u8::from(b)]),
        Key::Float(x) => canonical::float(x),
        Key::BigInt { negative, magnitude } => Form::Int(negative, magnitude.to_vec()),
        Key::Typed(typed) if ["decimal", "fraction", "datetime", "time"].contains(&&*typed.name) => {
            canonical::form(&typed.name, &typed.payload)?
        }
        Key::Str(_) | Key::Bytes(_) | Key::None | Key::Typed(_) => return None,
    })
}

/// The days, seconds and microseconds of `P-1DT3600.000001S`.
fn delta(text: &[u8]) -> Option<(i64, i64, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (days, clock) = text.strip_prefix('P')?.strip_suffix('S')?.split_once("DT")?;
    let (seconds, micros) = clock.split_once('.').unwrap_or((clock, "0"));
    Some((days.parse().ok()?, seconds.parse().ok()?, micros.parse().ok()?))
}

/// The type of a key, for the error that it has no order.
pub fn type_name<'a>(key: &'a Key<'_>) -> &'a str {
    match key {
        Key::Str(_) => "str",
        Key::Bytes(_) => "bytes",
        Key::Int(_) | Key::BigInt { .. } => "int",
        Key::Bool(_) => "bool",
        Key::Float(x) if x.is_nan() => "float (NaN)",
        Key::Float(_) => "float",
        Key::None => "NoneType",
        Key::Typed(typed) => match (&*typed.name, form(key)) {
            ("decimal", _) => "Decimal",
            ("fraction", _) => "Fraction",
            ("uuid", _) => "UUID",
            ("datetime", Some(Form::Other(bytes))) if bytes.first() == Some(&b'e') => {
                "datetime with an offset"
            }
            ("time", Some(Form::Other(bytes))) if bytes.first() == Some(&b'i') => "time with an offset",
            (name, _) => name,
        },
    }
}

fn number<'a>(key: &Key<'a>, buf: &'a mut [u8; DOUBLE]) -> Option<Num<'a>> {
    match *key {
        Key::Int(n) => Some(Num::Int(n)),
        Key::Bool(b) => Some(Num::Int(i64::from(b))),
        Key::Float(x) => Some(num_float(x, buf)),
        Key::BigInt { negative, magnitude } => Some(num_int(negative, magnitude)),
        Key::Str(_) | Key::Bytes(_) | Key::None | Key::Typed(_) => None,
    }
}

fn numbers(a: Num<'_>, b: Num<'_>) -> Option<Ordering> {
    Some(match (a, b) {
        (Num::Int(a), Num::Int(b)) => a.cmp(&b),
        (
            Num::Big { negative, magnitude },
            Num::Big {
                negative: n,
                magnitude: m,
            },
        ) => match (negative, n) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => magnitudes(magnitude, m),
            (true, true) => magnitudes(m, magnitude),
        },
        (Num::Int(_), Num::Big { negative, .. }) => below(negative).reverse(),
        (Num::Big { negative, .. }, Num::Int(_)) => below(negative),
        // What is left of floats: fractions, which are below 2^53, infinities and NaN.
        (Num::Float(a), Num::Float(b)) => return f64::from_bits(a).partial_cmp(&f64::from_bits(b)),
        (Num::Float(x), other) => return fraction(f64::from_bits(x), other),
        (other, Num::Float(x)) => return fraction(f64::from_bits(x), other).map(Ordering::reverse),
    })
}

/// The order of a number that is beyond all that have 64 bits, and one of these.
fn below(negative: bool) -> Ordering {
    if negative {
        Ordering::Less
    } else {
        Ordering::Greater
    }
}

fn magnitudes(a: &[u8], b: &[u8]) -> Ordering {
    a.len()
        .cmp(&b.len())
        .then_with(|| a.iter().rev().cmp(b.iter().rev()))
}

/// Compare a float that is not integral with a number that is.
fn fraction(x: f64, other: Num<'_>) -> Option<Ordering> {
    if x.is_nan() {
        return None;
    }
    if x.is_infinite() {
        return Some(below(x < 0.0));
    }
    Some(match other {
        Num::Int(n) => {
            if (x.floor() as i64) < n {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        Num::Big { negative, .. } => below(negative).reverse(),
        Num::Float(_) => return None,
    })
}
