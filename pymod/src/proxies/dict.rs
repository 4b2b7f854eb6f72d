//! `persist.Dict`, the type: a dict in a store, or the attributes of a stored object as a mapping.

use pyo3::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

use super::place::Place;
use super::proxy::Proxy;

/// A dict that lives in a store. It behaves as a dict does, and every change is in the store at
/// once, seen by every other process and by the mount.
///
/// >>> root = persist.root()
/// >>> root['x'] = 1
/// >>> root['x'] += 1
/// >>> root['l'] = [1, {'a': None}]
/// >>> root['l'][1]['a'] = 'changed in place'
#[pyclass(
    frozen,
    subclass,
    mapping,
    weakref,
    generic,
    freelist = 64,
    module = "persist"
)]
pub struct Dict {
    pub(crate) place: Place,
    /// True for `obj.__dict__`, false for a dict in the store.
    pub(crate) attributes: bool,
    /// How often this object has removed the last entry: the numbers that order the entries begin again then, and an
    /// iterator could not tell what was added from what it has seen.
    pub(crate) emptied: AtomicU64,
    /// The number of iterators over this object: without any, nothing needs to know whether a change has emptied it.
    pub(crate) iterators: AtomicU64,
}

impl Dict {
    /// A dict in the store.
    pub(crate) fn new(proxy: Proxy) -> Dict {
        Dict::at(Place::stored(proxy))
    }

    /// A dict at a place.
    pub(crate) fn at(place: Place) -> Dict {
        Dict {
            place,
            attributes: false,
            emptied: AtomicU64::new(0),
            iterators: AtomicU64::new(0),
        }
    }

    /// The record of a stored dict.
    #[inline]
    pub(crate) fn proxy(&self) -> PyResult<&Proxy> {
        self.place.proxy()
    }

    /// Return whether an iterator over this object lives. Asked in the section of a change, it sees every iterator that
    /// has read the number of entries before.
    #[inline]
    pub(crate) fn is_iterated(&self) -> bool {
        self.iterators.load(Ordering::SeqCst) != 0
    }

    /// The attributes of an object.
    pub(crate) fn of_attributes(py: Python<'_>, proxy: &Proxy) -> PyResult<Dict> {
        proxy.shared.read(py, |r| r.pin(proxy.obj))?;
        Ok(Dict {
            attributes: true,
            ..Dict::new(Proxy::new(&proxy.shared, proxy.obj))
        })
    }
}
