//! Conversion between scalars and the bytes of a file.
//!
//! | type | the file | accepted content |
//! | --- | --- | --- |
//! | str | its UTF-8 (lone surrogates as their three bytes) and a newline, unless it was written without | anything; one newline at the end is removed |
//! | bytes | exactly the value | anything |
//! | int, float | Python's `repr` and a newline; ints beyond 4300 digits in hexadecimal | with surrounding blanks; `0x` too |
//! | bool | `True` or `False` and a newline | also `true`, `false`, `1`, `0` |
//! | other types | see `typed` | see `typed` |
//! | None | `None` and a newline | None; anything else becomes a new value |
//!
//! With `exact` no newline is added or removed.
//!
//! 1. Writing the bytes that were read gives the same value.
//! 2. Reading a str or bytes file gives the same bytes that were written.

use super::numbers::{float_text, int_text, parse_float, parse_int};
use super::typed;
use super::wtf8::is_wtf8;
use persist_core::store::{In, LargeKind, Typed, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// The type of a scalar; its names are those in the xattr `user.persist.type`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ty {
    None,
    Bool,
    Int,
    Float,
    Str,
    Bytes,
    /// Another type: its name, and whether the content is text.
    Typed(Arc<str>, bool),
}

impl Ty {
    /// The name in the xattr.
    pub(crate) fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Ty::None => "none",
            Ty::Bool => "bool",
            Ty::Int => "int",
            Ty::Float => "float",
            Ty::Str => "str",
            Ty::Bytes => "bytes",
            Ty::Typed(name, text) => return Cow::Owned(typed::shown(name, *text)),
        })
    }

    /// True for a type to which a content may not fit.
    pub(crate) fn has_a_form(&self) -> bool {
        matches!(self, Ty::Int | Ty::Float | Ty::Bool | Ty::Typed(..))
    }

    /// The type of that name.
    pub(crate) fn named(name: &[u8]) -> Option<Ty> {
        [Ty::None, Ty::Bool, Ty::Int, Ty::Float, Ty::Str, Ty::Bytes]
            .into_iter()
            .find(|t| t.name().as_bytes() == name)
            .or_else(|| {
                let (name, text) = typed::named(name)?;
                Some(Ty::Typed(name.into(), text))
            })
    }

    /// The type of a value; None for a container or a link. That of a large typed value has no name: see `Fs::type_of`.
    pub(crate) fn of(value: &Value) -> Option<Ty> {
        Some(match value {
            Value::None => Ty::None,
            Value::Bool(_) => Ty::Bool,
            Value::Int(_) | Value::BigInt { .. } => Ty::Int,
            Value::Float(_) => Ty::Float,
            Value::Str { .. } => Ty::Str,
            Value::Bytes(_) => Ty::Bytes,
            Value::Large(large) => match large.kind {
                LargeKind::Str { .. } => Ty::Str,
                LargeKind::Bytes => Ty::Bytes,
                LargeKind::Int { .. } => Ty::Int,
                LargeKind::Typed { text } => Ty::Typed("".into(), text),
                LargeKind::Link => return None,
            },
            Value::Typed(value) => Ty::Typed((*value.name).into(), value.text),
            Value::Link(_) | Value::Obj(_) => return None,
        })
    }
}

