//! A graph of containers: reading it from a store, its text, its size, and its reachable part.

use super::random::Rng;
use super::value::{Val, value};
use persist_core::store::door::MetadataOf;
use persist_core::store::{Entry, Error, Kind, Obj, Result, Store, Value, Wait};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

/// A dict's entries in order of insertion.
#[derive(Clone, Default, Debug)]
pub struct Dict {
    pub(super) order: BTreeMap<u64, (Val, Val)>,
    pub(super) index: HashMap<Val, u64>,
    pub(super) next: u64,
    /// The metadata of entries.
    pub(super) notes: HashMap<Val, Vec<u8>>,
}

impl Dict {
    pub(super) fn set(&mut self, key: Val, value: Val) {
        let key = key.normal();
        let at = *self.index.entry(key.clone()).or_insert_with(|| {
            self.next += 1;
            self.next
        });
        self.order.insert(at, (key, value));
    }

    pub(super) fn remove(&mut self, key: &Val) {
        if let Some(at) = self.index.remove(key) {
            self.order.remove(&at);
        }
        self.notes.remove(key);
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<Val> {
        self.order.values().map(|(k, _)| k.clone()).collect()
    }

    pub(super) fn some_key(&self, rng: &mut Rng) -> Option<Val> {
        let last = *self.order.last_key_value()?.0;
        let from = rng.next() % (last + 1);
        self.order.range(from..).next().map(|(_, (k, _))| k.clone())
    }
}

#[derive(Clone, Debug)]
pub enum Body {
    /// Dicts and objects.
    Dict(Dict),
    List(Vec<Val>),
}

/// A container.
#[derive(Clone, Debug)]
pub struct Node {
    pub obj: Obj,
    pub class: Option<String>,
    pub body: Body,
}

/// A whole graph.
#[derive(Clone, Debug)]
pub struct Model {
    pub root: u64,
    pub nodes: HashMap<u64, Node>,
}

impl Model {
    /// An empty store's graph.
    pub fn empty(root: Obj) -> Model {
        let node = Node {
            obj: root,
            class: None,
            body: Body::Dict(Dict::default()),
        };
        Model {
            root: root.id.0,
            nodes: HashMap::from([(root.id.0, node)]),
        }
    }

    pub(super) fn obj(&self, id: u64, made: &[Obj]) -> Obj {
        match self.nodes.get(&id) {
            Some(n) => n.obj,
            None => *made
                .iter()
                .find(|o| o.id.0 == id)
                .unwrap_or_else(|| panic!("no container {id}")),
        }
    }

    /// Remove what is unreachable from the root.
    pub fn prune(&mut self) {
        let seen = self.reachable();
        self.nodes.retain(|id, _| seen.contains(id));
    }

    fn reachable(&self) -> HashSet<u64> {
        let mut seen = HashSet::from([self.root]);
        let mut todo = vec![self.root];
        while let Some(id) = todo.pop() {
            let mut visit = |v: &Val| {
                if let Val::Obj(id) = v
                    && seen.insert(*id)
                {
                    todo.push(*id);
                }
            };
            match &self.nodes[&id].body {
                Body::Dict(d) => d.order.values().for_each(|(_, v)| visit(v)),
                Body::List(l) => l.iter().for_each(visit),
            }
        }
        seen
    }

    /// The graph as text: equal texts, equal graphs.
    pub fn text(&self) -> String {
        let mut ids: Vec<u64> = self.reachable().into_iter().collect();
        ids.sort_unstable();
        let mut out = String::new();
        for id in ids {
            let n = &self.nodes[&id];
            let _ = write!(out, "#{id} {}", n.class.as_deref().unwrap_or("-"));
            match &n.body {
                Body::Dict(d) => {
                    out.push('{');
                    for (k, v) in d.order.values() {
                        k.text(&mut out);
                        out.push(':');
                        v.text(&mut out);
                        if let Some(note) = d.notes.get(k) {
                            let _ = write!(out, "/{}:{:?}", note.len(), note.first());
                        }
                        out.push(' ');
                    }
                }
                Body::List(l) => {
                    out.push('[');
                    for v in l {
                        v.text(&mut out);
                        out.push(' ');
                    }
                }
            }
            out.push('\n');
        }
        out
    }

    /// The number of hidden containers: one for the metadata of each dict or object that has any.
    pub fn hidden(&self) -> usize {
        let noted = |n: &&Node| matches!(&n.body, Body::Dict(d) if !d.notes.is_empty());
        self.nodes.values().filter(noted).count()
    }

    /// Bytes of content, roughly.
    pub fn size(&self) -> usize {
        let of = |v: &Val| match v {
            Val::Str(b, _) | Val::Bytes(b) | Val::Link(b) | Val::Big(_, b) => b.len() + 16,
            Val::Typed(t) => t.name.len() + t.payload.len() + 16,
            _ => 16,
        };
        let body = |n: &Node| match &n.body {
            Body::Dict(d) => d.order.values().map(|(k, v)| of(k) + of(v)).sum::<usize>(),
            Body::List(l) => l.iter().map(of).sum(),
        };
        self.nodes.values().map(|n| 100 + body(n)).sum()
    }

    /// Reads a store's whole graph.
    pub fn read(store: &Store) -> Result<Model> {
        store.read(&mut Wait::default(), |r| {
            let mut m = Model {
                root: store.root().id.0,
                nodes: HashMap::new(),
            };
            let mut todo = vec![store.root()];
            while let Some(obj) = todo.pop() {
                if m.nodes.contains_key(&obj.id.0) {
                    continue;
                }
                let mut take = |v: Value| -> Result<Val> {
                    if let Value::Obj(o) = &v {
                        todo.push(*o);
                    }
                    value(r, v)
                };
                let body = match r.kind(obj)? {
                    Kind::List => {
                        let mut items = Vec::new();
                        r.items(obj, 0, usize::MAX, &mut items)?;
                        Body::List(items.into_iter().map(take).collect::<Result<_>>()?)
                    }
                    _ => {
                        let (mut d, mut cursor) = (Dict::default(), 0);
                        while let Some(Entry {
                            cursor: after,
                            key,
                            value: v,
                        }) = r.next(obj, cursor)?
                        {
                            let key = value(r, key)?;
                            if let Some(note) = r.metadata(obj, &MetadataOf::Key(key.as_key()))? {
                                d.notes.insert(key.clone().normal(), note);
                            }
                            d.set(key, take(v)?);
                            cursor = after;
                        }
                        if d.order.len() as u64 != r.len(obj)? {
                            return Err(Error::corrupt("the length of a container", obj.addr));
                        }
                        Body::Dict(d)
                    }
                };
                m.nodes.insert(
                    obj.id.0,
                    Node {
                        obj,
                        class: r.class(obj)?,
                        body,
                    },
                );
            }
            Ok(m)
        })
    }

    pub(super) fn node(&mut self, id: u64) -> &mut Node {
        self.nodes
            .get_mut(&id)
            .unwrap_or_else(|| panic!("no container {id}"))
    }

    pub(super) fn dict(&mut self, id: u64) -> &mut Dict {
        match &mut self.node(id).body {
            Body::Dict(d) => d,
            Body::List(_) => panic!("{id} is a list"),
        }
    }

    pub(super) fn list(&mut self, id: u64) -> &mut Vec<Val> {
        match &mut self.node(id).body {
            Body::List(l) => l,
            Body::Dict(_) => panic!("{id} is a dict"),
        }
    }
}
