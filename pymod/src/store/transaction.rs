//! `with store.transaction()`, and `Store.run`.
//!
//! 1. A transaction belongs to a thread's running task (`tasks`). A block inside it is a savepoint.
//! 2. A block is ended by the engine's token for it, so that any thread and task can leave it: a generator may be
//!    closed anywhere.
//! 3. An instance that became persistent in a block that is undone is transient again (`NewInstances`). The list of
//!    these instances is in order of time, and a block records its length at the beginning.

use persist_core::store::{Actor, Block, Error, Wait};
use pyo3::exceptions::{PyResourceWarning, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::bells::{Awaited, Bell};
use crate::engine::shared::Shared;
use crate::proxies::dict::Dict;
use crate::proxies::list::List;
use crate::proxies::object::{Object, forget_kept_attributes};
use crate::python::error;

/// An open block.
#[derive(Clone, Copy)]
struct Begun {
    block: Block,
    /// The number of instances that had become persistent in the transaction before the block.
    born: usize,
}

/// Begin a block. Waits for transactions of other owners.
fn begin(py: Python<'_>, shared: &Shared) -> PyResult<Begun> {
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
fn end(py: Python<'_>, shared: &Shared, begun: Begun, commit: bool) -> PyResult<()> {
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

/// See `Store.run`.
pub(crate) fn run<'py>(
    shared: &Arc<Shared>,
    f: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = f.py();
    shared.set_task(py);
    let inner = shared.store.in_transaction();
    let (started, mut pause) = (Instant::now(), Duration::from_micros(200));
    loop {
        let begun = begin(py, shared)?;
        let result = match f.call(args, kwargs) {
            Ok(result) => end(py, shared, begun, true).map(|()| result),
            Err(e) => {
                end(py, shared, begun, false)?;
                Err(e)
            }
        };
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

/// Return a transaction of the store that holds a Dict, a List or an object; None if `container` is none of them.
#[pyfunction]
#[pyo3(signature = (container, /))]
pub(crate) fn _transaction_of(container: &Bound<'_, PyAny>) -> PyResult<Option<Transaction>> {
    let proxy = if let Ok(dict) = container.cast::<Dict>() {
        dict.get().proxy()?
    } else if let Ok(list) = container.cast::<List>() {
        list.get().proxy()?
    } else if let Ok(object) = container.cast::<Object>() {
        object.get().stored()?
    } else {
        return Ok(None);
    };
    Ok(Some(Transaction::new(&proxy.shared)))
}

/// What `Store.transaction()` returns, for `with`.
#[pyclass(frozen, module = "persist")]
pub struct Transaction {
    shared: Arc<Shared>,
    begun: Mutex<Vec<Begun>>,
}

impl Transaction {
    /// A transaction that has not begun.
    pub(crate) fn new(shared: &Arc<Shared>) -> Transaction {
        Transaction {
            shared: Arc::clone(shared),
            begun: Mutex::default(),
        }
    }

    fn begun(&self) -> MutexGuard<'_, Vec<Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Transaction {
    fn __reduce__(&self) -> PyResult<()> {
        Err(error::not_pickled("Transaction"))
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        let begun = begin(slf.py(), &slf.shared)?;
        slf.begun().push(begun);
        Ok(slf)
    }

    #[pyo3(signature = (exc_type = None, exc_value = None, traceback = None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let _ = (exc_value, traceback);
        let begun = self.begun().pop();
        let begun = begun.ok_or_else(|| PyRuntimeError::new_err("the transaction was not entered"))?;
        end(py, &self.shared, begun, exc_type.is_none())?;
        Ok(false)
    }

    /// The waiting tasks of this process.
    #[getter]
    fn _waiters(&self, py: Python<'_>) -> Py<PyAny> {
        self.shared.core.waiters(py)
    }

    /// How long to wait, in seconds.
    #[getter]
    fn _timeout(&self) -> f64 {
        self.shared.timeout().as_secs_f64()
    }

    /// Whether the running task is inside a transaction already.
    #[getter]
    fn _inside(&self, py: Python<'_>) -> bool {
        self.shared.set_task(py);
        self.shared.store.in_transaction()
    }

    /// Ring a bell when the transaction may begin. False: it never rings.
    fn _ring(&self, bell: &Bell) -> bool {
        let (bells, store) = (&self.shared.core.bells, &self.shared.store);
        bells.add(store, bell, &Awaited::Transaction)
    }

    /// Whether the transaction may begin.
    #[getter]
    fn _ready(&self) -> bool {
        !self.shared.store.is_latched()
    }

    /// Return the exception for a wait that took too long.
    fn _late(&self, py: Python<'_>) -> Py<PyAny> {
        let after = self.shared.timeout();
        let e = Error::timeout("the right to change the store", after, "another transaction");
        self.shared.fail(py, e).into_value(py).into_any()
    }

    /// Enter if that needs no wait, else return False. For the asynchronous form.
    fn _try_enter(&self, py: Python<'_>) -> PyResult<bool> {
        let shared = &self.shared;
        shared.check_writable(py)?;
        shared.set_task(py);
        match shared.store.begin(&mut Wait::never()) {
            Ok(block) => {
                self.begun().push(note(shared, block));
                Ok(true)
            }
            Err(Error::WouldBlock { .. } | Error::Timeout { .. } | Error::OtherTask { .. }) => Ok(false),
            Err(e) => Err(shared.fail(py, e)),
        }
    }
}

impl Drop for Transaction {
    /// No other code can leave the blocks any more, and other owners would wait for them.
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.begun());
        if left.is_empty() {
            return;
        }
        Python::try_attach(|py| {
            for begun in left.into_iter().rev() {
                let _ = end(py, &self.shared, begun, false);
            }
            let text = c"a transaction that was entered and never left was rolled back";
            let warning = py.get_type::<PyResourceWarning>();
            if let Err(e) = PyErr::warn(py, warning.as_any(), text, 1) {
                e.write_unraisable(py, None);
            }
        });
    }
}
