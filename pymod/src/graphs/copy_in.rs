//! Storing values: a scalar, a reference, or a whole graph of plain dicts, lists and objects that is copied in, with
//! its shared and cyclic structure.
//!
//! 1. The graph is gathered first (`Gather`), breadth first and without recursion. Then its scalars are borrowed
//!    (`Plan`). Then one write section builds everything, without Python.
//! 2. The new value is put into its place before it is filled, so that the container that receives it, and not a cycle
//!    inside it, becomes its home.
//! 3. While an `Object` is gathered and stored, its attributes cannot be set (`object::BeingStored`).

mod met;

use persist_core::store::{In, Kind, Obj, Result, Typed, Writer};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::collections::HashMap;
use std::sync::Arc;

use super::pins::Pins;
use super::plan::{Built, Part, Plan, PlanNode};
use crate::engine::shared::Shared;
use crate::proxies::dict::Dict;
use crate::proxies::list::List;
use crate::proxies::object::{self, BeingStored, Object};
use crate::proxies::places;
use crate::proxies::proxy::Proxy;
use crate::proxies::registered;
use crate::proxies::wrapped::{self, Wrapped};
use crate::python::refused;
use crate::python::scalars::{self, Scalar};
use crate::values::contents;

/// The role of a Python object in a store.
pub(crate) enum Arg<'a> {
    /// A scalar.
    Scalar(Scalar<'a>),
    /// A container that is already in this store.
    Obj(Obj),
    /// A container that has to be copied in.
    Graph,
}

impl<'a> Arg<'a> {
    /// Classify a value. Raises TypeError if it cannot be stored.
    #[inline]
    pub(crate) fn of(shared: &Shared, value: &'a Bound<'_, PyAny>) -> PyResult<Arg<'a>> {
        Arg::find(shared, value)?.ok_or_else(|| refused::value(value, ""))
    }

    /// Like `of`, but None for a value that cannot be stored.
    #[inline]
    fn find(shared: &Shared, value: &'a Bound<'_, PyAny>) -> PyResult<Option<Arg<'a>>> {
        if let Some(scalar) = Scalar::of(value)? {
            return Ok(Some(Arg::Scalar(scalar)));
        }
        match Arg::of_container(shared, value)? {
            Some(arg) => Ok(Some(arg)),
            None => Ok(Scalar::typed(value)?.map(Arg::Scalar)),
        }
    }

    fn of_container(shared: &Shared, value: &Bound<'_, PyAny>) -> PyResult<Option<Arg<'a>>> {
        let here = |proxy: &Proxy| match proxy.shared.same_store(shared) {
            true => Arg::Obj(proxy.obj),
            false => Arg::Graph,
        };
        // The attributes of an object are copied as a separate dict.
        if let Ok(d) = value.cast::<Dict>()
            && d.get().attributes
        {
            return Ok(Some(Arg::Graph));
        }
        if let Some(place) = places::of(value) {
            return Ok(Some(place.links.live(value.py())?.map_or(Arg::Graph, here)));
        }
        if let Ok(wrapped) = value.cast::<Wrapped>() {
            return Ok(Some(here(wrapped.get().proxy()?)));
        }
        if let Ok(o) = value.cast::<Object>() {
            return Ok(Some(o.get().links.live(value.py())?.map_or(Arg::Graph, here)));
        }
        // Not their subclasses, which would come back as plain dicts and lists.
        if value.is_exact_instance_of::<PyDict>() || value.is_exact_instance_of::<PyList>() {
            return Ok(Some(Arg::Graph));
        }
        if registered::is_instance(value) {
            return Ok(Some(Arg::Graph));
        }
        Ok(wrapped::of_builtin(value)?.map(|_| Arg::Graph))
    }
}

/// Where a value was found, for errors.
enum Visited<'a, 'py> {
    /// The n-th value that was added.
    Top(usize),
    /// Under a key of a node, or at an index.
    Key(usize, &'a Bound<'py, PyAny>),
    Index(usize, usize),
    /// A node itself, for its keys.
    Node(usize),
}

