//! What the change feed reports of a change, and the form of its key in a record (`page::section::notices`).
//!
//! The key, if the record has one: a byte for its type, then its bytes.
//!
//! | TYPE | KEY | BYTES |
//! | --- | --- | --- |
//! | 1 | None | none |
//! | 2, 3 | False, True | none |
//! | 4 | int of 64 bits | 8, little-endian |
//! | 5 | float | 8, little-endian |
//! | 6 | str | UTF-8, a surrogate as its three bytes |
//! | 7 | bytes | the bytes |
//! | 8, 9 | bigger int >= 0, < 0 | magnitude, little-endian |
//! | 10, 11 | typed value of bytes, of text | length of the name (1), name, content |

use super::value::{Key, Typed, Value};
use crate::ids::{Addr, ObjectId};
use crate::page::access::NOTICE_WORDS as RECORD_WORDS;
use smallvec::SmallVec;

/// A change of a container that was watched. It was made as reported, unless its process died before it was committed
/// (`Feed`, rule 2).
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An entry of a dict or an attribute of an object.
    Entry {
        /// The container.
        container: ObjectId,
        /// The entry's key.
        key: Value,
        /// Whether there was an entry before.
        existed: bool,
        /// Whether there is one now. If both are true, the value was replaced, or changed in part.
        exists: bool,
    },
    /// Items of a list: `removed` items at `at` were replaced by `added` others.
    Items {
        /// The list.
        container: ObjectId,
        /// The first index.
        at: u64,
        /// Number of items that were removed.
        removed: u64,
        /// Number of items that came in their place.
        added: u64,
    },
    /// Anything in the container: it was emptied or converted, or an entry with a very long key changed.
    Any {
        /// The container.
        container: ObjectId,
    },
    /// Modes, times or attributes that a tool has set through the mount.
    Metadata {
        /// The container that they belong to, or that of the entry.
        container: ObjectId,
    },
}

/// The kinds of records.
pub(super) const ENTRY: u16 = 1;
pub(super) const ITEMS: u16 = 2;
pub(super) const ANY: u16 = 3;
pub(super) const METADATA: u16 = 4;

/// The longest key that a record holds, with the byte for its type.
pub(super) const KEY_MAX: usize = 1024;

/// Return the form of a key in a record; None if it is too long.
pub(super) fn encode(key: &Key<'_>) -> Option<SmallVec<[u8; 64]>> {
    let (int, typed);
    let (tag, bytes): (u8, &[u8]) = match *key {
        Key::None => (1, &[]),
        Key::Bool(b) => (2 + u8::from(b), &[]),
        Key::Int(n) => {
            int = n.to_le_bytes();
            (4, &int)
        }
        Key::Float(x) => {
            int = x.to_bits().to_le_bytes();
            (5, &int)
        }
        Key::Str(text) => (6, text),
        Key::Bytes(bytes) => (7, bytes),
        Key::BigInt { negative, magnitude } => (8 + u8::from(negative), magnitude),
        Key::Typed(key) => {
            let head = [key.name.len() as u8];
            typed = [&head[..], key.name.as_bytes(), &key.payload].concat();
            (10 + u8::from(key.text), &typed)
        }
    };
    if bytes.len() >= KEY_MAX {
        return None;
    }
    let mut form = SmallVec::with_capacity(1 + bytes.len());
    form.push(tag);
    form.extend_from_slice(bytes);
    Some(form)
}

fn decode(form: &[u8]) -> Option<Value> {
    let (tag, bytes) = form.split_first()?;
    let word = || Some(u64::from_le_bytes(bytes.try_into().ok()?));
    Some(match tag {
        1 => Value::None,
        2 => Value::Bool(false),
        3 => Value::Bool(true),
        4 => Value::Int(word()? as i64),
        5 => Value::Float(f64::from_bits(word()?)),
        6 => Value::Str {
            bytes: bytes.into(),
            no_newline: false,
        },
        7 => Value::Bytes(bytes.into()),
        8 | 9 => Value::BigInt {
            negative: *tag == 9,
            magnitude: bytes.into(),
        },
        10 | 11 => {
            let (len, rest) = bytes.split_first()?;
            let (name, payload) = rest.split_at_checked((*len).into())?;
            Value::Typed(Box::new(Typed {
                name: std::str::from_utf8(name).ok()?.into(),
                payload: payload.to_vec(),
                text: *tag == 11,
            }))
        }
        _ => return None,
    })
}

/// A change as it is read: made by the process with this number, of the container at this address.
pub(crate) type Read = (u16, Addr, Change);

/// Return the changes that records report; None if a record says that some are missing, or is none.
pub(crate) fn changes(mut words: &[u64]) -> Option<Vec<Read>> {
    let mut all = Vec::new();
    while let Some(first) = words.first() {
        let len = (first & 0xffff) as usize;
        let record = words.get(..len).filter(|_| len >= RECORD_WORDS)?;
        words = &words[len..];
        let key_len = (first >> 32 & 0xffff) as usize;
        let key: Vec<u8> = record[RECORD_WORDS..]
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        let (container, at, removed, added) = (ObjectId(record[1]), record[3], record[4], record[5]);
        let change = match (first >> 16) as u16 {
            ENTRY => Change::Entry {
                container,
                key: decode(key.get(..key_len)?)?,
                existed: removed != 0,
                exists: added != 0,
            },
            ITEMS => Change::Items {
                container,
                at,
                removed,
                added,
            },
            ANY => Change::Any { container },
            METADATA => Change::Metadata { container },
            _ => return None,
        };
        all.push(((first >> 48) as u16, Addr(record[2]), change));
    }
    Some(all)
}

impl Change {
    /// Return the container that was changed.
    #[must_use]
    pub fn container(&self) -> ObjectId {
        match self {
            Change::Entry { container, .. }
            | Change::Items { container, .. }
            | Change::Any { container }
            | Change::Metadata { container } => *container,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_as_it_was_written() {
        let keys = [
            (Key::None, Value::None),
            (Key::Bool(true), Value::Bool(true)),
            (Key::Int(-5), Value::Int(-5)),
            (Key::Float(0.5), Value::Float(0.5)),
            (Key::Bytes(b"\0"), Value::Bytes(b"\0"[..].into())),
        ];
        for (key, value) in keys {
            assert_eq!(decode(&encode(&key).unwrap()), Some(value));
        }
        assert!(encode(&Key::Str(&[b'k'; KEY_MAX - 1])).is_some());
        assert!(encode(&Key::Str(&[b'k'; KEY_MAX])).is_none());
    }

    /// Words that form no record count as lost changes.
    #[test]
    fn words_that_form_no_record_count_as_lost() {
        assert_eq!(changes(&[]), Some(Vec::new()));
        for words in [
            &[0][..],
            &[1],
            &[6, 0, 0, 0, 0],
            &[6 | 9 << 16, 0, 0, 0, 0, 0],
            &[u64::MAX],
        ] {
            assert_eq!(changes(words), None, "{words:?}");
        }
        let key_beyond = [7 | 1 << 16 | 100 << 32, 1, 8, 0, 0, 1, 0];
        assert_eq!(changes(&key_beyond), None);
    }
}
