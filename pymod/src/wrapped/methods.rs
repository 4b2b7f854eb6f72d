//! What the classes in Python (`persist._containers`, `persist._mappings`) need of the module: the entries, locks, a
//! transaction of the container's store, and the class.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyListMethods, PyTuple, PyType};

use crate::engine::class_names::Name;
use crate::graphs::copy_out;
use crate::locks::held::{Held, Until};
use crate::locks::request::lock_async;
use crate::locks::take::{self, LockKey};
use crate::proxies::dict::Dict;
use crate::proxies::list::List;
use crate::proxies::object::Object;
use crate::proxies::proxy::Proxy;
use crate::proxies::reference::{self, Target};
use crate::proxies::wrapped::Wrapped;
use crate::proxies::{classes, places};
use crate::python::scalars::Scalar;
use crate::store::transaction;
use crate::watch::watching::{Watch, watch};

#[pymethods]
impl Wrapped {
    #[new]
    fn new() -> Wrapped {
        Wrapped::default()
    }

    /// The entries: a Dict or List of the same container.
    #[getter]
    fn _entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.entries(py)?.clone())
    }

    /// The class name in the store.
    #[getter]
    fn _class(&self) -> PyResult<&str> {
        self.class()
    }

    fn __deepcopy__<'py>(&self, py: Python<'py>, memo: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        copy_out::copy(py, self.proxy()?, false, Some(memo))
    }

    /// A pickle of a proxy is a reference to what is in the store, and not a copy of it.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let proxy = self.proxy()?;
        reference::reduced(py, &proxy.shared, &Target::Container(proxy))
    }

    /// Return a Watch of what is committed from now on; see `Dict.watch`, or `List.watch` for a deque.
    #[pyo3(signature = (callback = None, *, timeout = None))]
    fn watch<'py>(
        slf: &Bound<'py, Self>,
        callback: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, Watch>> {
        let target = (slf.as_any(), slf.get().proxy()?);
        watch(slf.py(), &target.1.shared, Some(target), callback, timeout)
    }

    /// Lock the container exclusively; see `Dict.lockExcl`.
    #[pyo3(name = "lockExcl", signature = (key = LockKey::whole(), *, timeout = None), text_signature = "($self, key=..., *, timeout=None)")]
    fn lock_excl(slf: &Bound<'_, Self>, key: LockKey<'_>, timeout: Option<f64>) -> PyResult<Held> {
        take::acquire(
            slf.as_any(),
            slf.get().proxy()?,
            &key,
            false,
            timeout,
            Until::Unlock,
        )
    }

    /// Lock the container against changes; see `Dict.lockShared`.
    #[pyo3(name = "lockShared", signature = (key = LockKey::whole(), *, timeout = None), text_signature = "($self, key=..., *, timeout=None)")]
    fn lock_shared(slf: &Bound<'_, Self>, key: LockKey<'_>, timeout: Option<f64>) -> PyResult<Held> {
        take::acquire(
            slf.as_any(),
            slf.get().proxy()?,
            &key,
            true,
            timeout,
            Until::Unlock,
        )
    }

    /// Lock the container, or one element of a set; see `Dict.lock`.
    #[pyo3(signature = (key = LockKey::whole(), *, shared = false, timeout = None), text_signature = "($self, key=..., *, shared=False, timeout=None)")]
    fn lock(slf: &Bound<'_, Self>, key: LockKey<'_>, shared: bool, timeout: Option<f64>) -> PyResult<Held> {
        take::acquire(
            slf.as_any(),
            slf.get().proxy()?,
            &key,
            shared,
            timeout,
            Until::Dropped,
        )
    }

    /// Return the lock for `async with` or `await`; see `Dict.lock_async`.
    #[pyo3(signature = (key = LockKey::whole(), *, shared = false, timeout = None), text_signature = "($self, key=..., *, shared=False, timeout=None)")]
    fn lock_async<'py>(
        slf: &Bound<'py, Self>,
        key: LockKey<'py>,
        shared: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        lock_async(slf.as_any(), slf.get().proxy()?, &key, shared, timeout)
    }

    /// Release one level of a lock; see `Dict.unlock`.
    #[pyo3(signature = (key = LockKey::whole()), text_signature = "($self, key=...)")]
    fn unlock(slf: &Bound<'_, Self>, key: LockKey<'_>) -> PyResult<()> {
        take::release(slf.py(), slf.get().proxy()?, &key)
    }
}

