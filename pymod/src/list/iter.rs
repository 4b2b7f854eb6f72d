//! The iterator over a `List`.

use pyo3::prelude::*;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::proxies::list::List;

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
            (Ok(at), _) => (at + 1).min(len),
        })
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Ok(at) = u64::try_from(self.at.load(Ordering::Relaxed)) else {
            return Ok(None);
        };
        let proxy = &self.list.get().proxy;
        let item = proxy.shared.fetch(py, |r| r.item_word(proxy.obj, at))?;
        let next = if item.is_some() { at as i64 + self.step } else { -1 };
        self.at.store(next, Ordering::Relaxed);
        Ok(item)
    }
}
