//! `persist.Object`: the base of the classes whose instances can be stored.
//!
//! 1. A new instance is transient: its attributes are in its ordinary `__dict__`. Stored, it
//!    becomes the proxy of the stored object: its attributes are in the store and nowhere else.
//! 2. Attributes are looked up as everywhere in Python: data descriptors of the class (properties),
//!    the instance's (in the store), the class's own, `__getattr__`.
//! 3. A store names a class and never runs code: the class must be there already (or its module
//!    allowed by `allow_import`), must derive from `Object`, and neither `__new__` nor `__init__`
//!    is called.
//! 4. What became persistent in an open transaction keeps a copy of its attributes until the end.
//!    Rolled back, the instance is dead (`Gone`), but can be stored again, as a new object.

use persist_core::store::{Error, Known, Obj};
use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::cache::Proxy;
use crate::classes::Name;
use crate::convert::utf8;
use crate::dict::Dict;
use crate::ffi::{self, OnType};
use crate::glance::Seen;
use crate::held::Held;
use crate::lock::LockKey;
use crate::shared::Shared;
use crate::{classes, error, lock};

/// A stored object: attributes in the store, methods in the class.
#[pyclass(frozen, subclass, weakref, dict, module = "persist")]
pub struct Object {
    link: OnceLock<Link>,
    busy: AtomicBool,
    kept: Mutex<Option<Py<PyDict>>>,
}

/// What the instance stands for. The next one is there if the first died in a rollback and the
/// instance was stored again.
struct Link {
    proxy: Proxy,
    known: Known,
    next: OnceLock<Box<Link>>,
}

thread_local! {
    /// The error of a failed `__getattribute__`, on its way to `__getattr__`.
    static MISSING: Cell<Option<PyErr>> = const { Cell::new(None) };
}

/// The instances that became persistent in the open transaction, in the order of time.
#[derive(Default)]
pub(crate) struct Newborn(Mutex<Vec<Py<Object>>>);

impl Newborn {
    fn lock(&self) -> MutexGuard<'_, Vec<Py<Object>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Takes those that came after the first `n`.
    pub(crate) fn take(&self, n: usize) -> Vec<Py<Object>> {
        let mut all = self.lock();
        let n = n.min(all.len());
        all.split_off(n)
    }

    /// What they were stored in is committed: nobody needs the attributes that they had before.
    pub(crate) fn settle(py: Python<'_>, born: Vec<Py<Object>>) {
        for object in born {
            let kept = object.bind(py).get().kept().take();
            drop(kept);
        }
    }
}

/// Keeps the attributes of a transient instance as they are while it is being stored.
pub(crate) struct Busy<'py>(Bound<'py, Object>);

impl<'py> Busy<'py> {
    /// Fails if the instance is being stored already (by another thread).
    pub(crate) fn begin(object: &Bound<'py, Object>) -> PyResult<Busy<'py>> {
        if object.get().busy.swap(true, Ordering::AcqRel) {
            return Err(PyRuntimeError::new_err("another thread is storing this object"));
        }
        Ok(Busy(object.clone()))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.get().busy.store(false, Ordering::Release);
    }
}

impl Object {
    fn kept(&self) -> MutexGuard<'_, Option<Py<PyDict>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn last(&self) -> Option<&Link> {
        let mut link = self.link.get()?;
        while let Some(next) = link.next.get() {
            link = next;
        }
        Some(link)
    }

