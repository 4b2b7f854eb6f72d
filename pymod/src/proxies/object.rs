//! `persist.Object`, the type: a transient instance, or the proxy of a stored object.
//!
//! 1. A new instance is transient: its attributes are in its ordinary `__dict__`. When it is stored, it becomes the
//!    proxy of the stored object: its attributes are then only in the store.
//! 2. An instance that became persistent in an open transaction keeps a copy of its attributes until the end. After a
//!    rollback, the instance is dead (`Gone`), but can be stored again, as a new object.

use persist_core::store::Kind;
use persist_core::store::door::{Known, SORTED};
use persist_core::store::{Error, Obj};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::classes;
use super::dict::Dict;
use super::list::List;
use super::places;
use super::proxy::Proxy;
use super::wrapped;
use crate::engine::class_names::Name;
use crate::engine::shared::Shared;
use crate::python::{error, ffi, refused};

/// A stored object: attributes in the store, methods in the class.
#[pyclass(frozen, subclass, weakref, dict, module = "persist")]
pub struct Object {
    link: OnceLock<Link>,
    busy: AtomicBool,
    kept: Mutex<Option<Py<PyDict>>>,
}

/// The stored object that the instance represents. The next link exists if the first died in a rollback and the
/// instance was stored again.
pub(crate) struct Link {
    pub(crate) proxy: Proxy,
    pub(crate) known: Known,
    next: OnceLock<Box<Link>>,
}

/// Prevents changes to the attributes of a transient instance while it is being stored.
pub(crate) struct BeingStored<'py>(Bound<'py, Object>);

impl<'py> BeingStored<'py> {
    /// Fail if another thread is storing the instance.
    pub(crate) fn begin(object: &Bound<'py, Object>) -> PyResult<BeingStored<'py>> {
        if object.get().busy.swap(true, Ordering::AcqRel) {
            return Err(PyRuntimeError::new_err("another thread is storing this object"));
        }
        Ok(BeingStored(object.clone()))
    }
}

impl Drop for BeingStored<'_> {
    fn drop(&mut self) {
        self.0.get().busy.store(false, Ordering::Release);
    }
}

impl Object {
    /// A transient instance.
    pub(crate) fn transient() -> Object {
        Object {
            link: OnceLock::new(),
            busy: AtomicBool::new(false),
            kept: Mutex::new(None),
        }
    }

    /// The attributes from before the open transaction.
    pub(crate) fn kept(&self) -> MutexGuard<'_, Option<Py<PyDict>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    /// The newest link.
    pub(crate) fn last(&self) -> Option<&Link> {
        let mut link = self.link.get()?;
        while let Some(next) = link.next.get() {
            link = next;
        }
        Some(link)
    }

    /// The stored object of this instance.
    #[inline]
    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.last().map(|link| &link.proxy)
    }

    /// Like `proxy`, unless the object died in a rollback and can be stored again.
    pub(crate) fn live_proxy(&self, py: Python<'_>) -> PyResult<Option<&Proxy>> {
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

    /// Like `proxy`, with an error for a transient instance.
    pub(crate) fn stored(&self) -> PyResult<&Proxy> {
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

    /// Fail while another thread stores the instance.
    pub(crate) fn check_idle(&self) -> PyResult<()> {
        match self.busy.load(Ordering::Acquire) {
            true => Err(PyRuntimeError::new_err("another thread is storing this object")),
            false => Ok(()),
        }
    }

    /// The attributes from before the open transaction, unless another thread is using them: for the cyclic collector.
    pub(crate) fn try_kept(&self) -> Option<MutexGuard<'_, Option<Py<PyDict>>>> {
        self.kept.try_lock().ok()
    }
}

/// The class name to store for a dict or list; None for one without a class.
pub(crate) fn container_class(
    value: &Bound<'_, PyAny>,
    where_at: impl Fn() -> String,
) -> PyResult<Option<String>> {
    let py = value.py();
    let Some(here) = places::of(value) else {
        return Ok(None);
    };
    if let Some(proxy) = here.live(py)? {
        return proxy.shared.read(py, |r| r.class(proxy.obj));
    }
    let class = value.get_type();
    let base = match value.is_instance_of::<List>() {
        true => py.get_type::<List>(),
        false => py.get_type::<Dict>(),
    };
    let sorted = wrapped::class_of(py, SORTED, Kind::Dict)?;
    if sorted.is_some_and(|sorted| sorted.is(&class)) {
        return Ok(Some(SORTED.to_owned()));
    }
    if has_own_slots(&class, &base)? {
        let reason = format!(
            "a store keeps no __slots__ of class '{}', only entries: leave them out",
            class.name()?
        );
        return Err(refused::because(value, &where_at(), &reason));
    }
    if !classes::is_found(&class, &base)? {
        return Err(refused::because(value, &where_at(), &not_found(&class)?));
    }
    classes::name_of(&class, &base).map(Some)
}

