//! The graph against a plain model: random operations, cycles, shared references, pins and rollbacks.
//! Afterwards exactly the reachable containers exist, and no memory is lost.

use super::collect_all;
use crate::ids::Obj;
use crate::object::graph::testing::GraphMem;
use crate::object::graph::{check_graph, end_operation, unpinned};
use crate::object::header::Kind;
use crate::object::ops;
use crate::object::value::{In, Key, Step, Value};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq)]
enum MVal {
    Int(i64),
    Text(String),
    Ref(usize),
}

#[derive(Clone, Debug, PartialEq)]
enum MBody {
    Dict(BTreeMap<i64, MVal>),
    List(Vec<MVal>),
}

impl MBody {
    fn vals(&self) -> Vec<&MVal> {
        match self {
            MBody::Dict(d) => d.values().collect(),
            MBody::List(l) => l.iter().collect(),
        }
    }
}

#[derive(Clone, Debug)]
struct Model {
    bodies: BTreeMap<usize, (Obj, MBody)>,
    pins: BTreeSet<usize>,
    next: usize,
}

impl Model {
    fn reach(&self, from: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut seen = BTreeSet::new();
        let mut stack: Vec<usize> = from.into_iter().collect();
        while let Some(i) = stack.pop() {
            if seen.insert(i) {
                for v in self.bodies[&i].1.vals() {
                    if let MVal::Ref(j) = v {
                        stack.push(*j);
                    }
                }
            }
        }
        seen
    }

    fn collect(&mut self) {
        let alive = self.reach(self.pins.iter().copied().chain([0]));
        self.bodies.retain(|i, _| alive.contains(i));
    }

    fn pick(&self, n: u8) -> usize {
        let keys: Vec<usize> = self.bodies.keys().copied().collect();
        keys[usize::from(n) % keys.len()]
    }
}

#[derive(Clone, Debug)]
enum Op {
    New {
        list: bool,
        parent: u8,
        key: u8,
        pin: bool,
        attach: bool,
    },
    Set {
        parent: u8,
        key: u8,
        child: u8,
    },
    Scalar {
        parent: u8,
        key: u8,
        long: bool,
    },
    Remove {
        parent: u8,
        key: u8,
    },
    Clear {
        parent: u8,
    },
    Rename {
        from: u8,
        key: u8,
        to: u8,
        to_key: u8,
    },
    Convert {
        at: u8,
    },
    Pin(u8),
    Unpin(u8),
    Collect,
}

fn op() -> impl Strategy<Value = (Op, bool, u8)> {
    let b = any::<u8>;
    let op = prop_oneof![
        4 => (any::<bool>(), b(), b(), any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(list, parent, key, pin, attach)| {
                Op::New { list, parent, key, pin: pin || !attach, attach }
            }),
        8 => (b(), b(), b()).prop_map(|(parent, key, child)| Op::Set { parent, key, child }),
        1 => (b(), b(), any::<bool>()).prop_map(|(parent, key, long)| Op::Scalar { parent, key, long }),
        6 => (b(), b()).prop_map(|(parent, key)| Op::Remove { parent, key }),
        1 => b().prop_map(|parent| Op::Clear { parent }),
        3 => (b(), b(), b(), b()).prop_map(|(from, key, to, to_key)| Op::Rename { from, key, to, to_key }),
        1 => b().prop_map(|at| Op::Convert { at }),
        1 => b().prop_map(Op::Pin),
        3 => b().prop_map(Op::Unpin),
        1 => Just(Op::Collect),
    ];
    (op, prop::bool::weighted(0.1), 0u8..12)
}

const KEYS: u8 = 5;

fn put(w: &mut GraphMem, m: &mut Model, parent: usize, key: u8, val: MVal) {
    let value = match &val {
        MVal::Int(n) => In::Int(*n),
        MVal::Text(s) => In::str(s),
        MVal::Ref(i) => In::Obj(m.bodies[i].0),
    };
    let (obj, body) = m.bodies.get(&parent).cloned().unwrap();
    let body = match body {
        MBody::Dict(mut d) => {
            let key = i64::from(key % KEYS);
            ops::set(w, obj, &Key::Int(key), &value).unwrap();
            d.insert(key, val);
            MBody::Dict(d)
        }
        MBody::List(mut l) => {
            let i = usize::from(key) % (l.len() + 1);
            if key & 0x80 == 0 && i < l.len() || l.len() > 8 {
                let i = i % l.len();
                ops::set_item(w, obj, i as u64, &value).unwrap();
                l[i] = val;
            } else {
                ops::insert(w, obj, i as u64, &value).unwrap();
                l.insert(i, val);
            }
            MBody::List(l)
        }
    };
    m.bodies.get_mut(&parent).unwrap().1 = body;
}

