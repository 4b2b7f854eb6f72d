//! `persist.Object`, the type: a transient instance, or the proxy of a stored object.
//!
//! 1. A new instance is transient: its attributes are in its ordinary `__dict__`. When it is stored, it becomes the
//!    proxy of the stored object: its attributes are then only in the store.
//! 2. An instance that became persistent in an open transaction keeps a copy of its attributes until the end. After a
//!    rollback, the instance is dead (`Gone`), but can be stored again, as a new object.

use persist_core::store::Kind;
use persist_core::store::door::{Known, SORTED};
use persist_core::store::{Error, Obj};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple, PyType};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::classes::{self, Class};
use super::dict::Dict;
use super::list::List;
use super::places;
use super::proxy::Proxy;
use super::wrapped;
use crate::engine::class_names::Name;
use crate::engine::shared::Shared;
use crate::python::ffi::OnType;
use crate::python::{error, ffi, refused};

/// The attribute that holds the version of an object, in the store, and that of a class.
pub(crate) const VERSION: &str = "__persist_version__";
/// The version of an object that was stored without one.
pub(crate) const FIRST_VERSION: i64 = 1;

/// A stored object: attributes in the store, methods in the class.
///
/// >>> class Account(persist.Object):
/// ...     def __init__(self, amount):
/// ...         self.amount = amount
/// >>> root['account'] = Account(5)
/// >>> root['account'].amount += 1
/// >>> root['account'].amount
/// 6
#[pyclass(frozen, subclass, weakref, dict, module = "persist")]
pub struct Object {
    link: OnceLock<Link>,
    busy: AtomicBool,
    /// Whether the object may be of an older version than its class.
    is_old: AtomicBool,
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
            is_old: AtomicBool::new(false),
            kept: Mutex::new(None),
        }
    }

    /// Return whether the object may have to be upgraded before it is used.
    #[inline]
    pub(crate) fn is_old(&self) -> bool {
        self.is_old.load(Ordering::Relaxed)
    }

    /// Note whether the object may be of an older version than its class.
    pub(crate) fn set_old(&self, is_old: bool) {
        self.is_old.store(is_old, Ordering::Relaxed);
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
            if !classes::is_found(&class, &base)? {
                return Err(refused::because(object, &place(), &not_found(&class)?));
            }
            classes::name_of(&class, &base)
        }
    }
}

/// The class name to store for an instance of a registered class.
pub(crate) fn class_of_registered(value: &Bound<'_, PyAny>, place: impl Fn() -> String) -> PyResult<String> {
    let (class, base) = (value.get_type(), value.py().get_type::<Object>());
    if !classes::is_found(&class, &base)? {
        return Err(refused::because(value, &place(), &not_found(&class)?));
    }
    classes::name_of(&class, &base)
}

/// The attributes that a transient instance has, in its `__dict__` and its slots.
pub(crate) fn own_attributes<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let dict = ffi::instance_dict(object)?;
    let Some(slots) = classes::slots(&object.get_type()) else {
        return Ok(dict);
    };
    let all = dict.copy()?;
    for name in slots.iter_borrowed() {
        // AttributeError: nothing is in the slot.
        if let Ok(value) = ffi::generic_get(object, &*name.cast::<PyString>()?) {
            all.set_item(name, value)?;
        }
    }
    Ok(all)
}

/// The attributes of a transient instance that are stored.
pub(crate) fn attributes_to_store<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let (py, class) = (object.py(), object.get_type());
    let to_store = PyDict::new(py);
    for (name, value) in own_attributes(object)?.iter() {
        if !classes::is_transient(&class, &name)? {
            to_store.set_item(name, value)?;
        }
    }
    if let Some(version) = version_of(&class)?
        && !to_store.contains(intern!(py, VERSION))?
    {
        to_store.set_item(intern!(py, VERSION), version)?;
    }
    Ok(to_store)
}

/// Set an attribute of a bare instance, where it belongs: in a slot or the `__dict__`.
pub(crate) fn put_attribute(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if let Ok(text) = name.cast::<PyString>()
        && ffi::on_type(object, text) == OnType::Slot
    {
        return ffi::generic_set(object, text, Some(value));
    }
    ffi::instance_dict(object)?.set_item(name, value)
}

