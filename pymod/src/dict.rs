//! `persist.Dict`: a dict in a store, and the attributes of a stored object as a mapping.
//!
//! 1. Every method is one section, so atomic; those that can change and answer (`pop`,
//!    `setdefault`) do both in it.
//! 2. What dict raises, this raises.

use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::cache::Proxy;
use crate::convert::Scalar;
use crate::copyin::{Gather, put};
use crate::glance::Seen;
use crate::held::Held;
use crate::lock::LockKey;
use crate::shared::settle;
use crate::views::{DictIter, ItemsView, KeysView, Part, ValuesView};
use crate::{copyout, ffi, lock};

/// A dict that lives in a store. It behaves as a dict does, and every change is in the store at
/// once, seen by every other process and by the mount.
///
/// >>> root = persist.root()
/// >>> root['x'] = 1
/// >>> root['x'] += 1
/// >>> root['l'] = [1, {'a': None}]
/// >>> root['l'][1]['a'] = 'changed in place'
#[pyclass(frozen, mapping, weakref, generic, freelist = 64, module = "persist")]
pub struct Dict {
    pub(crate) proxy: Proxy,
    /// This is `obj.__dict__`, not a dict of its own.
    pub(crate) attributes: bool,
}

/// KeyError as dict raises it.
#[cold]
pub(crate) fn key_error(key: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err((key.clone().unbind(),))
}

