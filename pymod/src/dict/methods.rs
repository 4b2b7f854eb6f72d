//! `persist.Dict`, its methods.
//!
//! 1. Every method is one section and therefore atomic. Methods that change and return (`pop`, `setdefault`) do both in
//!    one section.
//! 2. The methods raise the same exceptions as dict's.

use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMemoryView, PyString, PyTuple, PyType};

use super::entries::{key_error, missing, one_default};
use super::iter::DictIter;
use super::views::{ItemsView, KeysView, ValuesView};
use crate::graphs::copy_in::put;
use crate::graphs::copy_out;
use crate::locks::held::{Held, Until};
use crate::locks::request::lock_async;
use crate::locks::take::{self, LockKey};
use crate::proxies::dict::Dict;
use crate::proxies::place::{self, Place, transient};
use crate::proxies::reference::{self, Target};
use crate::python::arguments::duration;
use crate::python::ffi;
use crate::python::scalars::Scalar;
use crate::values::contents::{Part, as_dict};
use crate::values::show::{self, Shape};
use crate::watch::waiting;
use crate::watch::watching::{Watch, watch};

/// What a wait is for.
const ENTRY: &str = "an entry";

#[pymethods]
impl Dict {
    /// A dict of a subclass: one that is in no store until it is stored.
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(*args, **kwargs)")]
    fn new_transient(
        cls: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Dict> {
        let py = cls.py();
        if cls.is(py.get_type::<Dict>()) {
            return Err(PyTypeError::new_err(
                "cannot create 'persist.Dict' instances: store a dict, or derive a class from it",
            ));
        }
        Ok(Dict::at(Place::transient(place::empty(py, true))))
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __init__(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        if args.is_empty() && kwargs.is_none_or(|k| k.is_empty()) {
            return Ok(());
        }
        self.update(py, args, kwargs)
    }

    /// Attributes are not stored, so instances of a subclass have none.
    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        place::set_attribute(
            slf.as_any(),
            slf.is_exact_instance_of::<Dict>(),
            name,
            Some(value),
        )
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        place::set_attribute(slf.as_any(), slf.is_exact_instance_of::<Dict>(), name, None)
    }

    fn __getitem__<'py>(slf: &Bound<'py, Self>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match slf.get().find(slf.py(), key)? {
            Some(value) => Ok(value),
            None => missing(slf, key),
        }
    }

