//! What equal values of other types have in common, and different ones have not: keys are hashed and compared by it.
//!
//! Equality is Python's. A form is defined for the types in the table, of values whose equality depends on nothing but
//! the text; other values have none, and are compared by name and content.
//!
//! | TYPE | FORM |
//! | --- | --- |
//! | decimal, fraction, complex without imaginary part | the number: an int, a float, or else a ratio in lowest terms |
//! | complex | both parts |
//! | tuple, named tuple | the forms of the items, in order |
//! | frozenset | the forms of the items, sorted |
//! | datetime, time | microseconds, of UTC if there is an offset; none with a zone by name, whose rules may change |
//! | posixpath, pureposixpath | the text, if it is normalized |
//!
//! Bytes of a form: a tag, and behind most tags the length of what follows (4 bytes, little-endian).

mod compare;
mod form;
mod numbers;
mod times;

pub(crate) use compare::compare;
pub(crate) use form::Form;
pub(crate) use numbers::float;

use super::literal::{Token, walk};
use form::{bytes_of, sized};

/// Named tuples in texts of named tuples: each level doubles the text's backslashes, so no text of a key has more.
const NESTED: usize = 20;

/// Return the form of a value; None if it has none.
#[must_use]
pub(crate) fn form(name: &str, content: &[u8]) -> Option<Form> {
    form_at(name, content, 0)
}

fn form_at(name: &str, content: &[u8], depth: usize) -> Option<Form> {
    if name == "tuple" || name.starts_with("namedtuple:") {
        return items(content, false, depth).map(Form::Other);
    }
    if name == "frozenset" {
        return items(content, true, depth).map(Form::Other);
    }
    let text = std::str::from_utf8(content).ok();
    match name {
        "decimal" => numbers::decimal(text?),
        "fraction" => numbers::fraction(text?),
        "complex" => numbers::complex(text?),
        "datetime" => times::datetime(text?).map(Form::Other),
        "time" => times::time(text?).map(Form::Other),
        "posixpath" | "pureposixpath" if is_path(content) => {
            let mut out = Vec::new();
            sized(&mut out, b'p', content);
            Some(Form::Other(out))
        }
        _ => None,
    }
}

/// Return whether equal values of this type have equal contents, and equal no value of another type.
fn is_by_text(name: &str) -> bool {
    ["date", "timedelta", "uuid"].contains(&name) || name.starts_with("enum:")
}

/// Return whether a value of this type, with this content, can be a key.
#[must_use]
pub fn can_be_key(name: &str, content: &[u8]) -> bool {
    is_by_text(name) || form(name, content).is_some()
}

/// Return the form of a tuple or frozenset; None if an item cannot be in a key.
fn items(text: &[u8], set: bool, depth: usize) -> Option<Vec<u8>> {
    if text.first() != Some(if set { &b'{' } else { &b'(' }) || depth > NESTED {
        return None;
    }
    let mut open: Vec<(bool, Vec<Vec<u8>>)> = Vec::new();
    let mut done = None;
    walk(text, &mut |token| {
        let item = match token {
            Token::Open { set } => {
                open.push((*set, Vec::new()));
                return true;
            }
            Token::Close => open.pop().and_then(|(set, items)| joined(set, items)),
            other => item(other, depth),
        };
        let Some(item) = item else { return false };
        match open.last_mut() {
            Some((_, items)) => items.push(item),
            None => done = Some(item),
        }
        true
    })?;
    done
}

/// Return the form of a tuple or frozenset of items. No item of a frozenset is in it twice.
fn joined(set: bool, mut items: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    if set {
        items.sort_unstable();
        if items.windows(2).any(|pair| pair[0] == pair[1]) {
            return None;
        }
    }
    let (open, close) = if set { (b'{', b'}') } else { (b'(', b')') };
    let mut out = vec![open];
    items.iter().for_each(|item| out.extend_from_slice(item));
    out.push(close);
    Some(out)
}

fn item(token: &Token, depth: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match token {
        Token::None => out.push(b'n'),
        Token::Bool(b) => sized(&mut out, b'+', if *b { &[1] } else { &[] }),
        Token::Int(negative, magnitude) => out = bytes_of(Form::Int(*negative, magnitude.clone())),
        Token::Float(x) => out = bytes_of(numbers::float(*x)),
        Token::Str(s) => sized(&mut out, b's', s),
        Token::Bytes(b) => sized(&mut out, b'b', b),
        Token::Typed(name, content, true) if is_by_text(name) => {
            sized(&mut out, b't', name.as_bytes());
            sized(&mut out, b's', content);
        }
        Token::Typed(name, content, true) => out = bytes_of(form_at(name, content, depth + 1)?),
        Token::Typed(..) | Token::Open { .. } | Token::Close => return None,
    }
    Some(out)
}

/// Return whether a text is the one that Python gives to a POSIX path.
fn is_path(text: &[u8]) -> bool {
    let body = match text {
        b"." | b"/" | b"//" => return true,
        _ if text.starts_with(b"///") => return false,
        _ => text
            .strip_prefix(b"//")
            .or(text.strip_prefix(b"/"))
            .unwrap_or(text),
    };
    body.split(|c| *c == b'/')
        .all(|part| !part.is_empty() && part != b".")
        && !text.contains(&0)
}

#[cfg(test)]
mod tests;
