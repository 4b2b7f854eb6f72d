//! `with store.transaction()`, and `Store.run`.
//!
//! 1. A transaction belongs to a thread's running task (`tasks`). A block inside it is a savepoint (`values::blocks`).

use persist_core::store::Error;
use pyo3::exceptions::{PyResourceWarning, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::bells::{Awaited, Bell};
use crate::engine::shared::Shared;
use crate::proxies::dict::Dict;
use crate::proxies::list::List;
use crate::proxies::object::Object;
use crate::python::error;
use crate::values::blocks::{Begun, begin, end, run_block, try_begin};

/// See `Store.run`.
pub(crate) fn run<'py>(
    shared: &Arc<Shared>,
    f: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    run_block(f.py(), shared, || f.call(args, kwargs))
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
        let begun = try_begin(py, &self.shared)?;
        let entered = begun.is_some();
        self.begun().extend(begun);
        Ok(entered)
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
