//! The exact values of numbers of other types: `1.50`, `-1E+7`, `2/3`, `1.0-2.5j`.
//!
//! A ratio that is not a float is in lowest terms, so equal numbers of all types have one form. The work is bounded:
//! larger numbers have no form.

use super::form::{Form, sized};
use crate::object::literal::{Token, from_decimal, number, trim};
use std::cmp::Ordering;

/// Decimal digits of the largest decimal, before and behind the point.
const DIGITS: usize = 308;
/// Bytes of the magnitudes of the largest fraction.
const MAGNITUDE: usize = 128;

/// Return the form of a float.
pub(crate) fn float(x: f64) -> Form {
    match integral(x) {
        Some((negative, magnitude)) => Form::Int(negative, magnitude),
        None => Form::Float(x.to_bits()),
    }
}

/// Return a finite integral float as sign and magnitude.
fn integral(x: f64) -> Option<(bool, Vec<u8>)> {
    if !x.is_finite() || x.fract() != 0.0 {
        return None;
    }
    let bits = x.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32 - 1075;
    if x == 0.0 {
        return Some((false, Vec::new()));
    }
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    let mut magnitude = if exponent <= 0 {
        (mantissa >> -exponent).to_le_bytes().to_vec()
    } else {
        let mut m = vec![0; exponent as usize / 8];
        m.extend_from_slice(&(u128::from(mantissa) << (exponent % 8)).to_le_bytes());
        m
    };
    trim(&mut magnitude);
    Some((x < 0.0, magnitude))
}

