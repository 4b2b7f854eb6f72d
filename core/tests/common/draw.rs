//! The choice of the next operation: drawn from the model alone, so that the same seed on the same model gives the same
//! operation.

use super::model::{Body, Dict, Model, Node};
use super::operation::{New, Op};
use super::random::Rng;
use super::value::Val;
use persist_core::store::Typed;

const CLASSES: [&str; 4] = ["", "app:Person", "app.shapes:Point", "app:A.B"];

impl Model {
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
                (Body::Dict(d), 17 | 18) => edit(id, d, rng),
                (Body::Dict(d), 15 | 16) => d.some_key(rng).map(|key| {
                    let most = if rng.one_in(20) { 9000 } else { 60 };
                    let n = rng.below(most);
                    let note = (!rng.one_in(4)).then(|| filled(rng, n));
                    Op::Note(id, key, note)
                }),
                (Body::Dict(_), 0..=14) => Some(Op::Set(id, self.key(id, rng), self.value(rng))),
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

/// A change of a part of a random value, if that is a str or bytes: often around its end, or at the end of a segment.
fn edit(id: u64, d: &Dict, rng: &mut Rng) -> Option<Op> {
    let key = d.some_key(rng)?;
    let value = d.index.get(&key).and_then(|at| d.order.get(at)).map(|e| &e.1)?;
    let (Val::Str(content, _) | Val::Bytes(content)) = value else {
        return None;
    };
    let n = match rng.below(8) {
        0 => 9000,
        1 | 2 => 3000 + rng.below(2000),
        _ => 100,
    };
    let n = rng.below(n);
    let offset = match rng.below(4) {
        0 | 1 => content.len(),
        2 => rng.below(content.len() + 1),
        _ => rng.below(content.len() + 5000),
    };
    let len = match rng.below(4) {
        0 => Some(rng.below(content.len() + 200)),
        1 => Some(offset + n),
        _ => None,
    };
    Some(Op::Edit(id, key, offset, filled(rng, n), len))
}

fn is_obj(d: &Dict, k: &Val) -> bool {
    d.index
        .get(k)
        .and_then(|at| d.order.get(at))
        .is_some_and(|e| matches!(e.1, Val::Obj(_)))
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

/// A scalar of any kind and, rarely, of any size: near the limits of segments, pages and pieces.
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
    match rng.below(11) {
        0..=4 => small(rng),
        5 => Val::Bool(rng.one_in(2)),
        6 => {
            let mut m = filled(rng, 9 + n / 4);
            m.push(1);
            Val::Big(rng.one_in(2), m)
        }
        7 => Val::Bytes(filled(rng, n)),
        8 if n > 0 => Val::Link(filled(rng, n.min(4095))),
        9 => {
            let long = "n".repeat(255);
            let name = ["date", "tuple", "a.b:C", &long][rng.below(4)];
            Val::Typed(Typed {
                name: name.into(),
                payload: filled(rng, n),
                text: rng.one_in(2),
            })
        }
        _ => Val::Str(filled(rng, n), rng.one_in(4)),
    }
}
