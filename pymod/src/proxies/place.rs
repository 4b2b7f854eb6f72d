//! Where the entries of a `Dict` or `List` are: in a store, or, as long as an instance of a subclass is in none, in a
//! plain dict or list that it holds (`links`).

use pyo3::exceptions::{PyAttributeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMemoryView, PyString};

use super::links::Links;
use super::proxy::Proxy;
use crate::python::ffi::{self, OnType};

/// See the module header.
#[derive(Default)]
pub(crate) struct Place {
    pub(crate) links: Links<(), PyAny>,
}

impl Place {
    /// The place of a stored container.
    pub(crate) fn stored(proxy: Proxy) -> Place {
        let place = Place::default();
        place.links.add(proxy, ());
        place
    }

    /// The place of a transient instance.
    pub(crate) fn transient(plain: Py<PyAny>) -> Place {
        let place = Place::default();
        *place.links.kept() = Some(plain);
        place
    }

    /// The newest record of a stored container.
    #[inline]
    pub(crate) fn get(&self) -> Option<&Proxy> {
        self.links.proxy()
    }

    /// Like `get`, with an error for a transient instance.
    #[inline]
    pub(crate) fn proxy(&self) -> PyResult<&Proxy> {
        self.get()
            .ok_or_else(|| PyValueError::new_err("the container is not in a store yet"))
    }

    /// The dict or list of a transient instance, or of one that died in a rollback.
    pub(crate) fn kept<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.links.kept().as_ref().map(|plain| plain.bind(py).clone())
    }

    /// The dict or list of a transient instance, to read or change it.
    #[inline]
    pub(crate) fn plain<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.get() {
            Some(_) => Ok(None),
            None => self.own(py),
        }
    }

    #[cold]
    fn own<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.links.check_idle("container")?;
        Ok(self.kept(py))
    }
}

/// Set an attribute of a `Dict` or `List`. Attributes are not stored: instances of a subclass have only those that the
/// class handles.
pub(crate) fn set_attribute(
    object: &Bound<'_, PyAny>,
    exact: bool,
    name: &Bound<'_, PyString>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let class = name.to_str().is_ok_and(|name| name == "__class__");
    if exact || !class && ffi::on_type(object, name) == OnType::Data {
        return ffi::generic_set(object, name, value);
    }
    Err(PyAttributeError::new_err(format!(
        "attributes of a '{}' are not stored, only entries: it cannot have an attribute {}",
        object.get_type().name()?,
        name.repr()?
    )))
}

/// The view of a value that is in no store yet.
pub(crate) fn view<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyMemoryView>> {
    let view = PyMemoryView::from(value)?.call_method0("toreadonly")?;
    Ok(view.cast_into()?)
}

/// A new, empty dict or list for a transient instance.
pub(crate) fn empty(py: Python<'_>, is_dict: bool) -> Py<PyAny> {
    match is_dict {
        true => PyDict::new(py).into_any().unbind(),
        false => PyList::empty(py).into_any().unbind(),
    }
}

/// What a dict or list does that is in no store yet: its entries are in a plain one.
macro_rules! transient {
    ($of:expr, $py:expr, $plain:ident => $result:expr) => {
        if let Some($plain) = $of.place.plain($py)? {
            return $result;
        }
    };
}
pub(crate) use transient;
