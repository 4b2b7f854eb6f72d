//! Names: conversion between a dict key or attribute and its name in the directory.
//!
//! The name of a str key is the key itself, byte for byte, except where a name cannot hold it:
//!
//! | key | name |
//! | --- | --- |
//! | a `/` or NUL in it | `%2F`, `%00` in its place |
//! | a lone surrogate in it | its three bytes, `%ED%A0%80` |
//! | `''` | `%s:` |
//! | `.`, `..`, `.persist`, `.persist.lock` | `%2E`, `%2E.`, `%2Epersist`, `%2Epersist.lock` |
//! | text that would read as one of these escapes, or as one of the forms below | its `%` as `%25` |
//! | int, float, None/True/False, bytes | `%i:5`, `%f:1.5`, `%c:None`, `%b:00ff` (hexadecimal) |
//! | tuple, date, decimal, ... | `%t:tuple:(1, 'a')`, with `%`, `/` and NUL as `%25`, `%2F`, `%00` |
//! | member of an Enum, named tuple | `%t:enum:module:Class:NAME`, `%t:namedtuple:module:Class:(1, 2)` |
//! | any other typed value, which no program stores as a key | `%T:` and its name, then hexadecimal digits |
//! | a NaN other than Python's | `%f:nan:` and its bits |
//! | bytes that are not UTF-8 (and could be a name) | themselves |
//! | a name of more than 255 bytes | its beginning, `%~`, and half its SHA-256 |
//!
//! 1. `key_of(name_of(key))` is the key (or `Long`, for a name that contains a hash).
//! 2. Every name that the kernel can send denotes exactly one key: `name_of(key_of(name))` is the name. An unnecessary
//!    escape is therefore not an escape: `100%` and `%41` are the keys `100%` and `%41`.

use super::hex::{hex, unhex};
use super::keys::OwnedKey;
use super::numbers::{float_text, int_text, parse_float, parse_int};
use super::other_keys;
use super::wtf8::is_wtf8;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// The longest name.
pub(crate) const NAME_MAX: usize = 255;
/// The control directory at the root.
pub(crate) const CONTROL: &[u8] = b".persist";
/// The lock file of every directory.
pub(crate) const LOCK: &[u8] = b".persist.lock";
/// Bytes of a long name's tail: `%~` and the hash.
const TAIL: usize = 34;
/// Ints with a longer magnitude have a long name in any case, so they are printed in linear time.
const LONG_INT: usize = 128;

/// True for the names of control files, which entries cannot have.
pub(crate) fn is_control_name(name: &[u8]) -> bool {
    name == LOCK || name == CONTROL
}

/// The meaning of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    /// This key.
    Key(OwnedKey),
    /// The one key with this hash; found by a scan of the dict.
    Long,
}

/// The name of a key. Most keys are their own names.
pub(crate) fn name_in(key: &OwnedKey) -> Cow<'_, [u8]> {
    match key {
        OwnedKey::Str(text) if text.len() <= NAME_MAX && is_own_name(text) => Cow::Borrowed(text),
        key => Cow::Owned(name_of(key)),
    }
}

/// True for a text that has nothing to escape.
fn is_own_name(text: &[u8]) -> bool {
    !text.iter().any(|c| matches!(c, b'/' | 0 | b'%' | 0xED))
        && !SPECIALS.iter().any(|(special, _)| *special == text)
}

/// The name of a key that is not needed any more.
pub(crate) fn into_name(key: OwnedKey) -> Vec<u8> {
    match key {
        OwnedKey::Str(text) if text.len() <= NAME_MAX && is_own_name(&text) => text,
        key => name_of(&key),
    }
}

/// The name of a key.
pub(crate) fn name_of(key: &OwnedKey) -> Vec<u8> {
    let full = full_name(key);
    if full.len() <= NAME_MAX {
        return full;
    }
    let mut cut = NAME_MAX - TAIL;
    while cut > 0 && full[cut] & 0xC0 == 0x80 {
        cut -= 1;
    }
    let mut name = full[..cut].to_vec();
    name.extend_from_slice(b"%~");
    name.extend_from_slice(hex(&Sha256::digest(&full)[..16]).as_bytes());
    name
}

/// The meaning of a name.
pub(crate) fn key_of(name: &[u8]) -> Meaning {
    if std::str::from_utf8(name).is_err() {
        return Meaning::Key(OwnedKey::Bytes(name.to_vec()));
    }
    if is_hashed(name) {
        return Meaning::Long;
    }
    Meaning::Key(special_key(name).unwrap_or_else(|| OwnedKey::Str(unescape(name))))
}

