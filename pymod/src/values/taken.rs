//! Take values out of the store: remove them in a section, and return their Python objects.
//!
//! 1. A value whose object cannot be made stays in the store. Code of the program makes some objects (a decoder that
//!    it registered, a class), and may raise: these are taken in a block of a transaction, which is undone then. What
//!    needs no such code is taken in one section.

use persist_core::store::{Error, Result, Writer};
use pyo3::prelude::*;
use std::sync::Arc;

use super::batch::Batch;
use super::blocks::{run_block, try_block};
use crate::engine::shared::Shared;

/// A change that is tried without a block.
struct Attempt {
    batch: Batch,
    /// The change was possible, and was undone: it needs a block.
    undone: bool,
}

impl Attempt {
    fn new(shared: &Arc<Shared>) -> Attempt {
        Attempt {
            batch: Batch::only_plain(shared),
            undone: false,
        }
    }

    /// Make the change in a section, which undoes it after the error.
    fn run(
        &mut self,
        w: &mut Writer<'_>,
        change: &mut impl FnMut(&mut Writer<'_>, &mut Batch) -> Result<()>,
    ) -> Result<()> {
        self.undone = false;
        self.batch.restart();
        change(w, &mut self.batch)?;
        self.undone = self.batch.is_deferred();
        match self.undone {
            true => Err(Error::invalid("internal error: the values are taken in a block")),
            false => Ok(()),
        }
    }
}

impl Shared {
    /// Change the store and return what `make` creates from the values that were read in the same section. Waits for
    /// locks as any change does, before a block begins.
    pub(crate) fn take<'py, T>(
        self: &Arc<Self>,
        py: Python<'py>,
        mut change: impl FnMut(&mut Writer<'_>, &mut Batch) -> Result<()> + Send,
        mut make: impl FnMut(&mut Batch) -> PyResult<T>,
    ) -> PyResult<T> {
        let mut attempt = Attempt::new(self);
        let done = self.write(py, |w| attempt.run(w, &mut change));
        if !attempt.undone {
            return done.and_then(|()| make(&mut attempt.batch));
        }
        drop(attempt);
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
        let mut attempt = Attempt::new(self);
        let done = self.try_write(py, |w| attempt.run(w, &mut change));
        if !attempt.undone {
            return done?.map(|()| make(&mut attempt.batch)).transpose();
        }
        drop(attempt);
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
