//! The text of a tuple or frozenset: its grammar and its one form.
//!
//! Invariants:
//! 1. A value has one text: `normal` of a text is the text, or it is refused. So texts that differ are different
//!    values, or values that are equal and not the same, as `(1,)` and `(1.0,)`.
//! 2. No recursion, at most `DEPTH` levels: the text may come from anywhere.
//!
//! | VALUE | TEXT |
//! | --- | --- |
//! | None, True, False | as they are |
//! | int of at most 2048 bits | decimal |
//! | longer int | `0x` and hexadecimal digits |
//! | float | as Python's `repr` writes it; a NaN with other bits than Python's: `nan:` and 16 hexadecimal digits |
//! | str | in `'`; `\\`, `\'`, `\n`, `\r`, `\t`; other control characters `\x1b`; surrogates `\udc80` |
//! | bytes | the same with `b` in front; bytes beyond ASCII `\xff` |
//! | tuple | `()`, `(1,)`, `(1, 2)` |
//! | frozenset | `{}`, `{1, 2}`, in the order of the texts |
//! | other types | the name, then the content as str or bytes: `date('2026-11-30')`; a name that is not of `a`-`z` and `_` is a str: `'a.b'('c')` |

use std::fmt::Write as _;

/// The most levels of tuples in tuples.
pub const DEPTH: usize = 100;
/// Ints of more bits are written in hexadecimal.
const DECIMAL_BITS: usize = 2048;
/// Decimal digits of the longest int in decimal.
const DECIMAL_DIGITS: usize = 617;

