//! Names of keys of other types: tuples, dates and the like (see the table of `names`).

use super::hex::{hex, unhex};
use super::keys::OwnedKey;
use super::typed;
use super::wtf8::is_wtf8;
use persist_core::store::Typed;

/// The name of a key, without a limit of its length.
pub(super) fn name_of(key: &Typed) -> Vec<u8> {
    let is_name = split(&key.name).is_some_and(|(_, rest)| rest.is_empty())
        && std::str::from_utf8(&key.payload).is_ok()
        && !key.name.ends_with(':');
    if key.text && is_name && typed::is_key(&key.name, &key.payload) {
        let mut name = format!("%t:{}:", key.name).into_bytes();
        for c in &key.payload {
            match c {
                b'%' | b'/' | 0 => name.extend_from_slice(format!("%{c:02X}").as_bytes()),
                c => name.push(*c),
            }
        }
        return name;
    }
    let of = if key.text { "s" } else { "b" };
    format!("%T:{of}:{}:{}", hex(key.name.as_bytes()), hex(&key.payload)).into_bytes()
}

/// The name of a type at the beginning of a text, and what is behind it and a colon. The class of a member of an
/// enumeration, and of a named tuple, is a part of the name: `enum:module:Class`.
fn split(text: &str) -> Option<(&str, &str)> {
    let parts = match text.split_once(':') {
        Some(("enum" | "namedtuple", _)) => 3,
        _ => 1,
    };
    let end = text
        .match_indices(':')
        .nth(parts - 1)
        .map_or(text.len(), |(at, _)| at);
    let name = &text[..end];
    (name.split(':').count() == parts && !name.contains(['/', '%', '\0']))
        .then(|| (name, text.get(end + 1..).unwrap_or("")))
}

/// A key of another type, from what its name has behind `t:` or `T:`.
pub(super) fn key_of(tag: &str, body: &str) -> Option<OwnedKey> {
    let made = |name: String, payload, text| {
        (1..=255).contains(&name.len()).then(|| {
            OwnedKey::Typed(Box::new(Typed {
                name: name.into(),
                payload,
                text,
            }))
        })
    };
    if tag == "T" {
        let (of, rest) = body.split_once(':')?;
        let (name, payload) = rest.split_once(':')?;
        let name = String::from_utf8(unhex(name.as_bytes())?).ok()?;
        let payload = unhex(payload.as_bytes())?;
        let text = match of {
            "s" => true,
            "b" => false,
            _ => return None,
        };
        return if text && !is_wtf8(&payload) {
            None
        } else {
            made(name, payload, text)
        };
    }
    let (name, escaped) = split(body)?;
    let (mut payload, mut rest) = (Vec::new(), escaped.as_bytes());
    while let Some((c, after)) = rest.split_first() {
        rest = after;
        match c {
            b'%' => {
                payload.push(*unhex(&rest.get(..2)?.to_ascii_lowercase())?.first()?);
                rest = &rest[2..];
            }
            c => payload.push(*c),
        }
    }
    made(name.to_owned(), payload, true)
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    fn of(name: &str, content: &str) -> OwnedKey {
        OwnedKey::Typed(Box::new(Typed {
            name: name.into(),
            payload: content.into(),
            text: true,
        }))
    }

    #[test]
    fn keys_have_names_that_mean_them() {
        for (key, name) in [
            (of("tuple", "(1, 'a/b')"), "%t:tuple:(1, 'a%2Fb')"),
            (of("decimal", "1.50"), "%t:decimal:1.50"),
            (of("fraction", "1/3"), "%t:fraction:1%2F3"),
            (of("frozenset", "{'a', 1}"), "%t:frozenset:{'a', 1}"),
            (of("complex", "1.0-2.0j"), "%t:complex:1.0-2.0j"),
            (
                of("datetime", "2026-11-30T12:00:00+00:00"),
                "%t:datetime:2026-11-30T12:00:00+00:00",
            ),
            (of("time", "12:00:00"), "%t:time:12:00:00"),
            (of("posixpath", "/a/%"), "%t:posixpath:%2Fa%2F%25"),
            (
                of("enum:app.m:Outer.Color", "RED"),
                "%t:enum:app.m:Outer.Color:RED",
            ),
            (of("enum:m:Flags", "A|B"), "%t:enum:m:Flags:A|B"),
            (of("namedtuple:m:Point", "(1, 2)"), "%t:namedtuple:m:Point:(1, 2)"),
            // Names and contents that a program does not store.
            (of("enum:a/b:C", "RED"), "%T:s:656e756d3a612f623a43:524544"),
            (of("enum:m", "RED"), "%T:s:656e756d3a6d:524544"),
            (of("enum:m:C:D", "RED"), "%T:s:656e756d3a6d3a433a44:524544"),
            (of("enum:m:", "RED"), "%T:s:656e756d3a6d3a:524544"),
            (of("posixpath", "a//b"), "%T:s:706f73697870617468:612f2f62"),
            (of("decimal", "NaN"), "%T:s:646563696d616c:4e614e"),
            (
                of("range", "range(0, 1, 1)"),
                "%T:s:72616e6765:72616e676528302c20312c203129",
            ),
        ] {
            assert_eq!(String::from_utf8_lossy(&names::name_of(&key)), name);
            assert_eq!(
                names::key_of(name.as_bytes()),
                names::Meaning::Key(key.clone()),
                "{name}"
            );
            assert_eq!(names::key_from_text(&names::key_text(&key)), Some(key));
        }
        for name in [
            "%t:enum:m:RED",
            "%t:enum:",
            "%t:decimal",
            "%t:decimal:x",
            "%t:namedtuple:m:P:{1}",
            "%t::x",
        ] {
            let key = OwnedKey::Str(name.as_bytes().to_vec());
            assert_eq!(
                names::key_of(name.as_bytes()),
                names::Meaning::Key(key.clone()),
                "{name}"
            );
            assert_eq!(String::from_utf8_lossy(&names::name_of(&key)), name);
        }
    }
}
