//! The text of a container (`repr`): bounded, and never an exception of the store.
//!
//! 1. The text of a small container is that of a dict or list. What is longer than `LONGEST` or nested deeper than
//!    `DEEPEST` is cut, and ends with `...`; no more is read than is shown.
//! 2. A container that cannot be read (its store is closed) is shown with the reason.

use persist_core::store::door::{Small, builtin_kind};
use persist_core::store::{Large, LargeKind, Reader, Result, Value};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use super::contents::Part;
use crate::proxies::dict::Dict;
use crate::proxies::list::List;
use crate::proxies::proxy::Proxy;
use crate::python::ffi::{self, Printing};

/// About the longest text of all, in characters.
const LONGEST: usize = 10_000;
/// The longest text of one str or bytes.
const LONGEST_VALUE: usize = 1000;
/// The most levels of containers.
const DEEPEST: usize = 100;
/// The number of entries that are read in one section.
const CHUNK: usize = 64;

thread_local! {
    /// What is left to the text that this thread is making: characters, and levels. None outside of texts.
    static LEFT: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// What is shown of a container.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The items of a list.
    List,
    /// The entries of a dict.
    Dict,
    /// A view.
    View(Part),
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Shape::List => "List",
            Shape::Dict => "Dict",
            Shape::View(Part::Key) => "KeysView",
            Shape::View(Part::Value) => "ValuesView",
            Shape::View(Part::Item) => "ItemsView",
        }
    }

    fn brackets(self) -> (&'static str, &'static str) {
        match self {
            Shape::List => ("[", "]"),
            Shape::Dict => ("{", "}"),
            Shape::View(Part::Key) => ("dict_keys([", "])"),
            Shape::View(Part::Value) => ("dict_values([", "])"),
            Shape::View(Part::Item) => ("dict_items([", "])"),
        }
    }

    /// The text in place of a container that is being shown, or is nested too deep.
    fn again(self) -> String {
        match self {
            Shape::List => "[...]".into(),
            Shape::Dict => "{...}".into(),
            Shape::View(_) => "...".into(),
        }
    }
}

/// One level of containers in the text of this thread.
struct Level {
    outer: Option<(usize, usize)>,
}

impl Level {
    fn enter() -> Option<Level> {
        let outer = LEFT.get();
        let (characters, levels) = outer.unwrap_or((LONGEST, DEEPEST));
        if characters == 0 || levels == 0 {
            return None;
        }
        LEFT.set(Some((characters, levels - 1)));
        Some(Level { outer })
    }

    /// Take the characters that were written; false if none are left.
    fn take(text: &str) -> bool {
        let (characters, levels) = LEFT.get().unwrap_or_default();
        let left = characters.saturating_sub(text.len());
        LEFT.set(Some((left, levels)));
        left != 0
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        let (characters, _) = LEFT.get().unwrap_or_default();
        LEFT.set(self.outer.map(|(_, levels)| (characters, levels)));
    }
}

/// Why the text of a container ends early.
enum Stop {
    /// The container cannot be read.
    Unreadable(PyErr),
    /// The code of a value raised an exception.
    Raised(PyErr),
}

/// Whether pprint knows the shapes of containers: it calls `repr` before it looks for them.
static SHAPES_PPRINT: AtomicBool = AtomicBool::new(false);

#[cold]
fn shape_pprint(py: Python<'_>) -> PyResult<()> {
    if ffi::imported_modules(py)?.contains(intern!(py, "pprint"))?
        && !SHAPES_PPRINT.swap(true, Ordering::Relaxed)
    {
        py.import("persist._pretty")?.call_method0("shape_pprint")?;
    }
    Ok(())
}

/// The text of `of`, whose container is in `proxy`.
pub(crate) fn container(of: &Bound<'_, PyAny>, proxy: &Proxy, shape: Shape) -> PyResult<String> {
    if !SHAPES_PPRINT.load(Ordering::Relaxed) {
        shape_pprint(of.py())?;
    }
    let Ok(Some(_printing)) = Printing::enter(of) else {
        return Ok(shape.again());
    };
    let Some(_level) = Level::enter() else {
        return Ok(shape.again());
    };
    let (open, close) = shape.brackets();
    let mut text = String::from(open);
    Level::take(open);
    match entries(of.py(), proxy, shape, &mut text) {
        Ok(()) => {
            text.push_str(close);
            Ok(text)
        }
        Err(Stop::Unreadable(e)) if e.is_instance_of::<PyException>(of.py()) => {
            Ok(format!("<persist.{}: {}>", shape.name(), e.value(of.py())))
        }
        Err(Stop::Unreadable(e) | Stop::Raised(e)) => Err(e),
    }
}

/// Like `container`. One whose class this program does not have is shown with the name of the class.
pub(crate) fn named(of: &Bound<'_, PyAny>, proxy: &Proxy, shape: Shape) -> PyResult<String> {
    let text = container(of, proxy, shape)?;
    if !of.is_exact_instance_of::<Dict>() && !of.is_exact_instance_of::<List>() {
        return Ok(text);
    }
    match proxy.shared.read(of.py(), |r| r.class(proxy.obj)) {
        // The entries of a deque, for example, which its own class shows.
        Ok(Some(class)) if builtin_kind(&class).is_some() => Ok(text),
        Ok(Some(class)) if !class.is_empty() => {
            Ok(format!("<persist.{} of class {class:?}: {text}>", shape.name()))
        }
        _ => Ok(text),
    }
}