/// A part of a text.
#[derive(Clone, PartialEq, Debug)]
pub enum Token {
    /// A tuple begins, or a frozenset.
    Open {
        /// True for a frozenset.
        set: bool,
    },
    /// It ends.
    Close,
    /// None.
    None,
    /// A bool.
    Bool(bool),
    /// An int: sign and little-endian magnitude without trailing zeros.
    Int(bool, Vec<u8>),
    /// A float.
    Float(f64),
    /// A str: generalized UTF-8.
    Str(Vec<u8>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A value of another type: its name, its content, and whether that is text.
    Typed(String, Vec<u8>, bool),
}

/// Return whether the text is the one text of a tuple (`set`: of a frozenset). `valid` judges each value of another
/// type in it: its name, its content, and whether that is text.
#[must_use]
pub fn is_normal(text: &[u8], set: bool, valid: &dyn Fn(&str, &[u8], bool) -> bool) -> bool {
    let mut first = true;
    walk(text, &mut |token| {
        let fits = !first || matches!(token, Token::Open { set: s } if *s == set);
        first = false;
        fits && match token {
            Token::Typed(name, content, text) => valid(name, content, *text),
            _ => true,
        }
    })
    .is_some()
        && !first
}

/// Take the zeros off a magnitude's end.
pub(super) fn trim(magnitude: &mut Vec<u8>) {
    while magnitude.last() == Some(&0) {
        magnitude.pop();
    }
}

/// An open tuple or frozenset: whether it is a frozenset, its items so far, and where the last one began and ended.
struct Level {
    set: bool,
    items: usize,
    last: (usize, usize),
}

/// Call `f` with the parts of a text until it returns false. Return None if it did, or the text is not in its one form.
pub(super) fn walk(text: &[u8], f: &mut dyn FnMut(&Token) -> bool) -> Option<()> {
    let mut at = 0;
    let mut levels: Vec<Level> = Vec::new();
    let mut began = Vec::new();
    loop {
        // A value begins here.
        let start = at;
        if let Some(open @ (b'(' | b'{')) = text.get(at).copied() {
            let set = open == b'{';
            if levels.len() >= DEPTH || !f(&Token::Open { set }) {
                return None;
            }
            at += 1;
            levels.push(Level {
                set,
                items: 0,
                last: (0, 0),
            });
            began.push(start);
            if text.get(at).is_some_and(|c| *c != if set { b'}' } else { b')' }) {
                continue;
            }
        } else {
            let token = scalar(text, &mut at)?;
            if levels.is_empty() || !f(&token) {
                return None;
            }
            ended(text, levels.last_mut()?, start, at)?;
        }
        // An item has ended, or an empty tuple has begun.
        while let Some(level) = levels.last() {
            let close = if level.set { b'}' } else { b')' };
            let rest = &text[at..];
            let closing = match (level.set, level.items) {
                (false, 1) if rest.starts_with(b",)") => 2,
                (false, 1) => 0,
                _ => usize::from(rest.first() == Some(&close)),
            };
            if closing == 0 {
                if level.items == 0 || !rest.starts_with(b", ") {
                    return None;
                }
                at += 2;
                break;
            }
            at += closing;
            if !f(&Token::Close) {
                return None;
            }
            levels.pop();
            let start = began.pop()?;
            if let Some(level) = levels.last_mut() {
                ended(text, level, start, at)?;
            }
        }
        if levels.is_empty() {
            return (at == text.len()).then_some(());
        }
    }
}

/// Count an item. Those of a frozenset are in the order of their texts.
fn ended(text: &[u8], level: &mut Level, start: usize, end: usize) -> Option<()> {
    if level.set && level.items > 0 && text[level.last.0..level.last.1] >= text[start..end] {
        return None;
    }
    level.items += 1;
    level.last = (start, end);
    Some(())
}

/// Read a value other than a tuple or frozenset.
fn scalar(text: &[u8], at: &mut usize) -> Option<Token> {
    let rest = &text[*at..];
    if rest.starts_with(b"'") {
        let s = quoted(text, at, false)?;
        if text.get(*at) != Some(&b'(') {
            return Some(Token::Str(s));
        }
        let name = String::from_utf8(s).ok()?;
        return (!is_bare(&name))
            .then_some(())
            .and_then(|()| typed(text, at, name));
    }
    if rest.starts_with(b"b'") {
        *at += 1;
        return Some(Token::Bytes(quoted(text, at, true)?));
    }
    let end = rest
        .iter()
        .position(|c| matches!(c, b',' | b')' | b'}' | b'('))
        .unwrap_or(rest.len());
    let word = std::str::from_utf8(&rest[..end]).ok()?;
    *at += end;
    match word {
        "None" => return Some(Token::None),
        "True" => return Some(Token::Bool(true)),
        "False" => return Some(Token::Bool(false)),
        _ => {}
    }
    if text.get(*at) == Some(&b'(') {
        return is_bare(word)
            .then_some(())
            .and_then(|()| typed(text, at, word.to_owned()));
    }
    number(word)
}

/// Read the content of a value of another type, in its parentheses.
fn typed(text: &[u8], at: &mut usize, name: String) -> Option<Token> {
    *at += 1;
    let bytes = text.get(*at) == Some(&b'b');
    *at += usize::from(bytes);
    let content = quoted(text, at, bytes)?;
    if text.get(*at) != Some(&b')') || !(1..=255).contains(&name.len()) {
        return None;
    }
    *at += 1;
    Some(Token::Typed(name, content, !bytes))
}

fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')
}

/// Read a str or bytes in quotes.
fn quoted(text: &[u8], at: &mut usize, bytes: bool) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text.get(*at..)?.strip_prefix(b"'")?;
    let digits = |rest: &[u8], n: usize| {
        let digits = std::str::from_utf8(rest.get(..n)?).ok()?;
        let lower = digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        lower.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    };
    loop {
        let (c, after) = rest.split_first()?;
        rest = after;
        match c {
            b'\'' => break,
            b'\\' => {
                let (c, after) = rest.split_first()?;
                rest = after;
                match c {
                    b'\\' | b'\'' => out.push(*c),
                    b'n' => out.push(b'\n'),
                    b'r' => out.push(b'\r'),
                    b't' => out.push(b'\t'),
                    b'x' => {
                        let n = digits(rest, 2)? as u8;
                        let needed = (n < 0x20 && !matches!(n, b'\n' | b'\r' | b'\t')) || n == 0x7F;
                        if !(needed || bytes && n >= 0x80) {
                            return None;
                        }
                        out.push(n);
                        rest = &rest[2..];
                    }
                    b'u' if !bytes => {
                        let n = digits(rest, 4).filter(|n| (0xD800..=0xDFFF).contains(n))?;
                        out.extend_from_slice(&[0xED, 0x80 | (n >> 6 & 0x3F) as u8, 0x80 | (n & 0x3F) as u8]);
                        rest = &rest[4..];
                    }
                    _ => return None,
                }
            }
            0..0x20 | 0x7F => return None,
            0x80.. if bytes => return None,
            c => out.push(*c),
        }
    }
    *at = text.len() - rest.len();
    // Surrogates are written as escapes only.
    let raw = &text[..*at];
    (bytes || std::str::from_utf8(raw).is_ok() || super::scalar::is_text(&out) && !has_raw_surrogate(raw))
        .then_some(out)
}

