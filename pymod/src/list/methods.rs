//! `persist.List`, its methods.
//!
//! 1. Every change is one section and therefore atomic; `items` implements the larger ones.
//! 2. The methods raise the same exceptions as list's. Slices are plain lists.

use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMemoryView, PyString, PyTuple, PyType};

use super::items::items_of;
use super::iter::ListIter;
use crate::graphs::copy_in::put;
use crate::graphs::copy_out;
use crate::locks::held::{Held, Until};
use crate::locks::request::lock_async;
use crate::locks::take::{self, LockKey};
use crate::proxies::list::List;
use crate::proxies::place::{self, Place, transient};
use crate::proxies::reference::{self, Target};
use crate::python::arguments::{Given, duration, equal};
use crate::python::ffi;
use crate::python::indices::{At, Clipped, position};
use crate::values::contents::as_list;
use crate::values::fast::Fast;
use crate::values::show::{self, Shape};
use crate::watch::waiting;
use crate::watch::watching::{Watch, watch};

#[cold]
fn out_of_range(what: &str) -> PyErr {
    PyIndexError::new_err(format!("{what} out of range"))
}

#[pymethods]
impl List {
    /// A list of a subclass: one that is in no store until it is stored.
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(iterable=None, /)")]
    fn new_transient(
        cls: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<List> {
        let py = cls.py();
        if cls.is(py.get_type::<List>()) {
            return Err(PyTypeError::new_err(
                "cannot create 'persist.List' instances: store a list, or derive a class from it",
            ));
        }
        let place = Place::transient(place::empty(py, false));
        Ok(List { place })
    }

    #[pyo3(signature = (iterable = None, /))]
    fn __init__(&self, py: Python<'_>, iterable: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if let Some(iterable) = iterable {
            let items = items_of(iterable)?;
            self.clear(py)?;
            self.append_all(&items)?;
        }
        Ok(())
    }

