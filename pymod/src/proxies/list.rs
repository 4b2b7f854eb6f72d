//! `persist.List`, the type: a list in a store.

use pyo3::prelude::*;

use super::place::Place;
use super::proxy::Proxy;

/// A list that lives in a store. It behaves as a list does, and every change is in the store at
/// once, seen by every other process and by the mount.
///
/// >>> root['l'] = [3, 1, 2]
/// >>> root['l'].sort()
/// >>> root['l'][0:2]
/// [1, 2]
#[pyclass(
    frozen,
    subclass,
    sequence,
    weakref,
    generic,
    freelist = 64,
    module = "persist"
)]
pub struct List {
    pub(crate) place: Place,
}

impl List {
    /// A list in the store.
    pub(crate) fn new(proxy: Proxy) -> List {
        List {
            place: Place::stored(proxy),
        }
    }

    /// The record of a stored list.
    #[inline]
    pub(crate) fn proxy(&self) -> PyResult<&Proxy> {
        self.place.proxy()
    }
}
