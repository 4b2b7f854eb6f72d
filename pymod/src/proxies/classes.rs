//! The Python class of a stored object. A store can name a class; it cannot run code.
//!
//! 1. A name is `module:qualname`; of a class of a main program see `programs`. The module must be imported already, or
//!    be one that the program allowed by `allow_import`. Modules are found in `sys.modules`. Lookups use module and
//!    class dictionaries only, so that no `__getattr__` runs.
//! 2. The result must be a class that derives from the base class (`Object`).

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString, PyTuple, PyType};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::programs::{self, Program};
use super::registered;
use crate::engine::class_names::Name;
use crate::python::ffi;

/// What `prepare` leaves in a class: the class itself; the names of its slots; of what is not stored.
const PREPARED: &str = "__persist_class__";
const SLOTS: &str = "__persist_slots__";
const TRANSIENT: &str = "__persist_transient__";

static ALIASES: Mutex<BTreeMap<String, Py<PyType>>> = Mutex::new(BTreeMap::new());
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

/// Prepare a class before its first instance exists: see `persist._kinds`.
#[inline]
pub(crate) fn prepare(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> PyResult<()> {
    match ffi::class_member(class, intern!(class.py(), PREPARED)) {
        Some(mark) if mark.is(class) => Ok(()),
        _ => prepare_once(class, base),
    }
}

#[cold]
fn prepare_once(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let set = py.get_type::<PyType>().getattr(intern!(py, "__setattr__"))?;
    let has = |name: &str| ffi::class_member(class, &PyString::intern(py, name)).is_some();
    let special = ["__transient__", "__dataclass_params__", "__attrs_attrs__"]
        .into_iter()
        .any(has);
    if !class.is(base) {
        if special || ffi::has_slots(class, base) {
            let (transient, slots): (Bound<'_, PyAny>, Bound<'_, PyAny>) = py
                .import(intern!(py, "persist._kinds"))?
                .call_method1(intern!(py, "prepare"), (class,))?
                .extract()?;
            set.call1((class, TRANSIENT, transient))?;
            set.call1((class, SLOTS, slots))?;
        }
        set.call1((class, PREPARED, class))?;
    }
    Ok(())
}

/// The names of the slots of a prepared class, if it has any.
pub(crate) fn slots<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyTuple>> {
    let found = ffi::class_member(class, intern!(class.py(), SLOTS))?;
    let slots = found.cast_into::<PyTuple>().ok()?;
    (!slots.is_empty()).then_some(slots)
}

/// Whether an attribute stays in the instance and is not stored: those of `__transient__`, and the type arguments that
/// `typing.Generic` notes in an instance.
pub(crate) fn is_transient(class: &Bound<'_, PyType>, name: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = class.py();
    if name.eq(intern!(py, "__orig_class__"))? {
        return Ok(true);
    }
    match ffi::class_member(class, intern!(py, TRANSIENT)) {
        Some(names) => names.contains(name),
        None => Ok(false),
    }
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
    let (module, qualname) = (class.module()?, class.qualname()?);
    let (module, qualname) = (module.to_str()?, qualname.to_str()?);
    if programs::is_main(module) {
        return Ok(match programs::running(class.py())? {
            Program::Module(name) => format!("{name}:{qualname}"),
            Program::File(file) => format!("__main__:{qualname}@{file}"),
            Program::Unknown => format!("__main__:{qualname}"),
        });
    }
    Ok(format!("{module}:{qualname}"))
}

/// Let a name of a class in a store mean this class.
pub(crate) fn set_alias(name: &str, class: &Bound<'_, PyType>) {
    let mut aliases = ALIASES.lock().unwrap_or_else(PoisonError::into_inner);
    let old = aliases.insert(name.to_owned(), class.clone().unbind());
    drop(aliases);
    drop(old);
}

/// The class that the program has named for this name; of a class of a main program also by the name without its file.
fn aliased<'py>(py: Python<'py>, name: &Name) -> Option<Bound<'py, PyType>> {
    let aliases = ALIASES.lock().unwrap_or_else(PoisonError::into_inner);
    if aliases.is_empty() {
        return None;
    }
    let short = name.text.split('@').next().filter(|_| name.program.is_some());
    let found = aliases.get(&name.text).or_else(|| aliases.get(short?))?;
    Some(found.bind(py).clone())
}

/// The class of a stored name.
pub(crate) enum Class<'py> {
    /// A class of objects of the store.
    Object(Bound<'py, PyType>),
    /// A registered class, of which plain instances are made.
    Value(Bound<'py, PyType>),
}

/// The class of a stored name, if it exists, derives from `base` and may be used.
pub(crate) fn find<'py>(base: &Bound<'py, PyType>, name: &Name) -> PyResult<Option<Bound<'py, PyType>>> {
    Ok(match find_class(base, name)? {
        Some(Class::Object(class)) => Some(class),
        _ => None,
    })
}

/// The class of a stored name, if it exists, derives from `base` or is registered, and may be used.
pub(crate) fn find_class<'py>(base: &Bound<'py, PyType>, name: &Name) -> PyResult<Option<Class<'py>>> {
    Ok(match named(base.py(), name)? {
        Some(class) if ffi::derives(&class, base) => Some(Class::Object(class)),
        Some(class) => registered::find(&class).map(|proxies| match proxies {
            Some(proxies) => Class::Object(proxies),
            None => Class::Value(class),
        }),
        None => None,
    })
}

/// The registered class of a stored name, of which `copy_out` makes plain instances.
pub(crate) fn find_registered<'py>(py: Python<'py>, name: &Name) -> PyResult<Option<Bound<'py, PyType>>> {
    Ok(named(py, name)?.filter(|class| registered::find(class).is_some()))
}

/// The class of a stored name, whatever it is.
fn named<'py>(py: Python<'py>, name: &Name) -> PyResult<Option<Bound<'py, PyType>>> {
    if let Some(class) = aliased(py, name) {
        return Ok(Some(class));
    }
    let Some((module_name, qualname)) = &name.path else {
        return Ok(None);
    };
    if let Some(program) = &name.program
        && !matches!(programs::running(py)?, Program::File(file) if file == *program)
    {
        return Ok(None);
    }
    let modules = ffi::modules(py)?;
    let mut module = modules.get_item(module_name)?;
    if module.is_none() {
        let module_name = module_name.bind(py).to_str()?;
        if matches!(programs::running(py)?, Program::Module(name) if name == module_name) {
            module = modules.get_item(intern!(py, "__main__"))?;
        } else if is_allowed(module_name) {
            module = Some(py.import(module_name)?.into_any());
        }
    }
    let Some(module) = module.and_then(|m| m.cast_into::<PyModule>().ok()) else {
        return Ok(None);
    };
    let found = walk(&module, qualname.iter().map(|part| part.bind(py).clone()))?;
    Ok(found.and_then(|c| c.cast_into::<PyType>().ok()))
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