enum Slot<'py> {
    Scalar(Bound<'py, PyAny>),
    /// A value of another type. Its encoder runs once.
    Encoded(Typed),
    Node(usize),
    /// The second field keeps the proxy, and so the pin, until the operation ends.
    Obj(Obj, #[expect(dead_code)] Bound<'py, PyAny>),
}

struct Node<'py> {
    kind: Kind,
    class: Option<String>,
    source: Bound<'py, PyAny>,
    /// It becomes the proxy of the stored container.
    adopt: bool,
    busy: Option<BeingStored<'py>>,
    entries: Vec<(Option<Bound<'py, PyAny>>, Slot<'py>)>,
}

/// The values to store, with all that they refer to.
pub(crate) struct Gather<'py> {
    py: Python<'py>,
    shared: Arc<Shared>,
    top: Vec<Slot<'py>>,
    nodes: Vec<Node<'py>>,
    seen: HashMap<usize, usize>,
    named: Named<'py>,
}

/// How errors name the added values.
enum Named<'py> {
    /// A single value: `value`.
    One,
    /// By index: `value[3]`.
    Items,
    /// By these keys: `value['a']`.
    Keys(Bound<'py, PyList>),
}

impl<'py> Gather<'py> {
    /// An empty graph.
    fn new(py: Python<'py>, shared: &Arc<Shared>, named: Named<'py>) -> Gather<'py> {
        Gather {
            py,
            shared: Arc::clone(shared),
            top: Vec::new(),
            nodes: Vec::new(),
            seen: HashMap::new(),
            named,
        }
    }

    /// Add a value to store.
    fn add(&mut self, value: Bound<'py, PyAny>) -> PyResult<()> {
        let slot = self.slot(value, Visited::Top(self.top.len()))?;
        self.top.push(slot);
        Ok(())
    }

    /// One value.
    pub(crate) fn one(shared: &Arc<Shared>, value: &Bound<'py, PyAny>) -> PyResult<Gather<'py>> {
        let mut gather = Gather::new(value.py(), shared, Named::One);
        gather.add(value.clone())?;
        gather.close()?;
        Ok(gather)
    }

    /// All items of a list.
    pub(crate) fn all(shared: &Arc<Shared>, values: &Bound<'py, PyList>) -> PyResult<Gather<'py>> {
        Gather::many(shared, values, Named::Items)
    }

    /// All values of a dict, which errors name by its keys.
    pub(crate) fn values(
        shared: &Arc<Shared>,
        keys: &Bound<'py, PyList>,
        values: &Bound<'py, PyList>,
    ) -> PyResult<Gather<'py>> {
        Gather::many(shared, values, Named::Keys(keys.clone()))
    }

    fn many(shared: &Arc<Shared>, values: &Bound<'py, PyList>, named: Named<'py>) -> PyResult<Gather<'py>> {
        let mut gather = Gather::new(values.py(), shared, named);
        gather.top.reserve(values.len());
        for value in values.iter() {
            gather.add(value)?;
        }
        gather.close()?;
        Ok(gather)
    }

    fn slot(&mut self, value: Bound<'py, PyAny>, met: Visited<'_, 'py>) -> PyResult<Slot<'py>> {
        let found = Arg::find(&self.shared, &value);
        match found.map_err(|e| self.of_encoder(e, &met))? {
            Some(Arg::Scalar(Scalar::Typed(typed))) => Ok(Slot::Encoded(typed)),
            Some(Arg::Scalar(_)) => Ok(Slot::Scalar(value)),
            Some(Arg::Obj(obj)) => Ok(Slot::Obj(obj, value)),
            Some(Arg::Graph) => self.node(value, &met).map(Slot::Node),
            None => Err(refused::value(&value, &self.place(&met))),
        }
    }

    fn node(&mut self, source: Bound<'py, PyAny>, met: &Visited<'_, 'py>) -> PyResult<usize> {
        let address = source.as_ptr() as usize;
        if let Some(there) = self.seen.get(&address) {
            return Ok(*there);
        }
        let mut node = Node {
            kind: Kind::Dict,
            class: None,
            source,
            adopt: false,
            busy: None,
            entries: Vec::new(),
        };
        if node.source.is_instance_of::<PyList>() || node.source.is_instance_of::<List>() {
            node.kind = Kind::List;
        }
        if let Some(here) = places::of(&node.source) {
            let attributes = node.source.cast::<Dict>().is_ok_and(|d| d.get().attributes);
            if !attributes {
                node.class = object::container_class(&node.source, || self.place(met))?;
                node.adopt = here.links.live(self.py)?.is_none();
            }
            if node.adopt {
                node.busy = Some(BeingStored::begin(&node.source)?);
            }
        } else if let Ok(there) = node.source.cast::<Wrapped>() {
            node.class = Some(there.get().class()?.to_owned());
            node.kind = match there.get().entries(self.py)?.is_instance_of::<List>() {
                true => Kind::List,
                false => Kind::Dict,
            };
        } else if let Ok(o) = node.source.cast::<Object>() {
            node.kind = Kind::Object;
            node.class = Some(object::class_to_store(o, || self.place(met))?);
            if o.get().links.live(self.py)?.is_none() {
                node.adopt = true;
                node.busy = Some(BeingStored::begin(&node.source)?);
            }
        } else if registered::is_instance(&node.source) {
            node.kind = Kind::Object;
            node.class = Some(object::class_of_registered(&node.source, || self.place(met))?);
        }
        if node.class.is_none()
            && let Some((kind, class)) = wrapped::of_builtin(&node.source)?
        {
            (node.kind, node.class) = (kind, Some(class));
        }
        self.nodes.push(node);
        self.seen.insert(address, self.nodes.len() - 1);
        Ok(self.nodes.len() - 1)
    }

    /// Follow all references of the added values.
    pub(crate) fn close(&mut self) -> PyResult<()> {
        let mut next = 0;
        while next < self.nodes.len() {
            let source = self.nodes[next].source.clone();
            self.nodes[next].entries = self.entries(next, &source)?;
            next += 1;
        }
        Ok(())
    }

    fn entries(
        &mut self,
        node: usize,
        source: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<(Option<Bound<'py, PyAny>>, Slot<'py>)>> {
        let mut entries = Vec::new();
        let kept = match places::of(source) {
            Some(here) if here.links.live(self.py)?.is_none() => here.kept(self.py),
            Some(_) => None,
            None => match source.cast::<Wrapped>() {
                Ok(there) => Some(there.get().entries(self.py)?.clone()),
                Err(_) => match wrapped::of_builtin(source)? {
                    Some(_) => Some(wrapped::plain_entries(source)?),
                    None => None,
                },
            },
        };
        let source = kept.as_ref().unwrap_or(source);
        if let Ok(list) = source.cast::<PyList>() {
            entries.reserve(list.len());
            for (n, item) in list.iter().enumerate() {
                entries.push((None, self.slot(item, Visited::Index(node, n))?));
            }
        } else if let Ok(list) = source.cast::<List>() {
            for (n, item) in list.get().plain(self.py)?.iter().enumerate() {
                entries.push((None, self.slot(item, Visited::Index(node, n))?));
            }
        } else {
            let attributes = match source.cast::<Object>() {
                Ok(o) => Some(contents::attributes_to_store(o)?),
                Err(_) if self.nodes[node].kind == Kind::Object => {
                    Some(contents::attributes_of_registered(source)?)
                }
                Err(_) => None,
            };
            let dict = match (&attributes, source.cast::<PyDict>(), source.cast::<Dict>()) {
                (Some(attributes), _, _) => attributes.clone(),
                (_, Ok(dict), _) => dict.clone(),
                (_, _, Ok(dict)) => dict.get().plain(self.py)?,
                _ => return Err(refused::value(source, "")),
            };
            entries.reserve(dict.len());
            for (key, value) in dict.iter() {
                if attributes.is_some() && !key.is_instance_of::<pyo3::types::PyString>() {
                    return Err(PyTypeError::new_err("attribute name must be string"));
                }
                if attributes.is_none() && !Scalar::is_key(&key)? {
                    return Err(refused::key_at(&key, &self.place(&Visited::Node(node))));
                }
                let slot = self.slot(value, Visited::Key(node, &key))?;
                entries.push((Some(key), slot));
            }
        }
        Ok(entries)
    }

    /// Borrow the scalars.
    pub(crate) fn plan(&self) -> PyResult<Plan<'_>> {
        let part = |slot| -> PyResult<Part<'_>> {
            Ok(match slot {
                &Slot::Node(n) => Part::Node(n),
                &Slot::Obj(obj, _) => Part::Obj(obj),
                Slot::Encoded(typed) => Part::Scalar(Scalar::Encoded(typed)),
                Slot::Scalar(value) => {
                    let scalar = match Scalar::of(value)? {
                        None => Scalar::typed(value)?,
                        plain => plain,
                    };
                    Part::Scalar(scalar.ok_or_else(|| refused::value(value, ""))?)
                }
            })
        };
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let mut entries = Vec::with_capacity(node.entries.len());
            for (key, slot) in &node.entries {
                // The name of an attribute is a str, whatever its class.
                let key = match (key, node.kind) {
                    (Some(key), Kind::Object) => Some(Scalar::named(key)?),
                    (Some(key), _) => Some(Scalar::key_of(key)?),
                    (None, _) => None,
                };
                entries.push((key, part(slot)?));
            }
            nodes.push(PlanNode {
                kind: node.kind,
                class: node.class.as_deref(),
                adopt: node.adopt,
                entries,
            });
        }
        let top = self.top.iter().map(part).collect::<PyResult<_>>()?;
        Ok(Plan { top, nodes })
    }

    /// Run one write section that builds the plan and places it. Then the objects among the sources represent the
    /// stored containers. `place` returns whether it used the values.
    pub(crate) fn store<F>(&self, plan: &Plan<'_>, mut place: F) -> PyResult<()>
    where
        F: FnMut(&mut Writer<'_>, &Built<'_>) -> Result<bool> + Send,
    {
        let mut made: Vec<Obj> = Vec::with_capacity(plan.nodes.len());
        let mut pins = Pins {
            shared: Arc::clone(&self.shared),
            held: Vec::new(),
            stale: Vec::new(),
        };
        self.shared.write(self.py, |w| {
            made.clear();
            pins.restart();
            plan.create(w, &mut made)?;
            if place(w, &Built { plan, made: &made })? {
                plan.fill(w, &made)?;
                for (node, obj) in plan.nodes.iter().zip(&made) {
                    if node.adopt {
                        w.pin(*obj)?;
                        pins.held.push(*obj);
                    }
                }
            }
            Ok(())
        })?;
        let mut held = std::mem::take(&mut pins.held).into_iter();
        for node in self.nodes.iter().filter(|n| n.adopt) {
            match held.next() {
                Some(obj) if node.kind == Kind::Object => object::adopt(&self.shared, &node.source, obj)?,
                Some(obj) => places::adopt(&self.shared, &node.source, obj)?,
                None => break,
            }
        }
        Ok(())
    }
}

/// Store one value. `place` stores it in its place, and returns false if it did not.
#[inline]
pub(crate) fn put<F>(
    py: Python<'_>,
    shared: &Arc<Shared>,
    value: &Bound<'_, PyAny>,
    mut place: F,
) -> PyResult<bool>
where
    F: FnMut(&mut Writer<'_>, &In<'_>) -> Result<bool> + Send,
{
    // The most common values need no `Arg`, which is large: moving it right after it was written stalls.
    if let Some(value) = scalars::simple(value) {
        return shared.write(py, |w| place(w, &value));
    }
    match Arg::of(shared, value)? {
        Arg::Scalar(scalar) => {
            let value = scalar.input();
            shared.write(py, |w| place(w, &value))
        }
        Arg::Obj(obj) => shared.write(py, |w| place(w, &In::Obj(obj))),
        Arg::Graph => {
            let gather = Gather::one(shared, value)?;
            let plan = gather.plan()?;
            let mut placed = false;
            gather.store(&plan, |w, built| {
                placed = place(w, &built.top(0))?;
                Ok(placed)
            })?;
            Ok(placed)
        }
    }
}
