//! Values, as plain Rust values and in the store's types.

use super::model::Model;
use persist_core::store::{In, Key, Large, LargeKind, Obj, Reader, Result, Typed, Value};
use std::fmt::Write as _;

/// A value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Val {
    None,
    Bool(bool),
    Int(i64),
    Big(bool, Vec<u8>),
    /// By bits.
    Float(u64),
    Str(Vec<u8>, bool),
    Bytes(Vec<u8>),
    Link(Vec<u8>),
    Typed(Typed),
    Obj(u64),
}

impl Val {
    pub(super) fn as_in<'a>(&'a self, model: &Model, made: &[Obj]) -> In<'a> {
        match self {
            Val::None => In::None,
            Val::Bool(b) => In::Bool(*b),
            Val::Int(i) => In::Int(*i),
            Val::Big(negative, magnitude) => In::BigInt {
                negative: *negative,
                magnitude,
            },
            Val::Float(bits) => In::Float(f64::from_bits(*bits)),
            Val::Str(bytes, no_newline) => In::Str {
                bytes,
                no_newline: *no_newline,
            },
            Val::Bytes(b) => In::Bytes(b),
            Val::Link(b) => In::Link(b),
            Val::Typed(t) => In::Typed(t),
            Val::Obj(id) => In::Obj(model.obj(*id, made)),
        }
    }

    /// As a key. Not for containers and links.
    pub(super) fn as_key(&self) -> Key<'_> {
        match self {
            Val::None | Val::Link(_) | Val::Obj(_) => Key::None,
            Val::Bool(b) => Key::Bool(*b),
            Val::Int(i) => Key::Int(*i),
            Val::Big(negative, magnitude) => Key::BigInt {
                negative: *negative,
                magnitude,
            },
            Val::Float(bits) => Key::Float(f64::from_bits(*bits)),
            Val::Str(bytes, _) => Key::Str(bytes),
            Val::Bytes(b) => Key::Bytes(b),
            Val::Typed(t) => Key::Typed(t),
        }
    }

    /// Map keys that are equal in Python to one key.
    pub(super) fn normal(self) -> Val {
        match self {
            Val::Bool(b) => Val::Int(i64::from(b)),
            Val::Str(b, _) => Val::Str(b, false),
            Val::Float(bits) => {
                let f = f64::from_bits(bits);
                if f.fract() == 0.0 && f.abs() < 1e15 {
                    Val::Int(f as i64)
                } else {
                    Val::Float(bits)
                }
            }
            other => other,
        }
    }

    pub(super) fn text(&self, out: &mut String) {
        let long = |out: &mut String, what: &str, b: &[u8]| {
            let hash = b.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
                (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
            });
            let _ = match b.len() {
                0..=24 => write!(out, "{what}{:?}", b.escape_ascii().to_string()),
                n => write!(out, "{what}[{n}:{hash:x}]"),
            };
        };
        let _ = match self {
            Val::None => write!(out, "None"),
            Val::Bool(b) => write!(out, "{b}"),
            Val::Int(i) => write!(out, "{i}"),
            Val::Big(n, m) => {
                long(out, if *n { "-big" } else { "big" }, m);
                Ok(())
            }
            Val::Float(bits) => write!(out, "float{bits:x}"),
            Val::Str(b, n) => {
                long(out, if *n { "str~" } else { "str" }, b);
                Ok(())
            }
            Val::Bytes(b) => {
                long(out, "bytes", b);
                Ok(())
            }
            Val::Link(b) => {
                long(out, "link", b);
                Ok(())
            }
            Val::Typed(t) => {
                let _ = write!(out, "{}:{}", t.name, t.text);
                long(out, "", &t.payload);
                Ok(())
            }
            Val::Obj(id) => write!(out, "#{id}"),
        };
    }
}

pub(super) fn as_value(v: &Val) -> Value {
    match v {
        Val::None | Val::Obj(_) => Value::None,
        Val::Bool(b) => Value::Bool(*b),
        Val::Int(i) => Value::Int(*i),
        Val::Big(negative, m) => Value::BigInt {
            negative: *negative,
            magnitude: m.as_slice().into(),
        },
        Val::Float(bits) => Value::Float(f64::from_bits(*bits)),
        Val::Str(b, no_newline) => Value::Str {
            bytes: b.as_slice().into(),
            no_newline: *no_newline,
        },
        Val::Bytes(b) => Value::Bytes(b.as_slice().into()),
        Val::Link(b) => Value::Link(b.as_slice().into()),
        Val::Typed(t) => Value::Typed(Box::new(t.clone())),
    }
}

pub(super) fn value(r: &Reader<'_>, v: Value) -> Result<Val> {
    Ok(match v {
        Value::None => Val::None,
        Value::Bool(b) => Val::Bool(b),
        Value::Int(i) => Val::Int(i),
        Value::BigInt { negative, magnitude } => Val::Big(negative, magnitude.to_vec()),
        Value::Float(f) => Val::Float(f.to_bits()),
        Value::Str { bytes, no_newline } => Val::Str(bytes.to_vec(), no_newline),
        Value::Bytes(b) => Val::Bytes(b.to_vec()),
        Value::Link(b) => Val::Link(b.to_vec()),
        Value::Typed(t) => Val::Typed(*t),
        Value::Large(large) => {
            let bytes = read_large(r, &large)?;
            match large.kind {
                LargeKind::Str { no_newline } => Val::Str(bytes, no_newline),
                LargeKind::Bytes => Val::Bytes(bytes),
                LargeKind::Link => Val::Link(bytes),
                LargeKind::Typed { text } => Val::Typed(Typed {
                    name: r.large_name(&large)?,
                    payload: bytes,
                    text,
                }),
                LargeKind::Int { negative } => Val::Big(negative, bytes),
            }
        }
        Value::Obj(o) => Val::Obj(o.id.0),
    })
}

fn read_large(r: &Reader<'_>, large: &Large) -> Result<Vec<u8>> {
    let mut out = vec![0; large.len as usize];
    let mut at = 0;
    while at < out.len() {
        let n = r.large_read(large, at as u64, &mut out[at..])?;
        assert!(n > 0, "a large value ends early");
        at += n;
    }
    Ok(out)
}
