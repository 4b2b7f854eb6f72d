//! The places of dicts and lists, whichever of both they are: storing a transient instance.

use persist_core::store::Obj;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::Arc;

use super::dict::Dict;
use super::list::List;
use super::place::Place;
use super::proxy::Proxy;
use crate::engine::shared::Shared;
use crate::python::error;

/// Prevents changes of a transient instance while it is being stored.
pub(crate) struct BeingStored<'py>(Bound<'py, PyAny>);

impl<'py> BeingStored<'py> {
    /// Fail if another thread is storing the instance.
    pub(crate) fn begin(object: &Bound<'py, PyAny>) -> PyResult<BeingStored<'py>> {
        if let Some(place) = of(object)
            && place.set_busy(true)
        {
            return Err(PyRuntimeError::new_err(
                "another thread is storing this container",
            ));
        }
        Ok(BeingStored(object.clone()))
    }
}

impl Drop for BeingStored<'_> {
    fn drop(&mut self) {
        if let Some(place) = of(&self.0) {
            place.set_busy(false);
        }
    }
}

/// The place of a `Dict` or `List`.
pub(crate) fn of<'a>(value: &'a Bound<'_, PyAny>) -> Option<&'a Place> {
    if let Ok(dict) = value.cast::<Dict>() {
        return Some(&dict.get().place);
    }
    value.cast::<List>().ok().map(|list| &list.get().place)
}

/// Turn a transient instance into the proxy of the container in which its entries were stored. Takes over one pin of
/// `obj`.
pub(crate) fn adopt(shared: &Arc<Shared>, source: &Bound<'_, PyAny>, obj: Obj) -> PyResult<()> {
    let py = source.py();
    let lost = || error::general(py, "another thread has stored this container");
    let proxy = Proxy::new(shared, obj);
    let place = of(source).ok_or_else(lost)?;
    place.set_link(proxy).ok_or_else(lost)?.publish(source, true)?;
    if shared.store.in_transaction() {
        shared.core.new_instances.push(source.clone().unbind());
    } else {
        place.forget();
    }
    Ok(())
}
