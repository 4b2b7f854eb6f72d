//! The record in every Python object that represents a container.
//!
//! 1. Every proxy holds one pin of its container, which is released when the proxy is deallocated.

use persist_core::store::Obj;
use pyo3::prelude::*;
use std::sync::Arc;

use crate::engine::shared::Shared;

/// The state of a Python object that represents a container: the store, the container and its pin.
pub(crate) struct Proxy {
    pub(crate) shared: Arc<Shared>,
    pub(crate) obj: Obj,
    serial: u64,
}

impl Proxy {
    /// A new record, which takes over one pin of `obj`.
    pub(crate) fn new(shared: &Arc<Shared>, obj: Obj) -> Proxy {
        let serial = shared.cache.next_serial();
        Proxy {
            shared: Arc::clone(shared),
            obj,
            serial,
        }
    }

    /// Let `object`, which holds this record, represent the container.
    pub(crate) fn publish<'py>(
        &self,
        object: &Bound<'py, PyAny>,
        replace: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.shared
            .cache
            .insert(self.obj.id, self.serial, object, replace)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.cache.remove(self.obj.id, self.serial);
        self.shared.store.unpin(self.obj);
    }
}
