//! Copying whole graphs out of the store, as plain dicts, lists and transient objects.
//!
//! 1. One section reads everything, so the copy is of one moment. Shared and cyclic structure is kept; nothing
//!    recurses.

use persist_core::store::{Kind, Obj, ObjectId, Reader, Result, Value};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::collections::HashMap;

use crate::engine::class_names::Name;
use crate::proxies::classes;
use crate::proxies::dict::Dict;
use crate::proxies::list::List;
use crate::proxies::object::Object;
use crate::proxies::proxy::Proxy;
use crate::python::{error, ffi, scalars};
use crate::values::large::read_whole;

struct Node {
    obj: Obj,
    kind: Kind,
    class: String,
    /// Items, or alternating keys and values.
    values: Vec<Value>,
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    index: HashMap<ObjectId, usize>,
}

impl Graph {
    fn add(&mut self, r: &Reader<'_>, obj: Obj) -> Result<()> {
        if !self.index.contains_key(&obj.id) {
            let kind = r.kind(obj)?;
            let class = r.class(obj)?.unwrap_or_default();
            self.index.insert(obj.id, self.nodes.len());
            self.nodes.push(Node {
                obj,
                kind,
                class,
                values: Vec::new(),
            });
        }
        Ok(())
    }

    fn read(&mut self, r: &Reader<'_>, from: Obj) -> Result<()> {
        self.nodes.clear();
        self.index.clear();
        self.add(r, from)?;
        let mut n = 0;
        while n < self.nodes.len() {
            let values = contents(r, &self.nodes[n])?;
            for value in &values {
                if let Value::Obj(obj) = value {
                    self.add(r, *obj)?;
                }
            }
            self.nodes[n].values = values;
            n += 1;
        }
        Ok(())
    }
}

fn contents(r: &Reader<'_>, node: &Node) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    if node.kind == Kind::List {
        let len = usize::try_from(r.len(node.obj)?).unwrap_or(usize::MAX);
        r.items(node.obj, 0, len, &mut found)?;
    } else {
        let mut cursor = 0;
        while let Some(entry) = r.next(node.obj, cursor)? {
            cursor = entry.cursor;
            found.push(entry.key);
            found.push(entry.value);
        }
    }
    found.into_iter().map(|value| read_whole(r, value)).collect()
}

/// The copy of a container. With `attributes`, the attributes of an object as a dict.
pub(crate) fn copy<'py>(py: Python<'py>, proxy: &Proxy, attributes: bool) -> PyResult<Bound<'py, PyAny>> {
    let mut graph = Graph::default();
    proxy.shared.read(py, |r| graph.read(r, proxy.obj))?;
    if attributes {
        graph.nodes[0].kind = Kind::Dict;
    }
    let mut made = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        made.push(match node.kind {
            Kind::Dict => PyDict::new(py).into_any(),
            Kind::List => PyList::empty(py).into_any(),
            Kind::Object => instance(py, &node.class)?,
        });
    }
    let object = |value: &Value| match value {
        Value::Obj(obj) => match graph.index.get(&obj.id) {
            Some(n) => Ok(made[*n].clone()),
            None => Err(error::general(py, "internal error: a container was not copied")),
        },
        value => scalars::to_python(py, value),
    };
    for (node, made) in graph.nodes.iter().zip(&made) {
        if let Ok(list) = made.cast::<PyList>() {
            for value in &node.values {
                list.append(object(value)?)?;
            }
            continue;
        }
        let dict = match made.cast::<PyDict>() {
            Ok(dict) => dict.clone(),
            Err(_) => ffi::instance_dict(made)?,
        };
        for pair in node.values.chunks_exact(2) {
            dict.set_item(object(&pair[0])?, object(&pair[1])?)?;
        }
    }
    made.into_iter()
        .next()
        .ok_or_else(|| error::general(py, "internal error: nothing was copied"))
}

fn instance<'py>(py: Python<'py>, class: &str) -> PyResult<Bound<'py, PyAny>> {
    let base = py.get_type::<Object>();
    if let Some(class) = classes::find(&base, &Name::new(py, class.to_owned()))?
        && let Some(made) = ffi::bare_instance(&base, &class, &PyTuple::empty(py))?
    {
        return Ok(made);
    }
    base.call0()
}

/// Return a copy of a stored dict, list or object, and of everything below it, that is independent of
/// the store: plain dicts and lists, and transient instances of classes. Return anything else
/// unchanged.
///
/// >>> root['l'] = [1, {'a': None}]
/// >>> persist.copy_out(root['l'])
/// [1, {'a': None}]
#[pyfunction]
pub(crate) fn copy_out<'py>(py: Python<'py>, obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(d) = obj.cast_exact::<Dict>() {
        return copy(py, &d.get().proxy, d.get().attributes);
    }
    if let Ok(l) = obj.cast_exact::<List>() {
        return copy(py, &l.get().proxy, false);
    }
    match obj.cast::<Object>() {
        Ok(o) => match o.get().proxy() {
            Some(proxy) => copy(py, proxy, false),
            None => Ok(obj.clone()),
        },
        Err(_) => Ok(obj.clone()),
    }
}