    /// The stored object this stands for.
    #[inline]
    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.last().map(|link| &link.proxy)
    }

    /// The same, unless it died in a rollback and can be stored anew.
    pub(crate) fn living(&self, py: Python<'_>) -> PyResult<Option<&Proxy>> {
        let Some(proxy) = self.proxy() else {
            return Ok(None);
        };
        if self.kept().is_none() {
            return Ok(Some(proxy));
        }
        let there = proxy.shared.read(py, |r| match r.kind(proxy.obj) {
            Ok(_) => Ok(true),
            Err(Error::Gone(_)) => Ok(false),
            Err(e) => Err(e),
        })?;
        Ok(there.then_some(proxy))
    }

    fn stored(&self) -> PyResult<&Proxy> {
        self.proxy()
            .ok_or_else(|| PyValueError::new_err("the object is not in a store yet"))
    }

    fn set_link(&self, proxy: Proxy, known: Known) -> Option<&Proxy> {
        let made = Link {
            proxy,
            known,
            next: OnceLock::new(),
        };
        let Some(mut link) = self.link.get() else {
            return self.link.set(made).ok().and_then(|()| self.proxy());
        };
        while let Some(next) = link.next.get() {
            link = next;
        }
        link.next.set(Box::new(made)).ok().and_then(|()| self.proxy())
    }

    fn check_idle(&self) -> PyResult<()> {
        match self.busy.load(Ordering::Acquire) {
            true => Err(PyRuntimeError::new_err("another thread is storing this object")),
            false => Ok(()),
        }
    }
}

fn is_dunder(name: &[u8]) -> bool {
    name.len() > 4 && name.starts_with(b"__") && name.ends_with(b"__")
}

fn name_str<'a, 'py>(name: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyString>> {
    name.cast::<PyString>().map_err(|_| {
        let ty = name
            .get_type()
            .name()
            .map_or_else(|_| "object".into(), |n| n.to_string());
        PyTypeError::new_err(format!("attribute name must be string, not '{ty}'"))
    })
}

/// The attributes of an instance as a plain dict; of a transient one, its own `__dict__`.
pub(crate) fn attributes<'py>(object: &Bound<'py, Object>) -> PyResult<Bound<'py, PyDict>> {
    let py = object.py();
    match object.get().living(py)? {
        Some(proxy) => Dict::plain_of(py, proxy),
        None => match &*object.get().kept() {
            Some(kept) => Ok(kept.bind(py).clone()),
            None => ffi::instance_dict(object.as_any()),
        },
    }
}

/// The class name to store for an instance.
pub(crate) fn class_to_store(object: &Bound<'_, Object>) -> PyResult<String> {
    match object.get().living(object.py())? {
        Some(proxy) => stored_class(object.py(), proxy),
        None => {
            let class = object.get_type();
            if ffi::has_slots(&class, &object.py().get_type::<Object>()) {
                return Err(PyTypeError::new_err(format!(
                    "a store cannot keep the __slots__ of class '{}': attributes of stored objects need none, leave them out",
                    class.name()?
                )));
            }
            classes::name_of(&class)
        }
    }
}

/// The class name that the store holds.
pub(crate) fn stored_class(py: Python<'_>, proxy: &Proxy) -> PyResult<String> {
    Ok(proxy.shared.read(py, |r| r.class(proxy.obj))?.unwrap_or_default())
}

/// The Python object of a stored object that no Python object stands for yet.
pub(crate) fn revive<'py>(
    py: Python<'py>,
    proxy: Proxy,
    class: Option<&Name>,
    known: Known,
    replace: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let base = py.get_type::<Object>();
    let none = PyTuple::empty(py);
    let class = class.map(|name| classes::find(py, name)).transpose()?.flatten();
    let made = match class {
        Some(cls) => ffi::bare_instance(&base, &cls, &none)?,
        None => None,
    };
    let made = match made {
        Some(made) => made,
        None => base.call0()?,
    };
    let object = made.cast::<Object>()?;
    let proxy = object
        .get()
        .set_link(proxy, known)
        .ok_or_else(|| error::general(py, "internal error: linked twice"))?;
    let there = proxy.publish(&made, replace)?;
    Ok(there.unwrap_or(made))
}

/// Makes a transient instance the proxy of the object its attributes were stored in. Takes over
/// one pin of `obj`.
pub(crate) fn adopt(shared: &Arc<Shared>, source: &Bound<'_, PyAny>, obj: Obj) -> PyResult<()> {
    let py = source.py();
    let object = source.cast::<Object>()?;
    let this = object.get();
    let proxy = Proxy::new(shared, obj);
    let dict = ffi::instance_dict(source)?;
    if shared.store.in_transaction() {
        let mut kept = this.kept();
        if kept.is_none() {
            *kept = Some(dict.copy()?.unbind());
        }
        drop(kept);
        shared.core.newborn.lock().push(object.clone().unbind());
    } else {
        let old = this.kept().take();
        drop(old);
    }
    let proxy = this
        .set_link(proxy, Known::default())
        .ok_or_else(|| error::general(py, "another thread has stored this object"))?;
    proxy.publish(source, true)?;
    dict.clear();
    Ok(())
}

