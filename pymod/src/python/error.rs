//! The exceptions, and the single mapping from the engine's errors to them.

use persist_core::store::Error;
use pyo3::call::PyCallArgs;
use pyo3::exceptions::{
    PyException, PyFileExistsError, PyIndexError, PyKeyError, PyKeyboardInterrupt, PyLookupError, PyOSError,
    PyReferenceError, PyRuntimeError, PyTimeoutError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::path::Path;
use std::time::Duration;

/// The exception classes, created once.
pub(crate) struct Types {
    error: Py<PyType>,
    lock_timeout: Py<PyType>,
    deadlock: Py<PyType>,
    aborted: Py<PyType>,
    conflict: Py<PyType>,
    too_large: Py<PyType>,
    other_task: Py<PyType>,
    gone: Py<PyType>,
    corrupt: Py<PyType>,
    not_locked: Py<PyType>,
    no_snapshot: Py<PyType>,
    snapshot_exists: Py<PyType>,
    in_use: Py<PyType>,
    durability_unknown: Py<PyType>,
    view_ended: Py<PyType>,
}

static TYPES: PyOnceLock<Types> = PyOnceLock::new();

/// The exceptions that say which lock they are about: `holder` and `path`, as the message has them, and the `key` of
/// the requested lock. Each is None where the message does not name it.
const ABOUT_LOCKS: [&str; 3] = ["LockTimeout", "Deadlock", "Conflict"];

fn make(py: Python<'_>, name: &str, doc: &str, bases: &[Bound<'_, PyType>]) -> PyResult<Py<PyType>> {
    let members = PyDict::new(py);
    members.set_item("__module__", "persist")?;
    members.set_item("__doc__", doc)?;
    if ABOUT_LOCKS.contains(&name) {
        for attribute in ["holder", "path", "key"] {
            members.set_item(attribute, py.None())?;
        }
    }
    let made = py
        .get_type::<PyType>()
        .call1((name, PyTuple::new(py, bases)?, members))?;
    Ok(made.cast_into::<PyType>()?.unbind())
}

fn types(py: Python<'_>) -> PyResult<&Types> {
    TYPES.get_or_try_init(py, || {
        let base = |ty: &Py<PyType>| ty.bind(py).clone();
        let error = make(py, "Error", "Base of the errors of persist.", &[py.get_type::<PyException>()])?;
        let e = base(&error);
        let sub = |name: &str, doc: &str, other: Option<Bound<'_, PyType>>| {
            let mut bases = vec![e.clone()];
            bases.extend(other);
            make(py, name, doc, &bases)
        };
        let lock_timeout = sub(
            "LockTimeout",
            "A wait for a lock, or for another's transaction, took longer than allowed.",
            Some(py.get_type::<PyTimeoutError>()),
        )?;
        let aborted = sub(
            "TransactionAborted",
            "The transaction was rolled back as a whole. Every operation in it raises until its outermost block is left.",
            Some(py.get_type::<PyRuntimeError>()),
        )?;
        let of = |base: &Py<PyType>, name: &str, doc: &str| make(py, name, doc, &[base.bind(py).clone()]);
        Ok(Types {
            conflict: of(
                &aborted,
                "Conflict",
                "A transaction met a lock of another owner and was rolled back: run it again (`Store.run` does).",
            )?,
            too_large: of(&aborted, "TransactionTooLarge", "A transaction or operation was too large and was rolled back: split it.")?,
            other_task: of(
                &lock_timeout,
                "OtherTask",
                "Another task of this thread has the transaction or lock, and waiting here would stop it. The message says what \
                 to do instead.",
            )?,
            lock_timeout,
            aborted,
            deadlock: sub("Deadlock", "Acquiring this lock would deadlock. Release your locks and try again.", Some(py.get_type::<PyRuntimeError>()))?,
            gone: sub(
                "Gone",
                "The object does not exist: it was removed, or made in a transaction that was rolled back.",
                Some(py.get_type::<PyReferenceError>()),
            )?,
            corrupt: sub("Corrupt", "The store's file is damaged.", Some(py.get_type::<PyOSError>()))?,
            not_locked: sub("NotLocked", "The lock to be released is not held.", Some(py.get_type::<PyRuntimeError>()))?,
            no_snapshot: sub("NoSnapshot", "No snapshot has this name.", Some(py.get_type::<PyLookupError>()))?,
            snapshot_exists: sub(
                "SnapshotExists",
                "A snapshot has this name already.",
                Some(py.get_type::<PyFileExistsError>()),
            )?,
            durability_unknown: sub(
                "DurabilityUnknown",
                "The change is done, but not known to survive a power cut yet: it must not be repeated. `Store.sync()`, or \
                 the next change, covers it.",
                Some(py.get_type::<PyOSError>()),
            )?,
            view_ended: sub(
                "ViewEnded",
                "The view of a moment (`Store.frozen()`) has ended: it was left, or its pages took too much space.",
                Some(py.get_type::<PyOSError>()),
            )?,
            in_use: sub("InUse", "The snapshot to be dropped is open in a process.", Some(py.get_type::<PyOSError>()))?,
            error,
        })
    })
}