/// Return the form of a decimal as Python writes it. A NaN equals nothing, and has none.
pub(super) fn decimal(text: &str) -> Option<Form> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text),
    };
    if body == "Infinity" {
        let infinity = if negative {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        };
        return Some(Form::Float(infinity.to_bits()));
    }
    let (mantissa, exponent) = body.split_once(['E', 'e']).unwrap_or((body, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.parse().ok()?;
    let all: Vec<u8> = whole.bytes().chain(part.bytes()).collect();
    if all.is_empty() || all.len() > 2 * DIGITS || !all.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let zeros = all.iter().rev().take_while(|c| **c == b'0').count();
    let significant = &all[..all.len() - zeros];
    if significant.is_empty() {
        return Some(Form::Int(false, Vec::new()));
    }
    let exponent = exponent
        .checked_sub(part.len() as i64)?
        .checked_add(zeros as i64)?;
    let most = DIGITS as i64;
    if !(-most..=most).contains(&exponent) || exponent + significant.len() as i64 > most {
        return None;
    }
    if exponent >= 0 {
        let digits = [significant, &vec![b'0'; exponent as usize]].concat();
        return Some(Form::Int(negative, from_decimal(&digits)));
    }
    let power = [&b"1"[..], &vec![b'0'; -exponent as usize]].concat();
    ratio(negative, from_decimal(significant), from_decimal(&power))
}

/// Return the form of a fraction as Python writes it.
pub(super) fn fraction(text: &str) -> Option<Form> {
    let int = |text: &str| match number(text) {
        Some(Token::Int(negative, magnitude)) => Some((negative, magnitude)),
        _ => None,
    };
    let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
    let (negative, numerator) = int(numerator)?;
    match int(denominator)? {
        (false, denominator) if !denominator.is_empty() => ratio(negative, numerator, denominator),
        _ => None,
    }
}

/// Return the form of a complex number as Python writes it; None if a part is NaN.
pub(super) fn complex(text: &str) -> Option<Form> {
    let body = text.strip_suffix('j')?;
    // The sign of the imaginary part is the last one that is not of an exponent.
    let (at, _) = body
        .char_indices()
        .rev()
        .find(|(at, c)| matches!(c, '+' | '-') && *at > 0 && !body[..*at].ends_with('e'))?;
    let (real, imaginary): (f64, f64) = (body[..at].parse().ok()?, body[at..].parse().ok()?);
    if real.is_nan() || imaginary.is_nan() {
        return None;
    }
    if imaginary == 0.0 {
        return Some(float(real));
    }
    // Adding zero makes of -0.0 the 0.0 that it equals.
    let (real, imaginary) = (real + 0.0, imaginary + 0.0);
    let mut out = Vec::new();
    sized(
        &mut out,
        b'c',
        &[real.to_le_bytes(), imaginary.to_le_bytes()].concat(),
    );
    Some(Form::Other(out))
}

/// Return the form of a ratio.
fn ratio(negative: bool, numerator: Vec<u8>, denominator: Vec<u8>) -> Option<Form> {
    if numerator.len() > MAGNITUDE || denominator.len() > MAGNITUDE {
        return None;
    }
    if numerator.is_empty() {
        return Some(Form::Int(false, numerator));
    }
    let (mut n, mut d) = (limbs(&numerator), limbs(&denominator));
    let twos = zeros(&n).min(zeros(&d));
    shift_right(&mut n, twos);
    shift_right(&mut d, twos);
    let common = odd_divisor(&n, &d);
    if common != [1] {
        n = quotient(n, &common);
        d = quotient(d, &common);
    }
    if d == [1] {
        return Some(Form::Int(negative, magnitude(&n)));
    }
    let places = zeros(&d);
    if bits(&d) == places + 1 && bits(&n) <= 53 && places <= 1074 {
        // The product is exact: the numerator is odd, and neither has more bits than a float.
        let unit = match places {
            ..=1022 => f64::from_bits((1023 - places as u64) << 52),
            _ => f64::from_bits(1 << (1074 - places)),
        };
        let x = n
            .iter()
            .rev()
            .fold(0.0, |x, limb| x * 4_294_967_296.0 + f64::from(*limb))
            * unit;
        return Some(Form::Float(if negative { -x } else { x }.to_bits()));
    }
    let mut out = vec![b'R', u8::from(negative)];
    sized(&mut out, b'+', &magnitude(&n));
    sized(&mut out, b'+', &magnitude(&d));
    Some(Form::Other(out))
}

/// A finite number as sign, numerator and denominator.
pub(super) struct Ratio {
    negative: bool,
    numerator: Vec<u32>,
    denominator: Vec<u32>,
}

impl Ratio {
    /// Return the finite number that a form is.
    pub(super) fn of(form: &Form) -> Option<Ratio> {
        let (negative, numerator, denominator) = match form {
            Form::Int(negative, magnitude) => (*negative, limbs(magnitude), vec![1]),
            Form::Float(bits) => {
                let x = f64::from_bits(*bits);
                if !x.is_finite() {
                    return None;
                }
                let (fraction, exponent) = (bits & ((1 << 52) - 1), bits >> 52 & 0x7ff);
                // A subnormal number has the exponent of the smallest normal one, and no hidden bit.
                let (mantissa, exponent) = match exponent {
                    0 => (fraction, 1),
                    exponent => (fraction | 1 << 52, exponent as usize),
                };
                let (up, down) = (exponent.saturating_sub(1075), 1075usize.saturating_sub(exponent));
                let mantissa = limbs(&mantissa.to_le_bytes());
                (x < 0.0, shift_left(&mantissa, up), shift_left(&[1], down))
            }
            Form::Other(bytes) => {
                let (negative, rest) = bytes.strip_prefix(b"R")?.split_first()?;
                let (numerator, rest) = part(rest)?;
                (*negative != 0, limbs(numerator), limbs(part(rest)?.0))
            }
        };
        Some(Ratio {
            negative,
            numerator,
            denominator,
        })
    }

    fn sign(&self) -> i8 {
        match (self.numerator.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    /// Compare the values, exactly.
    pub(super) fn compare(&self, other: &Ratio) -> Ordering {
        let signs = self.sign().cmp(&other.sign());
        if signs.is_ne() || self.sign() == 0 {
            return signs;
        }
        let (a, b) = (
            (&self.numerator, &other.denominator),
            (&other.numerator, &self.denominator),
        );
        // A product has as many bits as both factors together, or one less: that decides between an integer of any
        // length and a ratio, whose length is bounded.
        let (here, there) = (bits(a.0) + bits(a.1), bits(b.0) + bits(b.1));
        let sizes = if here < there.saturating_sub(1) {
            Ordering::Less
        } else if there < here.saturating_sub(1) {
            Ordering::Greater
        } else if self.denominator == other.denominator {
            compare(a.0, b.0)
        } else {
            compare(&product(a.0, a.1), &product(b.0, b.1))
        };
        if self.negative { sizes.reverse() } else { sizes }
    }
}

/// Split off a number of the bytes of a form (`sized`).
fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(5)?;
    let len = u32::from_le_bytes(head.get(1..)?.try_into().ok()?);
    rest.split_at_checked(len as usize)
}

// --- natural numbers: limbs of 32 bits, the lowest first, the highest not zero --------------------

fn limbs(magnitude: &[u8]) -> Vec<u32> {
    let mut limbs: Vec<u32> = magnitude
        .chunks(4)
        .map(|chunk| chunk.iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte)))
        .collect();
    strip(&mut limbs);
    limbs
}