/// True for a name that stands for a key by a hash.
pub(crate) fn is_hashed(name: &[u8]) -> bool {
    is_long(name) && std::str::from_utf8(name).is_ok()
}

/// True for a name that ends with a hash.
pub(crate) fn is_long(name: &[u8]) -> bool {
    name.len() >= TAIL && is_tail(&name[name.len() - TAIL + 1..]) && name[name.len() - TAIL] == b'%'
}

/// `~` and 32 hexadecimal digits.
fn is_tail(text: &[u8]) -> bool {
    text.len() == TAIL - 1
        && text[0] == b'~'
        && text[1..].iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name without a limit of its length.
fn full_name(key: &OwnedKey) -> Vec<u8> {
    match key {
        OwnedKey::None => b"%c:None".to_vec(),
        OwnedKey::Bool(true) => b"%c:True".to_vec(),
        OwnedKey::Bool(false) => b"%c:False".to_vec(),
        OwnedKey::Int(i) => format!("%i:{i}").into_bytes(),
        OwnedKey::BigInt { negative, magnitude } if magnitude.len() > LONG_INT => {
            format!("%i:{}0x{}", if *negative { "-" } else { "" }, hex(magnitude)).into_bytes()
        }
        OwnedKey::BigInt { negative, magnitude } => {
            format!("%i:{}", int_text(*negative, magnitude)).into_bytes()
        }
        OwnedKey::Float(bits) => {
            let value = f64::from_bits(*bits);
            if value.is_nan() && *bits != f64::NAN.to_bits() {
                format!("%f:nan:{bits:016x}").into_bytes()
            } else {
                format!("%f:{}", float_text(value)).into_bytes()
            }
        }
        OwnedKey::Bytes(b) => {
            let a_name = std::str::from_utf8(b).is_err()
                && b.len() <= NAME_MAX
                && !b.contains(&b'/')
                && !b.contains(&0);
            if a_name {
                b.clone()
            } else {
                format!("%b:{}", hex(b)).into_bytes()
            }
        }
        OwnedKey::Str(s) => escape(s),
        OwnedKey::Typed(key) => other_keys::name_of(key),
    }
}

/// Whole names with a special meaning.
const SPECIALS: [(&[u8], &[u8]); 5] = [
    (b"", b"%s:"),
    (b".", b"%2E"),
    (b"..", b"%2E."),
    (CONTROL, b"%2Epersist"),
    (LOCK, b"%2Epersist.lock"),
];

/// The key of a name that has one of the special forms.
fn special_key(name: &[u8]) -> Option<OwnedKey> {
    if let Some((key, _)) = SPECIALS.iter().find(|(_, special)| *special == name) {
        return Some(OwnedKey::Str(key.to_vec()));
    }
    let key = typed_key(name.strip_prefix(b"%")?)?;
    // Only the canonical form counts.
    (full_name(&key) == name).then_some(key)
}

/// `i:5`, `f:1.5`, `c:None`, `b:00ff`.
fn typed_key(form: &[u8]) -> Option<OwnedKey> {
    let text = std::str::from_utf8(form).ok()?;
    let (tag, body) = text.split_once(':')?;
    Some(match (tag, body) {
        ("c", "None") => OwnedKey::None,
        ("c", "True") => OwnedKey::Bool(true),
        ("c", "False") => OwnedKey::Bool(false),
        ("i", _) => OwnedKey::from_int(parse_int(body)?),
        ("f", _) => match body.strip_prefix("nan:") {
            Some(bits) => OwnedKey::Float(u64::from_str_radix(bits, 16).ok()?),
            None => {
                let value = parse_float(body)?;
                OwnedKey::Float(if value.is_nan() {
                    f64::NAN.to_bits()
                } else {
                    value.to_bits()
                })
            }
        },
        ("b", _) => OwnedKey::Bytes(unhex(body.as_bytes())?),
        ("t" | "T", _) => other_keys::key_of(tag, body)?,
        _ => return None,
    })
}

/// The length of the escape whose `%` precedes `rest`, if there is one (not for `%25`).
fn token(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"2F") || rest.starts_with(b"00") {
        return Some(2);
    }
    let hex_digit = |c: u8| matches!(c, b'0'..=b'9' | b'A'..=b'F');
    let surrogate = rest.len() >= 8
        && rest.starts_with(b"ED%")
        && matches!(rest[3], b'A' | b'B')
        && hex_digit(rest[4])
        && rest[5] == b'%'
        && matches!(rest[6], b'8' | b'9' | b'A' | b'B')
        && hex_digit(rest[7]);
    if surrogate {
        return Some(8);
    }
    is_tail(rest).then_some(rest.len())
}

