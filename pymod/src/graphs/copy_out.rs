//! Copying whole graphs out of the store, as plain dicts, lists and transient objects.
//!
//! 1. One section reads everything, so the copy is of one moment. A large graph is read in a view of the moment, which
//!    holds up no writer. Shared and cyclic structure is kept; nothing recurses.

use persist_core::store::door::SORTED;
use persist_core::store::{Error, Key, Kind, Obj, ObjectId, Reader, Result, Value};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::engine::class_names::Name;
use crate::engine::shared::Shared;
use crate::proxies::classes;
use crate::proxies::dict::Dict;
use crate::proxies::list::List;
use crate::proxies::object::{Object, keep_version, put_attribute};
use crate::proxies::places;
use crate::proxies::proxy::Proxy;
use crate::proxies::registered;
use crate::proxies::wrapped::{self, Wrapped};
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

    /// Read everything from a container on. Return false if it has more than about `most` entries.
    fn read(&mut self, r: &Reader<'_>, from: Obj, most: u64) -> Result<bool> {
        let mut left = most;
        self.nodes.clear();
        self.index.clear();
        self.add(r, from)?;
        let mut n = 0;
        while n < self.nodes.len() {
            let entries = r.len(self.nodes[n].obj)?.saturating_add(1);
            if entries > left {
                return Ok(false);
            }
            left -= entries;
            let values = contents(r, &self.nodes[n])?;
            for value in &values {
                if let Value::Obj(obj) = value {
                    self.add(r, *obj)?;
                }
            }
            self.nodes[n].values = values;
            n += 1;
        }
        Ok(true)
    }
}

/// A graph with more entries is read in a view of the moment.
const FEW: u64 = 2000;

/// Read everything from a container on, as it is at one moment. In a transaction of the caller, that is its state.
fn graph_of(py: Python<'_>, proxy: &Proxy) -> PyResult<Graph> {
    let (shared, obj) = (&*proxy.shared, proxy.obj);
    let mut graph = Graph::default();
    if shared.read(py, |r| graph.read(r, obj, FEW))? {
        return Ok(graph);
    }
    if !shared.store.is_frozen() && !shared.store.in_transaction() {
        let read = shared.wait(py, None, |wait| {
            let view = shared.store.frozen(wait)?;
            let done = view.read(wait, |r| graph.read(r, obj, u64::MAX).map(drop));
            view.close()?;
            match done {
                // It took too much space: read the present state.
                Err(Error::ViewEnded { .. }) => Ok(false),
                done => done.map(|()| true),
            }
        });
        if read? {
            return Ok(graph);
        }
    }
    shared.read(py, |r| graph.read(r, obj, u64::MAX))?;
    Ok(graph)
}

fn contents(r: &Reader<'_>, node: &Node) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    if node.kind == Kind::List {
        let len = usize::try_from(r.len(node.obj)?).unwrap_or(usize::MAX);
        r.items(node.obj, 0, len, &mut found)?;
    } else if node.kind == Kind::Dict && node.class == SORTED {
        let len = usize::try_from(r.len(node.obj)?).unwrap_or(usize::MAX);
        let mut keys = Vec::new();
        r.sorted_keys(node.obj, 0, len, &mut keys)?;
        for key in keys {
            let key = read_whole(r, key)?;
            if let Some(value) = r.get(node.obj, &key.as_key()?)? {
                found.extend([key, value]);
            }
        }
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

/// The memo of `copy.deepcopy`: what was copied already, so that it is copied once over all proxies of one call.
struct Memo<'a, 'py> {
    memo: &'a Bound<'py, PyDict>,
    shared: &'a Shared,
}

impl<'py> Memo<'_, 'py> {
    /// The key of a container that no Python object may represent at the moment.
    fn key(&self, obj: Obj) -> PyResult<Bound<'py, PyTuple>> {
        let store = Arc::as_ptr(&self.shared.core) as usize;
        let parts = ("persist", store, obj.id.0).into_pyobject(self.memo.py())?;
        Ok(parts)
    }

    /// The copy of a container.
    fn get(&self, obj: Obj) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(there) = self.shared.cache.get(self.memo.py(), obj.id)
            && let Some(copy) = self.memo.get_item(there.as_ptr() as usize)?
        {
            return Ok(Some(copy));
        }
        self.memo.get_item(self.key(obj)?)
    }

    /// Record a copy, as `copy.deepcopy` does: by the id of the object, which is kept so that the id stays its own.
    fn put(&self, obj: Obj, copy: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = self.memo.py();
        self.memo.set_item(self.key(obj)?, copy)?;
        let Some(there) = self.shared.cache.get(py, obj.id) else {
            return Ok(());
        };
        self.memo.set_item(there.as_ptr() as usize, copy)?;
        let held = self.memo.as_ptr() as usize;
        match self.memo.get_item(held)? {
            Some(list) => list.call_method1(intern!(py, "append"), (there,)).map(drop),
            None => self.memo.set_item(held, PyList::new(py, [there])?),
        }
    }
}

