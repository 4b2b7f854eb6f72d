//! Values that are copied from the old store to the new one.

use super::Salvage;
use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::object::salvage::TWICE;
use crate::object::value::{In, Key, LargeKind, Typed, Value};
use crate::object::word::Word;
use crate::object::{blob, scalar};

/// A complete scalar.
pub(super) enum Held {
    Value(Value),
    Large(LargeKind, Vec<u8>),
}

impl Held {
    /// Return its size in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Held::Value(Value::Str { bytes, .. } | Value::Bytes(bytes) | Value::Link(bytes)) => bytes.len(),
            Held::Value(Value::BigInt { magnitude, .. }) => magnitude.len(),
            Held::Value(Value::Typed(typed)) => typed.name.len() + typed.payload.len(),
            Held::Value(_) => 8,
            Held::Large(_, bytes) => bytes.len(),
        }
    }

    /// Return the value to store; None for containers.
    pub(super) fn as_in(&self) -> Option<In<'_>> {
        Some(match self {
            Held::Value(value) => match value {
                Value::None => In::None,
                Value::Bool(b) => In::Bool(*b),
                Value::Int(n) => In::Int(*n),
                Value::BigInt { negative, magnitude } => In::BigInt {
                    negative: *negative,
                    magnitude,
                },
                Value::Float(x) => In::Float(*x),
                Value::Str { bytes, no_newline } => In::Str {
                    bytes,
                    no_newline: *no_newline,
                },
                Value::Bytes(bytes) => In::Bytes(bytes),
                Value::Link(target) => In::Link(target),
                Value::Typed(typed) => In::Typed(typed),
                Value::Large(_) | Value::Obj(_) => return None,
            },
            Held::Large(LargeKind::Str { no_newline }, bytes) => In::Str {
                bytes,
                no_newline: *no_newline,
            },
            Held::Large(LargeKind::Bytes, bytes) => In::Bytes(bytes),
            Held::Large(LargeKind::Link, target) => In::Link(target),
            // `scalar` makes a value of it.
            Held::Large(LargeKind::Typed { .. }, _) => return None,
            Held::Large(LargeKind::Int { negative }, magnitude) => In::BigInt {
                negative: *negative,
                magnitude,
            },
        })
    }

    /// Return the value as a key.
    pub(super) fn as_key(&self) -> Option<Key<'_>> {
        Some(match self.as_in()? {
            In::None => Key::None,
            In::Bool(b) => Key::Bool(b),
            In::Int(n) => Key::Int(n),
            In::BigInt { negative, magnitude } => Key::BigInt { negative, magnitude },
            In::Float(x) => Key::Float(x),
            In::Str { bytes, .. } => Key::Str(bytes),
            In::Bytes(bytes) => Key::Bytes(bytes),
            In::Typed(typed) => Key::Typed(typed),
            In::Link(_) | In::Obj(_) => return None,
        })
    }
}

impl Salvage<'_, '_> {
    /// Return the scalar of a word. `once`: its segments must not have been read before (keys that objects
    /// share with their class are read many times).
    pub(super) fn scalar(&mut self, word: Word, once: bool) -> Result<Held> {
        let p = self.p;
        if once {
            let read = &mut self.read;
            let mut segments = 0;
            scalar::segments(p, word, &mut |at, _| {
                segments += 1;
                if read.add(at) {
                    Ok(())
                } else {
                    Err(Error::corrupt(TWICE, at))
                }
            })?;
            self.watch.advance(segments);
        }
        match scalar::decode(p, word)? {
            Value::Obj(_) => Err(Error::corrupt(
                "a container where there can be none",
                Addr(word.0),
            )),
            Value::Large(large) => {
                let mut bytes = Vec::new();
                blob::for_each(p, large.addr, |piece| {
                    bytes.extend_from_slice(piece);
                    true
                })?;
                if matches!(
                    large.kind,
                    LargeKind::Str { .. } | LargeKind::Typed { text: true }
                ) && !scalar::is_text(&bytes)
                {
                    return Err(Error::corrupt("a str that is not valid text", large.addr));
                }
                if let LargeKind::Typed { text } = large.kind {
                    return Ok(Held::Value(Value::Typed(Box::new(Typed {
                        name: scalar::large_name(p, large.addr)?,
                        payload: bytes,
                        text,
                    }))));
                }
                Ok(Held::Large(large.kind, bytes))
            }
            value => Ok(Held::Value(value)),
        }
    }
}
