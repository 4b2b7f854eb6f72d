//! Keys of dicts and objects, as the mount holds them.

use super::numbers::BigInt;
use persist_core::store::door::Small;
use persist_core::store::{Key, Typed, Value};

/// A dict key, owned.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum OwnedKey {
    None,
    Bool(bool),
    Int(i64),
    BigInt {
        negative: bool,
        magnitude: Vec<u8>,
    },
    /// The bits of a float.
    Float(u64),
    /// UTF-8, lone surrogates as their three bytes.
    Str(Vec<u8>),
    Bytes(Vec<u8>),
    Typed(Box<Typed>),
}

impl OwnedKey {
    /// The engine's form of the key.
    pub(crate) fn as_key(&self) -> Key<'_> {
        match self {
            OwnedKey::None => Key::None,
            OwnedKey::Bool(b) => Key::Bool(*b),
            OwnedKey::Int(i) => Key::Int(*i),
            OwnedKey::BigInt { negative, magnitude } => Key::BigInt {
                negative: *negative,
                magnitude,
            },
            OwnedKey::Float(bits) => Key::Float(f64::from_bits(*bits)),
            OwnedKey::Str(s) => Key::Str(s),
            OwnedKey::Bytes(b) => Key::Bytes(b),
            OwnedKey::Typed(key) => Key::Typed(key),
        }
    }

    /// The key as a value, for the engine's `Step`.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            OwnedKey::None => Value::None,
            OwnedKey::Bool(b) => Value::Bool(*b),
            OwnedKey::Int(i) => Value::Int(*i),
            OwnedKey::BigInt { negative, magnitude } => Value::BigInt {
                negative: *negative,
                magnitude: Small::from_slice(magnitude),
            },
            OwnedKey::Float(bits) => Value::Float(f64::from_bits(*bits)),
            OwnedKey::Str(s) => Value::Str {
                bytes: Small::from_slice(s),
                no_newline: false,
            },
            OwnedKey::Bytes(b) => Value::Bytes(Small::from_slice(b)),
            OwnedKey::Typed(key) => Value::Typed(key.clone()),
        }
    }

    /// From a key that the engine returned; None for containers and for values too large to be copied.
    pub(crate) fn from_value(value: &Value) -> Option<OwnedKey> {
        Some(match value {
            Value::None => OwnedKey::None,
            Value::Bool(b) => OwnedKey::Bool(*b),
            Value::Int(i) => OwnedKey::Int(*i),
            Value::BigInt { negative, magnitude } => OwnedKey::BigInt {
                negative: *negative,
                magnitude: magnitude.to_vec(),
            },
            Value::Float(f) => OwnedKey::Float(f.to_bits()),
            Value::Str { bytes, .. } => OwnedKey::Str(bytes.to_vec()),
            Value::Bytes(b) => OwnedKey::Bytes(b.to_vec()),
            Value::Typed(key) => OwnedKey::Typed(key.clone()),
            Value::Large(_) | Value::Link(_) | Value::Obj(_) => return None,
        })
    }

    /// From an int that was parsed from text.
    pub(crate) fn from_int(int: BigInt) -> OwnedKey {
        match int.small() {
            Some(i) => OwnedKey::Int(i),
            None => OwnedKey::BigInt {
                negative: int.negative,
                magnitude: int.magnitude,
            },
        }
    }
}