/// The copy of a container. With `attributes`, the attributes of an object as a dict. With the memo of `copy.deepcopy`,
/// what is copied already is not copied again.
pub(crate) fn copy<'py>(
    py: Python<'py>,
    proxy: &Proxy,
    attributes: bool,
    memo: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let graph = graph_of(py, proxy)?;
    made_of(py, proxy, graph, attributes, memo)
}

fn made_of<'py>(
    py: Python<'py>,
    proxy: &Proxy,
    mut graph: Graph,
    attributes: bool,
    memo: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if attributes {
        graph.nodes[0].kind = Kind::Dict;
        graph.nodes[0].class.clear();
    }
    let shared = &*proxy.shared;
    let memo = memo
        .and_then(|memo| memo.cast::<PyDict>().ok())
        .map(|memo| Memo { memo, shared });
    let mut made: Vec<Option<Bound<'py, PyAny>>> = vec![None; graph.nodes.len()];
    let mut fill = Vec::with_capacity(graph.nodes.len());
    let mut next = VecDeque::from([0]);
    while let Some(n) = next.pop_front() {
        if made[n].is_some() {
            continue;
        }
        let node = &graph.nodes[n];
        // The attributes are copied as a dict of their own, which is not the copy of the object.
        let memo = memo.as_ref().filter(|_| n != 0 || !attributes);
        if let Some(memo) = memo
            && let Some(there) = memo.get(node.obj)?
        {
            made[n] = Some(there);
            continue;
        }
        let copy = match node.kind {
            Kind::Dict | Kind::List if wrapped::is_builtin(&node.class, node.kind) => {
                wrapped::made(py, &node.class)?
            }
            Kind::Dict => match own_class(py, &py.get_type::<Dict>(), &node.class)? {
                Some(made) => made,
                None => PyDict::new(py).into_any(),
            },
            Kind::List => match own_class(py, &py.get_type::<List>(), &node.class)? {
                Some(made) => made,
                None => PyList::empty(py).into_any(),
            },
            Kind::Object => instance(py, &node.class)?,
        };
        if let Some(memo) = memo {
            memo.put(node.obj, &copy)?;
        }
        fill.push((n, copy.clone()));
        made[n] = Some(copy);
        for value in &node.values {
            if let Value::Obj(obj) = value
                && let Some(n) = graph.index.get(&obj.id)
            {
                next.push_back(*n);
            }
        }
    }
    let lost = || error::general(py, "internal error: a container was not copied");
    let object = |value: &Value| match value {
        Value::Obj(obj) => match graph.index.get(&obj.id) {
            Some(n) => made[*n].clone().ok_or_else(lost),
            None => Err(lost()),
        },
        value => scalars::to_python(py, value),
    };
    let value_of =
        |node: &Node, pair: &[Value]| shared.placed(py, object(&pair[1]), node.obj, pair[0].as_key().ok());
    for (n, copy) in &fill {
        let node = &graph.nodes[*n];
        // The entries of an instance of a subclass are in a plain dict or list.
        let plain = places::of(copy).and_then(|place| place.kept(py));
        let builtin = node.kind != Kind::Object && wrapped::is_builtin(&node.class, node.kind);
        let plain = match (plain, node.kind) {
            (None, Kind::List) if builtin => Some(PyList::empty(py).into_any()),
            (None, _) if builtin => Some(PyDict::new(py).into_any()),
            (plain, _) => plain,
        };
        let (whole, copy) = (copy, plain.as_ref().unwrap_or(copy));
        if let Ok(list) = copy.cast::<PyList>() {
            for (n, value) in node.values.iter().enumerate() {
                let item = shared.placed(py, object(value), node.obj, Some(Key::Int(n as i64)))?;
                list.append(item)?;
            }
            if builtin {
                wrapped::fill(whole, copy)?;
            }
            continue;
        }
        if registered::is_instance(copy) {
            let attributes = PyDict::new(py);
            for pair in node.values.chunks_exact(2) {
                attributes.set_item(object(&pair[0])?, value_of(node, pair)?)?;
            }
            py.import(intern!(py, "persist._registered"))?
                .call_method1(intern!(py, "fill"), (copy, attributes))?;
            continue;
        }
        let dict = copy.cast::<PyDict>().ok();
        for pair in node.values.chunks_exact(2) {
            let (key, value) = (object(&pair[0])?, value_of(node, pair)?);
            match dict {
                Some(dict) => dict.set_item(key, value)?,
                None => put_attribute(copy, &key, &value)?,
            }
        }
        if dict.is_none() {
            keep_version(copy)?;
        }
        if builtin {
            wrapped::fill(whole, copy)?;
        }
    }
    made.into_iter().next().flatten().ok_or_else(lost)
}

