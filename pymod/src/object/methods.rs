//! `persist.Object`, its methods: attributes, and locks.
//!
//! 1. Attributes are looked up in Python's usual order: data descriptors of the class (properties), the attributes of
//!    the instance (in the store), other class attributes, `__getattr__`.
//! 2. A store names a class and never runs code. The class must exist already (or its module be allowed by
//!    `allow_import`) and must derive from `Object`. Neither `__new__` nor `__init__` is called.

use persist_core::store::{Key, Kind};
use pyo3::exceptions::{PyAttributeError, PyException, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::Cell;

use super::versions;
use crate::locks::held::{Held, Until};
use crate::locks::request::lock_async;
use crate::locks::take::{self, LockKey};
use crate::proxies::classes;
use crate::proxies::dict::Dict;
use crate::proxies::links::Link;
use crate::proxies::object::{self, Object};
use crate::proxies::places;
use crate::proxies::proxy::Proxy;
use crate::proxies::reference::{self, Target};
use crate::proxies::registered;
use crate::proxies::wrapped::Wrapped;
use crate::python::ffi::{self, OnType};
use crate::python::scalars::{Scalar, utf8};
use crate::values::contents::attributes;
use crate::values::fast::Fast;
use crate::watch::watching::{Watch, watch};

thread_local! {
    /// The error of a failed `__getattribute__`, kept for `__getattr__`.
    static MISSING: Cell<Option<PyErr>> = const { Cell::new(None) };
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
        classes::prepare(cls, &cls.py().get_type::<Object>())?;
        Ok(Object::transient())
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
        let Some(Link { proxy, known, .. }) = this.links.last() else {
            this.links.check_idle("object")?;
            return ffi::generic_set(any, name, Some(value));
        };
        if ffi::on_type(any, name) == OnType::Data {
            return Self::set_special(slf, proxy, name, value);
        }
        if this.is_old() {
            versions::upgrade(slf, proxy)?;
        }
        if let Some(text) = ffi::ascii(name)
            && proxy.shared.fast_set_attribute(proxy.obj, text, value, known)
        {
            return Ok(());
        }
        if name.to_str().is_ok_and(|name| name == "__orig_class__") {
            return ffi::instance_dict(any)?.set_item(name, value);
        }
        Dict::put_in(slf.py(), proxy, &Scalar::named(name)?.key(), value)
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, any) = (slf.get(), slf.as_any());
        let name = name_str(name)?;
        let Some(proxy) = this.proxy() else {
            this.links.check_idle("object")?;
            return ffi::generic_set(any, name, None);
        };
        if ffi::on_type(any, name) == OnType::Data {
            return ffi::generic_set(any, name, None);
        }
        if this.is_old() {
            versions::upgrade(slf, proxy)?;
        }
        let text = utf8(name)?;
        let key = Key::Str(&text);
        if proxy.shared.write(slf.py(), |w| w.remove(proxy.obj, &key))? {
            return Ok(());
        }
        let class = slf.get_type().name()?;
        Err(PyAttributeError::new_err(format!(
            "'{class}' object has no attribute '{name}'"
        )))
    }

    /// The text of object, and for a generic object the name of the class that it has in the store.
    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let class = match slf.get().proxy() {
            Some(proxy) if slf.is_exact_instance_of::<Object>() => object::stored_class(py, proxy),
            _ => Ok(String::new()),
        };
        match class {
            Ok(class) if !class.is_empty() => {
                let at = slf.as_ptr();
                Ok(format!("<persist.Object of class {class:?} at {at:p}>"))
            }
            Err(e) if !e.is_instance_of::<PyException>(py) => Err(e),
            _ => {
                let text = py
                    .get_type::<PyAny>()
                    .call_method1(intern!(py, "__repr__"), (slf,))?;
                text.extract()
            }
        }
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

    /// Return what pickle needs: of a stored object a reference, unless its class has a `__reduce__` of its own.
    fn __reduce_ex__<'py>(
        slf: &Bound<'py, Self>,
        protocol: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let object = py.get_type::<PyAny>();
        let reduce = intern!(py, "__reduce__");
        match slf.get().links.live(py)? {
            Some(proxy) if slf.get_type().getattr(reduce)?.is(&object.getattr(reduce)?) => {
                let reduced = reference::reduced(py, &proxy.shared, &Target::Container(proxy))?;
                Ok(reduced.into_any())
            }
            _ => object.call_method1(intern!(py, "__reduce_ex__"), (slf, protocol)),
        }
    }

    fn __copy__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Object::reconstructed(slf, None)
    }

    fn __deepcopy__<'py>(slf: &Bound<'py, Self>, memo: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Object::reconstructed(slf, Some(memo))
    }

    /// Return the attributes as a plain dict, for copy, and for pickles of transient instances.
    fn __getstate__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        versions::check(slf)?;
        let (py, class) = (slf.py(), slf.get_type());
        let (state, in_slots) = (PyDict::new(py), PyDict::new(py));
        let slots = classes::slots(&class);
        for (name, value) in attributes(slf)?.iter() {
            if slots
                .as_ref()
                .is_some_and(|slots| slots.contains(&name).unwrap_or(false))
            {
                in_slots.set_item(name, value)?;
            } else if !classes::is_transient(&class, &name)? {
                state.set_item(name, value)?;
            }
        }
        match in_slots.is_empty() {
            true => Ok(state.into_any()),
            false => Ok((state, in_slots).into_pyobject(py)?.into_any()),
        }
    }

    /// The first weak reference to the object, or None, as instances of all classes have it.
    #[getter(__weakref__)]
    fn weak_reference<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let all = slf.py().import("weakref")?.call_method1("getweakrefs", (slf,))?;
        match all.len()? {
            0 => Ok(slf.py().None().into_bound(slf.py())),
            _ => all.get_item(0),
        }
    }

    /// Lock the object exclusively; see `Dict.lockExcl`.
    #[pyo3(name = "lockExcl", signature = (key = LockKey::whole(), *, timeout = None), text_signature = "($self, key=..., *, timeout=None)")]
    fn lock_excl(slf: &Bound<'_, Self>, key: LockKey<'_>, timeout: Option<f64>) -> PyResult<Held> {
        take::acquire(
            slf.as_any(),
            slf.get().stored()?,
            &key,
            false,
            timeout,
            Until::Unlock,
        )
    }

    /// Lock the object against changes; see `Dict.lockShared`.
    #[pyo3(name = "lockShared", signature = (key = LockKey::whole(), *, timeout = None), text_signature = "($self, key=..., *, timeout=None)")]
    fn lock_shared(slf: &Bound<'_, Self>, key: LockKey<'_>, timeout: Option<f64>) -> PyResult<Held> {
        take::acquire(
            slf.as_any(),
            slf.get().stored()?,
            &key,
            true,
            timeout,
            Until::Unlock,
        )
    }

    /// Lock the object, or one attribute; see `Dict.lock`.
    #[pyo3(signature = (key = LockKey::whole(), *, shared = false, timeout = None), text_signature = "($self, key=..., *, shared=False, timeout=None)")]
    fn lock(slf: &Bound<'_, Self>, key: LockKey<'_>, shared: bool, timeout: Option<f64>) -> PyResult<Held> {
        take::acquire(
            slf.as_any(),
            slf.get().stored()?,
            &key,
            shared,
            timeout,
            Until::Dropped,
        )
    }

    /// Return a Watch: each change of the object that is committed from now on, by any process and on the mount, as an
    /// iterator that waits for the next one, also with `async for`. Changes of what is in it are not reported.
    /// timeout: seconds without a change after which the loop ends. callback: is called with each change, on a thread,
    ///     until `close()`.
    ///
    /// >>> with root['Joe'].watch(timeout=0.1) as changes:
    /// ...     root['Joe'].age += 1
    /// ...     for change in changes:
    /// ...         print(change.kind, change.path)
    /// update root['Joe'].age
    #[pyo3(signature = (callback = None, *, timeout = None))]
    fn watch<'py>(
        slf: &Bound<'py, Self>,
        callback: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, Watch>> {
        let target = (slf.as_any(), slf.get().stored()?);
        watch(slf.py(), &target.1.shared, Some(target), callback, timeout)
    }

    /// Return the lock for `async with` or `await`; see `Dict.lock_async`.
    #[pyo3(signature = (key = LockKey::whole(), *, shared = false, timeout = None), text_signature = "($self, key=..., *, shared=False, timeout=None)")]
    fn lock_async<'py>(
        slf: &Bound<'py, Self>,
        key: LockKey<'py>,
        shared: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        lock_async(slf.as_any(), slf.get().stored()?, &key, shared, timeout)
    }

    /// Release one level of a lock; see `Dict.unlock`.
    #[pyo3(signature = (key = LockKey::whole()), text_signature = "($self, key=...)")]
    fn unlock(slf: &Bound<'_, Self>, key: LockKey<'_>) -> PyResult<()> {
        take::release(slf.py(), slf.get().stored()?, &key)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.links.try_kept() {
            Some(kept) => kept.as_ref().map_or(Ok(()), |kept| visit.call(kept)),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        self.links.forget();
    }
}