fn take(body: &MBody, key: u8) -> Option<(Step, usize)> {
    match body {
        MBody::Dict(d) => {
            let k = *d.keys().nth(usize::from(key) % d.len().max(1))?;
            Some((Step::Key(Value::Int(k)), k as usize))
        }
        MBody::List(l) if l.is_empty() => None,
        MBody::List(l) => {
            let i = usize::from(key) % l.len();
            Some((Step::Index(i as u64), i))
        }
    }
}

/// Perform one operation; set and release pins as the store would.
fn apply(w: &mut GraphMem, m: &mut Model, op: &Op) {
    match *op {
        Op::New {
            list,
            parent,
            key,
            pin,
            attach,
        } => {
            if m.bodies.len() > 20 {
                return;
            }
            let obj = if list { ops::new_list(w) } else { ops::new_dict(w) }.unwrap();
            let i = m.next;
            m.next += 1;
            let parent = m.pick(parent);
            let body = if list {
                MBody::List(Vec::new())
            } else {
                MBody::Dict(BTreeMap::new())
            };
            m.bodies.insert(i, (obj, body));
            if pin {
                w.pins.insert(obj.id);
                m.pins.insert(i);
            }
            if attach {
                put(w, m, parent, key, MVal::Ref(i));
            }
        }
        Op::Set { parent, key, child } => {
            let (parent, child) = (m.pick(parent), m.pick(child));
            put(w, m, parent, key, MVal::Ref(child));
        }
        Op::Scalar { parent, key, long } => {
            let parent = m.pick(parent);
            let val = if long {
                MVal::Text("a text beyond the word".repeat(3))
            } else {
                MVal::Int(7)
            };
            put(w, m, parent, key, val);
        }
        Op::Remove { parent, key } => {
            let parent = m.pick(parent);
            let (obj, body) = m.bodies.get_mut(&parent).unwrap();
            let Some((_, at)) = take(body, key) else { return };
            match body {
                MBody::Dict(d) => {
                    assert!(ops::remove(w, *obj, &Key::Int(at as i64)).unwrap());
                    d.remove(&(at as i64));
                }
                MBody::List(l) => {
                    ops::remove_items(w, *obj, at as u64, at as u64 + 1).unwrap();
                    l.remove(at);
                }
            }
        }
        Op::Clear { parent } => {
            let parent = m.pick(parent);
            let (obj, body) = m.bodies.get_mut(&parent).unwrap();
            ops::clear(w, *obj).unwrap();
            match body {
                MBody::Dict(d) => d.clear(),
                MBody::List(l) => l.clear(),
            }
        }
        Op::Rename {
            from,
            key,
            to,
            to_key,
        } => {
            let (from, to) = (m.pick(from), m.pick(to));
            let Some((step, at)) = take(&m.bodies[&from].1, key) else {
                return;
            };
            let to_step = match &m.bodies[&to].1 {
                MBody::Dict(_) => Step::Key(Value::Int(i64::from(to_key % KEYS))),
                MBody::List(l) => Step::Index(to_key as u64 % (l.len() as u64 + 1)),
            };
            ops::rename(w, m.bodies[&from].0, &step, m.bodies[&to].0, &to_step).unwrap();
            if from == to && step == to_step {
                return;
            }
            let val = m.bodies[&from].1.vals()[match &m.bodies[&from].1 {
                MBody::Dict(d) => d.keys().position(|&k| k == at as i64).unwrap(),
                MBody::List(_) => at,
            }]
            .clone();
            match (&mut m.bodies.get_mut(&to).unwrap().1, to_step) {
                (MBody::Dict(d), Step::Key(Value::Int(k))) => {
                    d.insert(k, val);
                }
                (MBody::List(l), Step::Index(i)) if (i as usize) < l.len() => l[i as usize] = val,
                (MBody::List(l), _) => l.push(val),
                _ => unreachable!(),
            }
            match &mut m.bodies.get_mut(&from).unwrap().1 {
                MBody::Dict(d) => {
                    d.remove(&(at as i64));
                }
                MBody::List(l) => {
                    l.remove(at);
                }
            }
        }
        Op::Convert { at } => {
            let i = m.pick(at);
            let (obj, body) = m.bodies.get_mut(&i).unwrap();
            if i == 0 {
                assert!(ops::convert(w, *obj, Kind::List, "").is_err());
                return;
            }
            match body {
                MBody::List(l) => {
                    ops::convert(w, *obj, Kind::Dict, "").unwrap();
                    *body = MBody::Dict((0..).zip(l.drain(..)).collect());
                }
                MBody::Dict(d) if d.keys().copied().eq(0..d.len() as i64) => {
                    ops::convert(w, *obj, Kind::List, "").unwrap();
                    *body = MBody::List(std::mem::take(d).into_values().collect());
                }
                MBody::Dict(_) => assert!(ops::convert(w, *obj, Kind::List, "").is_err()),
            }
        }
        Op::Pin(n) => {
            let i = m.pick(n);
            m.pins.insert(i);
            w.pins.insert(m.bodies[&i].0.id);
        }
        Op::Unpin(n) => {
            let Some(&i) = m.pins.iter().nth(usize::from(n) % m.pins.len().max(1)) else {
                return;
            };
            m.pins.remove(&i);
            w.pins.remove(&m.bodies[&i].0.id);
            // Every other time simulate the death of the process: the pin is not released explicitly.
            if n & 1 == 0 {
                unpinned(w, m.bodies[&i].0).unwrap();
            }
        }
        Op::Collect => {}
    }
}

