//! The commands that show a store's content: `ls` and `get`.
//!
//! A PATH is a list of steps from the root, separated by `/`. In a list a step is an index. In a dict or
//! object it is a str key, or, if that key does not exist, the literal of a number, bool or None. `%XX`
//! stands for a byte, so `%2F` is a slash inside a key. `ls` escapes control characters in what it prints;
//! `get` prints byte for byte. Large values are copied in pieces, never held in memory as a whole.

use super::{Failure, read};
use num_bigint::{BigInt, Sign};
use persist_core::store::{Error, Key, Kind, Large, LargeKind, Obj, Reader, Result, Store, Value};
use std::io::Write;

/// Bytes of a large value copied out in one section.
const PIECE: usize = 256 * 1024;
/// Entries of a container copied out in one section.
const BATCH: usize = 256;
/// Characters of a value that `ls` shows.
const SHOWN: usize = 60;
/// The longest int that is converted to decimal digits, in bytes (the work grows with the square).
const INT_MAX: u64 = 1 << 20;

/// Run `persist ls`.
pub(super) fn ls(store: &Store, path: &str, out: &mut impl Write) -> std::result::Result<(), Failure> {
    match lookup(store, path)? {
        Value::Obj(obj) => list(store, obj, out),
        _ => Err(Error::invalid(format!("{path}: a scalar; use `persist get`")).into()),
    }
}

/// Run `persist get`.
pub(super) fn get(store: &Store, path: &str, out: &mut impl Write) -> std::result::Result<(), Failure> {
    match lookup(store, path)? {
        Value::Obj(_) => Err(Error::invalid(format!("{path}: a container; use `persist ls`")).into()),
        value => print(store, &value, out),
    }
}

/// Follow a PATH (see above) from the root.
pub(super) fn lookup(store: &Store, path: &str) -> Result<Value> {
    let mut at = Value::Obj(store.root());
    let trimmed = path.trim_matches('/');
    if trimmed.is_empty() {
        return Ok(at);
    }
    for step in trimmed.split('/') {
        let Value::Obj(obj) = at else {
            return Err(Error::invalid(format!(
                "{path}: what lies before {step:?} is a scalar"
            )));
        };
        let name = unescape(step);
        at = read(store, |r| child(r, obj, &name))?
            .ok_or_else(|| Error::invalid(format!("{path}: there is no {step:?}")))?;
    }
    Ok(at)
}

fn child(r: &Reader<'_>, obj: Obj, name: &[u8]) -> Result<Option<Value>> {
    let text = std::str::from_utf8(name).ok();
    if r.kind(obj)? == Kind::List {
        return match text.and_then(|t| t.parse().ok()) {
            Some(index) => r.item(obj, index),
            None => Ok(None),
        };
    }
    if let Some(value) = r.get(obj, &Key::Str(name))? {
        return Ok(Some(value));
    }
    if r.kind(obj)? != Kind::Dict {
        return Ok(None);
    }
    match literal(name) {
        Some(key) => r.get(obj, &key),
        None => Ok(None),
    }
}

/// Return the key of a step that is the literal of None, a bool or a number.
pub(super) fn literal(name: &[u8]) -> Option<Key<'static>> {
    let text = std::str::from_utf8(name).ok()?;
    match text {
        "None" => Some(Key::None),
        "True" => Some(Key::Bool(true)),
        "False" => Some(Key::Bool(false)),
        _ => match (text.parse(), text.parse()) {
            (Ok(int), _) => Some(Key::Int(int)),
            (_, Ok(float)) => Some(Key::Float(float)),
            _ => None,
        },
    }
}

/// Decode the `%XX` escapes of a step.
pub(super) fn unescape(step: &str) -> Vec<u8> {
    let bytes = step.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes
            .get(i + 1..i + 3)
            .filter(|h| bytes[i] == b'%' && h.iter().all(u8::is_ascii_hexdigit));
        match hex
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok())
        {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    out
}

/// Print one line for each entry: name, type, a short view.
fn list(store: &Store, obj: Obj, out: &mut impl Write) -> std::result::Result<(), Failure> {
    let kind = read(store, |r| r.kind(obj))?;
    let mut cursor = 0u64;
    loop {
        // (name, value, type, view) of a batch; the section ends before anything is printed.
        let batch = read(store, |r| {
            let mut batch = Vec::new();
            if kind == Kind::List {
                let mut items = Vec::new();
                r.items(obj, cursor, BATCH, &mut items)?;
                for (i, value) in items.into_iter().enumerate() {
                    let (what, view) = describe(r, &value)?;
                    batch.push(((cursor + i as u64).to_string(), what, view, cursor + i as u64 + 1));
                }
            } else {
                let mut at = cursor;
                while batch.len() < BATCH {
                    let Some(entry) = r.next(obj, at)? else { break };
                    at = entry.cursor;
                    let (what, view) = describe(r, &entry.value)?;
                    batch.push((name_of(&entry.key), what, view, at));
                }
            }
            Ok(batch)
        })?;
        let Some(last) = batch.last() else { return Ok(()) };
        cursor = last.3;
        for (name, what, view, _) in &batch {
            writeln!(out, "{name:<24} {what:<16} {view}")?;
        }
    }
}

/// Return a key in the form that a PATH takes.
fn name_of(key: &Value) -> String {
    match key {
        Value::Str { bytes, .. } => {
            let mut name = String::new();
            for c in String::from_utf8_lossy(bytes).chars() {
                if matches!(c, '/' | '%') || c.is_control() {
                    c.encode_utf8(&mut [0; 4])
                        .bytes()
                        .for_each(|b| name.push_str(&format!("%{b:02X}")));
                } else {
                    name.push(c);
                }
            }
            name
        }
        key => view_of(key),
    }
}

