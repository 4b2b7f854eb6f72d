//! Typed values: the name of a type and a content.

use super::segment::{HEADER, SHORT_MAX, ScalarKind};
use super::text::{check_text, is_text};
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::blob;
use crate::object::value::{LargeKind, TYPE_NAME_MAX, Typed, Value};
use crate::object::word::{TEXT, Word};
use crate::page::access::{Pages, PagesMut};

/// Message for the name of a type that cannot be one.
pub(super) const NOT_A_NAME: &str = "the name of a type must have 1 to 255 bytes";

/// Return the word of a typed value.
pub(super) fn encode_typed<W: PagesMut>(w: &mut W, typed: &Typed) -> Result<Word> {
    let (name, content) = (typed.name.as_bytes(), &typed.payload[..]);
    if !(1..=TYPE_NAME_MAX).contains(&name.len()) {
        return Err(Error::invalid(NOT_A_NAME));
    }
    if typed.text {
        check_text(w, content)?;
    }
    if name.len() + content.len() > SHORT_MAX {
        let kind = LargeKind::Typed { text: typed.text };
        return Ok(Word::scalar(blob::create_named(w, kind, name, content)?));
    }
    let addr = heap::alloc(w, HEADER + name.len() + content.len())?;
    let b = w.init(addr, HEADER + name.len() + content.len())?;
    let (head, rest) = b.split_at_mut(HEADER);
    let flags = if typed.text { TEXT } else { 0 };
    head[..4].copy_from_slice(&[ScalarKind::Typed as u8, flags, name.len() as u8, 0]);
    head[4..].copy_from_slice(&((name.len() + content.len()) as u32).to_le_bytes());
    rest[..name.len()].copy_from_slice(name);
    rest[name.len()..].copy_from_slice(content);
    Ok(Word::scalar(addr))
}

/// Return a typed value that was read, if its parts are valid.
pub(super) fn typed(name: &[u8], payload: Vec<u8>, text: bool, at: Addr) -> Result<Value> {
    if text && !is_text(&payload) {
        return Err(Error::corrupt("a typed value that is not valid text", at));
    }
    Ok(Value::Typed(Box::new(Typed {
        name: type_name(name, at)?.into(),
        payload,
        text,
    })))
}

/// Return the name of a type that was read, if it is valid.
fn type_name(name: &[u8], at: Addr) -> Result<&str> {
    std::str::from_utf8(name)
        .ok()
        .filter(|name| (1..=TYPE_NAME_MAX).contains(&name.len()))
        .ok_or_else(|| Error::corrupt("a type whose name is not valid", at))
}

/// Return the name of the type of a large typed value.
pub fn large_name<P: Pages>(p: &P, at: Addr) -> Result<Box<str>> {
    Ok(type_name(blob::name(p, at)?, at)?.into())
}
