//! Reading, setting and merging entries of a `Dict` and attributes of an object.

use persist_core::store::{Key, Reader, Writer};
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMemoryView, PyString, PyTuple};
use std::sync::atomic::Ordering;

use crate::graphs::copy_in::{Gather, put};
use crate::proxies::dict::Dict;
use crate::proxies::place::{self, transient};
use crate::proxies::proxy::Proxy;
use crate::python::scalars::Scalar;
use crate::python::{error, ffi};
use crate::values::batch::Batch;
use crate::values::contents::as_dict;
use crate::values::fast::Fast;
use crate::values::large::read_whole;

/// A key and its value.
pub(super) type Pair<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// A KeyError like dict's.
#[cold]
pub(super) fn key_error(key: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err((key.clone().unbind(),))
}

/// What a dict does about a key that it has not: a subclass may have `__missing__`.
#[cold]
pub(super) fn missing<'py>(dict: &Bound<'py, Dict>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if !dict.is_exact_instance_of::<Dict>()
        && let Some(missing) = dict.get_type().getattr_opt(intern!(dict.py(), "__missing__"))?
    {
        return missing.call1((dict, key));
    }
    Err(key_error(key))
}

/// Return the only optional argument, which may be None itself.
pub(super) fn one_default<'py>(
    what: &str,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match args.len() {
        0 => Ok(None),
        1 => args.get_item(0).map(Some),
        n => Err(PyTypeError::new_err(format!(
            "{what} expected at most 2 arguments, got {}",
            n + 1
        ))),
    }
}

impl Dict {
    /// Tell the iterators that a change has removed the last entry.
    #[inline]
    pub(super) fn note_emptied(&self, emptied: bool) {
        if emptied {
            self.emptied.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Remove an entry and return its value.
    pub(super) fn take<'py>(&self, py: Python<'py>, key: &Key<'_>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (shared, obj, mut emptied) = (&self.proxy()?.shared, self.proxy()?.obj, false);
        let change = |w: &mut Writer<'_>, out: &mut Batch| {
            emptied = false;
            if let Some(value) = w.get(obj, key)? {
                out.push(w, value)?;
                w.remove(obj, key)?;
                emptied = self.is_iterated() && w.len(obj)? == 0;
            }
            Ok(())
        };
        let value = shared.take(py, change, |batch| {
            shared.placed(py, batch.next(py), obj, Some(*key))
        });
        self.note_emptied(emptied && value.is_ok());
        value
    }

    /// Remove the last entry and return its key and value.
    pub(super) fn take_last<'py>(&self, py: Python<'py>) -> PyResult<Option<Pair<'py>>> {
        let (shared, obj, mut emptied) = (&self.proxy()?.shared, self.proxy()?.obj, false);
        let change = |w: &mut Writer<'_>, out: &mut Batch| {
            emptied = false;
            if let Some(entry) = w.prev(obj, u64::MAX)? {
                let key = read_whole(w, entry.key)?;
                out.push(w, key.clone())?;
                out.push(w, entry.value)?;
                w.remove(obj, &key.as_key()?)?;
                emptied = self.is_iterated() && w.len(obj)? == 0;
            }
            Ok(())
        };
        let pair = |batch: &mut Batch| match batch.next(py)? {
            Some(key) => Ok(Some((key, batch.expect(py)?))),
            None => Ok(None),
        };
        let entry = shared.take(py, change, |batch| shared.placed(py, pair(batch), obj, None));
        self.note_emptied(emptied && entry.is_ok());
        entry
    }
}

impl Dict {
    /// The value under a key.
    #[inline]
    pub(crate) fn find<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(proxy) = self.place.get() else {
            return match self.place.plain(py)? {
                Some(plain) => plain.cast::<PyDict>()?.get_item(key),
                None => Ok(None),
            };
        };
        if let Some(text) = ffi::ascii(key) {
            match proxy.shared.fast_get(py, proxy.obj, text)? {
                Fast::Value(value) => return Ok(Some(value)),
                Fast::Missing => return Ok(None),
                Fast::Unknown => {}
            }
        }
        match Scalar::sought(key)? {
            Some(scalar) => proxy.shared.entry(py, proxy.obj, &scalar.key()),
            None => Ok(None),
        }
    }

    /// The view of the value under a key.
    pub(super) fn view_at<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyMemoryView>> {
        transient!(self, key.py(), plain => place::view(&plain.get_item(key)?));
        let proxy = self.proxy()?;
        let view = match Scalar::sought(key)? {
            Some(scalar) => {
                let name = scalar.key();
                let read = |r: &Reader<'_>| r.word(proxy.obj, &name);
                proxy.shared.view(key.py(), proxy.obj, name, read)?
            }
            None => None,
        };
        view.ok_or_else(|| key_error(key))
    }

    /// Set an entry or attribute.
    #[inline]
    pub(crate) fn set_in(
        py: Python<'_>,
        proxy: &Proxy,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if let Some(text) = ffi::ascii(key)
            && key.is_exact_instance_of::<PyString>()
        {
            if proxy.shared.fast_set(proxy.obj, text, value) {
                return Ok(());
            }
            return Self::put_in(py, proxy, &Key::Str(text), value);
        }
        Self::put_in(py, proxy, &Scalar::key_of(key)?.key(), value)
    }

    /// The slow path of `set_in`.
    pub(crate) fn put_in(
        py: Python<'_>,
        proxy: &Proxy,
        key: &Key<'_>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        put(py, &proxy.shared, value, |w, value| {
            w.set(proxy.obj, key, value).map(|()| true)
        })?;
        Ok(())
    }

    /// Set all entries of a plain dict in one operation. With `clear`, all other entries are removed.
    pub(crate) fn merge(&self, from: &Bound<'_, PyDict>, clear: bool) -> PyResult<()> {
        let py = from.py();
        if let Some(plain) = self.place.plain(py)? {
            return plain.cast::<PyDict>()?.update(from.as_mapping());
        }
        let obj = self.proxy()?.obj;
        let listed = from.keys();
        let names: Vec<_> = listed.iter().collect();
        let scalar = if self.attributes {
            Scalar::named
        } else {
            Scalar::key_of
        };
        let keys = names.iter().map(scalar).collect::<PyResult<Vec<_>>>()?;
        let gather = Gather::values(&self.proxy()?.shared, &listed, &from.values())?;
        let plan = gather.plan()?;
        if plan.len() != keys.len() {
            return Err(error::general(py, "dictionary changed during update"));
        }
        if keys.is_empty() && !clear {
            return self.proxy()?.shared.check_change(py, obj);
        }
        gather.store(&plan, |w, built| {
            if clear {
                w.clear(obj)?;
            }
            for (n, key) in keys.iter().enumerate() {
                w.set(obj, &key.key(), &built.top(n))?;
            }
            Ok(true)
        })
    }

    /// Replace all attributes, for `obj.__dict__ = {...}`.
    pub(crate) fn replace_all(&self, with: &Bound<'_, PyAny>) -> PyResult<()> {
        let dict =
            as_dict(with)?.ok_or_else(|| PyTypeError::new_err("__dict__ must be set to a dictionary"))?;
        self.merge(&dict, true)
    }
}
