//! Dict bodies against a list of pairs as the model.

use super::*;
use crate::heap::testing::HeapMem;
use crate::heap::{self, is_heap_page, page_segments};
use crate::ids::PageNo;
use crate::object::scalar;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

const LIMIT: u64 = 1 << 20;

fn container(w: &mut HeapMem, kind: Kind) -> Addr {
    let h = heap::alloc(w, header::SIZE).unwrap();
    let b = w.init(h, header::SIZE).unwrap();
    b.fill(0);
    b[0] = kind as u8;
    h
}

fn allocated(w: &HeapMem) -> HashSet<Addr> {
    (1..w.u64_at(crate::page::superblock::NEXT_PAGE).unwrap())
        .filter(|&n| is_heap_page(w, PageNo(n)))
        .flat_map(|n| page_segments(w, PageNo(n)).unwrap())
        .filter(|s| s.allocated)
        .map(|s| s.addr)
        .collect()
}

fn int(n: u64) -> Word {
    Word::int(n as i64).unwrap()
}

/// Key number n: of several types and sizes.
fn with_key<R>(n: u64, f: impl FnOnce(&Key<'_>) -> R) -> R {
    match n % 4 {
        0 => f(&Key::Int(n as i64)),
        1 => f(&Key::Str(format!("{n}").as_bytes())),
        2 => f(&Key::Str(format!("a name of number {n}").as_bytes())),
        _ => f(&Key::Bytes(&n.to_be_bytes())),
    }
}

/// A walk that goes on while the dict changes.
#[derive(Clone)]
struct Walk {
    cursor: u64,
    forward: bool,
    seen: Vec<u64>,
    throughout: Vec<u64>,
    done: bool,
}

/// A dict and its model: pairs of key number and (uid, version), in order.
struct World {
    w: HeapMem,
    h: Addr,
    model: Vec<(u64, u64)>,
    place: HashMap<u64, u64>,
    committed: Vec<(u64, u64)>,
    next_uid: u64,
    walks: Vec<Walk>,
}

impl World {
    fn new() -> World {
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

    fn set(&mut self, n: u64) {
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

    fn remove(&mut self, n: u64) {
        let old = with_key(n, |k| remove(&mut self.w, self.h, k).unwrap());
        let uid = self.place.remove(&n);
        assert_eq!(old, uid.map(int));
        if let Some(uid) = uid {
            let i = self.model.binary_search_by_key(&uid, |e| e.1).unwrap();
            self.model.remove(i);
            self.gone(uid);
        }
    }

    fn gone(&mut self, uid: u64) {
        for walk in &mut self.walks {
            walk.throughout.retain(|&u| u != uid);
        }
    }

    fn drain(&mut self, max: usize) {
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

    fn start_walk(&mut self, forward: bool) {
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

    fn step_walks(&mut self, steps: usize) {
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

    fn commit(&mut self) {
        self.w.commit().unwrap();
        self.committed = self.model.clone();
    }

    fn rollback(&mut self) {
        self.w.rollback();
        self.model = self.committed.clone();
        self.place = self.model.iter().copied().collect();
        self.walks.clear();
    }

    /// Everything: order, lookups, invariants; after a commit also that no memory is lost.
    fn check(&self, committed: bool) {
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

#[test]
fn an_inline_value_is_overwritten_by_one_logged_store() {
    for n in [1, 100, 1000] {
        let mut world = World::new();
        (0..n).for_each(|k| world.set(k));
        let before = world.w.logged;
        let old = with_key(n / 2, |k| set(&mut world.w, world.h, k, Word::NONE).unwrap());
        assert!(old.is_some());
        assert_eq!(world.w.logged, before + 1);
    }
}

#[test]
fn the_first_key_stays() {
    let mut world = World::new();
    set(&mut world.w, world.h, &Key::Int(1), Word::TRUE).unwrap();
    assert_eq!(
        set(&mut world.w, world.h, &Key::Float(1.0), Word::NONE).unwrap(),
        Some(Word::TRUE)
    );
    let seed = world.w.hash_seed();
    let (key, value) = get_key_value(
        &world.w,
        world.h,
        &Key::Bool(true),
        key::hash(seed, &Key::Bool(true)),
    )
    .unwrap()
    .unwrap();
    assert_eq!((key, value), (int(1), Word::NONE));
    assert!(set(&mut world.w, world.h, &Key::None, Word::EMPTY).is_err());
}

#[test]
fn children_are_found_by_hash_and_by_scan() {
    for n in [5u64, 1000] {
        let mut world = World::new();
        (0..n).for_each(|k| world.set(k));
        let child = Addr(77 * 4096 + 64);
        with_key(3, |k| {
            set(&mut world.w, world.h, k, Word::container(child)).unwrap();
            let hash = key::hash(world.w.hash_seed(), k);
            let found = find_child(&world.w, world.h, hash, child).unwrap().unwrap();
            assert!(key::eq(&world.w, found, k).unwrap());
            assert_eq!(find_child(&world.w, world.h, hash ^ 1, child).unwrap(), None);
            assert_eq!(find_child(&world.w, world.h, hash, Addr(64)).unwrap(), None);
            assert_eq!(
                scan_child(&world.w, world.h, child, 0, 10).unwrap(),
                Scan::Found(found)
            );
        });
        let Scan::More(cursor) = scan_child(&world.w, world.h, Addr(64), 0, 3).unwrap() else {
            panic!()
        };
        assert_eq!(
            scan_child(&world.w, world.h, Addr(64), cursor, 2000).unwrap(),
            Scan::End
        );
    }
}

#[test]
fn thousands_of_equal_hashes_work() {
    key::MASK.set(0);
    let mut world = World::new();
    (0..3000).for_each(|k| world.set(k));
    world.commit();
    world.check(true);
    (0..2000).for_each(|k| world.remove(k));
    world.commit();
    world.check(true);
    world.drain(usize::MAX);
    world.commit();
    world.check(true);
    key::MASK.set(u64::MAX);
}

#[test]
fn churn_keeps_memory_bounded() {
    let mut world = World::new();
    // A few that stay, and a window that moves on for ever.
    (0..300).for_each(|k| world.set(k));
    world.commit();
    let mut most = 0;
    for round in 0..40u64 {
        for k in 0..500 {
            world.set(1000 + round * 500 + k);
            if round > 0 {
                world.remove(1000 + (round - 1) * 500 + k);
            }
        }
        world.commit();
        world.check(true);
        if round == 5 {
            most = allocated(&world.w).len();
        }
        if round > 5 {
            assert!(allocated(&world.w).len() < most + most / 4);
        }
    }
}

#[test]
fn a_thinned_dict_gives_memory_back() {
    let mut world = World::new();
    let n = 20_000;
    (0..n).for_each(|k| world.set(k));
    world.commit();
    let bytes = |world: &World| {
        allocated(&world.w)
            .iter()
            .map(|&a| heap::size_of(&world.w, a).unwrap())
            .sum::<usize>()
    };
    let full = bytes(&world);
    // One entry of each leaf stays: the worst that can be done to it.
    for k in 0..n {
        if k % 251 != 0 {
            with_key(k, |key| remove(&mut world.w, world.h, key).unwrap());
        }
    }
    world.w.commit().unwrap();
    let left = len(&world.w, world.h).unwrap();
    assert_eq!(left, n.div_ceil(251));
    assert!(bytes(&world) < full / 25, "{} of {full}", bytes(&world));
    verify(&world.w, world.h, LIMIT, &mut |_, _| Ok(())).unwrap();
}

#[test]
fn a_full_disk_leaves_the_dict_whole() {
    let mut world = World::new();
    (0..500).for_each(|k| world.set(k));
    world.commit();
    world.w.mem.pages_left = 3;
    let mut n = 500;
    let error = loop {
        let result = with_key(n, |k| set(&mut world.w, world.h, k, Word::NONE));
        match result {
            Ok(_) => n += 1,
            Err(e) => break e,
        }
    };
    assert!(matches!(error, Error::NoSpace { .. }));
    world.rollback();
    world.check(true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever stands in the file: errors or wrong answers, but no panic and no endless loop.
    #[test]
    fn damage_is_survived(
        size in prop::sample::select(vec![3u64, 150, 700]),
        thin in any::<bool>(),
        mask in prop::sample::select(vec![u64::MAX, 0]),
        hits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..520, any::<u64>(), any::<u8>()), 1..6),
    ) {
        key::MASK.set(mask);
        let mut world = World::new();
        (0..size).for_each(|k| world.set(k));
        if thin {
            (0..size).filter(|k| k % 9 != 0).for_each(|k| world.remove(k));
        }
        world.commit();
        world.w.mem.check_init = false;
        let mut parts: Vec<Addr> = vec![world.h];
        verify(&world.w, world.h, LIMIT, &mut |at, _| { parts.push(at); Ok(()) }).unwrap();
        for (part, word, value, how) in hits {
            let part = parts[part.index(parts.len())];
            let size = heap::size_of(&world.w, part).unwrap() / 8;
            let at = part + (word % size) as u64 * 8;
            let value = match how % 5 {
                0 => value,
                1 => world.w.u64_at(at).unwrap() ^ 1 << (value % 64),
                2 => parts[value as usize % parts.len()].0,
                3 => parts[value as usize % parts.len()].0 | world.w.u64_at(at).unwrap() & !Addr::MAX,
                _ => value & 0xffff_ffff,
            };
            world.w.mem.set_u64(at, value).unwrap();
        }
        let (w, h) = (&mut world.w, world.h);
        let _ = verify(w, h, LIMIT, &mut |_, _| Ok(()));
        for k in (0..size).step_by(3) {
            with_key(k, |key| {
                let _ = get(w, h, key);
                let _ = set(w, h, key, Word::NONE);
                let _ = remove(w, h, key);
            });
            with_key(k + size, |key| { let _ = set(w, h, key, Word::TRUE); });
        }
        let mut cursor = 0;
        for _ in 0..2000 {
            match next(w, h, cursor) { Ok(Some((at, ..))) => cursor = at, _ => break }
        }
        let mut cursor = u64::MAX;
        for _ in 0..2000 {
            match prev(w, h, cursor) { Ok(Some((at, ..))) => cursor = at, _ => break }
        }
        let _ = find_child(w, h, 5, Addr(4096));
        let _ = drain(w, h, 1000, &mut Vec::new());
        w.rollback();
        key::MASK.set(u64::MAX);
    }
}

/// Not a test of speed but of scale; `cargo test --release -- --ignored --nocapture` reports times.
#[test]
#[ignore = "large"]
fn a_million_entries() {
    use std::hint::black_box;
    use std::time::Instant;
    let name = |k: u64| format!("key{k:05}");
    for n in [1000u64, 1_000_000] {
        let mut w = crate::page::mem::MemPages::new();
        let h = heap::alloc(&mut w, header::SIZE).unwrap();
        w.init(h, header::SIZE).unwrap().copy_from_slice(&{
            let mut b = [0; 64];
            b[0] = 1;
            b
        });
        let mut worst = std::time::Duration::ZERO;
        let start = Instant::now();
        for k in 0..n {
            let key = name(k);
            let one = Instant::now();
            set(&mut w, h, &Key::Str(key.as_bytes()), int(k)).unwrap();
            worst = worst.max(one.elapsed());
            if k % 64 == 0 {
                heap::apply_frees(&mut w).unwrap();
                w.commit();
            }
        }
        let insert = start.elapsed() / n as u32;
        heap::apply_frees(&mut w).unwrap();
        w.commit();
        let keys: Vec<String> = (0..n)
            .map(|i| name(i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % n))
            .collect();
        let rounds = 2_000_000 / n;
        let start = Instant::now();
        for _ in 0..rounds {
            for key in &keys {
                black_box(get(&w, h, &Key::Str(key.as_bytes())).unwrap());
            }
        }
        let get_ns = start.elapsed().as_nanos() / u128::from(rounds * n);
        let start = Instant::now();
        for (i, key) in keys.iter().enumerate() {
            set(&mut w, h, &Key::Str(key.as_bytes()), Word::NONE).unwrap();
            if i % 64 == 0 {
                w.commit();
            }
        }
        let overwrite = start.elapsed() / n as u32;
        w.commit();
        let start = Instant::now();
        let (mut cursor, mut count) = (0, 0);
        while let Some((at, ..)) = next(&w, h, cursor).unwrap() {
            cursor = at;
            count += 1;
        }
        assert_eq!(count, n);
        let walk = start.elapsed() / n as u32;
        let pages = w.page_count();
        let start = Instant::now();
        for (i, key) in keys.iter().enumerate() {
            remove(&mut w, h, &Key::Str(key.as_bytes())).unwrap();
            if i % 64 == 0 {
                heap::apply_frees(&mut w).unwrap();
                w.commit();
            }
        }
        let removed = start.elapsed() / n as u32;
        heap::apply_frees(&mut w).unwrap();
        w.commit();
        println!(
            "{n}: insert {insert:?} (worst {worst:?}) get {get_ns} ns overwrite {overwrite:?} walk {walk:?} \
             remove {removed:?}; {pages} pages, {} bytes an entry",
            pages * 4096 / n as usize
        );
        verify(&w, h, 1 << 24, &mut |_, _| Ok(())).unwrap();
    }
}