/// True if the text after a `%` would make it more than a percent sign (`first`: the `%` begins the name).
fn means_more(mut rest: &[u8], first: bool) -> bool {
    loop {
        if token(rest).is_some() {
            return true;
        }
        if first {
            let mut name = vec![b'%'];
            name.extend_from_slice(rest);
            if special_key(&name).is_some() {
                return true;
            }
        }
        match rest.strip_prefix(b"25") {
            Some(after) => rest = after,
            None => return false,
        }
    }
}

fn escape(key: &[u8]) -> Vec<u8> {
    if let Some((_, special)) = SPECIALS.iter().find(|(special, _)| *special == key) {
        return special.to_vec();
    }
    let mut name = Vec::with_capacity(key.len());
    let mut i = 0;
    while i < key.len() {
        match key[i] {
            b'/' => name.extend_from_slice(b"%2F"),
            0 => name.extend_from_slice(b"%00"),
            b'%' if means_more(&key[i + 1..], i == 0) => name.extend_from_slice(b"%25"),
            0xED if i + 2 < key.len() && key[i + 1] >= 0xA0 => {
                for byte in &key[i..i + 3] {
                    name.extend_from_slice(format!("%{byte:02X}").as_bytes());
                }
                i += 2;
            }
            other => name.push(other),
        }
        i += 1;
    }
    name
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len());
    let mut i = 0;
    while i < name.len() {
        if name[i] != b'%' {
            key.push(name[i]);
            i += 1;
            continue;
        }
        let rest = &name[i + 1..];
        match token(rest) {
            Some(2) => {
                key.push(if rest[0] == b'2' { b'/' } else { 0 });
                i += 3;
            }
            Some(8) => {
                let digit = |c: u8| {
                    if c.is_ascii_digit() {
                        c - b'0'
                    } else {
                        c - b'A' + 10
                    }
                };
                for at in [0, 3, 6] {
                    key.push(digit(rest[at]) << 4 | digit(rest[at + 1]));
                }
                i += 9;
            }
            // A tail ends only long names, which this function does not read.
            _ => {
                key.push(b'%');
                i += 1;
                if rest.starts_with(b"25") && means_more(&rest[2..], i == 1) {
                    i += 2;
                }
            }
        }
    }
    key
}

/// A key as the text of the xattr `user.persist.key`: its kind, a colon and the key itself.
pub(crate) fn key_text(key: &OwnedKey) -> Vec<u8> {
    match key {
        OwnedKey::Str(s) => [b"s:", s.as_slice()].concat(),
        OwnedKey::Bytes(b) => format!("b:{}", hex(b)).into_bytes(),
        OwnedKey::BigInt { negative, magnitude } => {
            format!("i:{}", int_text(*negative, magnitude)).into_bytes()
        }
        other => full_name(other)[1..].to_vec(),
    }
}

