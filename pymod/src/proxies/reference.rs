//! Pickles of proxies: references, which name a store and a container, and hold no value.
//!
//! 1. A reference is a call of `persist._persist._reopen` with a str, ints, bools and None: the path of the store and
//!    its uuid, how it was opened (`store::reopen` has the meanings), and the address and id of the container.
//! 2. It names no class: an object gets its class as every object of a store does (`classes`).

use persist_core::store::Durability;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::time::Duration;

use super::proxy::Proxy;
use crate::engine::shared::Shared;

/// What a reference leads to.
pub(crate) enum Target<'a> {
    /// The store itself.
    Store,
    /// A container.
    Container(&'a Proxy),
    /// The attributes of an object, as a mapping.
    Attributes(&'a Proxy),
}

/// Durabilities, by their numbers in references.
pub(crate) const DURABILITIES: [Durability; 3] =
    [Durability::None, Durability::Checkpoint, Durability::Commit];

/// What `__reduce__` returns. Raises Gone if the container does not exist any more.
pub(crate) fn reduced<'py>(
    py: Python<'py>,
    shared: &Shared,
    target: &Target<'_>,
) -> PyResult<Bound<'py, PyTuple>> {
    if shared.store.is_view() {
        return Err(PyTypeError::new_err(
            "a view of a moment cannot be pickled: it ends with this process; pickle `persist.copy_out(...)` of it",
        ));
    }
    let place = match *target {
        Target::Store => None,
        Target::Container(proxy) | Target::Attributes(proxy) => {
            shared.read(py, |r| r.kind(proxy.obj))?;
            let attributes = matches!(target, Target::Attributes(_));
            Some((proxy.obj.addr.0, proxy.obj.id.0, attributes))
        }
    };
    let nanoseconds = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let core = &shared.core;
    let snapshot = shared
        .store
        .opened_snapshot()
        .map(|s| (s.name.clone(), s.checkpoint));
    let how = (
        shared.read_only,
        DURABILITIES.iter().position(|d| *d == core.durability),
        core.max_age.map(nanoseconds),
        nanoseconds(shared.timeout()),
        snapshot,
    );
    let path = shared.store.path().as_os_str();
    let reopen = py
        .import(intern!(py, "persist._persist"))?
        .getattr(intern!(py, "_reopen"))?;
    let arguments = (path, shared.store.uuid(), how, place);
    (reopen, arguments).into_pyobject(py)
}
