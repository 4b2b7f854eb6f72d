//! The places of values whose decoders raise, for the notes of the exceptions.

use persist_core::store::{Key, LockTarget, Obj};
use pyo3::prelude::*;

use super::shared::Shared;
use crate::python::notes;

impl Shared {
    /// Name the place of the value in the exception of its decoder. Without a key, the container is known only.
    #[inline(always)]
    pub(crate) fn placed<T>(
        &self,
        py: Python<'_>,
        read: PyResult<T>,
        obj: Obj,
        key: Option<Key<'_>>,
    ) -> PyResult<T> {
        read.map_err(|e| self.place(py, e, obj, key))
    }

    #[cold]
    fn place(&self, py: Python<'_>, e: PyErr, obj: Obj, key: Option<Key<'_>>) -> PyErr {
        if notes::is_noted(py, &e) {
            let preposition = if key.is_some() { "at" } else { "in" };
            if let Some(path) = self.store.path_of(LockTarget { obj, key }) {
                notes::place(py, &e, &format!(" {preposition} {path}"));
            }
        }
        e
    }

    /// Say in the exception of a class that it was met at an object.
    #[cold]
    pub(crate) fn at_object(&self, py: Python<'_>, e: PyErr, doing: &str, obj: Obj) -> PyErr {
        let path = self.store.path_of(LockTarget { obj, key: None });
        let at = path.map_or_else(String::new, |path| format!(" at {path}"));
        notes::add(py, &e, &format!("persist: {doing}{at}"));
        e
    }
}