/// Parse the result of `key_text`.
pub(crate) fn key_from_text(text: &[u8]) -> Option<OwnedKey> {
    match text.strip_prefix(b"s:") {
        Some(s) => is_wtf8(s).then(|| OwnedKey::Str(s.to_vec())),
        None => typed_key(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn s(text: &str) -> OwnedKey {
        OwnedKey::Str(text.as_bytes().to_vec())
    }

    #[test]
    fn plain_keys_are_their_names() {
        for text in [
            "Joe", "100%", "%", "%%", "%41", "a b", "é", "%2f", "%2E5", "...", "%i:", "%i:05", "%f:1",
            "%b:ff",
        ] {
            assert_eq!(name_of(&s(text)), text.as_bytes(), "{text}");
            assert_eq!(key_of(text.as_bytes()), Meaning::Key(s(text)), "{text}");
        }
    }

    #[test]
    fn the_table_above() {
        let long = "x".repeat(300);
        for (key, name) in [
            (s("a/b"), "a%2Fb"),
            (s("a\0b"), "a%00b"),
            (s(""), "%s:"),
            (s("."), "%2E"),
            (s(".."), "%2E."),
            (s(".persist"), "%2Epersist"),
            (s(".persist.lock"), "%2Epersist.lock"),
            (s("%2E"), "%252E"),
            (s("%252E"), "%25252E"),
            (s("a%2Fb"), "a%252Fb"),
            (s("%i:5"), "%25i:5"),
            (s("%s:"), "%25s:"),
            (OwnedKey::Str(vec![b'x', 0xED, 0xA0, 0x80]), "x%ED%A0%80"),
            (s("x%ED%A0%80"), "x%25ED%A0%80"),
            (OwnedKey::Int(-5), "%i:-5"),
            (OwnedKey::Float(1.0f64.to_bits()), "%f:1.0"),
            (OwnedKey::Float(f64::NAN.to_bits()), "%f:nan"),
            (OwnedKey::Float(0x7ff8_0000_0000_0001), "%f:nan:7ff8000000000001"),
            (OwnedKey::None, "%c:None"),
            (OwnedKey::Bool(true), "%c:True"),
            (OwnedKey::Bytes(b"ab".to_vec()), "%b:6162"),
            (OwnedKey::Bytes(vec![]), "%b:"),
        ] {
            assert_eq!(String::from_utf8_lossy(&name_of(&key)), name);
            assert_eq!(key_of(name.as_bytes()), Meaning::Key(key));
        }
        assert_eq!(name_of(&OwnedKey::Bytes(vec![0xFF])), [0xFF]);
        let name = name_of(&s(&long));
        assert_eq!(name.len(), NAME_MAX);
        assert_eq!(key_of(&name), Meaning::Long);
        let looks_long = String::from_utf8_lossy(&name[200..]).into_owned();
        assert_eq!(key_of(&name_of(&s(&looks_long))), Meaning::Key(s(&looks_long)));
    }

    fn any_key() -> impl Strategy<Value = OwnedKey> {
        let tricky = proptest::collection::vec(
            proptest::sample::select(vec![
                "%",
                "25",
                "2F",
                "00",
                "2E",
                "/",
                "\0",
                "ED",
                "%ED",
                "%A0",
                "%80",
                ".",
                "persist",
                "lock",
                "i:",
                "s:",
                "f:",
                "c:",
                "b:",
                "5",
                "None",
                "~",
                "0123456789abcdef",
                "a",
                "é",
            ]),
            0..8,
        )
        .prop_map(|parts| parts.concat().into_bytes());
        let surrogates = (tricky.clone(), 0xD800u32..0xE000).prop_map(|(mut text, code)| {
            text.extend([0xED, 0x80 | (code >> 6 & 0x3F) as u8, 0x80 | (code & 0x3F) as u8]);
            text
        });
        prop_oneof![
            tricky.prop_map(OwnedKey::Str),
            surrogates.prop_map(OwnedKey::Str),
            any::<String>().prop_map(|t| OwnedKey::Str(t.into_bytes())),
            any::<i64>().prop_map(OwnedKey::Int),
            any::<u64>().prop_map(OwnedKey::Float),
            any::<bool>().prop_map(OwnedKey::Bool),
            Just(OwnedKey::None),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(OwnedKey::Bytes),
            proptest::collection::vec(1u8.., 9..60).prop_map(|magnitude| OwnedKey::BigInt {
                negative: magnitude[0] & 1 == 1,
                magnitude
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_key_comes_back_from_its_name(key in any_key()) {
            let name = name_of(&key);
            prop_assert_eq!(&*name_in(&key), &name[..]);
            prop_assert_eq!(&into_name(key.clone()), &name);
            prop_assert_eq!(is_hashed(&name), key_of(&name) == Meaning::Long);
            prop_assert!(!name.is_empty() && name.len() <= NAME_MAX);
            prop_assert!(!name.contains(&b'/') && !name.contains(&0));
            prop_assert!(![&b"."[..], b"..", CONTROL, LOCK].contains(&name.as_slice()));
            if !is_long(&name) {
                prop_assert_eq!(key_of(&name), Meaning::Key(key.clone()));
            }
            prop_assert_eq!(key_from_text(&key_text(&key)), Some(key));
        }

        #[test]
        fn a_name_means_one_key(key in any_key(), raw in proptest::collection::vec(1u8.., 1..30), take_raw: bool) {
            // Names made of the same special parts, without bytes that the kernel does not send.
            let mut name: Vec<u8> = match (take_raw, key) {
                (false, OwnedKey::Str(text)) => text,
                _ => raw,
            };
            name.retain(|c| *c != b'/' && *c != 0);
            prop_assume!(!name.is_empty() && name.len() <= NAME_MAX);
            prop_assume!(![&b"."[..], b"..", CONTROL, LOCK].contains(&name.as_slice()));
            if let Meaning::Key(key) = key_of(&name) {
                prop_assert_eq!(name_of(&key), name);
            }
        }
    }
}