#[pymethods]
impl Object {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(
        cls: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Object> {
        if !args.is_empty() || kwargs.is_some_and(|k| !k.is_empty()) {
            let py = cls.py();
            let init = intern!(py, "__init__");
            if cls.getattr(init)?.is(&py.get_type::<PyAny>().getattr(init)?) {
                return Err(PyTypeError::new_err(format!(
                    "{}() takes no arguments",
                    cls.name()?
                )));
            }
        }
        Ok(Object {
            link: OnceLock::new(),
            busy: AtomicBool::new(false),
            kept: Mutex::new(None),
        })
    }

    fn __getattribute__<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match Object::lookup(slf, name) {
            Ok(value) => Ok(value),
            Err(e) => {
                if e.is_instance_of::<PyAttributeError>(slf.py()) {
                    MISSING.with(|missing| missing.set(Some(e.clone_ref(slf.py()))));
                }
                Err(e)
            }
        }
    }

    /// PyO3 calls this when `__getattribute__` has raised AttributeError. There is nothing more to
    /// try: it raises that error again. It is not visible in Python.
    fn __getattr__(_slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let missing = MISSING.with(Cell::take);
        Err(missing.unwrap_or_else(|| PyAttributeError::new_err((name.clone().unbind(),))))
    }

    fn __setattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, any) = (slf.get(), slf.as_any());
        let name = name_str(name)?;
        let Some(Link { proxy, known, .. }) = this.last() else {
            this.check_idle()?;
            return ffi::generic_set(any, name, Some(value));
        };
        if ffi::on_type(any, name) == OnType::Data {
            return Self::set_special(slf, proxy, name, value);
        }
        if let Some(text) = ffi::ascii(name)
            && proxy.shared.set_attribute_at_once(proxy.obj, text, value, known)
        {
            return Ok(());
        }
        Dict::put_in(slf.py(), proxy, name.as_any(), value)
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, any) = (slf.get(), slf.as_any());
        let name = name_str(name)?;
        let Some(proxy) = this.proxy() else {
            this.check_idle()?;
            return ffi::generic_set(any, name, None);
        };
        if ffi::on_type(any, name) == OnType::Data {
            return ffi::generic_set(any, name, None);
        }
        let text = utf8(name)?;
        let key = persist_core::store::Key::Str(&text);
        if proxy.shared.write(slf.py(), |w| w.remove(proxy.obj, &key))? {
            return Ok(());
        }
        let class = slf.get_type().name()?;
        Err(PyAttributeError::new_err(format!(
            "'{class}' object has no attribute '{name}'"
        )))
    }

    fn __dir__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        let py = slf.py();
        let names = py
            .get_type::<PyAny>()
            .call_method1(intern!(py, "__dir__"), (slf,))?;
        let names = names.cast_into::<PyList>()?;
        if slf.get().proxy().is_some() {
            for name in attributes(slf)?.keys() {
                if !names.contains(&name)? {
                    names.append(name)?;
                }
            }
        }
        Ok(names)
    }

    /// The attributes as a plain dict: for pickle and copy, which make transient instances.
    fn __getstate__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        attributes(slf)?.copy()
    }

    /// Locks the object for this thread alone; see `Dict.lockExcl`.
    #[pyo3(name = "lockExcl", signature = (key = LockKey::whole(), *, timeout = None), text_signature = "($self, key=..., *, timeout=None)")]
    fn lock_excl(slf: &Bound<'_, Self>, key: LockKey<'_>, timeout: Option<f64>) -> PyResult<Held> {
        lock::acquire(
            slf.as_any(),
            slf.get().stored()?,
            &key,
            lock::mode(false),
            timeout,
            true,
        )
    }

    /// Locks the object against changes; see `Dict.lockShared`.
    #[pyo3(name = "lockShared", signature = (key = LockKey::whole(), *, timeout = None), text_signature = "($self, key=..., *, timeout=None)")]
    fn lock_shared(slf: &Bound<'_, Self>, key: LockKey<'_>, timeout: Option<f64>) -> PyResult<Held> {
        lock::acquire(
            slf.as_any(),
            slf.get().stored()?,
            &key,
            lock::mode(true),
            timeout,
            true,
        )
    }

    /// Locks the object, or one attribute; see `Dict.lock`.
    #[pyo3(signature = (key = LockKey::whole(), *, shared = false, timeout = None), text_signature = "($self, key=..., *, shared=False, timeout=None)")]
    fn lock(slf: &Bound<'_, Self>, key: LockKey<'_>, shared: bool, timeout: Option<f64>) -> PyResult<Held> {
        lock::acquire(
            slf.as_any(),
            slf.get().stored()?,
            &key,
            lock::mode(shared),
            timeout,
            false,
        )
    }

    /// The lock for `async with`, or `await`; see `Dict.lock_async`.
    #[pyo3(signature = (key = LockKey::whole(), *, shared = false, timeout = None), text_signature = "($self, key=..., *, shared=False, timeout=None)")]
    fn lock_async<'py>(
        slf: &Bound<'py, Self>,
        key: LockKey<'py>,
        shared: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        crate::lock_async::lock_async(slf.as_any(), slf.get().stored()?, &key, shared, timeout)
    }

    /// Releases one level of a lock; see `Dict.unlock`.
    #[pyo3(signature = (key = LockKey::whole()), text_signature = "($self, key=...)")]
    fn unlock(slf: &Bound<'_, Self>, key: LockKey<'_>) -> PyResult<()> {
        lock::release(slf.py(), slf.get().stored()?, &key)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.kept.try_lock() {
            Ok(kept) => kept.as_ref().map_or(Ok(()), |kept| visit.call(kept)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let kept = self.kept().take();
        drop(kept);
    }
}

impl Object {
    #[inline]
    fn lookup<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (this, any) = (slf.get(), slf.as_any());
        let name = name_str(name)?;
        let Some(Link { proxy, known, .. }) = this.last() else {
            return ffi::generic_get(any, name);
        };
        let on_type = ffi::on_type(any, name);
        if let Some(text) = ffi::ascii(name)
            && (on_type == OnType::Missing || on_type == OnType::Plain && !is_dunder(text))
        {
            match proxy.shared.glance_attribute(slf.py(), proxy.obj, text, known)? {
                Seen::Value(value) => return Ok(value),
                Seen::Nothing => return ffi::generic_get(any, name),
                Seen::Unsure => {}
            }
        }
        let text = utf8(name)?;
        if on_type != OnType::Missing {
            if &*text == b"__dict__" {
                return Ok(Bound::new(slf.py(), Dict::of_attributes(slf.py(), proxy)?)?.into_any());
            }
            if on_type == OnType::Data || is_dunder(&text) {
                return ffi::generic_get(any, name);
            }
        }
        let key = persist_core::store::Key::Str(&text);
        match proxy.shared.entry(slf.py(), proxy.obj, &key)? {
            Some(value) => Ok(value),
            None => ffi::generic_get(any, name),
        }
    }

    /// Sets what the class handles: `__class__`, `__dict__`, properties, slots.
    fn set_special(
        slf: &Bound<'_, Self>,
        proxy: &Proxy,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match name.to_str()? {
            "__dict__" => {
                let attributes = Bound::new(slf.py(), Dict::of_attributes(slf.py(), proxy)?)?;
                attributes.get().replace_all(value)
            }
            "__class__" => {
                ffi::generic_set(slf.as_any(), name, Some(value))?;
                let class = classes::name_of(&slf.get_type())?;
                let obj = proxy.obj;
                proxy.shared.write(slf.py(), |w| {
                    w.convert(obj, persist_core::store::Kind::Object, &class)
                })
            }
            _ => ffi::generic_set(slf.as_any(), name, Some(value)),
        }
    }
}
