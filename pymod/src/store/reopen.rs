//! Loading the pickle of a proxy or store: `proxies::reference` makes it.
//!
//! 1. A store that the process has open already is used as it is: only its mode can take rights away. Otherwise it is
//!    opened as it was where the pickle was made. It is never created.
//! 2. A pickle can name any file and any container. What is there is checked as everywhere: the identity of the store,
//!    and the id of the container.

use persist_core::store::door::Addr;
use persist_core::store::{Durability, Error, Obj, ObjectId, Options, Store};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

use super::handle::Handle;
use super::registry;
use crate::proxies::dict::Dict;
use crate::proxies::found::find;
use crate::proxies::object::Object;
use crate::proxies::reference::DURABILITIES;
use crate::python::error;

/// Bounds of the address of a container: 16 bytes aligned, and within what a store can have.
const ALIGNMENT: u64 = 16;
const BEYOND: u64 = 1 << 48;

/// How the store was opened: for reading only; durability; `max_age` and the lock timeout in nanoseconds; name and
/// checkpoint of a snapshot.
type How = (bool, Option<usize>, Option<u64>, u64, Option<(String, u64)>);

/// Open the store of a pickle, and return what the pickle stands for: the store, a container or the attributes of an
/// object.
#[pyfunction]
#[pyo3(signature = (path, uuid, how, place, /))]
pub(crate) fn _reopen<'py>(
    py: Python<'py>,
    path: PathBuf,
    uuid: u128,
    how: How,
    place: Option<(u64, u64, bool)>,
) -> PyResult<Bound<'py, PyAny>> {
    let (read_only, durability, max_age, lock_timeout, snapshot) = how;
    let options = Options {
        read_only,
        create: false,
        durability: durability
            .and_then(|n| DURABILITIES.get(n).copied())
            .unwrap_or(Durability::Checkpoint),
        max_age: max_age.map(Duration::from_nanos),
        lock_timeout: Duration::from_nanos(lock_timeout),
        snapshot: snapshot.as_ref().map(|(name, _)| name.clone()),
        ..Options::default()
    };
    let is_it = |store: &Store| {
        store.uuid() == uuid
            && store.opened_snapshot().map(|s| s.checkpoint) == snapshot.as_ref().map(|(_, n)| *n)
    };
    let shared = py
        .detach(|| registry::reopen(&path, &options, is_it, place.is_none()))
        .map_err(|e| error::to_py(py, e, &path))?;
    let Some(shared) = shared else {
        let what = match &options.snapshot {
            Some(name) => format!("snapshot {name:?} of the store {}", path.display()),
            None => format!("store {}", path.display()),
        };
        let message =
            format!("the pickle refers to another {what}: the one that it was made in is not there any more");
        return Err(error::gone(py, message));
    };
    let Some((addr, id, attributes)) = place else {
        return Ok(Bound::new(py, Handle::of(shared))?.into_any());
    };
    if addr % ALIGNMENT != 0 || addr >= BEYOND {
        return Err(PyValueError::new_err(
            "the pickle holds no address of a container",
        ));
    }
    let (addr, id) = (Addr(addr), ObjectId(id));
    let obj = Obj { addr, id };
    let found = shared.read(py, |r| match r.kind(obj) {
        // Corrupt: a forged address, where no header is.
        Err(Error::Corrupt { .. } | Error::Gone(_)) => Ok(None),
        _ => find(&shared, r, obj).map(Some),
    })?;
    let Some(found) = found else {
        let message = format!(
            "what the pickle refers to is not in the store {}: it was removed, or made in a transaction that was \
             rolled back or has not ended",
            path.display()
        );
        return Err(error::gone(py, message));
    };
    let made = shared.wrap(py, found)?;
    match attributes {
        true => {
            let object = made.cast::<Object>()?;
            Ok(Bound::new(py, Dict::of_attributes(py, object.get().stored()?)?)?.into_any())
        }
        false => Ok(made),
    }
}
