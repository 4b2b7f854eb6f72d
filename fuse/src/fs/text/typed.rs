//! Values of other types as files: which contents are values of them, and the names of the types in the xattr.
//!
//! 1. A content that is accepted for a type of `persist` is one that Python reads. Of a type that is registered by a
//!    program, any content is accepted.
//! 2. The name in the xattr says whether the content is text, which ends with a newline in the file, or bytes.
//!
//! | type | accepted content |
//! | --- | --- |
//! | tuple, frozenset | the one text of each (`core/src/object/literal.rs`) |
//! | date, time, datetime | ISO 8601 in extended form; `[Europe/Berlin]`, `[name=CET]`, `[fold=1]` behind it |
//! | timedelta | `P1DT5.000001S`: days, seconds of a day |
//! | decimal, fraction | `1.50`, `-1E+7`, `NaN`; `3/4`, `2` |
//! | uuid | five groups of hexadecimal digits |
//! | complex, range | `1.0-2.5j`; `range(0, 10, 1)` |
//! | numpy.float64 and the like | a number; `numpy.datetime64[ns]`: an int |
//! | bytearray, numpy.bytes_ | any bytes |
//! | numpy.ndarray | a file of numpy's format `.npy` |
//! | paths, enum:..., namedtuple:..., registered types | any text; a tuple for a named tuple |

use super::wtf8::is_wtf8;
use persist_core::store::Typed;
use persist_core::store::door::{can_be_key, literal};

mod arrays;
mod numbers;
mod times;

use arrays::is_array;
use numbers::{is_complex, is_decimal, is_fraction, is_numpy, is_range, is_uuid};
use times::{is_date, is_delta, is_zoned};

/// The types of persist whose content is bytes.
const BINARY: [&str; 3] = ["bytearray", "numpy.ndarray", "numpy.bytes_"];
/// The types of persist whose content is text of any form.
const ANY_TEXT: [&str; 4] = ["pureposixpath", "posixpath", "purewindowspath", "numpy.str_"];
/// The types of persist whose content is text of a certain form.
const FORMS: [&str; 11] = [
    "tuple",
    "frozenset",
    "date",
    "time",
    "datetime",
    "timedelta",
    "decimal",
    "fraction",
    "uuid",
    "complex",
    "range",
];
const BYTES_OF: &str = "bytes:";
const TEXT_OF: &str = "text:";
const NAME_MAX: usize = 255;

/// The name of the type in the xattr.
pub(crate) fn shown(name: &str, text: bool) -> String {
    match (text, BINARY.contains(&name)) {
        (true, true) => format!("{TEXT_OF}{name}"),
        (false, false) => format!("{BYTES_OF}{name}"),
        _ => name.to_owned(),
    }
}

/// The type of a name in the xattr, and whether its content is text.
pub(crate) fn named(shown: &[u8]) -> Option<(String, bool)> {
    let shown = std::str::from_utf8(shown).ok()?;
    let (name, text) = if let Some(name) = shown.strip_prefix(BYTES_OF) {
        (name, false)
    } else if let Some(name) = shown.strip_prefix(TEXT_OF) {
        (name, true)
    } else {
        (shown, !BINARY.contains(&shown))
    };
    let known = BINARY.contains(&name) || ANY_TEXT.contains(&name) || FORMS.contains(&name);
    let is_name = (1..=NAME_MAX).contains(&name.len()) && !name.contains('\0');
    (is_name && (known || name.contains(['.', ':', '/'])) && self::shown(name, text) == shown)
        .then(|| (name.to_owned(), text))
}

/// The value of a content.
pub(crate) fn parse(name: &str, text: bool, content: &[u8], exact: bool) -> Option<Typed> {
    let made = |payload: &[u8]| {
        Some(Typed {
            name: name.into(),
            payload: payload.to_vec(),
            text,
        })
    };
    if !text {
        return (name != "numpy.ndarray" || is_array(content)).then(|| made(content))?;
    }
    if !is_wtf8(content) {
        return None;
    }
    let line = match content.strip_suffix(b"\n") {
        Some(line) if !exact => line,
        _ => content,
    };
    if !has_form(name) {
        return made(line);
    }
    let trimmed = std::str::from_utf8(line).ok()?.trim();
    is_valid(name, trimmed.as_bytes()).then(|| made(trimmed.as_bytes()))?
}

fn has_form(name: &str) -> bool {
    FORMS.contains(&name)
        || name.starts_with("namedtuple:")
        || name.starts_with("numpy.") && !ANY_TEXT.contains(&name)
}

/// The bytes of a value's file.
pub(crate) fn render(value: &Typed, exact: bool) -> Vec<u8> {
    let mut file = value.payload.clone();
    if value.text && !exact {
        file.push(b'\n');
    }
    file
}

/// True if a content can still become valid when more is written after it: a line that has ended does not change.
pub(crate) fn could_become(name: &str, text: bool, content: &[u8]) -> bool {
    !text || !content.ends_with(b"\n") || parse(name, text, content, false).is_some()
}

/// True if a text is that of a value of a type whose values can be keys.
pub(crate) fn is_key(name: &str, text: &[u8]) -> bool {
    can_be_key(name, text) && (!has_form(name) || is_valid(name, text))
}

/// True if the content is a value of a type of persist.
fn is_valid(name: &str, content: &[u8]) -> bool {
    let nested = |name: &str, content: &[u8], text: bool| match text {
        _ if BINARY.contains(&name) == text => false,
        true => !has_form(name) || is_valid(name, content),
        false => name != "numpy.ndarray" || is_array(content),
    };
    if name == "tuple" || name.starts_with("namedtuple:") {
        return literal::is_normal(content, false, &nested);
    }
    if name == "frozenset" {
        return literal::is_normal(content, true, &nested);
    }
    let Ok(text) = std::str::from_utf8(content) else {
        return false;
    };
    match name {
        "date" => is_date(text),
        "time" => is_zoned(text, false),
        "datetime" => is_zoned(text, true),
        "timedelta" => is_delta(text),
        "decimal" => is_decimal(text),
        "fraction" => is_fraction(text),
        "uuid" => is_uuid(text),
        "complex" => is_complex(text),
        "range" => is_range(text),
        _ => name
            .strip_prefix("numpy.")
            .is_some_and(|kind| is_numpy(kind, text)),
    }
}

#[cfg(test)]
mod tests;