impl Object {
    /// A transient copy, as `copy` makes those of instances of classes; with a memo a deep one.
    fn reconstructed<'py>(
        slf: &Bound<'py, Self>,
        memo: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let reduce = intern!(py, "__reduce_ex__");
        let own = slf.get_type().getattr(reduce)?;
        let reduced = match own.is(&py.get_type::<Object>().getattr(reduce)?) {
            true => py.get_type::<PyAny>().getattr(reduce)?.call1((slf, 4))?,
            false => own.call1((slf, 4))?,
        };
        if reduced.is_instance_of::<PyString>() {
            return Ok(slf.as_any().clone());
        }
        let mut arguments = vec![
            slf.as_any().clone(),
            memo.map_or_else(|| py.None().into_bound(py), Bound::clone),
        ];
        for part in reduced.try_iter()? {
            arguments.push(part?);
        }
        py.import(intern!(py, "copy"))?
            .call_method1(intern!(py, "_reconstruct"), PyTuple::new(py, arguments)?)
    }

    #[inline]
    fn lookup<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (this, any) = (slf.get(), slf.as_any());
        let name = name_str(name)?;
        let Some(Link { proxy, known, .. }) = this.links.last() else {
            return ffi::generic_get(any, name);
        };
        let on_type = ffi::on_type(any, name);
        if this.is_old() && !is_dunder(&utf8(name)?) {
            versions::upgrade(slf, proxy)?;
        }
        if let Some(text) = ffi::ascii(name)
            && (matches!(on_type, OnType::Missing | OnType::Slot)
                || on_type == OnType::Plain && !is_dunder(text))
        {
            match proxy
                .shared
                .fast_get_attribute(slf.py(), proxy.obj, text, known)?
            {
                Fast::Value(value) => return Ok(value),
                Fast::Missing => return Self::missing(slf, name),
                Fast::Unknown => {}
            }
        }
        let text = utf8(name)?;
        if on_type != OnType::Missing {
            if &*text == b"__dict__" {
                if this.is_old() {
                    versions::upgrade(slf, proxy)?;
                }
                return Ok(Bound::new(slf.py(), Dict::of_attributes(slf.py(), proxy)?)?.into_any());
            }
            if &*text == b"__class__"
                && any.is_exact_instance_of::<Object>()
                && let Some(class) = object::grown_class(slf)?
            {
                // It is set when an attribute is looked for: isinstance() compares with the type that it knows.
                return Ok(class.into_any());
            }
            if on_type == OnType::Data || is_dunder(&text) {
                return ffi::generic_get(any, name);
            }
        }
        let key = Key::Str(&text);
        match proxy.shared.entry(slf.py(), proxy.obj, &key)? {
            Some(value) => Ok(value),
            None => Self::missing(slf, name),
        }
    }

    /// An attribute that is not in the store: it may be one of the class.
    fn missing<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        if slf.is_exact_instance_of::<Object>()
            && let Some(class) = object::grown_class(slf)?
        {
            object::set_class(slf, &class)?;
            return slf.as_any().getattr(name);
        }
        ffi::generic_get(slf.as_any(), name)
    }

    /// Set an attribute that the class handles: `__class__`, `__dict__`, properties, slots.
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
                let base = slf.py().get_type::<Object>();
                if let Ok(class) = value.cast::<PyType>()
                    && ffi::derives(class, &base)
                    && !classes::is_found(class, &base)?
                {
                    let reason = object::not_found(class)?;
                    return Err(PyTypeError::new_err(format!("cannot set the class: {reason}")));
                }
                ffi::generic_set(slf.as_any(), name, Some(value))?;
                classes::prepare(&slf.get_type(), &base)?;
                object::note_version(slf)?;
                let class = classes::name_of(&slf.get_type(), &base)?;
                let obj = proxy.obj;
                proxy
                    .shared
                    .write(slf.py(), |w| w.convert(obj, Kind::Object, &class))
            }
            _ => ffi::generic_set(slf.as_any(), name, Some(value)),
        }
    }
}

