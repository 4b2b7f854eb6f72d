//! `persist.Change`: what a `Watch` reports.

use persist_core::store::door::Change as Reported;
use persist_core::store::{LockTarget, Obj};
use pyo3::basic::CompareOp;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;

use crate::engine::shared::Shared;
use crate::python::arguments::equal;
use crate::python::error;
use crate::python::scalars::{self, Scalar};

/// A change that was read from the feed.
pub(crate) enum Seen {
    /// This change of a container, and whether this process made it.
    Made(Reported, Obj, bool),
    /// Changes are missing.
    Lost,
}

/// A committed change of a container; it cannot be changed.
///
/// kind: "insert", "update" or "delete" of an entry, an attribute or items; "any": anything in the container may have
///     changed (it was emptied or converted, or the key is very long); "overflow": changes are missing, so anything
///     that is watched may have changed.
/// container: the Dict, List or Object that was changed; None if it is gone.
/// path: of the entry, or of the list, as it is now: `root['a'].name`; None if it is not in the graph any more.
/// key: the key or the name of the attribute; None for a list.
/// index: the first index, for a list, where `removed` items were replaced by `added` others; else None.
/// removed, added: the number of entries or items before and after.
/// own: whether this process made the change.
///
/// >>> changes = root.watch()
/// >>> root['x'] = 2
/// >>> changes.poll()
/// Change(kind='update', path="root['x']", removed=1, added=1)
#[pyclass(frozen, generic, module = "persist")]
pub struct Change {
    shared: Arc<Shared>,
    obj: Option<Obj>,
    #[pyo3(get)]
    kind: &'static str,
    #[pyo3(get)]
    container: Option<Py<PyAny>>,
    #[pyo3(get)]
    key: Option<Py<PyAny>>,
    #[pyo3(get)]
    index: Option<u64>,
    #[pyo3(get)]
    removed: u64,
    #[pyo3(get)]
    added: u64,
    #[pyo3(get)]
    own: bool,
}

impl Change {
    /// The change that was seen in a container.
    pub(crate) fn new(
        py: Python<'_>,
        shared: &Arc<Shared>,
        seen: Seen,
        container: Option<Py<PyAny>>,
    ) -> PyResult<Change> {
        let mut change = Change {
            shared: Arc::clone(shared),
            obj: None,
            kind: "overflow",
            container,
            key: None,
            index: None,
            removed: 0,
            added: 0,
            own: false,
        };
        let Seen::Made(made, obj, own) = seen else {
            return Ok(change);
        };
        (change.obj, change.own) = (Some(obj), own);
        match made {
            Reported::Entry {
                key, existed, exists, ..
            } => {
                change.key = Some(scalars::to_python(py, &key)?.unbind());
                (change.removed, change.added) = (u64::from(existed), u64::from(exists));
            }
            Reported::Items {
                at, removed, added, ..
            } => {
                change.index = Some(at);
                (change.removed, change.added) = (removed, added);
            }
            Reported::Any { .. } | Reported::Metadata { .. } => {
                change.kind = "any";
                return Ok(change);
            }
        }
        change.kind = match (change.removed, change.added) {
            (0, _) => "insert",
            (_, 0) => "delete",
            _ => "update",
        };
        Ok(change)
    }

    /// What is compared.
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let container = self.container.as_ref().map_or(0, |it| it.as_ptr() as usize);
        let key = self.key.as_ref();
        (
            self.kind,
            container,
            key,
            self.index,
            self.removed,
            self.added,
            self.own,
        )
            .into_pyobject(py)
    }
}

#[pymethods]
impl Change {
    fn __reduce__(&self) -> PyResult<()> {
        Err(error::not_pickled("Change"))
    }

    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let Some(obj) = self.obj else {
            return Ok(None);
        };
        self.shared.set_task_if_needed(py);
        let key = self.key.as_ref().map(|key| key.bind(py));
        let key = key.map(Scalar::named).transpose()?;
        Ok(self.shared.store.path_of(LockTarget {
            obj,
            key: key.as_ref().map(Scalar::key),
        }))
    }

    fn __richcmp__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let Ok(other) = other.cast::<Change>() else {
            return Ok(py.NotImplemented());
        };
        match op {
            CompareOp::Eq | CompareOp::Ne if slf.is(other) => equal(py, op),
            CompareOp::Eq | CompareOp::Ne => {
                let (mine, theirs) = (slf.get().fields(py)?, other.get().fields(py)?);
                Ok(mine.as_any().rich_compare(theirs, op)?.unbind())
            }
            _ => Ok(py.NotImplemented()),
        }
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.fields(py)?.hash()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = format!("Change(kind='{}'", self.kind);
        if let Some(path) = self.path(py).ok().flatten() {
            text += &format!(", path={}", path.into_pyobject(py)?.repr()?);
        } else if let Some(key) = &self.key {
            text += &format!(", key={}", key.bind(py).repr()?);
        }
        if let Some(index) = self.index {
            text += &format!(", index={index}");
        }
        if !matches!(self.kind, "any" | "overflow") {
            text += &format!(", removed={}, added={}", self.removed, self.added);
        }
        Ok(text + ")")
    }
}
