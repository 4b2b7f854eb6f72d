//! Blocks of transactions: their beginning and end, and functions that run in one.
//!
//! 1. A block is ended by the engine's token for it, so that any thread and task can leave it: a generator may be
//!    closed anywhere.
//! 2. An instance that became persistent in a block that is undone is transient again (`NewInstances`). The list of
//!    these instances is in order of time, and a block records its length at the beginning.

use persist_core::store::{Actor, Block, Error, Wait};
use pyo3::prelude::*;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::engine::shared::{Shared, waits};
use crate::proxies::object::forget_kept_attributes;
use crate::python::error;

/// An open block.
#[derive(Clone, Copy)]
pub(crate) struct Begun {
    block: Block,
    /// The number of instances that had become persistent in the transaction before the block.
    born: usize,
}

/// Begin a block. Waits for transactions of other owners.
pub(crate) fn begin(py: Python<'_>, shared: &Shared) -> PyResult<Begun> {
    shared.check_writable(py)?;
    shared.set_task(py);
    let begun = match shared.store.begin(&mut Wait::never()) {
        // The calling thread keeps its identity while it waits without the interpreter.
        Err(e) => shared.retry_or_undo(
            py,
            e,
            Some(shared.timeout()),
            |wait| shared.store.begin(wait),
            || shared.store.rollback(),
        )?,
        Ok(block) => block,
    };
    Ok(note(shared, begun))
}

/// Begin a block if that needs no wait.
pub(crate) fn try_begin(py: Python<'_>, shared: &Shared) -> PyResult<Option<Begun>> {
    shared.check_writable(py)?;
    shared.set_task(py);
    match shared.store.begin(&mut Wait::never()) {
        Ok(block) => Ok(Some(note(shared, block))),
        Err(e) if waits(&e) => Ok(None),
        Err(e) => Err(shared.fail(py, e)),
    }
}

fn note(shared: &Shared, block: Block) -> Begun {
    shared.core.open_scopes.fetch_add(1, Ordering::Relaxed);
    if shared.store.level_of(block) == Some(0) {
        // The instances of a transaction that was rolled back stay transient.
        shared.core.new_instances.take(0);
    }
    Begun {
        block,
        born: shared.core.new_instances.len(),
    }
}

/// End a block.
pub(crate) fn end(py: Python<'_>, shared: &Shared, begun: Begun, commit: bool) -> PyResult<()> {
    shared.set_task(py);
    let level = shared.store.level_of(begun.block);
    // Take them before the latch is released: after that, the list belongs to the next transaction.
    let born = match (level, commit) {
        (Some(0), _) => shared.core.new_instances.take(0),
        (Some(_), false) => shared.core.new_instances.take(begun.born),
        _ => Vec::new(),
    };
    let done = py.detach(|| shared.store.end_without_wait(begun.block, commit));
    shared.core.open_scopes.fetch_sub(1, Ordering::Relaxed);
    if commit && done.is_ok() {
        forget_kept_attributes(py, born);
    }
    shared.wake_tasks(py);
    done.map_err(|e| shared.fail(py, e))?;
    if commit && shared.store.must_await_durability() {
        shared.await_durability(py)?;
    }
    Ok(())
}

/// Run `f` in a block of a transaction, which is undone if it fails; again after a conflict.
pub(crate) fn run_block<T>(
    py: Python<'_>,
    shared: &Shared,
    mut f: impl FnMut() -> PyResult<T>,
) -> PyResult<T> {
    shared.set_task(py);
    let inner = shared.store.in_transaction();
    let (started, mut pause) = (Instant::now(), Duration::from_micros(200));
    loop {
        let begun = begin(py, shared)?;
        let result = finish(py, shared, begun, f());
        let left = shared.timeout().saturating_sub(started.elapsed());
        match result {
            Err(e) if !inner && error::is_conflict(py, &e) && !left.is_zero() => {
                py.check_signals()?;
                let free = shared.wait(py, Some(left), |wait| {
                    match shared.store.wait_for_conflict(Actor::Thread, wait) {
                        Err(Error::Interrupted) => Err(Error::Interrupted),
                        done => Ok(done.is_ok()),
                    }
                })?;
                if !free {
                    py.detach(|| std::thread::sleep(pause.min(left)));
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
            }
            result => return result,
        }
    }
}

/// Run `f` as `run_block` does, once; None if other owners are in the way of the block.
pub(crate) fn try_block<T>(
    py: Python<'_>,
    shared: &Shared,
    f: impl FnOnce() -> PyResult<T>,
) -> PyResult<Option<T>> {
    match try_begin(py, shared)? {
        Some(begun) => finish(py, shared, begun, f()).map(Some),
        None => Ok(None),
    }
}

/// Commit a block, or undo it after an error.
fn finish<T>(py: Python<'_>, shared: &Shared, begun: Begun, result: PyResult<T>) -> PyResult<T> {
    match result {
        Ok(result) => end(py, shared, begun, true).map(|()| result),
        Err(e) => {
            end(py, shared, begun, false)?;
            Err(e)
        }
    }
}
