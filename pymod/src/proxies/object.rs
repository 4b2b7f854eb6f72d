//! `persist.Object`, the type: a transient instance, or the proxy of a stored object.
//!
//! 1. A new instance is transient: its attributes are in its ordinary `__dict__`. When it is stored, it becomes the
//!    proxy of the stored object: its attributes are then only in the store.
//! 2. An instance that became persistent in an open transaction keeps a copy of its attributes until the end (`links`).

use persist_core::store::Kind;
use persist_core::store::Obj;
use persist_core::store::door::{Known, SORTED};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple, PyType};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::classes::{self, Class};
use super::dict::Dict;
use super::links::Links;
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
    pub(crate) links: Links<Known, PyDict>,
    /// Whether the object may be of an older version than its class.
    is_old: AtomicBool,
}

/// Prevents changes to the content of a transient instance while it is being stored.
pub(crate) struct BeingStored<'py>(Bound<'py, PyAny>);

impl<'py> BeingStored<'py> {
    /// Fail if another thread is storing the instance.
    pub(crate) fn begin(source: &Bound<'py, PyAny>) -> PyResult<BeingStored<'py>> {
        if let Some(place) = places::of(source) {
            place.links.begin_storing("container")?;
        } else if let Ok(object) = source.cast::<Object>() {
            object.get().links.begin_storing("object")?;
        }
        Ok(BeingStored(source.clone()))
    }
}

impl Drop for BeingStored<'_> {
    fn drop(&mut self) {
        if let Some(place) = places::of(&self.0) {
            place.links.end_storing();
        } else if let Ok(object) = self.0.cast::<Object>() {
            object.get().links.end_storing();
        }
    }
}

impl Object {
    /// A transient instance.
    pub(crate) fn transient() -> Object {
        Object {
            links: Links::default(),
            is_old: AtomicBool::new(false),
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

    /// The stored object of this instance.
    #[inline]
    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.links.proxy()
    }

    /// Like `proxy`, with an error for a transient instance.
    pub(crate) fn stored(&self) -> PyResult<&Proxy> {
        self.proxy()
            .ok_or_else(|| PyValueError::new_err("the object is not in a store yet"))
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
    if let Some(proxy) = here.links.live(py)? {
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
    match object.get().links.live(py)? {
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
        .links
        .add(proxy, known)
        .ok_or_else(|| error::general(py, "internal error: linked twice"))?;
    note_version(object)?;
    let there = proxy.publish(&made, replace)?;
    Ok(there.unwrap_or(made))
}

/// Let a bare instance be the proxy of a container.
pub(crate) fn link(object: &Bound<'_, Object>, proxy: Proxy) -> PyResult<()> {
    let linked = object.get().links.add(proxy, Known::default());
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
        let mut kept = this.links.kept();
        if kept.is_none() {
            *kept = Some(attributes.unbind());
        }
        drop(kept);
        shared.core.new_instances.push(source.clone().unbind());
    } else {
        this.links.forget();
    }
    let proxy = this
        .links
        .add(proxy, Known::default())
        .ok_or_else(|| error::general(py, "another thread has stored this object"))?;
    proxy.publish(source, true)?;
    clear_attributes(source)
}

/// Drop the kept attributes of these instances: the transaction in which they became persistent is committed.
pub(crate) fn forget_kept_attributes(py: Python<'_>, born: Vec<Py<PyAny>>) {
    for object in born {
        if let Ok(object) = object.bind(py).cast::<Object>() {
            object.get().links.forget();
        } else if let Some(place) = places::of(object.bind(py)) {
            place.links.forget();
        }
    }
}