fn has_raw_surrogate(text: &[u8]) -> bool {
    text.windows(2).any(|w| w[0] == 0xED && w[1] >= 0xA0)
}

/// Read an int or a float in its one form.
pub(super) fn number(word: &str) -> Option<Token> {
    if let Some(bits) = word.strip_prefix("nan:") {
        let x = f64::from_bits(u64::from_str_radix(bits, 16).ok()?);
        let good = x.is_nan() && x.to_bits() != PYTHON_NAN && format!("{:016x}", x.to_bits()) == bits;
        return good.then_some(Token::Float(x));
    }
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    if let Some(hex) = digits.strip_prefix("0x") {
        let lower = hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        if !lower || hex.starts_with('0') {
            return None;
        }
        let nibble = |c: u8| if c <= b'9' { c - b'0' } else { c - b'a' + 10 };
        let digits: Vec<u8> = hex.bytes().rev().map(nibble).collect();
        let magnitude: Vec<u8> = digits
            .chunks(2)
            .map(|pair| pair[0] | pair.get(1).map_or(0, |high| high << 4))
            .collect();
        return (bit_length(&magnitude) > DECIMAL_BITS).then_some(Token::Int(negative, magnitude));
    }
    if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) {
        if digits.len() > DECIMAL_DIGITS || digits.starts_with('0') && (digits.len() > 1 || negative) {
            return None;
        }
        let magnitude = from_decimal(digits.as_bytes());
        return (bit_length(&magnitude) <= DECIMAL_BITS).then_some(Token::Int(negative, magnitude));
    }
    let x: f64 = match word {
        "nan" => f64::from_bits(PYTHON_NAN),
        "inf" => f64::INFINITY,
        "-inf" => f64::NEG_INFINITY,
        _ if digits.starts_with(|c: char| c.is_ascii_digit()) => word.parse().ok()?,
        _ => return None,
    };
    (float_text(x) == word).then_some(Token::Float(x))
}

const PYTHON_NAN: u64 = 0x7FF8_0000_0000_0000;

fn bit_length(magnitude: &[u8]) -> usize {
    magnitude
        .last()
        .map_or(0, |last| magnitude.len() * 8 - last.leading_zeros() as usize)
}

/// Return the magnitude of decimal digits.
pub(super) fn from_decimal(digits: &[u8]) -> Vec<u8> {
    let mut limbs: Vec<u32> = Vec::new();
    for part in digits.chunks(9) {
        let mut carry = part.iter().fold(0u64, |n, c| n * 10 + u64::from(c - b'0'));
        let scale = 10u64.pow(part.len() as u32);
        for limb in &mut limbs {
            let n = u64::from(*limb) * scale + carry;
            (*limb, carry) = (n as u32, n >> 32);
        }
        if carry > 0 {
            limbs.push(carry as u32);
        }
    }
    let mut magnitude: Vec<u8> = limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
    trim(&mut magnitude);
    magnitude
}

/// Return a float as Python's `repr` writes it (NaN without its bits).
fn float_text(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    let text = format!("{x:?}");
    // Rust writes no sign and no zero in front of an exponent: 1e16, 1e-5.
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            let mut out = String::new();
            let _ = write!(out, "{mantissa}e{sign}{digits:0>2}");
            out
        }
        None => text,
    }
}

#[cfg(test)]
mod tests;