/// At most one optional argument, which may be None itself.
fn one_default<'py>(what: &str, args: &Bound<'py, PyTuple>) -> PyResult<Option<Bound<'py, PyAny>>> {
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
    /// A dict of its own.
    pub(crate) fn new(proxy: Proxy) -> Dict {
        Dict {
            proxy,
            attributes: false,
        }
    }

    /// The attributes of an object.
    pub(crate) fn of_attributes(py: Python<'_>, proxy: &Proxy) -> PyResult<Dict> {
        proxy.shared.read(py, |r| r.pin(proxy.obj))?;
        Ok(Dict {
            proxy: Proxy::new(&proxy.shared, proxy.obj),
            attributes: true,
        })
    }

    /// All entries, or attributes, as a plain dict; containers are proxies.
    pub(crate) fn plain_of<'py>(py: Python<'py>, proxy: &Proxy) -> PyResult<Bound<'py, PyDict>> {
        let mut batch = proxy.shared.collect(py, |r, out| {
            let mut cursor = 0;
            while let Some(entry) = r.next(proxy.obj, cursor)? {
                cursor = entry.cursor;
                out.push(r, entry.key)?;
                out.push(r, entry.value)?;
            }
            Ok(())
        })?;
        let dict = PyDict::new(py);
        while let Some(key) = batch.next(py)? {
            dict.set_item(key, batch.expect(py)?)?;
        }
        Ok(dict)
    }

    /// See `plain_of`.
    pub(crate) fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        Dict::plain_of(py, &self.proxy)
    }

    /// The value under a key.
    #[inline]
    pub(crate) fn find<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(text) = ffi::ascii(key) {
            match self.proxy.shared.glance(py, self.proxy.obj, text)? {
                Seen::Value(value) => return Ok(Some(value)),
                Seen::Nothing => return Ok(None),
                Seen::Unsure => {}
            }
        }
        let scalar = Scalar::key_of(key)?;
        self.proxy.shared.entry(py, self.proxy.obj, &scalar.key())
    }

    /// Number of entries.
    pub(crate) fn count(&self, py: Python<'_>) -> PyResult<u64> {
        self.proxy.shared.read(py, |r| r.len(self.proxy.obj))
    }

    /// Sets an entry or attribute.
    #[inline]
    pub(crate) fn set_in(
        py: Python<'_>,
        proxy: &Proxy,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if let Some(text) = ffi::ascii(key)
            && proxy.shared.set_at_once(proxy.obj, text, value)
        {
            return Ok(());
        }
        Self::put_in(py, proxy, key, value)
    }

    /// The long way of `set_in`.
    pub(crate) fn put_in(
        py: Python<'_>,
        proxy: &Proxy,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let scalar = Scalar::key_of(key)?;
        let key = scalar.key();
        put(py, &proxy.shared, value, |w, value| {
            w.set(proxy.obj, &key, value).map(|()| true)
        })?;
        Ok(())
    }

    /// Sets all entries of a plain dict, at once; with `clear`, nothing else stays.
    fn merge(&self, from: &Bound<'_, PyDict>, clear: bool) -> PyResult<()> {
        let (py, obj) = (from.py(), self.proxy.obj);
        let names: Vec<_> = from.keys().iter().collect();
        let keys = names.iter().map(Scalar::key_of).collect::<PyResult<Vec<_>>>()?;
        let gather = Gather::all(&self.proxy.shared, &from.values())?;
        let plan = gather.plan()?;
        if plan.len() != keys.len() {
            return Err(crate::error::general(py, "dictionary changed during update"));
        }
        if keys.is_empty() && !clear {
            return Ok(());
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

    /// For `obj.__dict__ = {...}`.
    pub(crate) fn replace_all(&self, with: &Bound<'_, PyAny>) -> PyResult<()> {
        let dict =
            as_dict(with)?.ok_or_else(|| PyTypeError::new_err("__dict__ must be set to a dictionary"))?;
        self.merge(&dict, true)
    }
}

/// A dict or Dict as a plain dict.
pub(crate) fn as_dict<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyDict>>> {
    if let Ok(d) = value.cast::<PyDict>() {
        return Ok(Some(d.clone()));
    }
    value
        .cast_exact::<Dict>()
        .ok()
        .map(|d| d.get().plain(value.py()))
        .transpose()
}

#[pymethods]
impl Dict {
    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.find(py, key)?.ok_or_else(|| key_error(key))
    }

    fn __setitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        Dict::set_in(py, &self.proxy, key, value)
    }

    fn __delitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let scalar = Scalar::key_of(key)?;
        let name = scalar.key();
        match self.proxy.shared.write(py, |w| w.remove(self.proxy.obj, &name))? {
            true => Ok(()),
            false => Err(key_error(key)),
        }
    }

    fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        if let Some(text) = ffi::ascii(key)
            && let Some(there) = self.proxy.shared.glance_whether(key.py(), self.proxy.obj, text)
        {
            return Ok(there);
        }
        let scalar = Scalar::key_of(key)?;
        let key = scalar.key();
        self.proxy.shared.read(py, |r| r.contains(self.proxy.obj, &key))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.count(py)? as usize)
    }

    fn __iter__(slf: &Bound<'_, Self>) -> PyResult<DictIter> {
        DictIter::new(slf, Part::Key, false)
    }

    fn __reversed__(slf: &Bound<'_, Self>) -> PyResult<DictIter> {
        DictIter::new(slf, Part::Key, true)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        match ffi::Printing::enter(slf.as_any())? {
            Some(_printing) => Ok(slf.get().plain(slf.py())?.repr()?.to_string()),
            None => Ok("{...}".into()),
        }
    }

    fn __richcmp__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if !matches!(op, CompareOp::Eq | CompareOp::Ne) {
            return Ok(py.NotImplemented());
        }
        ffi::deeper()?;
        let same = if slf.is(other) {
            true
        } else if !other.is_instance_of::<PyDict>() && !other.is_exact_instance_of::<Dict>() {
            return Ok(py.NotImplemented());
        } else if other.len()? as u64 != slf.get().count(py)? {
            false
        } else {
            match as_dict(other)? {
                Some(other) => slf.get().plain(py)?.eq(other)?,
                None => false,
            }
        };
        Ok((same == matches!(op, CompareOp::Eq))
            .into_pyobject(py)?
            .to_owned()
            .into_any()
            .unbind())
    }

    fn __or__<'py>(&self, py: Python<'py>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
        let Some(other) = as_dict(other)? else {
            return Ok(py.NotImplemented());
        };
        let all = self.plain(py)?;
        all.update(other.as_mapping())?;
        Ok(all.into_any().unbind())
    }

    fn __ror__<'py>(&self, py: Python<'py>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
        let Some(other) = as_dict(other)? else {
            return Ok(py.NotImplemented());
        };
        let all = other.copy()?;
        all.update(self.plain(py)?.as_mapping())?;
        Ok(all.into_any().unbind())
    }

    fn __ior__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<()> {
        self.update(py, &PyTuple::new(py, [other])?, None)
    }

    /// The value for key if key is in the dictionary, else default.
    #[pyo3(signature = (key, default = None, /))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.find(py, key)?.or(default))
    }

    /// True if the dictionary has the key.
    fn has_key(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.__contains__(py, key)
    }

    /// A view of the keys.
    fn keys(slf: &Bound<'_, Self>) -> KeysView {
        KeysView::new(slf)
    }

    /// A view of the values.
    fn values(slf: &Bound<'_, Self>) -> ValuesView {
        ValuesView::new(slf)
    }

    /// A view of the entries.
    fn items(slf: &Bound<'_, Self>) -> ItemsView {
        ItemsView::new(slf)
    }

    /// Removes the key and returns its value; without the key, default or KeyError.
    #[pyo3(signature = (key, /, *default), text_signature = "($self, key, default=..., /)")]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let default = one_default("pop", default)?;
        let (scalar, obj) = (Scalar::key_of(key)?, self.proxy.obj);
        let name = scalar.key();
        let mut batch = self.proxy.shared.take(py, |w, out| {
            if let Some(value) = w.get(obj, &name)? {
                out.push(w, value)?;
                w.remove(obj, &name)?;
            }
            Ok(())
        })?;
        match batch.next(py)? {
            Some(value) => Ok(value),
            None => default.ok_or_else(|| key_error(key)),
        }
    }

    /// Removes and returns the last entry.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let obj = self.proxy.obj;
        let mut batch = self.proxy.shared.take(py, |w, out| {
            if let Some(entry) = w.prev(obj, u64::MAX)? {
                let key = settle(w, entry.key)?;
                out.push(w, key.clone())?;
                out.push(w, entry.value)?;
                w.remove(obj, &key.as_key()?)?;
            }
            Ok(())
        })?;
        match batch.next(py)? {
            Some(key) => Ok((key, batch.expect(py)?)),
            None => Err(PyKeyError::new_err("popitem(): dictionary is empty")),
        }
    }

    /// The value for key; if it is not there, default is stored first.
    #[pyo3(signature = (key, default = None, /))]
    fn setdefault<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let scalar = Scalar::key_of(key)?;
        let name = scalar.key();
        let (shared, obj) = (&self.proxy.shared, self.proxy.obj);
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        loop {
            if let Some(there) = shared.fetch(py, |r| r.peek(obj, &name))? {
                return Ok(there);
            }
            let placed = put(py, shared, &default, |w, value| {
                if w.contains(obj, &name)? {
                    return Ok(false);
                }
                w.set(obj, &name, value).map(|()| true)
            })?;
            if placed && Scalar::of(&default)?.is_some() {
                return Ok(default);
            }
        }
    }

    /// Sets entries from a mapping or pairs, and keywords; all at once.
    #[pyo3(signature = (*args, **kwargs))]
    fn update(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        if args.len() > 1 {
            let n = args.len();
            return Err(PyTypeError::new_err(format!(
                "update expected at most 1 argument, got {n}"
            )));
        }
        let first = args.get_item(0).ok();
        let all = match first.as_ref().map(as_dict).transpose()?.flatten() {
            Some(dict) if kwargs.is_none() && dict.is_exact_instance_of::<PyDict>() => dict,
            dict => {
                // dict.update itself, for its rules and its errors.
                let all = PyDict::new(py);
                let from = dict.map(Bound::into_any).or(first);
                all.as_any()
                    .call_method("update", PyTuple::new(py, from)?, kwargs)?;
                all
            }
        };
        self.merge(&all, false)
    }

    /// Removes everything.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.proxy.shared.write(py, |w| w.clear(self.proxy.obj))
    }

    /// A plain dict with the same entries; the containers among the values stay in the store.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.plain(py)
    }

    fn __copy__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.plain(py)
    }

    fn __deepcopy__<'py>(&self, py: Python<'py>, _memo: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        copyout::copy(py, &self.proxy, self.attributes)
    }

    /// A copy of everything below as plain dicts and lists; see `persist.copy_out`.
    fn todict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        copyout::copy(py, &self.proxy, self.attributes)
    }

    /// A plain dict with these keys and one value.
    #[staticmethod]
    #[pyo3(signature = (iterable, value = None, /))]
    fn fromkeys<'py>(
        py: Python<'py>,
        iterable: &Bound<'py, PyAny>,
        value: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        py.get_type::<PyDict>()
            .call_method1("fromkeys", (iterable, value))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "cannot pickle a persist.Dict: pickle persist.copy_out(it)",
        ))
    }

    /// Locks the dict, or one entry, for this thread alone: nobody else can lock or change it.
    /// Waits for ever, or timeout seconds (then LockTimeout). Released by `unlock()`, or by `with`:
    ///
    /// >>> with root.lockExcl():
    /// ...     root['x'] += 1
    #[pyo3(name = "lockExcl", signature = (key = LockKey::whole(), *, timeout = None), text_signature = "($self, key=..., *, timeout=None)")]
    fn lock_excl(slf: &Bound<'_, Self>, key: LockKey<'_>, timeout: Option<f64>) -> PyResult<Held> {
        lock::acquire(
            slf.as_any(),
            &slf.get().proxy,
            &key,
            lock::mode(false),
            timeout,
            true,
        )
    }

    /// Locks the dict, or one entry, against changes; others can share the lock.
    #[pyo3(name = "lockShared", signature = (key = LockKey::whole(), *, timeout = None), text_signature = "($self, key=..., *, timeout=None)")]
    fn lock_shared(slf: &Bound<'_, Self>, key: LockKey<'_>, timeout: Option<f64>) -> PyResult<Held> {
        lock::acquire(
            slf.as_any(),
            &slf.get().proxy,
            &key,
            lock::mode(true),
            timeout,
            true,
        )
    }

    /// Locks the dict, or one entry, now; the value returned releases it at the end of `with`.
    ///
    /// >>> with root.lock(key='x', timeout=5):
    /// ...     root['x'] += 1
    #[pyo3(signature = (key = LockKey::whole(), *, shared = false, timeout = None), text_signature = "($self, key=..., *, shared=False, timeout=None)")]
    fn lock(slf: &Bound<'_, Self>, key: LockKey<'_>, shared: bool, timeout: Option<f64>) -> PyResult<Held> {
        lock::acquire(
            slf.as_any(),
            &slf.get().proxy,
            &key,
            lock::mode(shared),
            timeout,
            false,
        )
    }

    /// The lock for `async with`, or `await`: waiting for it does not block the event loop (asyncio, trio).
    ///
    /// >>> async with root.lock_async(key='x'):
    /// ...     root['x'] += 1
    #[pyo3(signature = (key = LockKey::whole(), *, shared = false, timeout = None), text_signature = "($self, key=..., *, shared=False, timeout=None)")]
    fn lock_async<'py>(
        slf: &Bound<'py, Self>,
        key: LockKey<'py>,
        shared: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        crate::lock_async::lock_async(slf.as_any(), &slf.get().proxy, &key, shared, timeout)
    }

    /// Releases one level of a lock that this thread holds; NotLocked if it holds none.
    #[pyo3(signature = (key = LockKey::whole()), text_signature = "($self, key=...)")]
    fn unlock(slf: &Bound<'_, Self>, key: LockKey<'_>) -> PyResult<()> {
        lock::release(slf.py(), &slf.get().proxy, &key)
    }
}

/// A list of the keys, values or entries, read in one section.
pub(crate) fn listing<'py>(py: Python<'py>, proxy: &Proxy, part: Part) -> PyResult<Bound<'py, PyList>> {
    let mut batch = proxy.shared.collect(py, |r, out| {
        let mut cursor = 0;
        while let Some(entry) = r.next(proxy.obj, cursor)? {
            cursor = entry.cursor;
            if part != Part::Value {
                out.push(r, entry.key)?;
            }
            if part != Part::Key {
                out.push(r, entry.value)?;
            }
        }
        Ok(())
    })?;
    let list = PyList::empty(py);
    while let Some(first) = batch.next(py)? {
        match part {
            Part::Item => list.append((first, batch.expect(py)?))?,
            _ => list.append(first)?,
        }
    }
    Ok(list)
}