/// A scalar that will be stored; text is borrowed from the file's buffer where possible.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Scalar<'a> {
    None,
    Bool(bool),
    Int(i64),
    BigInt { negative: bool, magnitude: Vec<u8> },
    Float(f64),
    Str { bytes: Cow<'a, [u8]>, no_newline: bool },
    Bytes(Cow<'a, [u8]>),
    Typed(Box<Typed>),
}

impl Scalar<'_> {
    /// The engine's form of the scalar.
    pub(crate) fn as_in(&self) -> In<'_> {
        match self {
            Scalar::None => In::None,
            Scalar::Bool(b) => In::Bool(*b),
            Scalar::Int(i) => In::Int(*i),
            Scalar::BigInt { negative, magnitude } => In::BigInt {
                negative: *negative,
                magnitude,
            },
            Scalar::Float(f) => In::Float(*f),
            Scalar::Str { bytes, no_newline } => In::Str {
                bytes,
                no_newline: *no_newline,
            },
            Scalar::Bytes(b) => In::Bytes(b),
            Scalar::Typed(value) => In::Typed(value),
        }
    }

    /// Its type.
    pub(crate) fn ty(&self) -> Ty {
        match self {
            Scalar::None => Ty::None,
            Scalar::Bool(_) => Ty::Bool,
            Scalar::Int(_) | Scalar::BigInt { .. } => Ty::Int,
            Scalar::Float(_) => Ty::Float,
            Scalar::Str { .. } => Ty::Str,
            Scalar::Bytes(_) => Ty::Bytes,
            Scalar::Typed(value) => Ty::Typed((*value.name).into(), value.text),
        }
    }

    /// The scalar without borrowed text.
    pub(crate) fn into_owned(self) -> Scalar<'static> {
        match self {
            Scalar::None => Scalar::None,
            Scalar::Bool(b) => Scalar::Bool(b),
            Scalar::Int(i) => Scalar::Int(i),
            Scalar::BigInt { negative, magnitude } => Scalar::BigInt { negative, magnitude },
            Scalar::Float(f) => Scalar::Float(f),
            Scalar::Str { bytes, no_newline } => Scalar::Str {
                bytes: Cow::Owned(bytes.into_owned()),
                no_newline,
            },
            Scalar::Bytes(b) => Scalar::Bytes(Cow::Owned(b.into_owned())),
            Scalar::Typed(value) => Scalar::Typed(value),
        }
    }

    /// The bytes of its file.
    pub(crate) fn render(&self, exact: bool) -> Vec<u8> {
        match self {
            Scalar::None => line("None".into(), exact),
            Scalar::Bool(true) => line("True".into(), exact),
            Scalar::Bool(false) => line("False".into(), exact),
            Scalar::Int(i) => line(i.to_string(), exact),
            Scalar::BigInt { negative, magnitude } => line(int_text(*negative, magnitude), exact),
            Scalar::Float(f) => line(float_text(*f), exact),
            Scalar::Str { bytes, no_newline } => {
                let mut out = Vec::with_capacity(bytes.len() + 1);
                out.extend_from_slice(bytes);
                if !no_newline && !exact {
                    out.push(b'\n');
                }
                out
            }
            Scalar::Bytes(b) => b.to_vec(),
            Scalar::Typed(value) => typed::render(value, exact),
        }
    }

    /// From a value that was copied out of the store; None for containers, links and large values.
    pub(crate) fn from_value(value: &Value) -> Option<Scalar<'_>> {
        Some(match value {
            Value::None => Scalar::None,
            Value::Bool(b) => Scalar::Bool(*b),
            Value::Int(i) => Scalar::Int(*i),
            Value::BigInt { negative, magnitude } => Scalar::BigInt {
                negative: *negative,
                magnitude: magnitude.to_vec(),
            },
            Value::Float(f) => Scalar::Float(*f),
            Value::Str { bytes, no_newline } => Scalar::Str {
                bytes: Cow::Borrowed(bytes),
                no_newline: *no_newline,
            },
            Value::Bytes(b) => Scalar::Bytes(Cow::Borrowed(b)),
            Value::Typed(value) => Scalar::Typed(value.clone()),
            Value::Large(_) | Value::Link(_) | Value::Obj(_) => return None,
        })
    }
}

fn line(mut text: String, exact: bool) -> Vec<u8> {
    if !exact {
        text.push('\n');
    }
    text.into_bytes()
}

/// The text without the surrounding blanks that Python ignores around numbers.
fn trimmed(content: &[u8]) -> Option<&str> {
    std::str::from_utf8(content)
        .ok()
        .map(|t| t.trim_matches(|c: char| c.is_whitespace() || c == '\0'))
}

fn str_value(content: &[u8], exact: bool) -> Scalar<'_> {
    match content.strip_suffix(b"\n") {
        Some(text) if !exact => Scalar::Str {
            bytes: Cow::Borrowed(text),
            no_newline: false,
        },
        _ => Scalar::Str {
            bytes: Cow::Borrowed(content),
            no_newline: !exact,
        },
    }
}

/// Parse the content of a file as a value of that type; None if it does not fit.
pub(crate) fn parse_as<'a>(ty: &Ty, content: &'a [u8], exact: bool) -> Option<Scalar<'a>> {
    Some(match ty {
        Ty::Str => {
            if !is_wtf8(content) {
                return None;
            }
            str_value(content, exact)
        }
        Ty::Bytes => Scalar::Bytes(Cow::Borrowed(content)),
        Ty::Typed(name, text) => Scalar::Typed(Box::new(typed::parse(name, *text, content, exact)?)),
        Ty::None => match trimmed(content)? {
            "None" => Scalar::None,
            _ => return None,
        },
        Ty::Bool => match trimmed(content)? {
            "True" | "true" | "1" => Scalar::Bool(true),
            "False" | "false" | "0" => Scalar::Bool(false),
            _ => return None,
        },
        Ty::Int => {
            let int = parse_int(trimmed(content)?)?;
            match int.small() {
                Some(i) => Scalar::Int(i),
                None => Scalar::BigInt {
                    negative: int.negative,
                    magnitude: int.magnitude,
                },
            }
        }
        Ty::Float => Scalar::Float(parse_float(trimmed(content)?)?),
    })
}

