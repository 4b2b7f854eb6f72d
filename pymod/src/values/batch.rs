//! Values that one section copied out of the store, before they become Python objects.
//!
//! 1. Every container among them holds one pin until it has become a proxy. Pins of unused values, or of a section run
//!    that had to be repeated, are released when this is dropped.
//! 2. Large values are read afterwards in separate sections, unless `whole` requests all at once.

use persist_core::store::{Error, Obj, Reader, Result, Value};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;

use super::large::{Whole, read_whole};
use crate::engine::shared::Shared;
use crate::proxies::found::{Found, find};
use crate::python::error;

/// See the module header.
pub(crate) struct Batch {
    shared: Arc<Shared>,
    whole: bool,
    values: VecDeque<Whole>,
    found: VecDeque<Found>,
    stale: Vec<Obj>,
}

impl Batch {
    /// An empty batch. With `whole`, large values are read in the section that finds them.
    pub(crate) fn new(shared: &Arc<Shared>, whole: bool) -> Batch {
        Batch {
            shared: Arc::clone(shared),
            whole,
            values: VecDeque::new(),
            found: VecDeque::new(),
            stale: Vec::new(),
        }
    }

    /// A write section begins (again): results of an earlier run are invalid.
    pub(crate) fn restart(&mut self) {
        self.values.clear();
        self.stale.extend(self.found.drain(..).map(|f| f.obj));
    }

    /// A read section begins (again), or has failed: it has given back its pins.
    pub(crate) fn begin(&mut self) {
        self.values.clear();
        self.found.clear();
    }

    /// Add a value, inside the section that found it.
    pub(crate) fn push(&mut self, r: &Reader<'_>, value: Value) -> Result<()> {
        match value {
            Value::Obj(obj) => {
                let found = find(&self.shared, r, obj)?;
                self.found.push_back(found);
                self.values.push_back(Whole::Value(value));
            }
            Value::Large(_) if self.whole => self.values.push_back(Whole::Value(read_whole(r, value)?)),
            value => self.values.push_back(Whole::Value(value)),
        }
        Ok(())
    }

    /// Read the large values. Returns false if one was replaced in between, and all must be read again.
    pub(crate) fn complete(&mut self, py: Python<'_>) -> PyResult<bool> {
        for value in &mut self.values {
            if let Whole::Value(Value::Large(large)) = value {
                match self.shared.read_large(py, large)? {
                    Some(read) => *value = read,
                    None => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// The next value's object; None at the end.
    pub(crate) fn next<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.values.pop_front() {
            None => Ok(None),
            Some(Whole::Value(Value::Obj(obj))) => match self.found.pop_front() {
                Some(found) => self.shared.wrap(py, found).map(Some),
                None => Err(self.shared.fail(py, Error::Gone(obj.id))),
            },
            Some(read) => read.to_python(py).map(Some),
        }
    }

    /// The next value's object, if the caller knows that there is one.
    pub(crate) fn expect<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.next(py)?
            .ok_or_else(|| error::general(py, "internal error: a value is missing"))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for obj in self.found.drain(..).map(|f| f.obj).chain(self.stale.drain(..)) {
            self.shared.store.unpin(obj);
        }
    }
}
