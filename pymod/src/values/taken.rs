//! Take values out of the store: remove them in a section, and return their Python objects.
//!
//! 1. A value whose object cannot be made stays in the store. Code of the program makes some objects (a decoder that
//!    it registered, a class), and may raise: these are taken in a block of a transaction, which is undone then. What
//!    needs no such code is taken in one section.

use persist_core::store::{Result, Writer};
use pyo3::prelude::*;
use std::sync::Arc;

use super::batch::Batch;
use super::blocks::{run_block, try_block};
use crate::engine::shared::Shared;

impl Shared {
    /// Change the store and return what `make` creates from the values that were read in the same section. `change`
    /// returns without a change if `Batch::is_deferred`, and then runs again.
    pub(crate) fn take<'py, T>(
        self: &Arc<Self>,
        py: Python<'py>,
        mut change: impl FnMut(&mut Writer<'_>, &mut Batch) -> Result<()> + Send,
        mut make: impl FnMut(&mut Batch) -> PyResult<T>,
    ) -> PyResult<T> {
        let mut batch = Batch::only_plain(self);
        self.write(py, |w| {
            batch.restart();
            change(w, &mut batch)
        })?;
        if !batch.is_deferred() {
            return make(&mut batch);
        }
        drop(batch);
        run_block(py, self, || {
            let mut batch = Batch::new(self, true);
            self.write(py, |w| {
                batch.restart();
                change(w, &mut batch)
            })?;
            make(&mut batch)
        })
    }

    /// Like `take`; None if other owners are in the way.
    pub(crate) fn try_take<'py, T>(
        self: &Arc<Self>,
        py: Python<'py>,
        mut change: impl FnMut(&mut Writer<'_>, &mut Batch) -> Result<()> + Send,
        mut make: impl FnMut(&mut Batch) -> PyResult<T>,
    ) -> PyResult<Option<T>> {
        let mut batch = Batch::only_plain(self);
        let done = self.try_write(py, |w| {
            batch.restart();
            change(w, &mut batch)
        })?;
        if done.is_none() || !batch.is_deferred() {
            return done.map(|()| make(&mut batch)).transpose();
        }
        drop(batch);
        let made = try_block(py, self, || {
            let mut batch = Batch::new(self, true);
            let done = self.try_write(py, |w| {
                batch.restart();
                change(w, &mut batch)
            })?;
            done.map(|()| make(&mut batch)).transpose()
        })?;
        Ok(made.flatten())
    }
}
