//! Which Python class a stored object gets. A store can name a class; it can never run code.
//!
//! 1. A name is `module:qualname`; the module must be imported already, or be one that the program
//!    allowed by `allow_import`. Modules are found in `sys.modules`; lookups go through module and
//!    class dictionaries only, so that no `__getattr__` runs.
//! 2. What is found counts only if it is a class that derives from `Object`.

use persist_core::store::{Class, Reader, Result};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString, PyType};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ffi;
use crate::object::Object;

static ALLOWED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Lets stores name classes of a module, or of any module in a package, that this program has not
/// imported yet: they are imported when an object of such a class is met.
///
/// >>> persist.allow_import("myapp.models")
#[pyfunction]
pub(crate) fn allow_import(module: &str) {
    let mut allowed = ALLOWED.lock().unwrap_or_else(PoisonError::into_inner);
    if !allowed.iter().any(|m| m == module) {
        allowed.push(module.to_owned());
    }
}

fn is_allowed(module: &str) -> bool {
    let allowed = ALLOWED.lock().unwrap_or_else(PoisonError::into_inner);
    allowed.iter().any(|m| {
        module
            .strip_prefix(m.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// `module:qualname` of a class; "" for the base itself.
pub(crate) fn name_of(class: &Bound<'_, PyType>) -> PyResult<String> {
    let py = class.py();
    if class.is(py.get_type::<Object>()) {
        return Ok(String::new());
    }
    Ok(format!(
        "{}:{}",
        class.module()?.to_str()?,
        class.qualname()?.to_str()?
    ))
}

/// A stored class name, ready to be looked up.
pub(crate) struct Name {
    text: String,
    /// Module and qualified name, in parts; None where it is no name of a class.
    path: Option<(Py<PyString>, Vec<Py<PyString>>)>,
}

impl Name {
    /// Of the text `module:qualname`.
    pub(crate) fn new(py: Python<'_>, text: String) -> Name {
        let path = text.split_once(':').map(|(module, qualname)| {
            let part = |s: &str| PyString::new(py, s).unbind();
            (part(module), qualname.split('.').map(part).collect())
        });
        Name { text, path }
    }
}

/// The classes of a store that were met, with their names.
#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<Class, Arc<Name>>>);

/// A class met in a section.
pub(crate) enum Named {
    /// Before, too.
    Known(Arc<Name>),
    /// For the first time.
    New(Class, String),
}

impl Names {
    /// More than a program has; a store that names more is as slow as it is strange.
    const MOST: usize = 1024;

    fn lock(&self) -> MutexGuard<'_, HashMap<Class, Arc<Name>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of a class that this section gave.
    pub(crate) fn get(&self, r: &Reader<'_>, class: Class) -> Result<Named> {
        let there = self.lock().get(&class).cloned();
        match there {
            // What it stands for may have been made in a transaction that was rolled back.
            Some(name) if r.class_is(class, &name.text)? => Ok(Named::Known(name)),
            _ => Ok(Named::New(class, r.class_name(class)?)),
        }
    }

    /// The name, kept for the next time. Outside sections.
    pub(crate) fn name(&self, py: Python<'_>, named: Named) -> Arc<Name> {
        match named {
            Named::Known(name) => name,
            Named::New(class, text) => {
                let name = Arc::new(Name::new(py, text));
                let mut names = self.lock();
                if names.len() < Self::MOST {
                    let old = names.insert(class, name.clone());
                    drop(names);
                    drop(old);
                }
                name
            }
        }
    }
}

/// The class of a stored name, if there is one that may be used.
pub(crate) fn find<'py>(py: Python<'py>, name: &Name) -> PyResult<Option<Bound<'py, PyType>>> {
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
    let mut parts = qualname.iter();
    let mut found = match parts.next() {
        Some(first) => module.dict().get_item(first)?,
        None => None,
    };
    for part in parts {
        let Some(class) = found.as_ref().and_then(|c| c.cast::<PyType>().ok()) else {
            return Ok(None);
        };
        let members = class.getattr(intern!(py, "__dict__"))?;
        found = if members.contains(part)? {
            Some(members.get_item(part)?)
        } else {
            None
        };
    }
    let Some(class) = found.and_then(|c| c.cast_into::<PyType>().ok()) else {
        return Ok(None);
    };
    Ok(ffi::derives(&class, &py.get_type::<Object>()).then_some(class))
}

/// The class name of an object as the store keeps it, `module:qualname`; also for an object whose
/// class is not there and which therefore is a generic `persist.Object`.
///
/// >>> persist.class_name(root['Joe'])
/// '__main__:person'
#[pyfunction]
pub(crate) fn class_name(obj: &Bound<'_, PyAny>) -> PyResult<String> {
    crate::object::class_to_store(obj.cast::<Object>()?)
}
