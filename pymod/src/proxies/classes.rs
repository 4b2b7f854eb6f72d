//! The Python class of a stored object. A store can name a class; it cannot run code.
//!
//! 1. A name is `module:qualname`. The module must be imported already, or be one that the program allowed by
//!    `allow_import`. Modules are found in `sys.modules`. Lookups use module and class dictionaries only, so that no
//!    `__getattr__` runs.
//! 2. The result must be a class that derives from the base class (`Object`).

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString, PyType};
use std::sync::{Mutex, PoisonError};

use crate::engine::class_names::Name;
use crate::python::ffi;

static ALLOWED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Allow stores to name classes of a module, or of any module in a package, that this program has not
/// imported yet. The module is imported when an object of such a class is read.
///
/// >>> persist.allow_import("myapp.models")
#[pyfunction]
pub(crate) fn allow_import(module: &str) {
    let mut allowed = ALLOWED.lock().unwrap_or_else(PoisonError::into_inner);
    if !allowed.iter().any(|m| m == module) {
        allowed.push(module.to_owned());
    }
}

/// The class of a name `module:qualname`, for `persist._codecs`.
#[pyfunction]
pub(crate) fn _find_class<'py>(py: Python<'py>, name: String) -> PyResult<Option<Bound<'py, PyType>>> {
    find(&py.get_type::<PyAny>(), &Name::new(py, name))
}

/// True if a class can be found by its name, for `persist._codecs`.
#[pyfunction]
pub(crate) fn _is_found(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let found = there(&class.module()?, &class.qualname()?)?;
    Ok(found.is_some_and(|found| found.is(class)))
}

fn is_allowed(module: &str) -> bool {
    let allowed = ALLOWED.lock().unwrap_or_else(PoisonError::into_inner);
    allowed.iter().any(|m| {
        module
            .strip_prefix(m.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The class that `module:qualname` names as imports find it, like `find`, without an import.
fn there<'py>(
    module: &Bound<'py, PyString>,
    qualname: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = module.py();
    let Some(module) = ffi::modules(py)?.get_item(module)? else {
        return Ok(None);
    };
    let Ok(module) = module.cast_into::<PyModule>() else {
        return Ok(None);
    };
    let text = qualname.to_str()?;
    if !text.contains('.') {
        return module.dict().get_item(qualname);
    }
    walk(&module, text.split('.').map(|part| PyString::new(py, part)))
}

/// True if a class can be found by the name that `name_of` gives it.
pub(crate) fn is_found(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> PyResult<bool> {
    if class.is(base) {
        return Ok(true);
    }
    let found = there(&class.module()?, &class.qualname()?)?;
    Ok(found.is_some_and(|found| found.is(class)))
}

/// `module:qualname` of a class that derives from `base`; "" for `base` itself.
pub(crate) fn name_of(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> PyResult<String> {
    if class.is(base) {
        return Ok(String::new());
    }
    Ok(format!(
        "{}:{}",
        class.module()?.to_str()?,
        class.qualname()?.to_str()?
    ))
}

/// The class of a stored name, if it exists, derives from `base` and may be used.
pub(crate) fn find<'py>(base: &Bound<'py, PyType>, name: &Name) -> PyResult<Option<Bound<'py, PyType>>> {
    let py = base.py();
    let Some((module_name, qualname)) = &name.path else {
        return Ok(None);
    };
    let modules = ffi::modules(py)?;
    let mut module = modules.get_item(module_name)?;
    if module.is_none() {
        let module_name = module_name.bind(py).to_str()?;
        if is_allowed(module_name) {
            module = Some(py.import(module_name)?.into_any());
        }
    }
    let Some(module) = module.and_then(|m| m.cast_into::<PyModule>().ok()) else {
        return Ok(None);
    };
    let found = walk(&module, qualname.iter().map(|part| part.bind(py).clone()))?;
    let Some(class) = found.and_then(|c| c.cast_into::<PyType>().ok()) else {
        return Ok(None);
    };
    Ok(ffi::derives(&class, base).then_some(class))
}

/// What a path of names leads to, from a module through classes.
fn walk<'py>(
    module: &Bound<'py, PyModule>,
    mut parts: impl Iterator<Item = Bound<'py, PyString>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut found = match parts.next() {
        Some(first) => module.dict().get_item(first)?,
        None => None,
    };
    for part in parts {
        let Some(class) = found.as_ref().and_then(|c| c.cast::<PyType>().ok()) else {
            return Ok(None);
        };
        let members = class.getattr(intern!(module.py(), "__dict__"))?;
        found = if members.contains(&part)? {
            Some(members.get_item(&part)?)
        } else {
            None
        };
    }
    Ok(found)
}
