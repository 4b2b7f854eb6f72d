//! Reading values from the store: read in a section, converted into Python objects after it.

use persist_core::store::door::{Short, Word};
use persist_core::store::{Key, Large, Obj, Reader, Result, Value};
use pyo3::prelude::*;
use pyo3::types::PyBool;
use std::sync::Arc;

use super::batch::Batch;
use crate::engine::shared::Shared;
use crate::proxies::found::{Found, find};
use crate::python::scalars;

/// After this many tries, a value that is replaced repeatedly is read in one section.
pub(super) const MAX_ATTEMPTS: usize = 3;

#[inline(never)]
pub(crate) fn copy_out(shared: &Shared, r: &Reader<'_>, word: Word) -> Result<Copied> {
    Ok(match r.value(word)? {
        Value::Obj(obj) => Copied::Container(find(shared, r, obj)?),
        value => Copied::Value(value),
    })
}

/// The Python object of a small scalar; None for a longer value.
#[inline]
pub(crate) fn small<'py>(py: Python<'py>, short: Short) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(Some(match short {
        Short::Int(n) => n.into_pyobject(py)?.into_any(),
        Short::Float(x) => scalars::float_of(py, x),
        Short::Bool(b) => PyBool::new(py, b).to_owned().into_any(),
        Short::None => py.None().into_bound(py),
        Short::Str(bytes, len) => scalars::str_of(py, &bytes[..len as usize])?,
        Short::Long => return Ok(None),
    }))
}

/// A value found in a section that does not fit a word.
pub(crate) enum Copied {
    Value(Value),
    Container(Found),
}

impl Shared {
    /// The Python object of a copied value. Not for `Large`.
    #[inline(never)]
    pub(crate) fn to_object<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        got: Copied,
    ) -> PyResult<Bound<'py, PyAny>> {
        match got {
            Copied::Value(value) => scalars::to_python(py, &value),
            Copied::Container(found) => self.wrap(py, found),
        }
    }

    /// The Python object of the value under a key.
    pub(crate) fn entry<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        obj: Obj,
        key: &Key<'_>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let read = self.fetch(py, |r| r.word(obj, key));
        self.placed(py, read, obj, Some(*key))
    }

    /// Read one value and return its Python object. A value that fits the store's word is passed in it: moving a
    /// `Value` costs as much as finding it.
    #[inline]
    pub(crate) fn fetch<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        mut f: impl FnMut(&Reader<'_>) -> Result<Option<Word>> + Send,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut long = None;
        let short = self.read(py, |r| match f(r)? {
            None => Ok(None),
            Some(word) => match word.as_short() {
                Short::Long => {
                    long = Some(copy_out(self, r, word)?);
                    Ok(Some(Short::Long))
                }
                short => Ok(Some(short)),
            },
        })?;
        match short {
            None => Ok(None),
            Some(short) => match small(py, short)? {
                None => self.to_object_slow(py, long, f),
                value => Ok(value),
            },
        }
    }

    #[inline(never)]
    fn to_object_slow<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        long: Option<Copied>,
        f: impl FnMut(&Reader<'_>) -> Result<Option<Word>> + Send,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match long {
            None => Ok(None),
            Some(Copied::Value(Value::Large(large))) => self.fetch_large(py, large, f),
            Some(got) => self.to_object(py, got).map(Some),
        }
    }

    #[cold]
    fn fetch_large<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        large: Large,
        mut f: impl FnMut(&Reader<'_>) -> Result<Option<Word>> + Send,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(whole) = self.read_large(py, &large)? {
            return whole.to_python(py).map(Some);
        }
        let mut batch = self.collect(py, |r, out| match f(r)? {
            Some(word) => out.push(r, r.value(word)?),
            None => Ok(()),
        })?;
        batch.next(py)
    }

    /// Read any number of values in one section.
    pub(crate) fn collect(
        self: &Arc<Self>,
        py: Python<'_>,
        mut f: impl FnMut(&Reader<'_>, &mut Batch) -> Result<()> + Send,
    ) -> PyResult<Batch> {
        let mut attempt = 0;
        loop {
            let mut batch = Batch::new(self, attempt >= MAX_ATTEMPTS);
            let read = self.read(py, |r| {
                batch.begin();
                f(r, &mut batch)
            });
            if read.is_err() {
                batch.begin();
            }
            read?;
            if batch.complete(py)? {
                return Ok(batch);
            }
            attempt += 1;
        }
    }
}
