//! The path of a container from the root, as Python would write it: `root['a'][3].name`.

use super::graph::{self, Place, Shown};
use super::header::{self, Kind};
use super::value::{Key, Small, Value};
use super::word::Word;
use super::{entries, key as keys, scalar};
use crate::ids::Addr;
use crate::page::access::Pages;

/// Steps of a path that are shown; of a longer path, the last ones.
const STEPS: usize = 24;
/// Entries examined to find a container in its home if the hint is stale.
const LOOK: usize = 4096;
/// Homes followed to check whether they lead to the root.
const FOLLOW: usize = 100_000;
/// Characters of a key that are shown.
const SHOWN: usize = 60;

/// Return the path of a container, if its homes lead to the root.
pub fn of<P: Pages>(p: &P, h: Addr) -> Option<String> {
    let root = graph::root(p).ok()?;
    let mut steps = Vec::new();
    let mut at = h;
    for n in 0..FOLLOW {
        if at == root {
            let dots = if n > STEPS {
                "...".to_owned()
            } else {
                "root".to_owned()
            };
            return Some(
                steps
                    .into_iter()
                    .rev()
                    .fold(dots, |path, step: String| path + &step),
            );
        }
        at = if n < STEPS {
            let Shown { parent, place } = graph::place_in_home(p, at, LOOK).ok()??;
            steps.push(step(p, parent, place));
            parent
        } else {
            graph::identity(p, at).ok()?.home?.0
        };
    }
    Some(
        steps
            .into_iter()
            .rev()
            .fold("...".to_owned(), |path, step| path + &step),
    )
}

fn step<P: Pages>(p: &P, parent: Addr, place: Place) -> String {
    match place {
        Place::Index(i) => format!("[{i}]"),
        Place::Hidden => " (beside its entries)".to_owned(),
        Place::Key(word) => key(p, header::kind(p, parent).ok(), word),
    }
}

/// Return the path of an entry of a container, by its key.
pub fn of_key<P: Pages>(p: &P, h: Addr, key: &Key<'_>) -> Option<String> {
    let step = match (header::kind(p, h).ok()?, key) {
        (Kind::Object, Key::Str(name)) => attribute(name),
        _ => format!("[{}]", text(&value(key))),
    };
    Some(of(p, h)? + &step)
}

/// Return the path of an entry of a container, by the hash of its key. If no entry has this hash, return the
/// container's own path.
pub fn of_hash<P: Pages>(p: &P, h: Addr, hash: u64) -> Option<String> {
    let container = of(p, h)?;
    let mut cursor = 0;
    for _ in 0..LOOK {
        let Ok(Some((next, word, _))) = entries::next(p, h, cursor) else {
            break;
        };
        if keys::hash_word(p, word).ok() == Some(hash) {
            return Some(container + &key(p, header::kind(p, h).ok(), word));
        }
        cursor = next;
    }
    Some(format!("an entry of {container}"))
}

fn value(key: &Key<'_>) -> Value {
    match *key {
        Key::None => Value::None,
        Key::Bool(b) => Value::Bool(b),
        Key::Int(n) => Value::Int(n),
        Key::BigInt { negative, magnitude } => Value::BigInt {
            negative,
            magnitude: Small::from_slice(magnitude),
        },
        Key::Float(x) => Value::Float(x),
        Key::Str(text) => Value::Str {
            bytes: Small::from_slice(text),
            no_newline: false,
        },
        Key::Bytes(bytes) => Value::Bytes(Small::from_slice(bytes)),
        Key::Typed(typed) => Value::Typed(Box::new(typed.clone())),
    }
}

fn attribute(name: &[u8]) -> String {
    format!(".{}", short(String::from_utf8_lossy(name).escape_debug()))
}

/// Return the path step for a key.
pub fn key<P: Pages>(p: &P, kind: Option<Kind>, word: Word) -> String {
    match scalar::decode(p, word) {
        Ok(Value::Str { bytes, .. }) if kind == Some(Kind::Object) => attribute(&bytes),
        Ok(value) => format!("[{}]", text(&value)),
        Err(_) => "[?]".to_owned(),
    }
}

fn short(chars: impl Iterator<Item = char>) -> String {
    let mut text = String::new();
    for c in chars {
        if text.len() >= SHOWN {
            return text + "...";
        }
        text.push(c);
    }
    text
}

/// Return a scalar as Python would write it, shortened.
fn text(value: &Value) -> String {
    match value {
        Value::None => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Int(n) => n.to_string(),
        Value::Float(x) => format!("{x:?}"),
        Value::BigInt { negative, magnitude } => {
            let digits = magnitude.iter().rev().take(SHOWN / 2);
            let hex: String = digits.map(|b| format!("{b:02x}")).collect();
            let (sign, dots) = (
                if *negative { "-" } else { "" },
                if magnitude.len() > SHOWN / 2 { "..." } else { "" },
            );
            format!("{sign}0x{}{dots}", hex.trim_start_matches('0'))
        }
        Value::Str { bytes, .. } => {
            let text = String::from_utf8_lossy(bytes);
            format!("'{}'", short(text.chars().flat_map(char::escape_debug)))
        }
        Value::Bytes(bytes) => format!("b'{}'", short(bytes.escape_ascii().map(char::from))),
        Value::Link(target) => format!("Link('{}')", short(target.escape_ascii().map(char::from))),
        Value::Typed(typed) if typed.text => {
            let text = String::from_utf8_lossy(&typed.payload);
            match &*typed.name {
                "tuple" => short(text.chars()),
                name => format!("{name}('{}')", short(text.chars().flat_map(char::escape_debug))),
            }
        }
        Value::Typed(typed) => format!("({} with {} bytes)", typed.name, typed.payload.len()),
        Value::Large(large) => format!("({} bytes)", large.len),
        Value::Obj(_) => "?".into(),
    }
}
