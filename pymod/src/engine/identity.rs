//! The identity cache: the Python object that represents each container.
//!
//! 1. At most one live Python object represents a container of one store (`root['x'] is root['x']`).
//! 2. The mutex is held for a table access only: no call of Python, of the store, or of a destructor of Python objects
//!    happens under it. It may therefore be taken attached or not, and in a deallocation that the collector starts
//!    anywhere.

use persist_core::store::ObjectId;
use persist_core::store::door::IdHasher;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A table with more places than this is shrunk when it is nearly empty.
const ROOMY: usize = 1024;

struct Slot {
    serial: u64,
    object: Py<PyWeakrefReference>,
}

/// The table, container id -> Python object.
#[derive(Default)]
pub(crate) struct Cache {
    slots: Mutex<HashMap<u64, Slot, BuildHasherDefault<IdHasher>>>,
    serial: AtomicU64,
}

type Slots<'a> = MutexGuard<'a, HashMap<u64, Slot, BuildHasherDefault<IdHasher>>>;

impl Cache {
    fn lock(&self) -> Slots<'_> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new number, unique among the proxies of this store.
    pub(crate) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The live Python object of a container.
    pub(crate) fn get<'py>(&self, py: Python<'py>, id: ObjectId) -> Option<Bound<'py, PyAny>> {
        let weak = self.lock().get(&id.0).map(|slot| slot.object.clone_ref(py));
        weak?.bind(py).upgrade()
    }

    /// Let `object` (whose proxy record has this serial) represent the container. If a live object already does, that
    /// one is returned and `object` must not be used.
    pub(crate) fn insert<'py>(
        &self,
        id: ObjectId,
        serial: u64,
        object: &Bound<'py, PyAny>,
        replace: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = object.py();
        let mut ours = Some(PyWeakrefReference::new(object)?.unbind());
        let mut dead = if replace { None } else { Some(0) };
        loop {
            let mut slots = self.lock();
            let there = slots
                .get(&id.0)
                .map(|slot| (slot.serial, slot.object.clone_ref(py)));
            let (other_serial, other) = match there {
                Some(other) if dead.is_some_and(|d| d != other.0) => other,
                other => {
                    // `ours` is present, so the loop ends here.
                    let old = ours
                        .take()
                        .and_then(|object| slots.insert(id.0, Slot { serial, object }));
                    drop(slots);
                    drop((old, other));
                    return Ok(None);
                }
            };
            drop(slots);
            if let Some(live) = other.bind(py).upgrade() {
                return Ok(Some(live));
            }
            dead = Some(other_serial);
        }
    }

    /// Remove a deleted container, whatever object represents it.
    pub(crate) fn forget(&self, id: ObjectId) {
        let old = self.lock().remove(&id.0);
        drop(old);
    }

    /// Remove a container if the object with this serial represents it.
    pub(crate) fn remove(&self, id: ObjectId, serial: u64) {
        let mut slots = self.lock();
        let old = match slots.get(&id.0) {
            Some(slot) if slot.serial == serial => slots.remove(&id.0),
            _ => None,
        };
        // With few entries in a large table, every access is a cache miss.
        if slots.capacity() > ROOMY && slots.len() < slots.capacity() / 8 {
            let room = slots.len() * 2;
            slots.shrink_to(room);
        }
        drop(slots);
        drop(old);
    }
}
