//! The classes of `persist.register_dataclass`: they do not derive from `Object`.

use pyo3::prelude::*;
use pyo3::types::PyType;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// A registered class, by the address of its type, which lives as long as the process; and the class of its proxies,
/// unless its instances are values.
struct Registered {
    class: Py<PyType>,
    proxies: Option<Py<PyType>>,
}

static ANY: AtomicBool = AtomicBool::new(false);
static CLASSES: Mutex<Option<HashMap<usize, Registered>>> = Mutex::new(None);

/// Register a class. The first registration of a class counts.
#[pyfunction]
#[pyo3(signature = (cls, proxies, /))]
pub(crate) fn _register(cls: &Bound<'_, PyType>, proxies: Option<Bound<'_, PyType>>) {
    let mut classes = CLASSES.lock().unwrap_or_else(PoisonError::into_inner);
    let made = Registered {
        class: cls.clone().unbind(),
        proxies: proxies.map(Bound::unbind),
    };
    let classes = classes.get_or_insert_default();
    classes.entry(cls.as_ptr() as usize).or_insert(made);
    ANY.store(true, Ordering::Release);
}

/// The class of the proxies of a registered class: None if its instances are values.
pub(crate) fn find<'py>(class: &Bound<'py, PyType>) -> Option<Option<Bound<'py, PyType>>> {
    if !ANY.load(Ordering::Acquire) {
        return None;
    }
    let classes = CLASSES.lock().unwrap_or_else(PoisonError::into_inner);
    let found = classes.as_ref()?.get(&(class.as_ptr() as usize))?;
    let proxies = found.proxies.as_ref();
    found
        .class
        .is(class)
        .then(|| proxies.map(|proxies| proxies.bind(class.py()).clone()))
}

/// Return whether a value is an instance of a registered class.
#[inline]
pub(crate) fn is_instance(value: &Bound<'_, PyAny>) -> bool {
    ANY.load(Ordering::Acquire) && find(&value.get_type()).is_some()
}
