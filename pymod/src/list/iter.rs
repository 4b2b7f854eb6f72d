//! The iterator over a `List`.

use persist_core::store::Key;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::proxies::list::List;
use crate::python::arguments::iter_function;

/// The iterator over a List. Like list's it goes by position and ends where the list ends then.
#[pyclass(frozen, module = "persist")]
pub struct ListIter {
    list: Py<List>,
    step: i64,
    /// The next position; negative: at the end.
    at: AtomicI64,
}

impl ListIter {
    /// An iterator that begins at a position, and goes forwards or backwards.
    pub(crate) fn new(list: &Bound<'_, List>, at: i64, step: i64) -> ListIter {
        ListIter {
            list: list.clone().unbind(),
            step,
            at: AtomicI64::new(at),
        }
    }
}

#[pymethods]
impl ListIter {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __length_hint__(&self, py: Python<'_>) -> PyResult<u64> {
        let (at, len) = (self.at.load(Ordering::Relaxed), self.list.get().count(py)?);
        Ok(match (u64::try_from(at), self.step) {
            (Err(_), _) => 0,
            (Ok(at), 1) => len.saturating_sub(at),
            // Like list's: past the end, it finds nothing any more.
            (Ok(at), _) if at >= len => 0,
            (Ok(at), _) => at + 1,
        })
    }

    /// Pickle and copy as the iterators of list and dict do: as an iterator over what is left.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyList>,))> {
        let rest = ListIter {
            list: self.list.clone_ref(py),
            step: self.step,
            at: AtomicI64::new(self.at.load(Ordering::Relaxed)),
        };
        let left = py.get_type::<PyList>().call1((rest,))?;
        Ok((iter_function(py)?, (left.cast_into()?,)))
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Ok(at) = u64::try_from(self.at.load(Ordering::Relaxed)) else {
            return Ok(None);
        };
        let proxy = self.list.get().proxy()?;
        let item = proxy.shared.fetch(py, |r| r.item_word(proxy.obj, at));
        let item = proxy
            .shared
            .placed(py, item, proxy.obj, Some(Key::Int(at as i64)))?;
        let next = if item.is_some() { at as i64 + self.step } else { -1 };
        self.at.store(next, Ordering::Relaxed);
        Ok(item)
    }
}
