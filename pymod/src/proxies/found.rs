//! Conversion from a container in the store to the Python object that represents it.
//!
//! 1. The section that finds a container pins it. The pin goes to a proxy or is given back.

use persist_core::store::door::{HandleInfo, Known};
use persist_core::store::{Kind, Obj, Reader, Result};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;

use super::classes;
use super::dict::Dict;
use super::list::List;
use super::object::{self, Object};
use super::places;
use super::proxy::Proxy;
use super::wrapped::{self, Wrapped};
use crate::engine::class_names::{Name, Named};
use crate::engine::shared::Shared;
use crate::python::ffi;

/// A container that a section found: pinned, with the data needed to create its proxy.
pub(crate) struct Found {
    pub(crate) obj: Obj,
    kind: Kind,
    /// The class, if it has one.
    class: Option<Named>,
    known: Known,
}

impl Found {
    /// Return whether a class of the program may take part in creating the proxy.
    pub(crate) fn has_class(&self) -> bool {
        self.class.is_some()
    }
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
            if fits(&there, &found)? {
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
            Kind::Dict | Kind::List if found.class.is_some() => {
                let class = found.class.map(|class| self.names.name(py, class));
                revive(py, proxy, found.kind, class.as_deref(), replace)
                    .map_err(|e| self.not_made(py, e, found.obj, class.as_deref()))
            }
            Kind::Dict => self.publish(Bound::new(py, Dict::new(proxy))?, |d| d.place.get(), replace),
            Kind::List => self.publish(Bound::new(py, List::new(proxy))?, |l| l.place.get(), replace),
            Kind::Object => {
                let class = found.class.map(|class| self.names.name(py, class));
                object::revive(py, proxy, class.as_deref(), found.known, replace)
                    .map_err(|e| self.not_made(py, e, found.obj, class.as_deref()))
            }
        }
    }

    #[cold]
    fn not_made(&self, py: Python<'_>, e: PyErr, obj: Obj, class: Option<&Name>) -> PyErr {
        match class {
            Some(name) => self.at_object(
                py,
                e,
                &format!("making an instance of class '{}'", name.text),
                obj,
            ),
            None => e,
        }
    }

    fn publish<'py, T: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync>(
        &self,
        made: Bound<'py, T>,
        proxy: impl FnOnce(&T) -> Option<&Proxy>,
        replace: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let there = match proxy(made.get()) {
            Some(proxy) => proxy.publish(made.as_any(), replace)?,
            None => None,
        };
        Ok(there.unwrap_or_else(|| made.into_any()))
    }
}

/// Create the Python object of a stored dict or list that has a class. Without its class, it is a plain `Dict` or
/// `List`.
fn revive<'py>(
    py: Python<'py>,
    proxy: Proxy,
    kind: Kind,
    class: Option<&Name>,
    replace: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let base = match kind {
        Kind::List => py.get_type::<List>(),
        Kind::Dict | Kind::Object => py.get_type::<Dict>(),
    };
    let builtin = match class {
        Some(name) => wrapped::class_of(py, &name.text, kind)?,
        None => None,
    };
    if let (Some(class), Some(name)) = (&builtin, class)
        && let Some(made) = ffi::bare_instance(&py.get_type::<Wrapped>(), class, &PyTuple::empty(py))?
    {
        let this = made.cast::<Wrapped>()?.get();
        let there = this.begin(py, proxy, kind, &name.text)?.publish(&made, replace)?;
        return Ok(there.unwrap_or(made));
    }
    let class = match (builtin, class) {
        (None, Some(name)) => classes::find(&base, name)?.filter(|class| !class.is(&base)),
        (builtin, _) => builtin,
    };
    let made = match class {
        Some(class) => ffi::bare_instance(&base, &class, &PyTuple::empty(py))?,
        None => None,
    };
    let Some(made) = made else {
        let made = match kind {
            Kind::List => Bound::new(py, List::new(proxy))?.into_any(),
            Kind::Dict | Kind::Object => Bound::new(py, Dict::new(proxy))?.into_any(),
        };
        return publish(made, replace);
    };
    if let Some(place) = places::of(&made) {
        place.links.forget();
        place.links.add(proxy, ());
    }
    publish(made, replace)
}

fn publish(made: Bound<'_, PyAny>, replace: bool) -> PyResult<Bound<'_, PyAny>> {
    let there = match places::of(&made).and_then(|place| place.get()) {
        Some(proxy) => proxy.publish(&made, replace)?,
        None => None,
    };
    Ok(there.unwrap_or(made))
}

fn fits(there: &Bound<'_, PyAny>, found: &Found) -> PyResult<bool> {
    Ok(match found.kind {
        // It is as it was, or the mount has given it another class.
        Kind::Dict | Kind::List if there.is_instance_of::<Wrapped>() => match &found.class {
            Some(class) => there.cast::<Wrapped>()?.get().class()? == class.text(),
            None => false,
        },
        Kind::Dict => there.is_instance_of::<Dict>(),
        Kind::List => there.is_instance_of::<List>(),
        Kind::Object => there.is_instance_of::<Object>(),
    })
}