fn proxy_of<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Option<&'a Proxy>> {
    if let Some(place) = places::of(value) {
        return Ok(place.get());
    }
    match value.cast::<Wrapped>() {
        Ok(wrapped) => wrapped.get().proxy().map(Some),
        Err(_) => Err(PyTypeError::new_err("not a container of a store")),
    }
}

/// Call a function in a transaction of the container's store, as `Store.run` does.
#[pyfunction]
#[pyo3(signature = (container, function, /, *args, **kwargs))]
pub(crate) fn _run<'py>(
    container: &Bound<'py, PyAny>,
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    match proxy_of(container)? {
        Some(proxy) => transaction::run(&proxy.shared, function, args, kwargs),
        None => function.call(args, kwargs),
    }
}

/// Give a stored dict or list another class name.
#[pyfunction]
pub(crate) fn _set_class(container: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    match proxy_of(container)? {
        Some(proxy) => {
            let obj = proxy.obj;
            proxy
                .shared
                .write(container.py(), |w| w.set_class(obj, Some(name)))
        }
        None => Err(PyTypeError::new_err("the container is not in a store")),
    }
}

/// Return the position of a key in a SortedDict: before the key that is equal to it, or after it.
#[pyfunction]
pub(crate) fn _sorted_position<'py>(
    dict: &Bound<'py, Dict>,
    key: &Bound<'py, PyAny>,
    after: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = dict.py();
    if let Some(plain) = dict.get().place.plain(py)? {
        let bisect = if after { "bisect_right" } else { "bisect_left" };
        return py.import("bisect")?.call_method1(bisect, (sorted(&plain)?, key));
    }
    // What no key equals may lie between keys, as a datetime in a zone.
    let scalar = match Scalar::sought(key)? {
        Some(scalar) => scalar,
        None => Scalar::key_of(key)?,
    };
    let proxy = dict.get().proxy()?;
    let key = scalar.key();
    let at = proxy
        .shared
        .read(py, |r| r.sorted_position(proxy.obj, &key, after))?;
    Ok(at.into_pyobject(py)?.into_any())
}

/// Return at most `most` keys of a SortedDict from a position on.
#[pyfunction]
pub(crate) fn _sorted_keys<'py>(
    dict: &Bound<'py, Dict>,
    start: u64,
    most: usize,
) -> PyResult<Bound<'py, PyList>> {
    let py = dict.py();
    if let Some(plain) = dict.get().place.plain(py)? {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        return Ok(sorted(&plain)?.get_slice(start, start.saturating_add(most)));
    }
    let proxy = dict.get().proxy()?;
    let mut found = Vec::new();
    let mut batch = proxy.shared.collect(py, |r, out| {
        found.clear();
        r.sorted_keys(proxy.obj, start, most, &mut found)?;
        found.drain(..).try_for_each(|key| out.push(r, key))
    })?;
    let list = PyList::empty(py);
    while let Some(key) = batch.next(py)? {
        list.append(key)?;
    }
    Ok(list)
}

fn sorted<'py>(plain: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let keys = plain.cast::<PyDict>()?.keys();
    keys.sort()?;
    Ok(keys)
}

/// Return the class of a program that a store may name so and make instances of, or None.
#[pyfunction]
pub(crate) fn _find_container_class<'py>(
    py: Python<'py>,
    name: &str,
) -> PyResult<Option<Bound<'py, PyType>>> {
    let name = Name::new(py, name.to_owned());
    for base in [
        py.get_type::<Object>(),
        py.get_type::<Dict>(),
        py.get_type::<List>(),
    ] {
        if let Some(found) = classes::find(&base, &name)?
            && !found.is(&base)
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