fn magnitude(limbs: &[u32]) -> Vec<u8> {
    let mut bytes: Vec<u8> = limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
    trim(&mut bytes);
    bytes
}

fn strip(n: &mut Vec<u32>) {
    while n.last() == Some(&0) {
        n.pop();
    }
}

fn bits(n: &[u32]) -> usize {
    n.last()
        .map_or(0, |last| n.len() * 32 - last.leading_zeros() as usize)
}

/// Return how often two divides a number, which is not zero.
fn zeros(n: &[u32]) -> usize {
    let low = n.iter().take_while(|limb| **limb == 0).count();
    low * 32 + n.get(low).map_or(0, |limb| limb.trailing_zeros() as usize)
}

fn shift_right(n: &mut Vec<u32>, by: usize) {
    n.drain(..by / 32);
    if !by.is_multiple_of(32) {
        let mut carry = 0;
        for limb in n.iter_mut().rev() {
            let low = *limb << (32 - by % 32);
            *limb = *limb >> (by % 32) | carry;
            carry = low;
        }
    }
    strip(n);
}

fn product(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut out = vec![0u32; a.len() + b.len()];
    for (i, x) in a.iter().enumerate() {
        let mut carry = 0;
        for (j, y) in b.iter().enumerate() {
            let wide = u64::from(*x) * u64::from(*y) + u64::from(out[i + j]) + carry;
            out[i + j] = wide as u32;
            carry = wide >> 32;
        }
        out[i + b.len()] = carry as u32;
    }
    strip(&mut out);
    out
}

fn compare(a: &[u32], b: &[u32]) -> Ordering {
    a.len()
        .cmp(&b.len())
        .then_with(|| a.iter().rev().cmp(b.iter().rev()))
}

/// Subtract a number that is not larger.
fn subtract(a: &mut Vec<u32>, b: &[u32]) {
    let mut borrow = false;
    for (i, limb) in a.iter_mut().enumerate() {
        let (n, first) = limb.overflowing_sub(b.get(i).copied().unwrap_or(0));
        let (n, second) = n.overflowing_sub(u32::from(borrow));
        (*limb, borrow) = (n, first || second);
    }
    strip(a);
}

/// Return the largest odd number that divides both; neither is zero.
fn odd_divisor(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    let by = zeros(&a);
    shift_right(&mut a, by);
    loop {
        let by = zeros(&b);
        shift_right(&mut b, by);
        if compare(&a, &b).is_gt() {
            std::mem::swap(&mut a, &mut b);
        }
        subtract(&mut b, &a);
        if b.is_empty() {
            return a;
        }
    }
}

/// Divide a number by one that divides it, bit by bit.
fn quotient(mut n: Vec<u32>, by: &[u32]) -> Vec<u32> {
    let mut result = vec![0; n.len()];
    let top = bits(&n) - bits(by);
    let mut shifted = shift_left(by, top);
    for place in (0..=top).rev() {
        if compare(&n, &shifted).is_ge() {
            subtract(&mut n, &shifted);
            result[place / 32] |= 1 << (place % 32);
        }
        shift_right(&mut shifted, 1);
    }
    strip(&mut result);
    result
}

fn shift_left(n: &[u32], by: usize) -> Vec<u32> {
    let mut out = vec![0; by / 32];
    let mut carry = 0;
    for limb in n {
        let wide = u64::from(*limb) << (by % 32) | carry;
        out.push(wide as u32);
        carry = wide >> 32;
    }
    out.push(carry as u32);
    strip(&mut out);
    out
}