/// A transient instance of a class that derives from `base`, if this program has the class.
fn own_class<'py>(
    py: Python<'py>,
    base: &Bound<'py, PyType>,
    class: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if class.is_empty() {
        return Ok(None);
    }
    match classes::find(base, &Name::new(py, class.to_owned()))? {
        Some(class) if !class.is(base) => ffi::bare_instance(base, &class, &PyTuple::empty(py)),
        _ => Ok(None),
    }
}

fn instance<'py>(py: Python<'py>, class: &str) -> PyResult<Bound<'py, PyAny>> {
    let base = py.get_type::<Object>();
    let name = Name::new(py, class.to_owned());
    if let Some(class) = classes::find_registered(py, &name)? {
        return py
            .import(intern!(py, "persist._registered"))?
            .call_method1(intern!(py, "bare"), (class,));
    }
    if let Some(class) = classes::find(&base, &name)?
        && let Some(made) = ffi::bare_instance(&base, &class, &PyTuple::empty(py))?
    {
        return Ok(made);
    }
    base.call0()
}

/// Return a copy of a stored dict, list or object, and of everything below it, that is independent of
/// the store: plain dicts and lists, and transient instances of classes. Return anything else
/// unchanged. With objects=dict, the instances are dicts of their attributes.
///
/// >>> root['l'] = [1, {'a': None}]
/// >>> persist.copy_out(root['l'])
/// [1, {'a': None}]
/// >>> persist.copy_out(root['Joe'], objects=dict)
/// {'name': 'Joe', 'age': 27}
#[pyfunction]
#[pyo3(signature = (obj, *, objects = None))]
pub(crate) fn copy_out<'py>(
    py: Python<'py>,
    obj: &Bound<'py, PyAny>,
    objects: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if objects.is_some_and(|objects| !objects.is(py.get_type::<PyDict>())) {
        return Err(PyTypeError::new_err("objects must be dict or None"));
    }
    let (proxy, attributes) = if let Ok(d) = obj.cast::<Dict>() {
        (d.get().place.get(), d.get().attributes)
    } else if let Ok(l) = obj.cast::<List>() {
        (l.get().place.get(), false)
    } else if let Ok(w) = obj.cast::<Wrapped>() {
        (w.get().get(), false)
    } else if let Ok(o) = obj.cast::<Object>() {
        (o.get().proxy(), false)
    } else {
        (None, false)
    };
    let Some(proxy) = proxy else {
        // Not in a store: a value, or an instance that is transient already.
        return Ok(obj.clone());
    };
    let mut graph = graph_of(py, proxy)?;
    if objects.is_some() {
        for node in graph.nodes.iter_mut().filter(|n| n.kind == Kind::Object) {
            node.kind = Kind::Dict;
            node.class.clear();
        }
    }
    made_of(py, proxy, graph, attributes, None)
}