/// True if a class, or one between it and `base`, has `__slots__` that are not empty.
fn has_own_slots(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> PyResult<bool> {
    for class in class.mro().iter().take_while(|class| !class.is(base)) {
        let members = class.getattr(pyo3::intern!(base.py(), "__dict__"))?;
        if members.contains("__slots__")? && members.get_item("__slots__")?.is_truthy()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The class name to store for an instance. `place` is its place in the value to store, for errors.
pub(crate) fn class_to_store(object: &Bound<'_, Object>, place: impl Fn() -> String) -> PyResult<String> {
    let py = object.py();
    match object.get().live_proxy(py)? {
        Some(proxy) => stored_class(py, proxy),
        None => {
            let (class, base) = (object.get_type(), py.get_type::<Object>());
            if ffi::has_slots(&class, &base) {
                let reason = format!(
                    "a store keeps no __slots__ of class '{}': leave them out, stored attributes do not need them",
                    class.name()?
                );
                return Err(refused::because(object, &place(), &reason));
            }
            if !classes::is_found(&class, &base)? {
                return Err(refused::because(object, &place(), &not_found(&class)?));
            }
            classes::name_of(&class, &base)
        }
    }
}

/// The reason why instances of a class are refused that its name does not lead to.
#[cold]
pub(crate) fn not_found(class: &Bound<'_, PyType>) -> PyResult<String> {
    Ok(format!(
        "no import finds its class as {}.{}: define it once, at the top level of a module",
        class.module()?,
        class.qualname()?
    ))
}

/// The class of a generic object that exists by now, although it did not when the object was read.
pub(crate) fn grown<'py>(object: &Bound<'py, Object>, name: &Name) -> PyResult<Option<Bound<'py, PyType>>> {
    let base = object.py().get_type::<Object>();
    if !object.get_type().is(&base) {
        return Ok(None);
    }
    Ok(classes::find(&base, name)?.filter(|class| !ffi::has_slots(class, &base)))
}

/// Like `grown`, with the name that is in the store.
#[cold]
pub(crate) fn grown_class<'py>(object: &Bound<'py, Object>) -> PyResult<Option<Bound<'py, PyType>>> {
    let py = object.py();
    match object.get().proxy() {
        Some(proxy) => grown(object, &Name::new(py, stored_class(py, proxy)?)),
        None => Ok(None),
    }
}

/// Give a generic object its class.
pub(crate) fn set_class(object: &Bound<'_, Object>, class: &Bound<'_, PyType>) -> PyResult<()> {
    let name = pyo3::intern!(object.py(), "__class__");
    ffi::generic_set(object.as_any(), name, Some(class.as_any()))
}

/// The class name in the store.
pub(crate) fn stored_class(py: Python<'_>, proxy: &Proxy) -> PyResult<String> {
    Ok(proxy.shared.read(py, |r| r.class(proxy.obj))?.unwrap_or_default())
}

/// Create the Python object of a stored object that has none yet.
pub(crate) fn revive<'py>(
    py: Python<'py>,
    proxy: Proxy,
    class: Option<&Name>,
    known: Known,
    replace: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let base = py.get_type::<Object>();
    let none = PyTuple::empty(py);
    let class = class
        .map(|name| classes::find(&base, name))
        .transpose()?
        .flatten();
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

/// Turn a transient instance into the proxy of the object in which its attributes were stored. Takes over one pin of
/// `obj`.
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
        shared.core.new_instances.push(source.clone().unbind());
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

/// Drop the kept attributes of these instances: the transaction in which they became persistent is committed.
pub(crate) fn forget_kept_attributes(py: Python<'_>, born: Vec<Py<PyAny>>) {
    for object in born {
        if let Ok(object) = object.bind(py).cast::<Object>() {
            let kept = object.get().kept().take();
            drop(kept);
        } else if let Some(place) = places::of(object.bind(py)) {
            place.forget();
        }
    }
}
