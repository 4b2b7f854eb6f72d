//! The iterator over a `Dict` or one of its views.
//!
//! 1. It keeps a cursor, not a section: each step is its own section. Like dict's iterator it raises RuntimeError when
//!    the number of entries has changed since it began.
//! 2. It also raises it when the dict was emptied and filled again, by any process: the entries of a dict that was
//!    empty are numbered behind all earlier ones (`core/src/object/dict`), so it meets more of them than it expects, or
//!    none where some are left. For the attributes of an object, whose numbers begin again, `emptied` tells it of the
//!    changes through this proxy.

use persist_core::store::{Result, Value};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::proxies::dict::Dict;
use crate::proxies::found::{Found, find};
use crate::python::arguments::iter_function;
use crate::python::scalars;
use crate::values::contents::Part;
use crate::values::large::{Whole, read_whole};

/// The iterator over a Dict or one of its views.
#[pyclass(frozen, module = "persist")]
pub struct DictIter {
    dict: Iterated,
    part: Part,
    reverse: bool,
    cursor: AtomicU64,
    left: AtomicU64,
    /// The number of entries at the beginning; `END` when the iterator is exhausted, `BROKEN` when the number changed.
    expected: AtomicU64,
    /// `Dict::emptied` at the beginning.
    emptied: u64,
}

/// A dict that counts its iterators, for as long as one of them lives.
struct Iterated(Py<Dict>);

impl Iterated {
    fn new(dict: &Bound<'_, Dict>) -> Iterated {
        dict.get().iterators.fetch_add(1, Ordering::SeqCst);
        Iterated(dict.clone().unbind())
    }

    fn get(&self) -> &Dict {
        self.0.get()
    }
}

impl Drop for Iterated {
    fn drop(&mut self) {
        self.0.get().iterators.fetch_sub(1, Ordering::SeqCst);
    }
}

const END: u64 = u64::MAX;
const BROKEN: u64 = u64::MAX - 1;

#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, taken apart where it is made"
)]
enum Step {
    Changed,
    Replaced,
    End,
    Entry {
        cursor: u64,
        key: Value,
        value: Value,
        found: Option<Found>,
    },
}

impl DictIter {
    /// An iterator at the beginning, or at the end for `reverse`.
    pub(crate) fn new(dict: &Bound<'_, Dict>, part: Part, reverse: bool) -> PyResult<DictIter> {
        let mut iter = DictIter {
            dict: Iterated::new(dict),
            part,
            reverse,
            cursor: AtomicU64::new(if reverse { u64::MAX } else { 0 }),
            left: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            emptied: dict.get().emptied.load(Ordering::Relaxed),
        };
        let count = dict.get().count(dict.py())?;
        iter.left = AtomicU64::new(count);
        iter.expected = AtomicU64::new(count);
        Ok(iter)
    }

    /// True if the dict has lost all entries since the beginning, and has as many as then.
    fn is_replaced(&self, expected: u64) -> bool {
        expected != 0 && self.dict.get().emptied.load(Ordering::Relaxed) != self.emptied
    }

    fn step(&self, py: Python<'_>, expected: u64) -> PyResult<Step> {
        let (proxy, part, reverse) = (self.dict.get().proxy()?, self.part, self.reverse);
        let from = self.cursor.load(Ordering::Relaxed);
        proxy.shared.read(py, |r| -> Result<Step> {
            if r.len(proxy.obj)? != expected {
                return Ok(Step::Changed);
            }
            let next = if reverse {
                r.prev(proxy.obj, from)?
            } else {
                r.next(proxy.obj, from)?
            };
            let Some(entry) = next else {
                // The entries added since the beginning follow the cursor, so with entries left to come all of them
                // precede it only if the dict has been emptied and their numbers began again. Backwards, they follow.
                let left = self.left.load(Ordering::Relaxed) > 0;
                let is_new =
                    left && (!reverse || r.next(proxy.obj, 0)?.is_some_and(|first| first.cursor > from));
                return Ok(if is_new { Step::Replaced } else { Step::End });
            };
            let key = read_whole(r, entry.key)?;
            let (value, found) = match entry.value {
                _ if part == Part::Key => (Value::None, None),
                Value::Obj(obj) => (Value::None, Some(find(&proxy.shared, r, obj)?)),
                value => (value, None),
            };
            Ok(Step::Entry {
                cursor: entry.cursor,
                key,
                value,
                found,
            })
        })
    }
}

#[pymethods]
impl DictIter {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// Pickle and copy as the iterators of dict do: as an iterator over what is left.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyList>,))> {
        let copy = |n: &AtomicU64| AtomicU64::new(n.load(Ordering::Relaxed));
        let rest = DictIter {
            dict: Iterated::new(self.dict.0.bind(py)),
            part: self.part,
            reverse: self.reverse,
            cursor: copy(&self.cursor),
            left: copy(&self.left),
            expected: copy(&self.expected),
            emptied: self.emptied,
        };
        let left = py.get_type::<PyList>().call1((rest,))?;
        Ok((iter_function(py)?, (left.cast_into()?,)))
    }

    fn __length_hint__(&self) -> u64 {
        if self.expected.load(Ordering::Relaxed) >= BROKEN {
            0
        } else {
            self.left.load(Ordering::Relaxed)
        }
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let changed = || {
            Err(PyRuntimeError::new_err(
                "dictionary changed size during iteration",
            ))
        };
        let expected = match self.expected.load(Ordering::Relaxed) {
            END => return Ok(None),
            BROKEN => return changed(),
            n => n,
        };
        let keys_changed = || {
            self.expected.store(END, Ordering::Relaxed);
            Err(PyRuntimeError::new_err(
                "dictionary keys changed during iteration",
            ))
        };
        let shared = &self.dict.get().proxy()?.shared;
        loop {
            let (cursor, key, value, found) = match self.step(py, expected)? {
                Step::Entry {
                    cursor,
                    key,
                    value,
                    found,
                } => (cursor, key, value, found),
                Step::Replaced => return keys_changed(),
                Step::End if self.is_replaced(expected) => return keys_changed(),
                Step::End => {
                    self.expected.store(END, Ordering::Relaxed);
                    return Ok(None);
                }
                Step::Changed => {
                    self.expected.store(BROKEN, Ordering::Relaxed);
                    return changed();
                }
            };
            let value = match value {
                Value::Large(large) => match shared.read_large(py, &large)? {
                    Some(whole) => whole,
                    None => continue, // replaced in between: read again
                },
                value => Whole::Value(value),
            };
            let Some(left) = self.left.load(Ordering::Relaxed).checked_sub(1) else {
                // As many entries were removed as added: the iterator would find new ones without an end.
                return keys_changed();
            };
            self.cursor.store(cursor, Ordering::Relaxed);
            self.left.store(left, Ordering::Relaxed);
            let value = match (self.part, found) {
                (Part::Key, _) => return scalars::to_python(py, &key).map(Some),
                (_, Some(found)) => shared.wrap(py, found)?,
                _ => {
                    let read = value.to_python(py);
                    shared.placed(py, read, self.dict.get().proxy()?.obj, key.as_key().ok())?
                }
            };
            if self.part == Part::Value {
                return Ok(Some(value));
            }
            let key = scalars::to_python(py, &key)?;
            return Ok(Some(PyTuple::new(py, [key, value])?.into_any()));
        }
    }
}
