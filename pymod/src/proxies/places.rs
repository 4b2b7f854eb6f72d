//! The places of dicts and lists, whichever of both they are: storing a transient instance.

use persist_core::store::Obj;
use pyo3::prelude::*;
use std::sync::Arc;

use super::dict::Dict;
use super::list::List;
use super::place::Place;
use super::proxy::Proxy;
use crate::engine::shared::Shared;
use crate::python::error;

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
    place
        .links
        .add(proxy, ())
        .ok_or_else(lost)?
        .publish(source, true)?;
    if shared.store.in_transaction() {
        shared.core.new_instances.push(source.clone().unbind());
    } else {
        place.links.forget();
    }
    Ok(())
}
