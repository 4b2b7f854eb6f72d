//! Versions of classes: `__persist_version__` and `__upgrade__`.
//!
//! 1. An object is upgraded in a transaction, at its first use by a program whose class has a higher version: the new
//!    version is written first, then `__upgrade__` runs. So what it does to the object does not begin it again, another
//!    process that waits for the transaction finds the new version, and an exception takes both back.
//! 2. An object is compared with its class until it was found up to date outside of transactions: a rollback may take
//!    an upgrade back.

use persist_core::store::{In, Key, Value};
use pyo3::intern;
use pyo3::prelude::*;

use crate::proxies::object::{FIRST_VERSION, Object, VERSION, version_of};
use crate::proxies::proxy::Proxy;

fn stored_version(py: Python<'_>, proxy: &Proxy) -> PyResult<i64> {
    let found = proxy
        .shared
        .read(py, |r| r.get(proxy.obj, &Key::Str(VERSION.as_bytes())))?;
    Ok(match found {
        Some(Value::Int(n)) => n,
        _ => FIRST_VERSION,
    })
}

/// Upgrade an object, unless it is known to be up to date, or transient.
pub(crate) fn check(object: &Bound<'_, Object>) -> PyResult<()> {
    match object.get().proxy() {
        Some(proxy) if object.get().is_old() => upgrade(object, proxy),
        _ => Ok(()),
    }
}

/// Upgrade an object if its version is lower than that of its class.
#[cold]
pub(crate) fn upgrade(object: &Bound<'_, Object>, proxy: &Proxy) -> PyResult<()> {
    let py = object.py();
    let class = version_of(&object.get_type())?.unwrap_or(FIRST_VERSION);
    if stored_version(py, proxy)? < class {
        let transaction = py
            .import(intern!(py, "persist._persist"))?
            .call_method1(intern!(py, "_transaction_of"), (object,))?;
        transaction.call_method0(intern!(py, "__enter__"))?;
        let done = upgrade_inside(object, proxy, class);
        let exit = intern!(py, "__exit__");
        match done {
            Ok(()) => transaction.call_method1(exit, (py.None(), py.None(), py.None()))?,
            Err(e) => {
                transaction.call_method1(exit, (e.get_type(py), e.value(py), e.traceback(py)))?;
                return Err(e);
            }
        };
    }
    proxy.shared.set_task_if_needed(py);
    if !proxy.shared.store.in_transaction() {
        object.get().set_old(false);
    }
    Ok(())
}

fn upgrade_inside(object: &Bound<'_, Object>, proxy: &Proxy, class: i64) -> PyResult<()> {
    let py = object.py();
    let from = stored_version(py, proxy)?;
    if from >= class {
        return Ok(());
    }
    let key = Key::Str(VERSION.as_bytes());
    proxy
        .shared
        .write(py, |w| w.set(proxy.obj, &key, &In::Int(class)))?;
    let upgrade = intern!(py, "__upgrade__");
    if object.get_type().hasattr(upgrade)? {
        object.call_method1(upgrade, (from,)).map_err(|e| {
            let class = object
                .get_type()
                .qualname()
                .map_or_else(|_| String::new(), |name| name.to_string());
            let doing = format!("upgrading an object of class '{class}' from version {from}");
            proxy.shared.at_object(py, e, &doing, proxy.obj)
        })?;
    }
    Ok(())
}
