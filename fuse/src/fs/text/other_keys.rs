//! Names of keys of other types: tuples, dates and the like (see the table of `names`).

use super::hex::{hex, unhex};
use super::keys::OwnedKey;
use super::typed;
use super::wtf8::is_wtf8;
use persist_core::store::Typed;

/// The name of a key, without a limit of its length.
pub(super) fn name_of(key: &Typed) -> Vec<u8> {
    if key.text && typed::is_key(&key.name, &key.payload) {
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
    let (name, escaped) = body.split_once(':')?;
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
