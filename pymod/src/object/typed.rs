//! The root of a store as an instance of a class: what `persist._typed_root` needs.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::engine::class_names::Name;
use crate::proxies::classes;
use crate::proxies::dict::Dict;
use crate::proxies::object::{self, Object};
use crate::proxies::proxy::Proxy;
use crate::python::ffi;

/// An instance of a class whose attributes are the entries of a dict. It is not the proxy of the dict.
#[pyfunction]
pub(crate) fn _typed_root<'py>(
    cls: &Bound<'py, PyType>,
    root: &Bound<'py, Dict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = cls.py();
    let base = py.get_type::<Object>();
    let made = ffi::bare_instance(&base, cls, &PyTuple::empty(py))?
        .ok_or_else(|| PyTypeError::new_err("the class does not derive from persist.Object"))?;
    let proxy = root.get().proxy()?;
    proxy.shared.read(py, |r| r.pin(proxy.obj))?;
    object::link(made.cast::<Object>()?, Proxy::new(&proxy.shared, proxy.obj))?;
    Ok(made)
}

/// The name that a store has for a class.
#[pyfunction]
pub(crate) fn _name_of(cls: &Bound<'_, PyType>) -> PyResult<String> {
    let base = cls.py().get_type::<Object>();
    if !classes::is_found(cls, &base)? {
        let reason = object::not_found(cls)?;
        return Err(PyTypeError::new_err(format!(
            "cannot store '{}'; {reason}",
            cls.name()?
        )));
    }
    classes::name_of(cls, &base)
}

/// The class that a name in a store means, if it is there.
#[pyfunction]
pub(crate) fn _class_named<'py>(py: Python<'py>, name: String) -> PyResult<Option<Bound<'py, PyType>>> {
    classes::find(&py.get_type::<Object>(), &Name::new(py, name))
}

/// The attributes of a transient instance that are stored.
#[pyfunction]
pub(crate) fn _attributes_to_store<'py>(obj: &Bound<'py, Object>) -> PyResult<Bound<'py, PyDict>> {
    object::attributes_to_store(obj.as_any())
}