/// Note in a copy that it is of the first version if the object has none: it is not of the version of its class when it
/// is stored again.
pub(crate) fn keep_version(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let name = intern!(object.py(), VERSION);
    let dict = ffi::instance_dict(object)?;
    if version_of(&object.get_type())?.is_some() && !dict.contains(name)? {
        dict.set_item(name, FIRST_VERSION)?;
    }
    Ok(())
}

/// Remove from an instance what has been stored.
fn clear_attributes(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let (dict, class) = (ffi::instance_dict(object)?, object.get_type());
    for name in dict.keys() {
        if !classes::is_transient(&class, &name)? {
            dict.del_item(name)?;
        }
    }
    for name in classes::slots(&class)
        .iter()
        .flat_map(|slots| slots.iter_borrowed())
    {
        // AttributeError: nothing is in the slot.
        let _ = ffi::generic_set(object, &*name.cast::<PyString>()?, None);
    }
    Ok(())
}

/// The version of a class, if it has one.
pub(crate) fn version_of(class: &Bound<'_, PyType>) -> PyResult<Option<i64>> {
    let Some(version) = ffi::class_member(class, intern!(class.py(), VERSION)) else {
        return Ok(None);
    };
    match version.cast_exact::<PyInt>().ok().and_then(|n| ffi::int_value(n)) {
        Some(n) if n >= 1 => Ok(Some(n)),
        _ => Err(PyTypeError::new_err(format!(
            "{VERSION} of class '{}' must be an int, 1 or more",
            class.name()?
        ))),
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
    let py = object.py();
    ffi::generic_set(object.as_any(), intern!(py, "__class__"), Some(class.as_any()))?;
    classes::prepare(class, &py.get_type::<Object>())?;
    note_version(object)
}

/// Note that the object has to be compared with its class at its next use. What can only be read stays as it is.
pub(crate) fn note_version(object: &Bound<'_, Object>) -> PyResult<()> {
    if version_of(&object.get_type())?.is_some()
        && let Some(proxy) = object.get().proxy()
    {
        object.get().set_old(!proxy.shared.read_only);
    }
    Ok(())
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
        .map(|name| classes::find_class(&base, name))
        .transpose()?
        .flatten();
    let made = match class {
        Some(Class::Object(cls)) => ffi::bare_instance(&base, &cls, &none)?,
        Some(Class::Value(cls)) => return value_of(py, &proxy, &cls),
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
    note_version(object)?;
    let there = proxy.publish(&made, replace)?;
    Ok(there.unwrap_or(made))
}

/// Let a bare instance be the proxy of a container.
pub(crate) fn link(object: &Bound<'_, Object>, proxy: Proxy) -> PyResult<()> {
    let linked = object.get().set_link(proxy, Known::default());
    linked.ok_or_else(|| error::general(object.py(), "internal error: linked twice"))?;
    note_version(object)
}

/// The plain instance of a registered class that a stored object stands for; containers among its attributes are
/// proxies.
fn value_of<'py>(py: Python<'py>, proxy: &Proxy, class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    // Values may be in values.
    ffi::deeper()?;
    let attributes = Bound::new(py, Dict::of_attributes(py, proxy)?)?.call_method0(intern!(py, "copy"))?;
    py.import(intern!(py, "persist._registered"))?
        .call_method1(intern!(py, "made"), (class, attributes))
}

/// Turn a transient instance into the proxy of the object in which its attributes were stored. Takes over one pin of
/// `obj`.
pub(crate) fn adopt(shared: &Arc<Shared>, source: &Bound<'_, PyAny>, obj: Obj) -> PyResult<()> {
    let py = source.py();
    let object = source.cast::<Object>()?;
    let this = object.get();
    let proxy = Proxy::new(shared, obj);
    if shared.store.in_transaction() {
        let attributes = attributes_to_store(source)?;
        let mut kept = this.kept();
        if kept.is_none() {
            *kept = Some(attributes.unbind());
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
    clear_attributes(source)
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