/// Compare the contents of all live containers, and the homes of all that the root reaches.
fn compare(w: &GraphMem, m: &Model, complete: bool) {
    let report = check_graph(w).unwrap();
    for (i, (obj, body)) in &m.bodies {
        let value = |v: Value| match v {
            Value::Int(n) => MVal::Int(n),
            Value::Str { bytes, .. } => MVal::Text(String::from_utf8(bytes.to_vec()).unwrap()),
            Value::Obj(o) => MVal::Ref(*m.bodies.iter().find(|(_, (x, _))| *x == o).unwrap().0),
            other => panic!("{other:?}"),
        };
        let found = match body {
            MBody::Dict(_) => {
                let (mut d, mut cursor) = (BTreeMap::new(), 0);
                while let Some(e) = ops::next(w, *obj, cursor).unwrap() {
                    cursor = e.cursor;
                    let Value::Int(k) = e.key else { panic!() };
                    d.insert(k, value(e.value));
                }
                MBody::Dict(d)
            }
            MBody::List(_) => {
                let mut out = Vec::new();
                ops::items(w, *obj, 0, usize::MAX, &mut out).unwrap();
                MBody::List(out.into_iter().map(value).collect())
            }
        };
        assert_eq!(found, *body, "content of {i}");
    }
    if complete {
        assert_eq!(report.containers.len(), m.bodies.len());
        assert_eq!(report.orphans, 0);
        for (i, (obj, _)) in &m.bodies {
            let n = m
                .bodies
                .values()
                .flat_map(|(_, b)| b.vals())
                .filter(|v| **v == MVal::Ref(*i))
                .count();
            assert_eq!(ops::refs(w, *obj).unwrap(), n as u64);
        }
    }
    let named = m.reach([0]);
    for &i in &named {
        let obj = m.bodies[&i].0;
        let (mut at, mut steps) = (obj, 0);
        while at != w.root {
            let (parent, step) = ops::home(w, at)
                .unwrap()
                .expect("a home for what the root reaches");
            let here = match &step {
                Step::Key(Value::Int(k)) => ops::get(w, parent, &Key::Int(*k)).unwrap(),
                Step::Index(i) => ops::item(w, parent, *i).unwrap(),
                other => panic!("{other:?}"),
            };
            assert_eq!(here, Some(Value::Obj(at)), "home entry");
            at = parent;
            steps += 1;
            assert!(steps < 50, "homes that lead nowhere");
        }
        let mut homes = 0;
        for (parent, body) in m.bodies.values() {
            let steps: Vec<Step> = match body {
                MBody::Dict(d) => d.keys().map(|k| Step::Key(Value::Int(*k))).collect(),
                MBody::List(l) => (0..l.len() as u64).map(Step::Index).collect(),
            };
            homes += steps
                .iter()
                .filter(|s| ops::is_home(w, obj, *parent, s).unwrap())
                .count();
        }
        assert_eq!(homes, usize::from(i != 0), "number of homes of {i}");
    }
}

fn run(ops: &[(Op, bool, u8)]) {
    let mut w = GraphMem::new();
    let base = w.segments();
    let mut m = Model {
        bodies: BTreeMap::from([(0, (w.root, MBody::Dict(BTreeMap::new())))]),
        pins: BTreeSet::new(),
        next: 1,
    };
    for (op, rollback, budget) in ops {
        let before = (m.clone(), w.pins.clone());
        apply(&mut w, &mut m, op);
        if *rollback {
            end_operation(&mut w, u64::from(*budget)).unwrap();
            w.heap.rollback();
            m = before.0;
            w.pins = before.1;
        } else {
            end_operation(&mut w, u64::from(*budget)).unwrap();
            w.commit();
            m.collect();
        }
        if matches!(op, Op::Collect) {
            collect_all(&mut w);
            compare(&w, &m, true);
        } else {
            compare(&w, &m, false);
        }
    }
    collect_all(&mut w);
    compare(&w, &m, true);
    w.pins.clear();
    m.pins.clear();
    ops::clear(&mut w, m.bodies[&0].0).unwrap();
    m.bodies.get_mut(&0).unwrap().1 = MBody::Dict(BTreeMap::new());
    m.collect();
    collect_all(&mut w);
    compare(&w, &m, true);
    assert_eq!(w.segments(), base, "memory lost: {:?}", w.left());
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn the_graph_is_like_the_model(ops in prop::collection::vec(op(), 1..120)) {
        run(&ops);
    }
}
