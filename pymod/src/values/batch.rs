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
    /// Values whose objects are made by code of the program (a decoder, a class) are not to be taken out: it may raise.
    plain: bool,
    /// Such a value was met.
    deferred: bool,
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
            plain: false,
            deferred: false,
        }
    }

    /// An empty batch for values that are taken out without a block that brings them back if their objects cannot be
    /// made.
    pub(super) fn only_plain(shared: &Arc<Shared>) -> Batch {
        let mut batch = Batch::new(shared, true);
        batch.plain = true;
        batch
    }

    /// Return whether a value that needs a block was met.
    pub(super) fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// A write section begins (again): results of an earlier run are invalid.
    pub(crate) fn restart(&mut self) {
        self.values.clear();
        self.deferred = false;
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
                self.deferred |= self.plain && found.has_class();
                self.found.push_back(found);
                self.values.push_back(Whole::Value(value));
            }
            value => {
                let value = if self.whole { read_whole(r, value)? } else { value };
                self.deferred |= self.plain && matches!(value, Value::Typed(_));
                self.values.push_back(Whole::Value(value));
            }
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