/// Add the exception classes to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    let t = types(py)?;
    for (name, ty) in [
        ("Error", &t.error),
        ("LockTimeout", &t.lock_timeout),
        ("Deadlock", &t.deadlock),
        ("TransactionAborted", &t.aborted),
        ("Conflict", &t.conflict),
        ("TransactionTooLarge", &t.too_large),
        ("OtherTask", &t.other_task),
        ("Gone", &t.gone),
        ("Corrupt", &t.corrupt),
        ("NotLocked", &t.not_locked),
        ("NoSnapshot", &t.no_snapshot),
        ("SnapshotExists", &t.snapshot_exists),
        ("InUse", &t.in_use),
        ("DurabilityUnknown", &t.durability_unknown),
        ("ViewEnded", &t.view_ended),
    ] {
        m.add(name, ty.bind(py))?;
    }
    Ok(())
}

/// Create an exception immediately. PyO3 creates others at their first use, and attaches to the interpreter for it:
/// this panics when a `__del__` runs while the interpreter is ending.
fn made<'py>(ty: &Bound<'py, PyType>, args: impl PyCallArgs<'py>) -> PyErr {
    ty.call1(args).map_or_else(|e| e, PyErr::from_value)
}

fn raise(py: Python<'_>, pick: impl FnOnce(&Types) -> &Py<PyType>, message: String) -> PyErr {
    match types(py) {
        Ok(t) => made(pick(t).bind(py), (message,)),
        Err(e) => e,
    }
}

/// Like `raise`, for an error about a lock.
fn raise_of_lock(
    py: Python<'_>,
    pick: impl FnOnce(&Types) -> &Py<PyType>,
    message: String,
    path: &str,
    holder: &str,
) -> PyErr {
    let e = raise(py, pick, message);
    // What is waited for is a path, or a description: "the right to change the store".
    let path = path.starts_with("root").then_some(path);
    let holder = (!holder.is_empty()).then_some(holder);
    for (name, text) in [("path", path), ("holder", holder)] {
        if let Err(e) = e.value(py).setattr(name, text) {
            return e;
        }
    }
    e
}

/// A `persist.LockTimeout` of a wait for something that came in time from no owner: `what` of the container at `path`.
#[cold]
pub(crate) fn late(py: Python<'_>, after: Duration, what: &str, path: &str) -> PyErr {
    let after = match after.is_zero() {
        true => String::new(),
        false => format!(" after {} s", after.as_secs_f64()),
    };
    let message = format!("timed out{after} waiting for {what} of {path}");
    raise_of_lock(py, |t| &t.lock_timeout, message, path, "")
}

/// Add the key of the requested lock to an exception about a lock.
#[cold]
pub(crate) fn with_key(py: Python<'_>, e: PyErr, key: Option<&Bound<'_, PyAny>>) -> PyErr {
    let is_about_locks = |t: &Types| {
        [&t.lock_timeout, &t.deadlock, &t.conflict]
            .iter()
            .any(|ty| e.is_instance(py, ty.bind(py)))
    };
    match key {
        Some(key) if types(py).is_ok_and(is_about_locks) => match e.value(py).setattr("key", key) {
            Ok(()) => e,
            Err(other) => other,
        },
        _ => e,
    }
}

/// A `persist.Error`.
#[cold]
pub(crate) fn general(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raise(py, |t| &t.error, message.into())
}

/// A `persist.Corrupt`.
#[cold]
pub(crate) fn corrupt(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raise(py, |t| &t.corrupt, message.into())
}

/// A `persist.Gone`.
#[cold]
pub(crate) fn gone(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raise(py, |t| &t.gone, message.into())
}

/// True for `persist.Conflict`.
pub(crate) fn is_conflict(py: Python<'_>, e: &PyErr) -> bool {
    types(py).is_ok_and(|t| e.is_instance(py, t.conflict.bind(py)))
}