/// The value of a new file: the type `hint` if the content fits it, a JSON scalar if those are inferred, str if the
/// content is UTF-8, otherwise bytes.
pub(crate) fn parse_new<'a>(content: &'a [u8], hint: Option<&Ty>, infer: bool, exact: bool) -> Scalar<'a> {
    if let Some(scalar) = hint.and_then(|ty| parse_as(ty, content, exact)) {
        return scalar;
    }
    if let Some(scalar) = infer.then(|| infer_json(content)).flatten() {
        return scalar;
    }
    if std::str::from_utf8(content).is_ok() {
        str_value(content, exact)
    } else {
        Scalar::Bytes(Cow::Borrowed(content))
    }
}

/// The content of a file whose value already has a type. Numbers and bools keep their type: None if the content does
/// not fit. None accepts any new value, and a str becomes bytes if the content is not valid text.
pub(crate) fn parse_over<'a>(old: &Ty, content: &'a [u8], infer: bool, exact: bool) -> Option<Scalar<'a>> {
    match old {
        Ty::Int | Ty::Float | Ty::Bool | Ty::Typed(..) => parse_as(old, content, exact),
        Ty::None | Ty::Str | Ty::Bytes => parse_as(old, content, exact)
            .or_else(|| Some(parse_new(content, None, infer && *old == Ty::None, exact))),
    }
}

/// A scalar in JSON, written exactly as this mount (or Python's json) would write it.
fn infer_json(content: &[u8]) -> Option<Scalar<'static>> {
    let text = std::str::from_utf8(content.strip_suffix(b"\n").unwrap_or(content)).ok()?;
    match text {
        "null" => return Some(Scalar::None),
        "true" => return Some(Scalar::Bool(true)),
        "false" => return Some(Scalar::Bool(false)),
        _ => {}
    }
    if !text.bytes().next()?.is_ascii_digit() && !text.starts_with('-') {
        return None;
    }
    if let Some(int) = parse_int(text).filter(|i| int_text(i.negative, &i.magnitude) == text) {
        return Some(match int.small() {
            Some(i) => Scalar::Int(i),
            None => Scalar::BigInt {
                negative: int.negative,
                magnitude: int.magnitude,
            },
        });
    }
    parse_float(text)
        .filter(|f| f.is_finite() && float_text(*f) == text)
        .map(Scalar::Float)
}