/// Return the class name of an object as the store keeps it, `module:qualname`, also for an object whose
/// class is not imported and which therefore is a generic `persist.Object`.
///
/// >>> persist.class_name(root['Joe'])
/// 'people:Person'
#[pyfunction]
pub(crate) fn class_name(obj: &Bound<'_, PyAny>) -> PyResult<String> {
    if places::of(obj).is_some() {
        return Ok(object::container_class(obj, String::new)?.unwrap_or_default());
    }
    if let Ok(wrapped) = obj.cast::<Wrapped>() {
        return Ok(wrapped.get().class()?.to_owned());
    }
    let object = obj.cast::<Object>()?;
    match object.get().links.live(obj.py())? {
        Some(proxy) => object::stored_class(obj.py(), proxy),
        None => classes::name_of(&object.get_type(), &obj.py().get_type::<Object>()),
    }
}

/// Let the name that objects in stores have for a class, `module:Class`, mean this class: it was renamed, or moved to
/// another module. The objects keep the old name; the command `persist rename-class` changes it in a store.
///
/// >>> import people
/// >>> persist.alias('old_module:Person', people.Person)
#[pyfunction]
#[pyo3(signature = (name, cls, /))]
pub(crate) fn alias(name: &str, cls: &Bound<'_, PyType>) -> PyResult<()> {
    let parts = name.split_once(':');
    if !parts.is_some_and(|(module, class)| !module.is_empty() && !class.is_empty()) {
        return Err(PyValueError::new_err(format!(
            "the name of a class is 'module:Class', not '{name}'"
        )));
    }
    if !ffi::derives(cls, &cls.py().get_type::<Object>()) && registered::find(cls).is_none() {
        return Err(PyTypeError::new_err(format!(
            "class '{}' neither derives from persist.Object nor is registered",
            cls.name()?
        )));
    }
    classes::set_alias(name, cls);
    Ok(())
}