/// The exception for pickling what belongs to this process.
#[cold]
pub(crate) fn not_pickled(class: &str) -> PyErr {
    PyTypeError::new_err(format!("cannot pickle 'persist.{class}' object"))
}

/// The text of the exception for every use of a closed store.
#[cold]
pub(crate) fn closed(store: &Path) -> String {
    format!("I/O operation on closed store {}; open it again", store.display())
}

/// An OSError, or an exception of a subclass of it, as Python's own functions raise it: with the errno and the file's
/// name, both of which `str()` adds to the text.
fn os_error(ty: &Bound<'_, PyType>, errno: i32, e: &Error, store: &Path) -> PyErr {
    made(ty, (errno, e.text(store), store.as_os_str()))
}

fn of_other_task(what: &str, advice: Option<&str>) -> String {
    let advice = advice.unwrap_or("end it first");
    format!("{what} in another task of this thread, which waiting here would stop: {advice}")
}

/// A `persist.OtherTask`, with what the running task can do.
#[cold]
pub(crate) fn other_task(py: Python<'_>, what: &str, advice: &str) -> PyErr {
    raise(py, |t| &t.other_task, of_other_task(what, Some(advice)))
}

/// A `persist.OtherTask` of a greenlet that has waited for another.
#[cold]
pub(crate) fn late_of_other_task(py: Python<'_>, what: &str, after: Duration) -> PyErr {
    let after = after.as_secs_f64();
    let message = format!("timed out after {after} s waiting for another greenlet: {what} in it");
    raise(py, |t| &t.other_task, message)
}

/// The exception for an error of the engine in a store.
#[cold]
pub(crate) fn to_py(py: Python<'_>, e: Error, store: &Path) -> PyErr {
    let message = e.in_store(store);
    let os = |errno: i32| os_error(&py.get_type::<PyOSError>(), errno, &e, store);
    match e {
        Error::Corrupt { .. } | Error::Damaged { .. } => raise(py, |t| &t.corrupt, message),
        Error::Io { ref source, .. } => match source.raw_os_error() {
            Some(errno) => os(errno),
            None => made(&py.get_type::<PyOSError>(), (message,)),
        },
        Error::NoSpace { .. } | Error::Poisoned { .. } | Error::ReadOnly => os(e.errno()),
        Error::Timeout {
            ref what, ref holder, ..
        } => raise_of_lock(py, |t| &t.lock_timeout, message, what, holder),
        Error::WouldBlock { .. } | Error::Locked(_) | Error::Busy(_) => {
            raise(py, |t| &t.lock_timeout, message)
        }
        Error::Deadlock { ref what, ref holder } => raise_of_lock(py, |t| &t.deadlock, message, what, holder),
        Error::Conflict { ref what, ref holder } => raise_of_lock(py, |t| &t.conflict, message, what, holder),
        Error::Aborted { again: true, .. } => raise(py, |t| &t.conflict, message),
        Error::Aborted { again: false, .. } => raise(py, |t| &t.aborted, message),
        Error::TransactionTooLarge { .. } => raise(py, |t| &t.too_large, message),
        Error::OtherTask { ref what } => raise(py, |t| &t.other_task, of_other_task(what, None)),
        Error::Interrupted => made(&py.get_type::<PyKeyboardInterrupt>(), ()),
        Error::NotLocked { .. } => raise(py, |t| &t.not_locked, message),
        Error::NoSnapshot { .. } => raise(py, |t| &t.no_snapshot, message),
        Error::SnapshotExists { .. } => raise(py, |t| &t.snapshot_exists, message),
        Error::InUse { .. } => raise(py, |t| &t.in_use, message),
        Error::ViewEnded { .. } => raise(py, |t| &t.view_ended, message),
        Error::DurabilityUnknown { .. } => match types(py) {
            Ok(t) => os_error(t.durability_unknown.bind(py), e.errno(), &e, store),
            Err(e) => e,
        },
        Error::Gone(_) => raise(py, |t| &t.gone, message),
        Error::WrongKind { .. } | Error::NoOrder { .. } => made(&py.get_type::<PyTypeError>(), (message,)),
        Error::NoKey => made(&py.get_type::<PyKeyError>(), (message,)),
        Error::Index { .. } => made(&py.get_type::<PyIndexError>(), ("list index out of range",)),
        Error::Invalid { .. } => made(&py.get_type::<PyValueError>(), (message,)),
        // Made here: at the end of the interpreter, an exception that is made when it is looked at panics.
        Error::Closed => made(&py.get_type::<PyValueError>(), (closed(store),)),
        _ => raise(py, |t| &t.error, message),
    }
}
