//! The order of keys, as Python compares them: numbers by value, str by code points, bytes by bytes, dates. Keys of
//! different families have no order, and neither have None and NaN.

use super::{DOUBLE, Num, num_float, num_int};
use crate::object::value::Key;
use std::cmp::Ordering;

/// Compare two keys. None if they have no order.
#[must_use]
pub fn order(a: &Key<'_>, b: &Key<'_>) -> Option<Ordering> {
    match (a, b) {
        // The order of UTF-8 is that of the code points, lone surrogates included.
        (Key::Str(a), Key::Str(b)) | (Key::Bytes(a), Key::Bytes(b)) => Some(a.cmp(b)),
        // The text of a date is as long as that of another, and has the year first.
        (Key::Typed(a), Key::Typed(b)) if &*a.name == "date" && &*b.name == "date" => {
            Some(a.payload.cmp(&b.payload))
        }
        _ => {
            let (mut here, mut there) = ([0; DOUBLE], [0; DOUBLE]);
            numbers(number(a, &mut here)?, number(b, &mut there)?)
        }
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
