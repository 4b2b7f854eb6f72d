//! A store's graph as plain Rust values, random operations on both, and their comparison: shared by the
//! model, power-cut and full-disk tests.
//!
//! 1. The model names containers by the ids that the store gave them, so that it can be compared with
//!    any copy of the store, and operations go on from any checkpoint.
//! 2. An operation is drawn from the model alone: the same seed on the same model is the same operation.
#![allow(dead_code, unreachable_pub)] // Each test uses its part.

use persist_core::store::{
    Entry, Error, In, Key, Kind, Large, LargeKind, Obj, ObjectId, Reader, Result, Store, Value, Wait, Writer,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

/// A small deterministic generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n` (0 for 0).
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 {
            0
        } else {
            (self.next() % n as u64) as usize
        }
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Val {
    None,
    Bool(bool),
    Int(i64),
    Big(bool, Vec<u8>),
    /// By bits.
    Float(u64),
    Str(Vec<u8>, bool),
    Bytes(Vec<u8>),
    Obj(u64),
}

impl Val {
    fn as_in<'a>(&'a self, model: &Model, made: &[Obj]) -> In<'a> {
        match self {
            Val::None => In::None,
            Val::Bool(b) => In::Bool(*b),
            Val::Int(i) => In::Int(*i),
            Val::Big(negative, magnitude) => In::BigInt {
                negative: *negative,
                magnitude,
            },
            Val::Float(bits) => In::Float(f64::from_bits(*bits)),
            Val::Str(bytes, no_newline) => In::Str {
                bytes,
                no_newline: *no_newline,
            },
            Val::Bytes(b) => In::Bytes(b),
            Val::Obj(id) => In::Obj(model.obj(*id, made)),
        }
    }

    /// As a key. Not for containers.
    fn as_key(&self) -> Key<'_> {
        match self {
            Val::None | Val::Obj(_) => Key::None,
            Val::Bool(b) => Key::Bool(*b),
            Val::Int(i) => Key::Int(*i),
            Val::Big(negative, magnitude) => Key::BigInt {
                negative: *negative,
                magnitude,
            },
            Val::Float(bits) => Key::Float(f64::from_bits(*bits)),
            Val::Str(bytes, _) => Key::Str(bytes),
            Val::Bytes(b) => Key::Bytes(b),
        }
    }

    /// Keys that are equal in Python, made the same.
    fn normal(self) -> Val {
        match self {
            Val::Bool(b) => Val::Int(i64::from(b)),
            Val::Str(b, _) => Val::Str(b, false),
            Val::Float(bits) => {
                let f = f64::from_bits(bits);
                if f.fract() == 0.0 && f.abs() < 1e15 {
                    Val::Int(f as i64)
                } else {
                    Val::Float(bits)
                }
            }
            other => other,
        }
    }

    fn text(&self, out: &mut String) {
        let long = |out: &mut String, what: &str, b: &[u8]| {
            let hash = b.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
                (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
            });
            let _ = match b.len() {
                0..=24 => write!(out, "{what}{:?}", b.escape_ascii().to_string()),
                n => write!(out, "{what}[{n}:{hash:x}]"),
            };
        };
        let _ = match self {
            Val::None => write!(out, "None"),
            Val::Bool(b) => write!(out, "{b}"),
            Val::Int(i) => write!(out, "{i}"),
            Val::Big(n, m) => {
                long(out, if *n { "-big" } else { "big" }, m);
                Ok(())
            }
            Val::Float(bits) => write!(out, "float{bits:x}"),
            Val::Str(b, n) => {
                long(out, if *n { "str~" } else { "str" }, b);
                Ok(())
            }
            Val::Bytes(b) => {
                long(out, "bytes", b);
                Ok(())
            }
            Val::Obj(id) => write!(out, "#{id}"),
        };
    }
}

/// A dict's entries in order of insertion.
#[derive(Clone, Default, Debug)]
pub struct Dict {
    order: BTreeMap<u64, (Val, Val)>,
    index: HashMap<Val, u64>,
    next: u64,
}

