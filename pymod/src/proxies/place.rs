//! Where the entries of a `Dict` or `List` are: in a store, or, as long as an instance of a subclass is in none, in a
//! plain dict or list that it holds.
//!
//! 1. An instance that the program makes is transient. When it is stored, it becomes the proxy of the stored container,
//!    as an instance of `Object` does.
//! 2. One that became persistent in an open transaction keeps its entries until the end. After a rollback it is dead
//!    (`Gone`), but can be stored again, as a new container.

use persist_core::store::Error;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::proxy::Proxy;
use crate::python::ffi::{self, OnType};

struct Link {
    proxy: Proxy,
    next: OnceLock<Box<Link>>,
}

/// See the module header.
#[derive(Default)]
pub(crate) struct Place {
    link: OnceLock<Link>,
    busy: AtomicBool,
    plain: Mutex<Option<Py<PyAny>>>,
}

impl Place {
    /// The place of a stored container.
    pub(crate) fn stored(proxy: Proxy) -> Place {
        let place = Place::default();
        place.set_link(proxy);
        place
    }

    /// The place of a transient instance.
    pub(crate) fn transient(plain: Py<PyAny>) -> Place {
        let place = Place::default();
        *place.lock() = Some(plain);
        place
    }

    /// Let the place be that of a stored container. Return its record.
    pub(crate) fn set_link(&self, proxy: Proxy) -> Option<&Proxy> {
        let made = Link {
            proxy,
            next: OnceLock::new(),
        };
        let Some(mut link) = self.link.get() else {
            return self.link.set(made).ok().and_then(|()| self.get());
        };
        while let Some(next) = link.next.get() {
            link = next;
        }
        link.next.set(Box::new(made)).ok().and_then(|()| self.get())
    }

    /// Note that the entries are being stored, or not any more. Return what was noted before.
    pub(crate) fn set_busy(&self, busy: bool) -> bool {
        self.busy.swap(busy, Ordering::AcqRel)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest record of a stored container.
    #[inline]
    pub(crate) fn get(&self) -> Option<&Proxy> {
        let mut link = self.link.get()?;
        while let Some(next) = link.next.get() {
            link = next;
        }
        Some(&link.proxy)
    }

    /// Like `get`, with an error for a transient instance.
    #[inline]
    pub(crate) fn proxy(&self) -> PyResult<&Proxy> {
        self.get()
            .ok_or_else(|| PyValueError::new_err("the container is not in a store yet"))
    }

    /// Like `get`, unless the container died in a rollback and can be stored again.
    pub(crate) fn live(&self, py: Python<'_>) -> PyResult<Option<&Proxy>> {
        let Some(proxy) = self.get() else {
            return Ok(None);
        };
        if self.lock().is_none() {
            return Ok(Some(proxy));
        }
        let there = proxy.shared.read(py, |r| match r.kind(proxy.obj) {
            Ok(_) => Ok(true),
            Err(Error::Gone(_)) => Ok(false),
            Err(e) => Err(e),
        })?;
        Ok(there.then_some(proxy))
    }

    /// The dict or list of a transient instance, or of one that died in a rollback.
    pub(crate) fn kept<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.lock().as_ref().map(|plain| plain.bind(py).clone())
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
        if self.busy.load(Ordering::Acquire) {
            return Err(PyRuntimeError::new_err(
                "another thread is storing this container",
            ));
        }
        Ok(self.kept(py))
    }

    /// Forget the kept entries: the transaction in which the instance became persistent is committed.
    pub(crate) fn forget(&self) {
        let old = self.lock().take();
        drop(old);
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
