//! The views of a `Dict` (`keys()`, `values()`, `items()`) and its iterators.
//!
//! An iterator keeps a cursor, not a section: each step is a section of its own. Like dict's it
//! raises RuntimeError when the number of entries has changed since it began.

use persist_core::store::{Result, Value};
use pyo3::basic::CompareOp;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyDictItems, PyDictKeys, PyFrozenSet, PyMappingProxy, PySet, PyTuple};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::convert;
use crate::dict::{Dict, listing};
use crate::shared::{Found, find, settle};

/// What of an entry is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
    /// Both.
    Item,
}

/// The iterator over a Dict or one of its views.
#[pyclass(frozen, module = "persist")]
pub struct DictIter {
    dict: Py<Dict>,
    part: Part,
    reverse: bool,
    cursor: AtomicU64,
    left: AtomicU64,
    /// The number of entries it began with; `END` when it is exhausted, `BROKEN` when that changed.
    expected: AtomicU64,
}

const END: u64 = u64::MAX;
const BROKEN: u64 = u64::MAX - 1;

#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, taken apart where it is made"
)]
enum Step {
    Changed,
    End,
    Entry {
        cursor: u64,
        key: Value,
        value: Value,
        found: Option<Found>,
    },
}

impl DictIter {
    /// At the beginning, or the end.
    pub(crate) fn new(dict: &Bound<'_, Dict>, part: Part, reverse: bool) -> PyResult<DictIter> {
        let count = dict.get().count(dict.py())?;
        Ok(DictIter {
            dict: dict.clone().unbind(),
            part,
            reverse,
            cursor: AtomicU64::new(if reverse { u64::MAX } else { 0 }),
            left: AtomicU64::new(count),
            expected: AtomicU64::new(count),
        })
    }

    fn step(&self, py: Python<'_>, expected: u64) -> PyResult<Step> {
        let (proxy, part, reverse) = (&self.dict.get().proxy, self.part, self.reverse);
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
            let Some(entry) = next else { return Ok(Step::End) };
            let key = settle(r, entry.key)?;
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
        let shared = &self.dict.get().proxy.shared;
        loop {
            let (cursor, key, mut value, found) = match self.step(py, expected)? {
                Step::Entry {
                    cursor,
                    key,
                    value,
                    found,
                } => (cursor, key, value, found),
                Step::End => {
                    self.expected.store(END, Ordering::Relaxed);
                    return Ok(None);
                }
                Step::Changed => {
                    self.expected.store(BROKEN, Ordering::Relaxed);
                    return changed();
                }
            };
            if let Value::Large(large) = &value {
                match shared.read_large(py, large)? {
                    Some(whole) => value = whole,
                    None => continue, // replaced meanwhile: look again
                }
            }
            let Some(left) = self.left.load(Ordering::Relaxed).checked_sub(1) else {
                // As many were removed as added: it would find new ones for ever.
                self.expected.store(END, Ordering::Relaxed);
                return Err(PyRuntimeError::new_err(
                    "dictionary keys changed during iteration",
                ));
            };
            self.cursor.store(cursor, Ordering::Relaxed);
            self.left.store(left, Ordering::Relaxed);
            let value = match (self.part, found) {
                (Part::Key, _) => return convert::to_python(py, &key).map(Some),
                (_, Some(found)) => shared.wrap(py, found)?,
                _ => convert::to_python(py, &value)?,
            };
            if self.part == Part::Value {
                return Ok(Some(value));
            }
            let key = convert::to_python(py, &key)?;
            return Ok(Some(PyTuple::new(py, [key, value])?.into_any()));
        }
    }
}

/// The same view of a plain dict, read in one section; anything else as it is.
fn plain_view<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    if let Ok(view) = value.cast_exact::<KeysView>() {
        let keys = listing(py, &view.get().dict.get().proxy, Part::Key)?;
        let dict = py.get_type::<PyDict>().call_method1("fromkeys", (keys,))?;
        return dict.call_method0("keys");
    }
    match value.cast_exact::<ItemsView>() {
        Ok(view) => view.get().dict.get().plain(py)?.call_method0("items"),
        Err(_) => Ok(value.clone()),
    }
}

