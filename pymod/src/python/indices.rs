//! Indices and slices with list's rules, computed inside a section from the length in that section.

use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PySlice};

use super::ffi;

/// The argument of `list[...]`.
#[derive(Clone, Copy)]
pub(crate) enum At {
    /// One index, which may be negative.
    Index(i64),
    /// A slice.
    Span(Span),
}

/// A slice for a list of unknown length.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: isize,
    stop: isize,
    /// Never 0.
    pub(crate) step: isize,
}

impl At {
    /// Parse an index or a slice.
    #[inline]
    pub(crate) fn of(index: &Bound<'_, PyAny>) -> PyResult<At> {
        if let Ok(n) = index.cast::<PyInt>()
            && let Some(n) = ffi::int_value(n)
        {
            return Ok(At::Index(n));
        }
        At::of_other(index)
    }

    fn of_other(index: &Bound<'_, PyAny>) -> PyResult<At> {
        if let Ok(slice) = index.cast::<PySlice>() {
            let (start, stop, step) = ffi::slice_parts(slice)?;
            return Ok(At::Span(Span { start, stop, step }));
        }
        let name = index.get_type().name()?;
        if !index.hasattr("__index__")? {
            let what = format!("list indices must be integers or slices, not {name}");
            return Err(PyTypeError::new_err(what));
        }
        index
            .extract::<isize>()
            .map(|n| At::Index(n as i64))
            .map_err(
                |e| match e.is_instance_of::<pyo3::exceptions::PyOverflowError>(index.py()) {
                    true => PyIndexError::new_err(format!("cannot fit '{name}' into an index-sized integer")),
                    false => e,
                },
            )
    }
}

/// An index that is clipped to the end of the list if it is beyond it.
pub(crate) struct Clipped(pub(crate) isize);

impl<'py> FromPyObject<'_, 'py> for Clipped {
    type Error = PyErr;

    fn extract(index: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        ffi::clipped(&index).map(Clipped)
    }
}

/// The position of an index in a list of this length.
#[inline]
pub(crate) fn position(index: i64, len: u64) -> Option<u64> {
    let at = if index < 0 {
        index.checked_add_unsigned(len)?
    } else {
        index
    };
    u64::try_from(at).ok().filter(|at| *at < len)
}

impl Span {
    /// The first position and the number of positions in a list of this length; the position
    /// after one is `step` further.
    pub(crate) fn of_len(self, len: u64) -> (i64, u64) {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        let (low, high) = if self.step < 0 { (-1, len - 1) } else { (0, len) };
        let clip = |n: isize| {
            let n = n as i64;
            if n < 0 {
                n.saturating_add(len).max(low)
            } else {
                n.min(high)
            }
        };
        let (start, stop, step) = (clip(self.start), clip(self.stop), self.step as i64);
        let span = if step < 0 { start - stop } else { stop - start };
        let count = if span <= 0 {
            0
        } else {
            (span as u64 - 1) / step.unsigned_abs() + 1
        };
        (start, count)
    }

    /// The n-th position of a slice that begins at `start`.
    pub(crate) fn nth(self, start: i64, n: u64) -> u64 {
        (start + n as i64 * self.step as i64) as u64
    }
}
