//! Conversion from a container in the store to the Python object that represents it.
//!
//! 1. The section that finds a container pins it. The pin goes to a proxy or is given back.

use persist_core::store::door::{HandleInfo, Known};
use persist_core::store::{Kind, Obj, Reader, Result};
use pyo3::prelude::*;
use std::sync::Arc;

use super::dict::Dict;
use super::list::List;
use super::object::{self, Object};
use super::proxy::Proxy;
use crate::engine::class_names::Named;
use crate::engine::shared::Shared;

/// A container that a section found: pinned, with the data needed to create its proxy.
pub(crate) struct Found {
    pub(crate) obj: Obj,
    kind: Kind,
    /// The class of an object.
    class: Option<Named>,
    known: Known,
}

/// Describe and pin a container. Nothing is pinned if this fails.
pub(crate) fn find(shared: &Shared, r: &Reader<'_>, obj: Obj) -> Result<Found> {
    let HandleInfo { kind, class, known } = r.open_handle(obj)?;
    let class = class.map(|class| shared.names.get(r, class)).transpose()?;
    r.pin_id(obj.id)?;
    Ok(Found {
        obj,
        kind,
        class,
        known,
    })
}

impl Shared {
    /// The only Python object of a container.
    pub(crate) fn wrap<'py>(self: &Arc<Self>, py: Python<'py>, found: Found) -> PyResult<Bound<'py, PyAny>> {
        let mut replace = false;
        if let Some(there) = self.cache.get(py, found.obj.id) {
            if fits(&there, found.kind) {
                self.store.unpin(found.obj);
                if let Some(class) = found.class
                    && there.is_exact_instance_of::<Object>()
                {
                    let object = there.cast::<Object>()?;
                    if let Some(class) = object::grown(object, &self.names.name(py, class))? {
                        object::set_class(object, &class)?;
                    }
                }
                return Ok(there);
            }
            replace = true; // turned into another kind through the mount
        }
        let proxy = Proxy::new(self, found.obj);
        match found.kind {
            Kind::Dict => self.publish(Bound::new(py, Dict::new(proxy))?, |d| &d.proxy, replace),
            Kind::List => self.publish(Bound::new(py, List { proxy })?, |l| &l.proxy, replace),
            Kind::Object => {
                let class = found.class.map(|class| self.names.name(py, class));
                object::revive(py, proxy, class.as_deref(), found.known, replace)
            }
        }
    }

    fn publish<'py, T: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync>(
        &self,
        made: Bound<'py, T>,
        proxy: impl FnOnce(&T) -> &Proxy,
        replace: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let there = proxy(made.get()).publish(made.as_any(), replace)?;
        Ok(there.unwrap_or_else(|| made.into_any()))
    }
}

fn fits(there: &Bound<'_, PyAny>, kind: Kind) -> bool {
    match kind {
        Kind::Dict => there.is_exact_instance_of::<Dict>(),
        Kind::List => there.is_exact_instance_of::<List>(),
        Kind::Object => there.is_instance_of::<Object>(),
    }
}