    /// Attributes are not stored, so instances of a subclass have none.
    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        place::set_attribute(
            slf.as_any(),
            slf.is_exact_instance_of::<List>(),
            name,
            Some(value),
        )
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        place::set_attribute(slf.as_any(), slf.is_exact_instance_of::<List>(), name, None)
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        transient!(self, py, plain => plain.get_item(index));
        let obj = self.proxy()?.obj;
        let at = At::of(index)?;
        if let At::Index(n) = at {
            match self.proxy()?.shared.fast_get_item(py, obj, n)? {
                Fast::Value(value) => return Ok(value),
                Fast::Missing => return Err(out_of_range("list index")),
                Fast::Unknown => {}
            }
        }
        match at {
            At::Index(n) => self.item_at(py, n)?.ok_or_else(|| out_of_range("list index")),
            At::Span(span) => Ok(self.slice(py, span)?.into_any()),
        }
    }

    fn __setitem__(
        &self,
        py: Python<'_>,
        index: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        transient!(self, py, plain => plain.set_item(index, value));
        let obj = self.proxy()?.obj;
        let n = match At::of(index)? {
            At::Index(n) => n,
            At::Span(span) => return self.set_slice(span, value),
        };
        if self.proxy()?.shared.fast_set_item(obj, n, value) {
            return Ok(());
        }
        let set = put(py, &self.proxy()?.shared, value, |w, value| {
            match position(n, w.len(obj)?) {
                Some(at) => w.set_item(obj, at, value).map(|()| true),
                None => Ok(false),
            }
        })?;
        if set {
            Ok(())
        } else {
            Err(out_of_range("list assignment index"))
        }
    }

    fn __delitem__(&self, py: Python<'_>, index: &Bound<'_, PyAny>) -> PyResult<()> {
        transient!(self, py, plain => plain.del_item(index));
        match At::of(index)? {
            At::Index(n) if self.delete(py, n)? => Ok(()),
            At::Index(_) => Err(out_of_range("list assignment index")),
            At::Span(span) => self.del_slice(py, span),
        }
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.count(py)? as usize)
    }

    fn __contains__(&self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.search(value, 0, u64::MAX)?.is_some())
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        transient!(slf.get(), slf.py(), plain => Ok(plain.try_iter()?.into_any()));
        Ok(Bound::new(slf.py(), ListIter::new(slf, 0, 1))?.into_any())
    }

    fn __reversed__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        transient!(slf.get(), slf.py(), plain => plain.call_method0("__reversed__"));
        let last = slf.get().count(slf.py())? as i64 - 1;
        Ok(Bound::new(slf.py(), ListIter::new(slf, last, -1))?.into_any())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        transient!(slf.get(), slf.py(), plain => Ok(plain.repr()?.to_string()));
        show::named(slf.as_any(), slf.get().proxy()?, Shape::List)
    }

    fn __richcmp__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        if slf.is(other) {
            slf.get().count(slf.py())?;
            return equal(slf.py(), op);
        }
        let Some(other) = as_list(other)? else {
            return Ok(slf.py().NotImplemented());
        };
        ffi::deeper()?;
        Ok(slf.get().plain(slf.py())?.rich_compare(other, op)?.unbind())
    }

    fn __add__<'py>(&self, py: Python<'py>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
        match as_list(other)? {
            Some(other) => Ok(self
                .plain(py)?
                .as_sequence()
                .concat(other.as_sequence())?
                .into_any()
                .unbind()),
            None => Ok(py.NotImplemented()),
        }
    }

    fn __radd__<'py>(&self, py: Python<'py>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
        match as_list(other)? {
            Some(other) => Ok(other
                .as_sequence()
                .concat(self.plain(py)?.as_sequence())?
                .into_any()
                .unbind()),
            None => Ok(py.NotImplemented()),
        }
    }

    fn __iadd__(&self, other: &Bound<'_, PyAny>) -> PyResult<()> {
        self.extend(other)
    }

    fn __mul__(&self, py: Python<'_>, n: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        match ffi::times(n)? {
            Some(n) => Ok(self.repeated(py, n)?.into_any().unbind()),
            None => Ok(py.NotImplemented()),
        }
    }

    fn __rmul__(&self, py: Python<'_>, n: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.__mul__(py, n)
    }

    fn __imul__(&self, py: Python<'_>, n: &Bound<'_, PyAny>) -> PyResult<()> {
        transient!(self, py, plain => plain.call_method1("__imul__", (n,)).map(drop));
        match ffi::times(n)? {
            Some(..1) => self.clear(py),
            Some(n) => self.repeat(py, n),
            None => Err(PyTypeError::new_err(format!(
                "can't multiply sequence by non-int of type '{}'",
                n.get_type().name()?
            ))),
        }
    }

    /// Append an object to the end.
    fn append(&self, py: Python<'_>, object: &Bound<'_, PyAny>) -> PyResult<()> {
        transient!(self, py, plain => plain.call_method1("append", (object,)).map(drop));
        let obj = self.proxy()?.obj;
        put(py, &self.proxy()?.shared, object, |w, value| {
            let len = w.len(obj)?;
            w.insert(obj, len, value).map(|()| true)
        })?;
        Ok(())
    }

    /// Append all items of an iterable, in one operation.
    fn extend(&self, iterable: &Bound<'_, PyAny>) -> PyResult<()> {
        self.append_all(&items_of(iterable)?)
    }

    /// Insert an object before an index.
    fn insert(&self, py: Python<'_>, index: isize, object: &Bound<'_, PyAny>) -> PyResult<()> {
        self.insert_before(py, index as i64, object)
    }

    /// Remove and return the item at an index (default last).
    #[pyo3(signature = (index = -1, /), text_signature = "($self, index=-1, /)")]
    fn pop<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bound<'py, PyAny>> {
        transient!(self, py, plain => plain.call_method1("pop", (index,)));
        match self.pop_at(py, index)? {
            (Some(item), _) => Ok(item),
            (None, 0) => Err(PyIndexError::new_err("pop from empty list")),
            (None, _) => Err(out_of_range("pop index")),
        }
    }

    /// Wait until the list is not empty; raise LockTimeout (a TimeoutError) after timeout seconds.
    ///
    /// >>> root['jobs'] = ['first']
    /// >>> root['jobs'].wait(timeout=60)
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        waiting::until(py, self.proxy()?, duration(timeout)?, "an item", || {
            Ok((self.count(py)? != 0).then_some(()))
        })
    }

    /// Remove and return the item at an index (default first); wait until there is one, and raise LockTimeout (a
    /// TimeoutError) after timeout seconds. Of several processes that wait, one gets the item.
    ///
    /// >>> root['jobs'] = ['first', 'second']
    /// >>> root['jobs'].pop_wait(timeout=60)
    /// 'first'
    #[pyo3(signature = (index = 0, timeout = None))]
    fn pop_wait<'py>(
        &self,
        py: Python<'py>,
        index: isize,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        waiting::until(
            py,
            self.proxy()?,
            duration(timeout)?,
            "an item",
            || match position(index as i64, self.count(py)?) {
                Some(_) => Ok(self.pop_at(py, index)?.0),
                None => Ok(None),
            },
        )
    }

    /// Return (item,) as `pop_wait` does, () if there is none, and None if other owners are in the way.
    fn _try_pop<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let found = self.try_pop(py, index)?;
        found.map(|item| PyTuple::new(py, item)).transpose()
    }

    /// Return the exception for a wait that took too long.
    fn _late(&self, py: Python<'_>, timeout: f64) -> PyResult<Py<PyAny>> {
        let e = waiting::late(py, self.proxy()?, duration(Some(timeout))?, "an item");
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

    /// Await what `pop_wait` returns, without blocking the event loop. A task that is cancelled takes no item.
    ///
    /// >>> async def work():
    /// ...     return await root['jobs'].pop_wait_async(timeout=60)
    #[pyo3(signature = (index = 0, timeout = None))]
    fn pop_wait_async<'py>(
        slf: &Bound<'py, Self>,
        index: isize,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        duration(timeout)?;
        slf.py()
            .import("persist._aio")?
            .call_method1("wait_filled", (slf, timeout, true, index))
    }

    /// Remove the first item equal to value.
    fn remove(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.remove_equal(py, value)
    }

    /// Return the first index of value.
    #[pyo3(signature = (value, start = Clipped(0), stop = Clipped(isize::MAX), /), text_signature = "($self, value, start=0, stop=..., /)")]
    fn index(
        &self,
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        start: Clipped,
        stop: Clipped,
    ) -> PyResult<u64> {
        self.find_between(py, value, start.0, stop.0)
    }

    /// Return the number of items equal to value.
    #[pyo3(name = "count")]
    fn count_equal<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.plain(py)?.call_method1("count", (value,))
    }

    /// Reverse the order, in place.
    fn reverse(&self, py: Python<'_>) -> PyResult<()> {
        self.permute(py, |items| items.reverse())
    }

    /// Sort in place; the sort is stable. An exception of `key` leaves the list unchanged.
    #[pyo3(signature = (*, key = None, reverse = Given::nothing()), text_signature = "($self, *, key=None, reverse=False)")]
    fn sort<'py>(
        &self,
        py: Python<'py>,
        key: Option<&Bound<'py, PyAny>>,
        reverse: Given<'py>,
    ) -> PyResult<()> {
        let how = PyDict::new(py);
        how.set_item("key", key)?;
        // What it means, and whether it is allowed, is up to list.sort.
        if let Some(reverse) = reverse.0 {
            how.set_item("reverse", reverse)?;
        }
        self.permute(py, |items| items.call_method("sort", (), Some(&how)).map(drop))
    }

    /// Remove everything.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        transient!(self, py, plain => plain.call_method0("clear").map(drop));
        let proxy = self.proxy()?;
        proxy.shared.write(py, |w| w.clear(proxy.obj))
    }

    /// Return a plain list with the same items; the containers among them stay in the store.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.plain(py)
    }

    fn __copy__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.plain(py)
    }

    fn __deepcopy__<'py>(&self, py: Python<'py>, memo: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        transient!(self, py, plain => py.import("copy")?.call_method1("deepcopy", (plain, memo)));
        copy_out::copy(py, self.proxy()?, false, Some(memo))
    }

    /// Return a copy of everything below as plain lists and dicts; see `persist.copy_out`.
    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        transient!(self, py, plain => py.import("copy")?.call_method1("deepcopy", (plain,)));
        copy_out::copy(py, self.proxy()?, false, None)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let proxy = self.proxy()?;
        reference::reduced(py, &proxy.shared, &Target::Container(proxy))
    }

    /// Return a read-only memoryview of an item that is bytes, a bytearray or an array of numpy; see `Dict.view`.
    #[pyo3(signature = (index, /))]
    fn view<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyMemoryView>> {
        self.view_at(index)?.ok_or_else(|| out_of_range("list index"))
    }

    /// Return a Watch: each change of the list that is committed from now on, by any process and on the mount, as an
    /// iterator that waits for the next one, also with `async for`. Changes of what is in it are not reported.
    /// timeout: seconds without a change after which the loop ends. callback: is called with each change, on a thread,
    ///     until `close()`.
    ///
    /// >>> root['jobs'] = ['first']
    /// >>> with root['jobs'].watch(timeout=0.1) as changes:
    /// ...     root['jobs'].append('second')
    /// ...     for change in changes:
    /// ...         print(change.kind, change.index, change.removed, change.added)
    /// insert 1 0 1
    #[pyo3(signature = (callback = None, *, timeout = None))]
    fn watch<'py>(
        slf: &Bound<'py, Self>,
        callback: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, Watch>> {
        let target = (slf.as_any(), slf.get().proxy()?);
        watch(slf.py(), &target.1.shared, Some(target), callback, timeout)
    }

    /// Lock the list exclusively; see `Dict.lockExcl`.
    #[pyo3(name = "lockExcl", signature = (*, timeout = None))]
    fn lock_excl(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Held> {
        let (of, proxy) = (slf.as_any(), slf.get().proxy()?);
        take::acquire(of, proxy, &LockKey::whole(), false, timeout, Until::Unlock)
    }

    /// Lock the list against changes; see `Dict.lockShared`.
    #[pyo3(name = "lockShared", signature = (*, timeout = None))]
    fn lock_shared(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Held> {
        let (of, proxy) = (slf.as_any(), slf.get().proxy()?);
        take::acquire(of, proxy, &LockKey::whole(), true, timeout, Until::Unlock)
    }

    /// Lock the list; see `Dict.lock`. Items have no locks of their own.
    #[pyo3(signature = (*, shared = false, timeout = None))]
    fn lock(slf: &Bound<'_, Self>, shared: bool, timeout: Option<f64>) -> PyResult<Held> {
        let (of, proxy) = (slf.as_any(), slf.get().proxy()?);
        take::acquire(of, proxy, &LockKey::whole(), shared, timeout, Until::Dropped)
    }

    /// Return the lock for `async with` or `await`; see `Dict.lock_async`.
    #[pyo3(signature = (*, shared = false, timeout = None))]
    fn lock_async<'py>(
        slf: &Bound<'py, Self>,
        shared: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        lock_async(
            slf.as_any(),
            slf.get().proxy()?,
            &LockKey::whole(),
            shared,
            timeout,
        )
    }

    /// Release one level of a lock; see `Dict.unlock`.
    fn unlock(slf: &Bound<'_, Self>) -> PyResult<()> {
        take::release(slf.py(), slf.get().proxy()?, &LockKey::whole())
    }
}