/// Return the type of a value and a short view of it.
fn describe(r: &Reader<'_>, value: &Value) -> Result<(String, String)> {
    Ok(match value {
        Value::Obj(obj) => {
            let what = match r.class(*obj)? {
                Some(class) if class.is_empty() => "object".to_string(),
                Some(class) => class,
                None => format!("{:?}", r.kind(*obj)?).to_lowercase(),
            };
            (what, format!("{} entries", r.len(*obj)?))
        }
        value => (type_of(value).to_string(), view_of(value)),
    })
}

fn type_of(value: &Value) -> &str {
    match value {
        Value::None => "NoneType",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::BigInt { .. } => "int",
        Value::Float(_) => "float",
        Value::Str { .. } => "str",
        Value::Bytes(_) => "bytes",
        Value::Link(_) => "link",
        Value::Typed(typed) => &typed.name,
        Value::Obj(_) => "container",
        Value::Large(large) => match large.kind {
            LargeKind::Str { .. } => "str",
            LargeKind::Bytes => "bytes",
            LargeKind::Int { .. } => "int",
            LargeKind::Link => "link",
            LargeKind::Typed { .. } => "value",
        },
    }
}

/// Return a scalar in at most `SHOWN` characters, safe for a terminal.
fn view_of(value: &Value) -> String {
    let whole = match value {
        Value::Str { bytes, .. } | Value::Link(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Value::Bytes(bytes) => {
            let head = &bytes[..bytes.len().min(SHOWN)];
            format!("b\"{}\"", head.escape_ascii())
        }
        Value::Typed(typed) if typed.text => {
            String::from_utf8_lossy(&typed.payload).escape_debug().to_string()
        }
        Value::Typed(typed) => format!("({} bytes)", typed.payload.len()),
        Value::Large(large) => format!("({} bytes)", large.len),
        Value::BigInt { magnitude, .. } if magnitude.len() > 64 => format!("({} bytes)", magnitude.len()),
        value => scalar_text(value),
    };
    match whole.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &whole[..end]),
        None => whole,
    }
}

/// Return None, bool, int and float as Python writes them.
fn scalar_text(value: &Value) -> String {
    match value {
        Value::None => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Int(i) => i.to_string(),
        Value::BigInt { negative, magnitude } => decimal(*negative, magnitude),
        Value::Float(f) if f.is_nan() => "nan".into(),
        Value::Float(f) if f.is_infinite() => if *f > 0.0 { "inf" } else { "-inf" }.into(),
        // {:?} gives the shortest text that reads back as the same float, as repr() does.
        Value::Float(f) => format!("{f:?}"),
        Value::Str { .. }
        | Value::Bytes(_)
        | Value::Link(_)
        | Value::Typed(_)
        | Value::Obj(_)
        | Value::Large(_) => String::new(),
    }
}

/// Print a complete scalar; str and bytes byte for byte.
fn print(store: &Store, value: &Value, out: &mut impl Write) -> std::result::Result<(), Failure> {
    match value {
        Value::Str { bytes, .. } | Value::Link(bytes) => {
            out.write_all(bytes)?;
            writeln!(out)?;
        }
        Value::Bytes(bytes) => out.write_all(bytes)?,
        Value::Typed(typed) => {
            out.write_all(&typed.payload)?;
            if typed.text {
                writeln!(out)?;
            }
        }
        Value::Large(large) => match large.kind {
            LargeKind::Bytes | LargeKind::Link | LargeKind::Typed { text: false } => copy(store, large, out)?,
            LargeKind::Str { .. } | LargeKind::Typed { text: true } => {
                copy(store, large, out)?;
                writeln!(out)?;
            }
            LargeKind::Int { negative } => {
                if large.len > INT_MAX {
                    return Err(Error::invalid(format!(
                        "an int of {} bytes is too long to print",
                        large.len
                    ))
                    .into());
                }
                let mut magnitude = Vec::new();
                copy(store, large, &mut magnitude)?;
                writeln!(out, "{}", decimal(negative, &magnitude))?;
            }
        },
        value => writeln!(out, "{}", scalar_text(value))?,
    }
    Ok(())
}

/// Copy a large value to the output, piece by piece.
fn copy(store: &Store, large: &Large, out: &mut impl Write) -> std::result::Result<(), Failure> {
    let mut piece = vec![0u8; PIECE];
    let mut offset = 0u64;
    while offset < large.len {
        let n = read(store, |r| r.large_read(large, offset, &mut piece))?;
        if n == 0 {
            break;
        }
        out.write_all(&piece[..n])?;
        offset += n as u64;
    }
    Ok(())
}

/// Return a little-endian magnitude in decimal.
fn decimal(negative: bool, magnitude: &[u8]) -> String {
    let sign = if negative { Sign::Minus } else { Sign::Plus };
    BigInt::from_bytes_le(sign, magnitude).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_agrees_with_u128() {
        for n in [
            0u128,
            1,
            999_999_999,
            1_000_000_000,
            u64::MAX.into(),
            u128::MAX,
            10u128.pow(38),
        ] {
            assert_eq!(decimal(false, &n.to_le_bytes()), n.to_string());
        }
        assert_eq!(decimal(true, &5u8.to_le_bytes()), "-5");
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("a%2Fb%25"), b"a/b%");
        assert_eq!(unescape("50%"), b"50%");
        assert_eq!(unescape("%zz%f"), b"%zz%f");
    }

    #[test]
    fn names_can_be_written_in_a_path() {
        let key = Value::Str {
            bytes: b"a/b%c\n"[..].into(),
            no_newline: false,
        };
        assert_eq!(unescape(&name_of(&key)), b"a/b%c\n");
    }
}