/// True if a file of this type can still become valid when more is written after `content`. This lets an invalid write
/// fail at once, where the writer checks, and not at close.
pub(crate) fn could_become(ty: &Ty, content: &[u8]) -> bool {
    let word = |choices: &[&str]| {
        let Ok(text) = std::str::from_utf8(content) else {
            return false;
        };
        let text = text.trim_start();
        choices
            .iter()
            .any(|c| c.starts_with(text) || text.strip_prefix(c).is_some_and(|r| r.trim().is_empty()))
    };
    match ty {
        Ty::Int => {
            content
                .iter()
                .all(|c| c.is_ascii_hexdigit() || b" \t\r\n\x0b\x0c+-_xX\0".contains(c))
                && {
                    let body = content.trim_ascii_start();
                    let body = body
                        .strip_prefix(b"-")
                        .or_else(|| body.strip_prefix(b"+"))
                        .unwrap_or(body);
                    body.starts_with(b"0x")
                        || body.starts_with(b"0X")
                        || !body.iter().any(|c| c.is_ascii_alphabetic())
                }
        }
        Ty::Float => content
            .iter()
            .all(|c| c.is_ascii_digit() || b" \t\r\n\x0b\x0c+-_.eE\0infatyINFATY".contains(c)),
        Ty::Bool => word(&["True", "False", "true", "false", "1", "0"]),
        Ty::Typed(name, text) => typed::could_become(name, *text, content),
        Ty::None | Ty::Str | Ty::Bytes => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_files() {
        let read = |content: &[u8]| parse_as(&Ty::Str, content, false).map(|s| s.render(false));
        for content in [&b"Joe\n"[..], b"Joe", b"", b"\n", b"\n\n", b"a\nb"] {
            assert_eq!(read(content).as_deref(), Some(content));
        }
        assert_eq!(
            parse_as(&Ty::Str, b"Joe\n", false),
            Some(Scalar::Str {
                bytes: Cow::Borrowed(b"Joe"),
                no_newline: false
            })
        );
        assert_eq!(
            parse_as(&Ty::Str, b"Joe\n", true),
            Some(Scalar::Str {
                bytes: Cow::Borrowed(b"Joe\n"),
                no_newline: false
            })
        );
        assert_eq!(parse_as(&Ty::Str, b"\xff", false), None);
        assert!(parse_as(&Ty::Str, b"\xed\xa0\x80\n", false).is_some());
    }

    #[test]
    fn types_stay() {
        assert_eq!(
            parse_over(&Ty::Int, b" 26 \n", false, false),
            Some(Scalar::Int(26))
        );
        assert_eq!(parse_over(&Ty::Int, b"x\n", false, false), None);
        assert_eq!(parse_over(&Ty::Int, b"", false, false), None);
        assert_eq!(
            parse_over(&Ty::Bool, b"true\n", false, false),
            Some(Scalar::Bool(true))
        );
        assert_eq!(parse_over(&Ty::None, b"None\n", false, false), Some(Scalar::None));
        assert_eq!(
            parse_over(&Ty::None, b"x\n", false, false).map(|s| s.ty()),
            Some(Ty::Str)
        );
        assert_eq!(
            parse_over(&Ty::Str, b"\xff", false, false).map(|s| s.ty()),
            Some(Ty::Bytes)
        );
        assert_eq!(
            parse_over(&Ty::Bytes, b"x", false, false).map(|s| s.ty()),
            Some(Ty::Bytes)
        );
    }

    #[test]
    fn new_files() {
        let ty = |content: &[u8], infer| parse_new(content, None, infer, false).ty();
        assert_eq!(ty(b"5\n", false), Ty::Str);
        assert_eq!(ty(b"\xff", false), Ty::Bytes);
        for (content, want) in [
            (&b"5\n"[..], Ty::Int),
            (b"-5", Ty::Int),
            (b"1.5\n", Ty::Float),
            (b"1e+16\n", Ty::Float),
            (b"true\n", Ty::Bool),
            (b"null\n", Ty::None),
            (b"05\n", Ty::Str),
            (b"0x5\n", Ty::Str),
            (b"nan\n", Ty::Str),
            (b"-inf\n", Ty::Str),
            (b" 5\n", Ty::Str),
            (b"\n", Ty::Str),
            (b"", Ty::Str),
        ] {
            assert_eq!(ty(content, true), want, "{content:?}");
        }
        assert_eq!(parse_new(b"26\n", Some(&Ty::Int), false, false), Scalar::Int(26));
        assert_eq!(parse_new(b"x\n", Some(&Ty::Int), false, false).ty(), Ty::Str);
    }

    #[test]
    fn beginnings() {
        for (ty, good, bad) in [
            (
                Ty::Int,
                &[&b"-"[..], b"", b"12", b"0xf", b" 5\n"][..],
                &[&b"abc"[..], b"1.5", b"hello"][..],
            ),
            (Ty::Float, &[b"1.", b"1e", b"-in", b"nan"], &[b"x", b"hello"]),
            (
                Ty::Bool,
                &[b"T", b"Tru", b"False\n", b"1\n", b""],
                &[b"Troo", b"2", b"True x"],
            ),
        ] {
            for content in good {
                assert!(could_become(&ty, content), "{ty:?} {content:?}");
            }
            for content in bad {
                assert!(!could_become(&ty, content), "{ty:?} {content:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn what_is_written_is_read_back(content in proptest::collection::vec(any::<u8>(), 0..20), newline: bool) {
            let mut content = content;
            if newline { content.push(b'\n'); }
            prop_assert_eq!(parse_new(&content, None, false, false).render(false), content.clone());
            prop_assert_eq!(parse_new(&content, None, false, true).render(true), content);
        }

        #[test]
        fn a_str_survives_a_copy(text: String) {
            let value = Scalar::Str { bytes: Cow::Borrowed(text.as_bytes()), no_newline: false };
            let file = value.render(false);
            prop_assert_eq!(parse_new(&file, None, false, false), value);
        }

        #[test]
        fn numbers_survive_a_copy(int: i64, bits: u64) {
            let value = Scalar::Int(int);
            let file = value.render(false);
            prop_assert_eq!(parse_as(&Ty::Int, &file, false), Some(value));
            let float = f64::from_bits(bits);
            prop_assume!(!float.is_nan());
            let file = Scalar::Float(float).render(false);
            prop_assert_eq!(parse_as(&Ty::Float, &file, false), Some(Scalar::Float(float)));
        }
    }
}
