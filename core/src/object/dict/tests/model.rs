//! Dict bodies against a list of pairs as the model, with walks that continue while the dict changes.

use super::{LIMIT, allocated, container, int, with_key};
use crate::heap;
use crate::heap::testing::HeapMem;
use crate::object::dict::*;
use crate::object::header::Kind;
use crate::object::scalar;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

/// A walk that continues while the dict changes.
#[derive(Clone)]
pub(super) struct Walk {
    cursor: u64,
    forward: bool,
    seen: Vec<u64>,
    throughout: Vec<u64>,
    done: bool,
}

/// A dict and its model: pairs of key number and (uid, version), in order.
pub(super) struct World {
    pub(super) w: HeapMem,
    pub(super) h: Addr,
    pub(super) model: Vec<(u64, u64)>,
    pub(super) place: HashMap<u64, u64>,
    pub(super) committed: Vec<(u64, u64)>,
    pub(super) next_uid: u64,
    pub(super) walks: Vec<Walk>,
}

impl World {
    pub(super) fn new() -> World {
        let mut w = HeapMem::new();
        let h = container(&mut w, Kind::Dict);
        w.commit().unwrap();
        World {
            w,
            h,
            model: Vec::new(),
            place: HashMap::new(),
            committed: Vec::new(),
            next_uid: 1,
            walks: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, n: u64) {
        let old = with_key(n, |k| {
            let uid = self.place.get(&n).copied().unwrap_or(self.next_uid);
            set(&mut self.w, self.h, k, int(uid)).unwrap()
        });
        match self.place.get(&n) {
            Some(&uid) => assert_eq!(old, Some(int(uid))),
            None => {
                assert_eq!(old, None);
                self.model.push((n, self.next_uid));
                self.place.insert(n, self.next_uid);
                self.next_uid += 1;
            }
        }
    }

    pub(super) fn remove(&mut self, n: u64) {
        let old = with_key(n, |k| remove(&mut self.w, self.h, k).unwrap());
        let uid = self.place.remove(&n);
        assert_eq!(old, uid.map(int));
        if let Some(uid) = uid {
            let i = self.model.binary_search_by_key(&uid, |e| e.1).unwrap();
            self.model.remove(i);
            self.gone(uid);
        }
    }

    pub(super) fn gone(&mut self, uid: u64) {
        for walk in &mut self.walks {
            walk.throughout.retain(|&u| u != uid);
        }
    }

    pub(super) fn drain(&mut self, max: usize) {
        let mut out = Vec::new();
        let done = drain(&mut self.w, self.h, max, &mut out).unwrap();
        let n = max.min(self.model.len());
        let drained: Vec<(u64, u64)> = self.model.drain(..n).collect();
        assert_eq!(out, drained.iter().map(|e| int(e.1)).collect::<Vec<_>>());
        assert_eq!(done, self.model.is_empty());
        for (key, uid) in drained {
            self.place.remove(&key);
            self.gone(uid);
        }
    }

    pub(super) fn start_walk(&mut self, forward: bool) {
        let mut throughout: Vec<u64> = self.model.iter().map(|e| e.1).collect();
        if !forward {
            throughout.reverse();
        }
        let cursor = if forward { 0 } else { u64::MAX };
        self.walks.push(Walk {
            cursor,
            forward,
            seen: Vec::new(),
            throughout,
            done: false,
        });
    }

    pub(super) fn step_walks(&mut self, steps: usize) {
        for walk in &mut self.walks {
            for _ in 0..steps {
                let step = if walk.forward { next } else { prev };
                match step(&self.w, self.h, walk.cursor).unwrap() {
                    None => {
                        walk.done = true;
                        break;
                    }
                    Some((cursor, _, value)) => {
                        assert!(if walk.forward {
                            cursor > walk.cursor
                        } else {
                            cursor < walk.cursor
                        });
                        walk.cursor = cursor;
                        walk.seen.push(value.as_int() as u64);
                    }
                }
            }
        }
        for walk in self.walks.iter().filter(|w| w.done) {
            let distinct: HashSet<u64> = walk.seen.iter().copied().collect();
            assert_eq!(distinct.len(), walk.seen.len(), "an entry was met twice");
            let still: Vec<u64> = walk
                .seen
                .iter()
                .copied()
                .filter(|u| walk.throughout.contains(u))
                .collect();
            assert_eq!(still, walk.throughout, "an entry was lost");
        }
        self.walks.retain(|w| !w.done);
    }

    pub(super) fn commit(&mut self) {
        self.w.commit().unwrap();
        self.committed = self.model.clone();
    }

    pub(super) fn rollback(&mut self) {
        self.w.rollback();
        self.model = self.committed.clone();
        self.place = self.model.iter().copied().collect();
        self.walks.clear();
    }

    /// Check everything: order, lookups, invariants; after a commit also that no memory is lost.
    pub(super) fn check(&self, committed: bool) {
        assert_eq!(len(&self.w, self.h).unwrap(), self.model.len() as u64);
        let mut segments = HashSet::from([self.h]);
        verify(&self.w, self.h, LIMIT, &mut |at, size| {
            assert!(segments.insert(at) && heap::size_of(&self.w, at).unwrap() >= size);
            Ok(())
        })
        .unwrap();
        let mut cursor = 0;
        for &(n, uid) in &self.model {
            let (at, key, value) = next(&self.w, self.h, cursor).unwrap().unwrap();
            assert_eq!(value, int(uid));
            with_key(n, |k| {
                assert!(key::eq(&self.w, key, k).unwrap());
                assert_eq!(get(&self.w, self.h, k).unwrap(), Some(int(uid)));
            });
            scalar::segments(&self.w, key, &mut |at, _| {
                assert!(segments.insert(at));
                Ok(())
            })
            .unwrap();
            cursor = at;
        }
        assert_eq!(next(&self.w, self.h, cursor).unwrap(), None);
        let mut cursor = u64::MAX;
        for &(_, uid) in self.model.iter().rev() {
            let (at, _, value) = prev(&self.w, self.h, cursor).unwrap().unwrap();
            assert_eq!(value, int(uid));
            cursor = at;
        }
        assert_eq!(prev(&self.w, self.h, cursor).unwrap(), None);
        if committed {
            assert_eq!(allocated(&self.w), segments, "memory that is lost or shared");
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Set(u64),
    Remove(u64),
    SetRange(u64, u64),
    RemoveRange(u64, u64, u64),
    Churn(u64),
    Drain(usize),
    Walk(bool),
    Step(usize),
    Commit,
    Rollback,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u64..40).prop_map(Op::Set),
        4 => (0u64..40).prop_map(Op::Remove),
        3 => (0u64..900, 1u64..400).prop_map(|(a, n)| Op::SetRange(a, n)),
        3 => (0u64..900, 1u64..400, 1u64..5).prop_map(|(a, n, s)| Op::RemoveRange(a, n, s)),
        1 => (1u64..600).prop_map(Op::Churn),
        1 => (1usize..300).prop_map(Op::Drain),
        2 => any::<bool>().prop_map(Op::Walk),
        4 => (1usize..60).prop_map(Op::Step),
        3 => Just(Op::Commit),
        1 => Just(Op::Rollback),
    ]
}

fn run(ops: &[Op]) {
    let mut world = World::new();
    for op in ops {
        match *op {
            Op::Set(n) => world.set(n),
            Op::Remove(n) => world.remove(n),
            Op::SetRange(a, n) => (a..a + n).for_each(|k| world.set(k)),
            Op::RemoveRange(a, n, step) => (a..a + n).step_by(step as usize).for_each(|k| world.remove(k)),
            Op::Churn(n) => {
                for i in 0..n {
                    world.set(10_000 + i);
                    world.remove(9_980 + i);
                }
            }
            Op::Drain(n) => world.drain(n),
            Op::Walk(forward) => world.start_walk(forward),
            Op::Step(n) => world.step_walks(n),
            Op::Commit => {
                world.commit();
                world.check(true);
            }
            Op::Rollback => {
                world.rollback();
                world.check(true);
            }
        }
    }
    world.check(false);
    world.step_walks(usize::MAX);
    world.commit();
    world.drain(usize::MAX);
    world.commit();
    world.check(true);
    assert_eq!(allocated(&world.w).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn like_the_model(ops in prop::collection::vec(op(), 1..60)) {
        run(&ops);
    }

    #[test]
    fn like_the_model_with_colliding_hashes(
        ops in prop::collection::vec(op(), 1..40),
        mask in prop::sample::select(vec![0, 3, 0xff << 56, 1 << 20 | 1 << 63, 0x3f << 30]),
    ) {
        key::MASK.set(mask);
        run(&ops);
        key::MASK.set(u64::MAX);
    }
}