fn entries(py: Python<'_>, proxy: &Proxy, shape: Shape, text: &mut String) -> std::result::Result<(), Stop> {
    let (mut cursor, mut first) = (0, true);
    loop {
        let (mut cut, mut next, mut found) = (Vec::new(), cursor, Vec::new());
        let mut batch = proxy
            .shared
            .collect(py, |r, out| {
                cut.clear();
                next = cursor;
                let mut add = |value| {
                    let (value, rest) = beginning(r, value)?;
                    cut.push(rest);
                    out.push(r, value)
                };
                if shape == Shape::List {
                    found.clear();
                    // A damaged list may have fewer items than it says.
                    r.items(proxy.obj, cursor, CHUNK, &mut found)?;
                    next = cursor + found.len() as u64;
                    return found.drain(..).try_for_each(add);
                }
                for _ in 0..CHUNK {
                    let Some(entry) = r.next(proxy.obj, next)? else {
                        break;
                    };
                    next = entry.cursor;
                    if shape != Shape::View(Part::Value) {
                        add(entry.key)?;
                    }
                    if shape != Shape::View(Part::Key) {
                        add(entry.value)?;
                    }
                }
                Ok(())
            })
            .map_err(Stop::Unreadable)?;
        if next == cursor {
            return Ok(());
        }
        cursor = next;
        let mut cut = cut.into_iter();
        while let Some(value) = batch.next(py).map_err(Stop::Unreadable)? {
            if !first {
                text.push_str(", ");
            }
            first = false;
            if !Level::take(", ") {
                text.push_str("...");
                return Ok(());
            }
            let mut add = |before: &str, value: &Bound<'_, PyAny>| {
                let said = part(value, cut.next().flatten()).map_err(Stop::Raised)?;
                text.push_str(before);
                text.push_str(&said);
                // A container in it has counted its own text.
                if !value.is_instance_of::<Dict>() && !value.is_instance_of::<List>() {
                    Level::take(&said);
                }
                Ok(())
            };
            match shape {
                Shape::List | Shape::View(Part::Key | Part::Value) => add("", &value)?,
                Shape::Dict => {
                    add("", &value)?;
                    add(": ", &batch.expect(py).map_err(Stop::Unreadable)?)?;
                }
                Shape::View(Part::Item) => {
                    add("(", &value)?;
                    add(", ", &batch.expect(py).map_err(Stop::Unreadable)?)?;
                    text.push(')');
                }
            }
        }
    }
}

/// What is not shown of a value.
enum Rest {
    /// The end of a str or bytes, or an int, of this many bytes.
    Bytes(u64),
    /// All of it: this is shown in its place.
    All(String),
}

/// The beginning of a long value, and how long all of it is; other values unchanged.
fn beginning(r: &Reader<'_>, value: Value) -> Result<(Value, Option<Rest>)> {
    let Value::Large(large) = value else {
        return Ok((value, None));
    };
    if matches!(large.kind, LargeKind::Int { .. }) {
        return Ok((Value::None, Some(Rest::Bytes(large.len))));
    }
    if matches!(large.kind, LargeKind::Typed { .. }) {
        let shown = format!("<{} of {} bytes>", r.large_name(&large)?, large.len);
        return Ok((Value::None, Some(Rest::All(shown))));
    }
    let mut bytes = vec![0; (LONGEST_VALUE as u64 * 4).min(large.len) as usize];
    let read = r.large_read(&large, 0, &mut bytes)?;
    bytes.truncate(read);
    let is_cut = (read as u64) < large.len;
    Ok((made(&large, bytes), is_cut.then_some(Rest::Bytes(large.len))))
}

/// The value with the first bytes of a large one, up to the end of a character.
fn made(large: &Large, mut bytes: Vec<u8>) -> Value {
    if !matches!(large.kind, LargeKind::Bytes) && (bytes.len() as u64) < large.len {
        while let Some(last) = bytes.pop() {
            // The first byte of the last character, which may be incomplete.
            if last & 0xC0 != 0x80 {
                break;
            }
        }
    }
    let bytes = Small::from_vec(bytes);
    match large.kind {
        LargeKind::Str { no_newline } => Value::Str { bytes, no_newline },
        LargeKind::Link => Value::Link(bytes),
        LargeKind::Bytes | LargeKind::Int { .. } | LargeKind::Typed { .. } => Value::Bytes(bytes),
    }
}

/// The text of a key, a value or an item. `rest` is what it is the beginning of.
fn part(value: &Bound<'_, PyAny>, rest: Option<Rest>) -> PyResult<String> {
    let py = value.py();
    let of = match rest {
        Some(Rest::All(shown)) => return Ok(shown),
        Some(Rest::Bytes(bytes)) => Some(bytes),
        None => None,
    };
    if value.is_none()
        && let Some(bytes) = of
    {
        return Ok(format!("<int of {} bits>", bytes.saturating_mul(8)));
    }
    if value.is_instance_of::<PyString>() || value.is_exact_instance_of::<PyBytes>() {
        let is_long = value.len()? > LONGEST_VALUE;
        let head = match is_long {
            true => value.get_item(pyo3::types::PySlice::new(py, 0, LONGEST_VALUE as isize, 1))?,
            false => value.clone(),
        };
        let end = if is_long || of.is_some() { "..." } else { "" };
        return Ok(format!("{}{end}", head.repr()?));
    }
    match value.repr() {
        Ok(text) => Ok(text.to_string()),
        // Python refuses to print an int of more than some thousand digits.
        Err(e) if value.is_exact_instance_of::<PyInt>() && e.is_instance_of::<PyValueError>(py) => {
            let bits = value.call_method0(intern!(py, "bit_length"))?;
            Ok(format!("<int of {bits} bits>"))
        }
        Err(e) => Err(e),
    }
}