fn is_set_like(other: &Bound<'_, PyAny>) -> bool {
    other.is_instance_of::<PySet>()
        || other.is_instance_of::<PyFrozenSet>()
        || other.is_instance_of::<KeysView>()
        || other.is_instance_of::<ItemsView>()
        || other.is_instance_of::<PyDictKeys>()
        || other.is_instance_of::<PyDictItems>()
}

macro_rules! view {
    ($name:ident, $part:expr, $label:literal, $doc:literal, { $($extra:tt)* }) => {
        #[doc = $doc]
        #[pyclass(frozen, generic, module = "persist")]
        pub struct $name {
            dict: Py<Dict>,
        }

        impl $name {
            /// The view of a dict.
            pub(crate) fn new(dict: &Bound<'_, Dict>) -> $name {
                $name { dict: dict.clone().unbind() }
            }
        }

        #[pymethods]
        impl $name {
            fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
                Ok(self.dict.get().count(py)? as usize)
            }

            fn __iter__(&self, py: Python<'_>) -> PyResult<DictIter> {
                DictIter::new(self.dict.bind(py), $part, false)
            }

            fn __reversed__(&self, py: Python<'_>) -> PyResult<DictIter> {
                DictIter::new(self.dict.bind(py), $part, true)
            }

            fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
                match crate::ffi::Printing::enter(slf.as_any())? {
                    Some(_printing) => {
                        let all = listing(slf.py(), &slf.get().dict.get().proxy, $part)?;
                        Ok(format!(concat!($label, "({})"), all.repr()?))
                    }
                    None => Ok("...".into()),
                }
            }

            /// A read-only proxy of the dict.
            #[getter]
            fn mapping<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                py.get_type::<PyMappingProxy>().call1((&self.dict,))
            }

            $($extra)*
        }
    };
}

macro_rules! set_view {
    ($name:ident, $part:expr, $label:literal, $doc:literal, { $($contains:tt)* }) => {
        view!($name, $part, $label, $doc, {
            $($contains)*

            fn __richcmp__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
                if !is_set_like(other) {
                    return Ok(slf.py().NotImplemented());
                }
                crate::ffi::deeper()?;
                Ok(plain_view(slf.as_any())?.rich_compare(plain_view(other)?, op)?.unbind())
            }

            fn __and__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(slf.as_any())?.bitand(plain_view(other)?)
            }

            fn __rand__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(other)?.bitand(plain_view(slf.as_any())?)
            }

            fn __or__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(slf.as_any())?.bitor(plain_view(other)?)
            }

            fn __ror__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(other)?.bitor(plain_view(slf.as_any())?)
            }

            fn __sub__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(slf.as_any())?.sub(plain_view(other)?)
            }

            fn __rsub__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(other)?.sub(plain_view(slf.as_any())?)
            }

            fn __xor__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(slf.as_any())?.bitxor(plain_view(other)?)
            }

            fn __rxor__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(other)?.bitxor(plain_view(slf.as_any())?)
            }

            /// True if the view and the iterable have nothing in common.
            #[pyo3(signature = (other, /))]
            fn isdisjoint<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(slf.as_any())?.call_method1("isdisjoint", (other,))
            }
        });
    };
}

set_view!(
    KeysView,
    Part::Key,
    "dict_keys",
    "The keys of a Dict: a live view, with the operations of a set.",
    {
        fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
            self.dict.bind(py).as_any().contains(key)
        }
    }
);

set_view!(
    ItemsView,
    Part::Item,
    "dict_items",
    "The entries of a Dict: a live view, with the operations of a set.",
    {
        fn __contains__(&self, py: Python<'_>, item: &Bound<'_, PyAny>) -> PyResult<bool> {
            match item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() {
                Ok((key, value)) => match self.dict.get().find(py, &key)? {
                    Some(there) => there.eq(value),
                    None => Ok(false),
                },
                Err(_) => Ok(false),
            }
        }
    }
);

view!(
    ValuesView,
    Part::Value,
    "dict_values",
    "The values of a Dict: a live view.",
    {
        fn __contains__(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
            listing(py, &self.dict.get().proxy, Part::Value)?
                .as_any()
                .contains(value)
        }
    }
);