    fn __setitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        transient!(self, py, plain => plain.set_item(key, value));
        Dict::set_in(py, self.proxy()?, key, value)
    }

    fn __delitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        transient!(self, py, plain => plain.del_item(key));
        let Some(scalar) = Scalar::sought(key)? else {
            self.proxy()?.shared.check_change(py, self.proxy()?.obj)?;
            return Err(key_error(key));
        };
        let (name, obj, mut emptied) = (scalar.key(), self.proxy()?.obj, false);
        let removed = self.proxy()?.shared.write(py, |w| {
            let removed = w.remove(obj, &name)?;
            emptied = removed && self.is_iterated() && w.len(obj)? == 0;
            Ok(removed)
        })?;
        self.note_emptied(emptied);
        match removed {
            true => Ok(()),
            false => Err(key_error(key)),
        }
    }

    fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        transient!(self, py, plain => plain.contains(key));
        if let Some(text) = ffi::ascii(key)
            && let Some(there) = self
                .proxy()?
                .shared
                .fast_contains(key.py(), self.proxy()?.obj, text)
        {
            return Ok(there);
        }
        let Some(scalar) = Scalar::sought(key)? else {
            self.count(py)?;
            return Ok(false);
        };
        let key = scalar.key();
        let proxy = self.proxy()?;
        proxy.shared.read(py, |r| r.contains(proxy.obj, &key))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.count(py)? as usize)
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        transient!(slf.get(), slf.py(), plain => Ok(plain.try_iter()?.into_any()));
        Ok(Bound::new(slf.py(), DictIter::new(slf, Part::Key, false)?)?.into_any())
    }

    fn __reversed__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        transient!(slf.get(), slf.py(), plain => plain.call_method0("__reversed__"));
        Ok(Bound::new(slf.py(), DictIter::new(slf, Part::Key, true)?)?.into_any())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        transient!(slf.get(), slf.py(), plain => Ok(plain.repr()?.to_string()));
        show::named(slf.as_any(), slf.get().proxy()?, Shape::Dict)
    }

    fn __richcmp__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if !matches!(op, CompareOp::Eq | CompareOp::Ne) {
            return Ok(py.NotImplemented());
        }
        ffi::deeper()?;
        let same = if slf.is(other) {
            true
        } else if !other.is_instance_of::<PyDict>() && !other.is_instance_of::<Dict>() {
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

    /// Return the value for key if key is in the dictionary, else default.
    #[pyo3(signature = (key, default = None, /))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.find(py, key)?.or(default))
    }

    /// Return True if the dictionary has the key.
    ///
    /// >>> root.has_key('x')
    /// True
    fn has_key(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.__contains__(py, key)
    }

    /// Return a view of the keys.
    fn keys<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        transient!(slf.get(), slf.py(), plain => plain.call_method0("keys"));
        Ok(Bound::new(slf.py(), KeysView::new(slf))?.into_any())
    }

    /// Return a view of the values.
    fn values<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        transient!(slf.get(), slf.py(), plain => plain.call_method0("values"));
        Ok(Bound::new(slf.py(), ValuesView::new(slf))?.into_any())
    }

    /// Return a view of the entries.
    fn items<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        transient!(slf.get(), slf.py(), plain => plain.call_method0("items"));
        Ok(Bound::new(slf.py(), ItemsView::new(slf))?.into_any())
    }

    /// Remove the key and return its value; if the key is missing, return default or raise KeyError.
    #[pyo3(signature = (key, /, *default), text_signature = "($self, key, default=..., /)")]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let default = one_default("pop", default)?;
        transient!(self, py, plain => match default {
            Some(default) => plain.call_method1("pop", (key, default)),
            None => plain.call_method1("pop", (key,)),
        });
        let Some(scalar) = Scalar::sought(key)? else {
            self.proxy()?.shared.check_change(py, self.proxy()?.obj)?;
            return default.ok_or_else(|| key_error(key));
        };
        match self.take(py, &scalar.key())? {
            Some(value) => Ok(value),
            None => default.ok_or_else(|| key_error(key)),
        }
    }

    /// Remove and return the last entry.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        transient!(self, py, plain => plain.call_method0("popitem")?.extract());
        self.take_last(py)?
            .ok_or_else(|| PyKeyError::new_err("popitem(): dictionary is empty"))
    }

    /// Return the value for key; if the key is missing, store default first.
    #[pyo3(signature = (key, default = None, /))]
    fn setdefault<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        transient!(self, py, plain => plain.call_method1("setdefault", (key, default)));
        let (shared, obj) = (&self.proxy()?.shared, self.proxy()?.obj);
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        // A key of a subclass finds an entry, and is not stored.
        if let Some(there) = self.find(py, key)? {
            return Ok(there);
        }
        let scalar = Scalar::key_of(key)?;
        let name = scalar.key();
        loop {
            if let Some(there) = shared.fetch(py, |r| r.word(obj, &name))? {
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

    /// Set entries from a mapping or pairs, and from keywords, in one operation.
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
                // Call dict.update itself, for its rules and its errors.
                let all = PyDict::new(py);
                let from = dict.map(Bound::into_any).or(first);
                all.as_any()
                    .call_method("update", PyTuple::new(py, from)?, kwargs)?;
                all
            }
        };
        self.merge(&all, false)
    }

    /// Remove everything.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        transient!(self, py, plain => plain.call_method0("clear").map(drop));
        let (obj, mut emptied) = (self.proxy()?.obj, false);
        self.proxy()?.shared.write(py, |w| {
            emptied = self.is_iterated() && w.len(obj)? != 0;
            w.clear(obj)
        })?;
        self.note_emptied(emptied);
        Ok(())
    }

    /// Return a plain dict with the same entries; the containers among the values stay in the store.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.plain(py)
    }

    fn __copy__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.plain(py)
    }

    fn __deepcopy__<'py>(&self, py: Python<'py>, memo: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        transient!(self, py, plain => py.import("copy")?.call_method1("deepcopy", (plain, memo)));
        copy_out::copy(py, self.proxy()?, self.attributes, Some(memo))
    }

    /// Return a copy of everything below as plain dicts and lists; see `persist.copy_out`.
    fn todict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        transient!(self, py, plain => py.import("copy")?.call_method1("deepcopy", (plain,)));
        copy_out::copy(py, self.proxy()?, self.attributes, None)
    }

    /// Return a plain dict with these keys and one value.
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

    /// A pickle of a proxy is a reference to what is in the store, and not a copy of it.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let proxy = self.proxy()?;
        let target = match self.attributes {
            true => Target::Attributes(proxy),
            false => Target::Container(proxy),
        };
        reference::reduced(py, &proxy.shared, &target)
    }

    /// Return a read-only memoryview of a value that is bytes, a bytearray or an array of numpy, as it is now. The view
    /// stays as it is while it is held, whatever becomes of the entry and of the store. A value of more than 64 KiB is
    /// copied out of the store once: as long as it is held, further views of it are of the same memory.
    ///
    /// >>> root['image'] = bytes(1 << 20)
    /// >>> view = root.view('image')
    /// >>> view.nbytes, view.readonly, view[:3].tobytes()
    /// (1048576, True, b'\x00\x00\x00')
    #[pyo3(signature = (key, /))]
    fn view<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyMemoryView>> {
        self.view_at(key)
    }

    /// Return a Watch: each change of the dict that is committed from now on, by any process and on the mount, as an
    /// iterator that waits for the next one, also with `async for`. Changes of what is in it are not reported.
    /// timeout: seconds without a change after which the loop ends. callback: is called with each change, on a thread,
    ///     until `close()`.
    ///
    /// >>> with root.watch(timeout=0.1) as changes:
    /// ...     root['x'] = 2
    /// ...     for change in changes:
    /// ...         print(change.kind, change.path)
    /// update root['x']
    #[pyo3(signature = (callback = None, *, timeout = None))]
    fn watch<'py>(
        slf: &Bound<'py, Self>,
        callback: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, Watch>> {
        let target = (slf.as_any(), slf.get().proxy()?);
        watch(slf.py(), &target.1.shared, Some(target), callback, timeout)
    }

    /// Wait until the dict is not empty; raise LockTimeout (a TimeoutError) after timeout seconds.
    ///
    /// >>> root['seen'] = {'a': 1}
    /// >>> root['seen'].wait(timeout=60)
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        waiting::until(py, self.proxy()?, duration(timeout)?, ENTRY, || {
            Ok((self.count(py)? != 0).then_some(()))
        })
    }

    /// Return the exception for a wait that took too long.
    fn _late(&self, py: Python<'_>, timeout: f64) -> PyResult<Py<PyAny>> {
        let e = waiting::late(py, self.proxy()?, duration(Some(timeout))?, ENTRY);
        Ok(e.into_value(py).into_any())
    }

    /// Await what `wait` waits for, without blocking the event loop.
    #[pyo3(signature = (timeout = None))]
    fn wait_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        duration(timeout)?;
        slf.py()
            .import("persist._aio")?
            .call_method1("wait_filled", (slf, timeout, false, 0))
    }

    /// Lock the dict, or one entry, exclusively: no other owner can lock or change it.
    /// Wait without a limit, or timeout seconds (then raise LockTimeout). `unlock()` or the end of `with` releases it:
    ///
    /// >>> with root.lockExcl():
    /// ...     root['x'] += 1
    #[pyo3(name = "lockExcl", signature = (key = LockKey::whole(), *, timeout = None), text_signature = "($self, key=..., *, timeout=None)")]
    fn lock_excl(slf: &Bound<'_, Self>, key: LockKey<'_>, timeout: Option<f64>) -> PyResult<Held> {
        let (of, proxy) = (slf.as_any(), slf.get().proxy()?);
        take::acquire(of, proxy, &key, false, timeout, Until::Unlock)
    }

    /// Lock the dict, or one entry, against changes; other owners can share the lock. See `lock`.
    #[pyo3(name = "lockShared", signature = (key = LockKey::whole(), *, timeout = None), text_signature = "($self, key=..., *, timeout=None)")]
    fn lock_shared(slf: &Bound<'_, Self>, key: LockKey<'_>, timeout: Option<f64>) -> PyResult<Held> {
        let (of, proxy) = (slf.as_any(), slf.get().proxy()?);
        take::acquire(of, proxy, &key, true, timeout, Until::Unlock)
    }

    /// Lock the dict, or one entry; the returned Lock releases it at the end of `with`.
    ///
    /// >>> with root.lock(key='x', timeout=5):
    /// ...     root['x'] += 1
    #[pyo3(signature = (key = LockKey::whole(), *, shared = false, timeout = None), text_signature = "($self, key=..., *, shared=False, timeout=None)")]
    fn lock(slf: &Bound<'_, Self>, key: LockKey<'_>, shared: bool, timeout: Option<f64>) -> PyResult<Held> {
        let (of, proxy) = (slf.as_any(), slf.get().proxy()?);
        take::acquire(of, proxy, &key, shared, timeout, Until::Dropped)
    }

    /// Return the lock for `async with` or `await`; waiting does not block the event loop (asyncio, trio).
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
        lock_async(slf.as_any(), slf.get().proxy()?, &key, shared, timeout)
    }

    /// Release one level of a lock that this thread holds (see `lockExcl`); raise NotLocked if it holds none.
    #[pyo3(signature = (key = LockKey::whole()), text_signature = "($self, key=...)")]
    fn unlock(slf: &Bound<'_, Self>, key: LockKey<'_>) -> PyResult<()> {
        take::release(slf.py(), slf.get().proxy()?, &key)
    }
}
