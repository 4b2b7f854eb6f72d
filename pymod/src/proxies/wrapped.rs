//! `persist._Wrapped`, the type: the base of `Set` and `Deque`, whose entries are a dict or list in the store; and the
//! table of the classes that the store names without a module (`persist._mappings`).

use persist_core::store::Kind;
use persist_core::store::door::builtin_kind;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PySet, PyString, PyType};
use std::sync::OnceLock;

use super::dict::Dict;
use super::list::List;
use super::proxy::Proxy;

/// The base of the classes that are neither a `Dict` nor a `List`.
#[pyclass(frozen, subclass, weakref, name = "_Wrapped", module = "persist")]
#[derive(Default)]
pub struct Wrapped {
    inner: OnceLock<Inner>,
}

struct Inner {
    proxy: Proxy,
    class: String,
    /// A `Dict` or `List` of the container that is not its Python object (`identity`).
    entries: Py<PyAny>,
}

impl Wrapped {
    /// Let the instance represent a container, which it pins.
    pub(crate) fn begin(&self, py: Python<'_>, proxy: Proxy, kind: Kind, class: &str) -> PyResult<&Proxy> {
        proxy.shared.read(py, |r| r.pin(proxy.obj))?;
        let second = Proxy::new(&proxy.shared, proxy.obj);
        let entries = match kind {
            Kind::List => Bound::new(py, List::new(second))?.into_any().unbind(),
            Kind::Dict | Kind::Object => Bound::new(py, Dict::new(second))?.into_any().unbind(),
        };
        let inner = self.inner.get_or_init(|| Inner {
            proxy,
            class: class.to_owned(),
            entries,
        });
        Ok(&inner.proxy)
    }

    fn inner(&self) -> PyResult<&Inner> {
        self.inner
            .get()
            .ok_or_else(|| PyValueError::new_err("the container is not in a store"))
    }

    /// The record of the container.
    pub(crate) fn proxy(&self) -> PyResult<&Proxy> {
        Ok(&self.inner()?.proxy)
    }

    /// The record of the container, if it represents one.
    pub(crate) fn get(&self) -> Option<&Proxy> {
        self.inner.get().map(|inner| &inner.proxy)
    }

    /// The name of the class in the store when it was read.
    pub(crate) fn class(&self) -> PyResult<&str> {
        Ok(&self.inner()?.class)
    }

    /// A `Dict` or `List` of the container.
    pub(crate) fn entries<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        Ok(self.inner()?.entries.bind(py))
    }
}

/// The module with the classes, imported at the first use.
pub(crate) fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("persist._mappings").map(Bound::unbind))?;
    Ok(module.bind(py))
}

/// The class of what the store names so, if it is one that the store knows by itself.
pub(crate) fn class_of<'py>(py: Python<'py>, name: &str, kind: Kind) -> PyResult<Option<Bound<'py, PyType>>> {
    if builtin_kind(name) != Some(kind) {
        return Ok(None);
    }
    let found = module(py)?.call_method1("_class", (name,))?;
    Ok(found.cast_into::<PyType>().ok())
}

/// The kind and class name of a value of a builtin class that a store keeps as a container with a class.
pub(crate) fn of_builtin(value: &Bound<'_, PyAny>) -> PyResult<Option<(Kind, String)>> {
    let py = value.py();
    if !value.is_exact_instance_of::<PySet>() {
        let module = value.get_type().module()?;
        if !module
            .cast::<PyString>()?
            .to_str()
            .is_ok_and(|name| name == "collections")
        {
            return Ok(None);
        }
    }
    let name = module(py)?.call_method1("_name", (value,))?;
    let Some(name) = name.extract::<Option<String>>()? else {
        return Ok(None);
    };
    let kind = builtin_kind(&name);
    Ok(kind.map(|kind| (kind, name)))
}

/// The entries of a value of a builtin class, as a plain dict or list.
pub(crate) fn plain_entries<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    module(value.py())?.call_method1("_entries", (value,))
}

/// Whether the store knows a class of this name by itself.
pub(crate) fn is_builtin(name: &str, kind: Kind) -> bool {
    builtin_kind(name) == Some(kind)
}

/// An empty value of the builtin class of this name, for copies out of the store.
pub(crate) fn made<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    module(py)?.call_method1("_made", (name,))
}

/// Fill what `made` has returned.
pub(crate) fn fill(made: &Bound<'_, PyAny>, entries: &Bound<'_, PyAny>) -> PyResult<()> {
    module(made.py())?
        .call_method1("_fill", (made, entries))
        .map(drop)
}
