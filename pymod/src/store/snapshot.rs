//! `persist.Snapshot`: the description of a snapshot in `Store.snapshots()`.

use persist_core::store;
use pyo3::prelude::*;

use crate::python::error;

/// A state of a store that is kept by name. `Store.at(name)` opens it.
#[pyclass(frozen, eq, hash, module = "persist")]
#[derive(PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Its name.
    #[pyo3(get)]
    name: String,
    /// The number of its checkpoint; those of later snapshots are higher.
    #[pyo3(get)]
    checkpoint: u64,
    nanoseconds: u64,
}

impl Snapshot {
    /// Convert the engine's description.
    pub(crate) fn of(snapshot: &store::Snapshot) -> Snapshot {
        Snapshot {
            name: snapshot.name.clone(),
            checkpoint: snapshot.checkpoint,
            nanoseconds: snapshot.time,
        }
    }
}

#[pymethods]
impl Snapshot {
    fn __reduce__(&self) -> PyResult<()> {
        Err(error::not_pickled("Snapshot"))
    }

    /// When it was taken: seconds since 1970, as `time.time()` counts.
    #[getter]
    fn time(&self) -> f64 {
        self.nanoseconds as f64 / 1e9
    }

    fn __repr__(&self) -> String {
        format!(
            "<persist.Snapshot {:?}, checkpoint {}, time {:.3}>",
            self.name,
            self.checkpoint,
            self.time()
        )
    }
}