impl Dict {
    fn set(&mut self, key: Val, value: Val) {
        let key = key.normal();
        let at = *self.index.entry(key.clone()).or_insert_with(|| {
            self.next += 1;
            self.next
        });
        self.order.insert(at, (key, value));
    }

    fn remove(&mut self, key: &Val) {
        if let Some(at) = self.index.remove(key) {
            self.order.remove(&at);
        }
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<Val> {
        self.order.values().map(|(k, _)| k.clone()).collect()
    }

    fn some_key(&self, rng: &mut Rng) -> Option<Val> {
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

/// What a value to be stored is to be.
#[derive(Clone, Debug)]
pub enum New {
    Val(Val),
    Dict(Vec<(Val, Val)>),
    Object(&'static str, Vec<(Val, Val)>),
    List(Vec<Val>),
}

/// One operation.
#[derive(Clone, Debug)]
pub enum Op {
    Set(u64, Val, New),
    Remove(u64, Val),
    Clear(u64),
    Insert(u64, usize, New),
    SetItem(u64, usize, New),
    RemoveItems(u64, usize, usize),
    /// Many entries at once.
    Fill(u64, Vec<(Val, Val)>),
    /// Many removals at once.
    Drain(u64, Vec<Val>),
    Extend(u64, usize, Vec<Val>),
    /// An entry to another dict or key.
    Rename(u64, Val, u64, Val),
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

    fn obj(&self, id: u64, made: &[Obj]) -> Obj {
        match self.nodes.get(&id) {
            Some(n) => n.obj,
            None => *made
                .iter()
                .find(|o| o.id.0 == id)
                .unwrap_or_else(|| panic!("no container {id}")),
        }
    }

    /// Forgets what the root does not reach.
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

    /// Bytes of content, roughly.
    pub fn size(&self) -> usize {
        let of = |v: &Val| match v {
            Val::Str(b, _) | Val::Bytes(b) | Val::Big(_, b) => b.len() + 16,
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
        store.read(&mut Wait::forever(), |r| {
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
                            d.set(value(r, key)?, take(v)?);
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

    /// Runs the operation in a write section; what it made.
    pub fn run(&self, w: &mut Writer<'_>, op: &Op) -> Result<Vec<Obj>> {
        let mut made = Vec::new();
        let put = |w: &mut Writer<'_>, new: &New, made: &mut Vec<Obj>| -> Result<Option<Obj>> {
            let o = match new {
                New::Val(_) => return Ok(None),
                New::Dict(entries) => {
                    let o = w.new_dict()?;
                    entries
                        .iter()
                        .try_for_each(|(k, v)| w.set(o, &k.as_key(), &v.as_in(self, &[])))?;
                    o
                }
                New::Object(class, entries) => {
                    let o = w.new_object(class)?;
                    entries
                        .iter()
                        .try_for_each(|(k, v)| w.set(o, &k.as_key(), &v.as_in(self, &[])))?;
                    o
                }
                New::List(items) => {
                    let o = w.new_list()?;
                    for (i, v) in items.iter().enumerate() {
                        w.insert(o, i as u64, &v.as_in(self, &[]))?;
                    }
                    o
                }
            };
            made.push(o);
            Ok(Some(o))
        };
        let obj = |id: &u64| self.obj(*id, &[]);
        match op {
            Op::Set(d, k, new) => {
                let o = put(w, new, &mut made)?;
                w.set(obj(d), &k.as_key(), &input(self, new, o))?;
            }
            Op::Remove(d, k) => assert!(w.remove(obj(d), &k.as_key())?, "nothing to remove"),
            Op::Clear(c) => w.clear(obj(c))?,
            Op::Insert(l, at, new) => {
                let o = put(w, new, &mut made)?;
                w.insert(obj(l), *at as u64, &input(self, new, o))?;
            }
            Op::SetItem(l, at, new) => {
                let o = put(w, new, &mut made)?;
                w.set_item(obj(l), *at as u64, &input(self, new, o))?;
            }
            Op::RemoveItems(l, from, to) => w.remove_items(obj(l), *from as u64, *to as u64)?,
            Op::Fill(d, entries) => {
                entries
                    .iter()
                    .try_for_each(|(k, v)| w.set(obj(d), &k.as_key(), &v.as_in(self, &[])))?;
            }
            Op::Drain(d, keys) => {
                for k in keys {
                    assert!(w.remove(obj(d), &k.as_key())?, "nothing to remove");
                }
            }
            Op::Extend(l, at, items) => {
                for (i, v) in items.iter().enumerate() {
                    w.insert(obj(l), (at + i) as u64, &v.as_in(self, &[]))?;
                }
            }
            Op::Rename(from, k, to, k2) => {
                use persist_core::store::Step;
                w.rename(
                    obj(from),
                    &Step::Key(as_value(k)),
                    obj(to),
                    &Step::Key(as_value(k2)),
                )?;
            }
        }
        Ok(made)
    }

    /// The same on the model. `made`: what `run` gave.
    pub fn apply(&mut self, op: &Op, made: &[Obj]) {
        let put = |m: &mut Model, new: &New| -> Val {
            let (class, body) = match new {
                New::Val(v) => return v.clone(),
                New::List(items) => (None, Body::List(items.clone())),
                New::Dict(entries) | New::Object(_, entries) => {
                    let mut d = Dict::default();
                    entries.iter().for_each(|(k, v)| d.set(k.clone(), v.clone()));
                    let class = if let New::Object(class, _) = new {
                        Some((*class).to_owned())
                    } else {
                        None
                    };
                    (class, Body::Dict(d))
                }
            };
            m.nodes.insert(
                made[0].id.0,
                Node {
                    obj: made[0],
                    class,
                    body,
                },
            );
            Val::Obj(made[0].id.0)
        };
        match op {
            Op::Set(d, k, new) => {
                let v = put(self, new);
                self.dict(*d).set(k.clone(), v);
            }
            Op::Remove(d, k) => self.dict(*d).remove(k),
            Op::Clear(c) => match &mut self.node(*c).body {
                Body::Dict(d) => *d = Dict::default(),
                Body::List(l) => l.clear(),
            },
            Op::Insert(l, at, new) => {
                let v = put(self, new);
                self.list(*l).insert(*at, v);
            }
            Op::SetItem(l, at, new) => {
                let v = put(self, new);
                self.list(*l)[*at] = v;
            }
            Op::RemoveItems(l, from, to) => drop(self.list(*l).drain(from..to)),
            Op::Fill(d, entries) => {
                let d = self.dict(*d);
                entries.iter().for_each(|(k, v)| d.set(k.clone(), v.clone()));
            }
            Op::Drain(d, keys) => {
                let d = self.dict(*d);
                keys.iter().for_each(|k| d.remove(k));
            }
            Op::Extend(l, at, items) => {
                self.list(*l).splice(at..at, items.iter().cloned());
            }
            Op::Rename(from, k, to, k2) => {
                if from == to && k == k2 {
                    return;
                }
                let d = self.dict(*from);
                let v = d.index.get(k).and_then(|at| d.order.get(at)).map(|e| e.1.clone());
                d.remove(k);
                if let Some(v) = v {
                    self.dict(*to).set(k2.clone(), v);
                }
            }
        }
        self.prune();
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes
            .get_mut(&id)
            .unwrap_or_else(|| panic!("no container {id}"))
    }

    fn dict(&mut self, id: u64) -> &mut Dict {
        match &mut self.node(id).body {
            Body::Dict(d) => d,
            Body::List(_) => panic!("{id} is a list"),
        }
    }

    fn list(&mut self, id: u64) -> &mut Vec<Val> {
        match &mut self.node(id).body {
            Body::List(l) => l,
            Body::Dict(_) => panic!("{id} is a dict"),
        }
    }

    fn value(&self, rng: &mut Rng) -> New {
        match rng.below(16) {
            0 => New::Dict(entries(rng, 4, true)),
            1 => New::List((0..rng.below(6)).map(|_| scalar(rng)).collect()),
            2 => New::Object(CLASSES[rng.below(CLASSES.len())], entries(rng, 4, false)),
            // Another reference: shared, or a cycle.
            3 => New::Val(Val::Obj(self.some(rng, |_| true).unwrap_or(self.root))),
            _ => New::Val(scalar(rng)),
        }
    }

    fn some(&self, rng: &mut Rng, fits: impl Fn(&Node) -> bool) -> Option<u64> {
        let mut ids: Vec<u64> = self
            .nodes
            .iter()
            .filter(|(_, n)| fits(n))
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        (!ids.is_empty()).then(|| ids[rng.below(ids.len())])
    }

    fn key(&self, id: u64, rng: &mut Rng) -> Val {
        if self.nodes[&id].class.is_some() {
            Val::Str(format!("attr{}", rng.below(12)).into_bytes(), false)
        } else {
            key(rng)
        }
    }

    /// A random operation, one that removes once the content is above `room` bytes.
    pub fn draw(&self, rng: &mut Rng, room: usize) -> Op {
        let full = self.size() > room;
        let is_list = |n: &Node| matches!(n.body, Body::List(_));
        for _ in 0..40 {
            let Some(id) = self.some(rng, |_| true) else { break };
            let node = &self.nodes[&id];
            let op = match (&node.body, if full { 20 + rng.below(6) } else { rng.below(26) }) {
                (Body::Dict(d), 20..=22) => d.some_key(rng).map(|k| Op::Remove(id, k)),
                (Body::Dict(d), 23) => {
                    let n = 1 + rng.below(200);
                    let from = rng.next() % (d.next + 1);
                    let keys: Vec<Val> = d
                        .order
                        .range(from..)
                        .take(n)
                        .map(|(_, (k, _))| k.clone())
                        .collect();
                    Some(Op::Drain(id, keys))
                }
                (Body::Dict(d), 24) => {
                    let to = self
                        .some(rng, |n| !is_list(n) && n.class.is_none() == node.class.is_none())
                        .unwrap_or(id);
                    let k2 = self.key(to, rng).normal();
                    d.some_key(rng)
                        .filter(|k| !is_obj(d, k))
                        .map(|k| Op::Rename(id, k, to, k2))
                }
                (_, 25) if id != self.root || rng.one_in(8) => Some(Op::Clear(id)),
                (Body::Dict(_), 19) if node.class.is_none() => {
                    let n = 1 + rng.below(300);
                    let base = rng.below(2000) as i64;
                    Some(Op::Fill(
                        id,
                        (0..n as i64).map(|i| (Val::Int(base + i), small(rng))).collect(),
                    ))
                }
                (Body::Dict(_), 0..=18) => Some(Op::Set(id, self.key(id, rng), self.value(rng))),
                (Body::List(l), 20 | 21) if !l.is_empty() => {
                    let at = rng.below(l.len());
                    Some(Op::RemoveItems(id, at, at + 1))
                }
                (Body::List(l), 22..=24) if !l.is_empty() => {
                    let from = rng.below(l.len());
                    Some(Op::RemoveItems(id, from, from + rng.below(l.len() - from + 1)))
                }
                (Body::List(l), 18 | 19) => {
                    let n = 1 + rng.below(600);
                    Some(Op::Extend(
                        id,
                        rng.below(l.len() + 1),
                        (0..n).map(|_| small(rng)).collect(),
                    ))
                }
                (Body::List(l), 12..=17) if !l.is_empty() => {
                    Some(Op::SetItem(id, rng.below(l.len()), self.value(rng)))
                }
                (Body::List(l), 0..=11) => {
                    let at = if rng.one_in(2) {
                        l.len()
                    } else {
                        rng.below(l.len() + 1)
                    };
                    Some(Op::Insert(id, at, self.value(rng)))
                }
                _ => None,
            };
            if let Some(op) = op {
                return op;
            }
        }
        Op::Set(
            self.root,
            Val::Str(b"fallback".to_vec(), false),
            New::Val(small(rng)),
        )
    }
}

fn is_obj(d: &Dict, k: &Val) -> bool {
    d.index
        .get(k)
        .and_then(|at| d.order.get(at))
        .is_some_and(|e| matches!(e.1, Val::Obj(_)))
}

const CLASSES: [&str; 4] = ["", "app:Person", "app.shapes:Point", "app:A.B"];

fn input<'a>(m: &Model, new: &'a New, made: Option<Obj>) -> In<'a> {
    match (new, made) {
        (New::Val(v), _) => v.as_in(m, &[]),
        (_, Some(o)) => In::Obj(o),
        (_, None) => In::None,
    }
}

fn as_value(v: &Val) -> Value {
    match v {
        Val::None | Val::Obj(_) => Value::None,
        Val::Bool(b) => Value::Bool(*b),
        Val::Int(i) => Value::Int(*i),
        Val::Big(negative, m) => Value::BigInt {
            negative: *negative,
            magnitude: m.as_slice().into(),
        },
        Val::Float(bits) => Value::Float(f64::from_bits(*bits)),
        Val::Str(b, no_newline) => Value::Str {
            bytes: b.as_slice().into(),
            no_newline: *no_newline,
        },
        Val::Bytes(b) => Value::Bytes(b.as_slice().into()),
    }
}

fn entries(rng: &mut Rng, most: usize, any_key: bool) -> Vec<(Val, Val)> {
    let key = |rng: &mut Rng| {
        if any_key {
            key(rng)
        } else {
            Val::Str(format!("attr{}", rng.below(6)).into_bytes(), false)
        }
    };
    (0..rng.below(most + 1))
        .map(|_| (key(rng), scalar(rng)))
        .collect()
}

fn filled(rng: &mut Rng, n: usize) -> Vec<u8> {
    let mut c = rng.next() as u8;
    (0..n)
        .map(|_| {
            c = c.wrapping_mul(5).wrapping_add(113);
            b'a' + c % 26
        })
        .collect()
}

fn key(rng: &mut Rng) -> Val {
    match rng.below(12) {
        0 => Val::None,
        1 => Val::Bool(rng.one_in(2)),
        2 => Val::Int(rng.below(40) as i64),
        3 => Val::Int(rng.next() as i64),
        4 => Val::Float((rng.below(9) as f64 + 0.5).to_bits()),
        5 => Val::Bytes(format!("b{}", rng.below(9)).into_bytes()),
        6 => {
            let n = 100 + rng.below(6000);
            Val::Str(filled(rng, n), false)
        }
        _ => Val::Str(format!("key {}", rng.below(60)).into_bytes(), false),
    }
}

fn small(rng: &mut Rng) -> Val {
    match rng.below(6) {
        0 => Val::None,
        1 => Val::Str(format!("s{}", rng.below(1000)).into_bytes(), false),
        2 => Val::Str(
            format!("a somewhat longer string {}", rng.below(1000)).into_bytes(),
            rng.one_in(2),
        ),
        3 => Val::Float((rng.next() as f64 / 7.0).to_bits()),
        _ => Val::Int(rng.next() as i64 >> rng.below(60)),
    }
}

/// A scalar of any kind and, rarely, of any size: around the borders of segments, pages and pieces.
pub fn scalar(rng: &mut Rng) -> Val {
    let n = match rng.below(40) {
        0..=9 => rng.below(8),
        10..=27 => rng.below(200),
        28..=33 => 1000 + rng.below(2500),
        34 | 35 => 4096 * (1 + rng.below(3)) - 40 + rng.below(60),
        36 | 37 => rng.below(30_000),
        38 => 64 * 1024 - 4 + rng.below(8),
        _ => 65_000 + rng.below(60_000),
    };
    match rng.below(10) {
        0..=4 => small(rng),
        5 => Val::Bool(rng.one_in(2)),
        6 => {
            let mut m = filled(rng, 9 + n / 4);
            m.push(1);
            Val::Big(rng.one_in(2), m)
        }
        7 => Val::Bytes(filled(rng, n)),
        _ => Val::Str(filled(rng, n), rng.one_in(4)),
    }
}

fn value(r: &Reader<'_>, v: Value) -> Result<Val> {
    Ok(match v {
        Value::None => Val::None,
        Value::Bool(b) => Val::Bool(b),
        Value::Int(i) => Val::Int(i),
        Value::BigInt { negative, magnitude } => Val::Big(negative, magnitude.to_vec()),
        Value::Float(f) => Val::Float(f.to_bits()),
        Value::Str { bytes, no_newline } => Val::Str(bytes.to_vec(), no_newline),
        Value::Bytes(b) => Val::Bytes(b.to_vec()),
        Value::Large(large) => {
            let bytes = read_large(r, &large)?;
            match large.kind {
                LargeKind::Str { no_newline } => Val::Str(bytes, no_newline),
                LargeKind::Bytes => Val::Bytes(bytes),
                LargeKind::Int { negative } => Val::Big(negative, bytes),
            }
        }
        Value::Obj(o) => Val::Obj(o.id.0),
    })
}

fn read_large(r: &Reader<'_>, large: &Large) -> Result<Vec<u8>> {
    let mut out = vec![0; large.len as usize];
    let mut at = 0;
    while at < out.len() {
        let n = r.large_read(large, at as u64, &mut out[at..])?;
        assert!(n > 0, "a large value ends early");
        at += n;
    }
    Ok(out)
}

/// Draws, runs and mirrors one operation.
pub fn step(store: &Store, m: &mut Model, rng: &mut Rng, room: usize) -> Result<Op> {
    let op = m.draw(rng, room);
    let made = store.write(persist_core::store::Actor::Thread, &mut Wait::forever(), |w| {
        m.run(w, &op)
    })?;
    m.apply(&op, &made);
    Ok(op)
}

/// Panics unless the store is sound and holds exactly this graph.
pub fn compare(store: &Store, m: &Model, what: &str) {
    let found = Model::read(store).unwrap_or_else(|e| panic!("{what}: reading: {e}"));
    let (found, want) = (found.text(), m.text());
    if found != want {
        let line = found.lines().zip(want.lines()).find(|(a, b)| a != b);
        let (a, b) = line.unwrap_or(("(a different number of containers)", ""));
        let at = a
            .bytes()
            .zip(b.bytes())
            .take_while(|(x, y)| x == y)
            .count()
            .saturating_sub(40);
        let show = |s: &str| s.chars().skip(at).take(300).collect::<String>();
        panic!(
            "{what}: the graph differs\n found: {}\n want:  {}",
            show(a),
            show(b)
        );
    }
    let report = store.check().unwrap_or_else(|e| panic!("{what}: check: {e}"));
    assert!(
        report.containers.len() >= m.nodes.len(),
        "{what}: fewer containers than there are"
    );
    if !store.in_transaction() {
        match store.check_pages() {
            Ok(_) | Err(persist_core::store::Error::Poisoned { .. }) => {}
            Err(e) => panic!("{what}: pages: {e}"),
        }
    }
}

/// The ids of containers are what the model is kept by.
pub fn id(o: Obj) -> ObjectId {
    o.id
}

/// How long to run: `quick`, or what PERSIST_TORTURE_SECONDS says.
pub fn time(quick: u64) -> std::time::Duration {
    let seconds = std::env::var("PERSIST_TORTURE_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    std::time::Duration::from_secs(seconds.unwrap_or(quick))
}

/// Where to begin: what PERSIST_SEED says, or here.
pub fn seed(usual: u64) -> u64 {
    let seed = std::env::var("PERSIST_SEED").ok().and_then(|s| s.parse().ok());
    seed.unwrap_or(usual)
}

/// Where to keep stores: memory, if there is some.
pub fn scratch() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(dir) = tempfile::Builder::new().prefix("persist-test").tempdir_in(memory)
    {
        return dir;
    }
    tempfile::tempdir().unwrap_or_else(|e| panic!("no directory for tests: {e}"))
}
