//! The list body against a plain vector, with commits and rollbacks, and on damaged pages.

use super::super::node::{CHILDREN, INNER_CAP, LEAF_CAP};
use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Insert(u64, bool),
    Burst(u64, u16),
    Append(u16),
    Extend(u16),
    Remove(u64),
    RemoveBurst(u64, u16),
    PopFront(u16),
    PopBack(u16),
    Range(u64, u16, u16),
    Drain(u16),
    Set(u64),
    Commit,
    Rollback,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (any::<u64>(), any::<bool>()).prop_map(|(i, front)| Op::Insert(i, front)),
        3 => (any::<u64>(), 0..1500u16).prop_map(|(i, n)| Op::Burst(i, n)),
        1 => (0..1500u16).prop_map(Op::Append),
        2 => (0..9000u16).prop_map(Op::Extend),
        2 => any::<u64>().prop_map(Op::Remove),
        3 => (any::<u64>(), 0..2500u16).prop_map(|(i, n)| Op::RemoveBurst(i, n)),
        1 => (0..1500u16).prop_map(Op::PopFront),
        1 => (0..1500u16).prop_map(Op::PopBack),
        2 => (any::<u64>(), 0..9000u16, 1..3000u16).prop_map(|(i, n, max)| Op::Range(i, n, max)),
        1 => (0..4000u16).prop_map(Op::Drain),
        1 => any::<u64>().prop_map(Op::Set),
        2 => Just(Op::Commit),
        1 => Just(Op::Rollback),
    ]
}

fn apply(w: &mut HeapMem, h: Addr, model: &mut Vec<Word>, next: &mut u64, op: &Op) {
    let mut rng = fastrand::Rng::with_seed(*next + 1);
    let mut fresh = || {
        *next += 1;
        word(*next)
    };
    let n = model.len() as u64;
    match *op {
        Op::Insert(i, front) => {
            let (i, v) = (if front { 0 } else { i % (n + 1) }, fresh());
            insert(w, h, i, v).unwrap();
            model.insert(i as usize, v);
        }
        Op::Burst(i, k) => {
            for j in 0..u64::from(k) {
                // Ascending positions, one position, or random ones.
                let n = model.len() as u64;
                let at = match i % 3 {
                    0 => i % (n + 1),
                    1 => (i % (n + 1)).saturating_add(j).min(n),
                    _ => rng.u64(..n + 1),
                };
                let v = fresh();
                insert(w, h, at, v).unwrap();
                model.insert(at as usize, v);
            }
        }
        Op::Append(k) => {
            for _ in 0..k {
                let v = fresh();
                insert(w, h, model.len() as u64, v).unwrap();
                model.push(v);
            }
        }
        Op::Extend(k) => {
            let more: Vec<Word> = (0..k).map(|_| fresh()).collect();
            extend(w, h, &more).unwrap();
            model.extend(&more);
        }
        Op::Remove(i) if n > 0 => {
            assert_eq!(remove(w, h, i % n).unwrap(), model.remove((i % n) as usize));
        }
        Op::RemoveBurst(i, k) => {
            for _ in 0..u64::from(k).min(n) {
                let n = model.len() as u64;
                let at = if i % 2 == 0 { i % n } else { rng.u64(..n) };
                assert_eq!(remove(w, h, at).unwrap(), model.remove(at as usize));
            }
        }
        Op::PopFront(k) => {
            for _ in 0..u64::from(k).min(n) {
                assert_eq!(remove(w, h, 0).unwrap(), model.remove(0));
            }
        }
        Op::PopBack(k) => {
            for _ in 0..u64::from(k).min(n) {
                assert_eq!(Some(remove(w, h, model.len() as u64 - 1).unwrap()), model.pop());
            }
        }
        Op::Range(i, k, max) => {
            let start = i % (n + 1);
            let end = start + u64::from(k);
            let mut out = Vec::new();
            let done = remove_range(w, h, start, end, max as usize, &mut out).unwrap();
            let want = (end.min(n) - start).min(u64::from(max)) as usize;
            assert_eq!(done as usize, want);
            let gone: Vec<Word> = model.drain(start as usize..start as usize + want).collect();
            assert!(out == gone);
        }
        Op::Drain(k) => {
            let mut out = Vec::new();
            let empty = drain(w, h, k as usize, &mut out).unwrap();
            let mut gone = model.split_off(model.len() - model.len().min(k as usize));
            assert_eq!(empty, model.is_empty());
            gone.sort_unstable_by_key(|w| w.0);
            out.sort_unstable_by_key(|w| w.0);
            assert!(out == gone);
        }
        Op::Set(i) if n > 0 => {
            let v = fresh();
            assert_eq!(
                set(w, h, i % n, v).unwrap(),
                std::mem::replace(&mut model[(i % n) as usize], v)
            );
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_list_is_a_vector(start in 0..40_000u32, ops in proptest::collection::vec(op(), 1..40)) {
        let (mut w, h) = fresh();
        let (mut model, mut next) = (Vec::new(), 0);
        // Half of the cases begin with a tree of two inner levels.
        let start = if start % 2 == 0 { 0 } else { (start as usize) % 400 + INNER_CAP * LEAF_CAP - 200 };
        model.extend((0..start as u64).map(word));
        extend(&mut w, h, &model).unwrap();
        w.commit().unwrap();
        let mut saved = model.clone();
        for op in &ops {
            match op {
                Op::Commit => {
                    w.commit().unwrap();
                    saved.clone_from(&model);
                }
                Op::Rollback => {
                    w.rollback();
                    model.clone_from(&saved);
                }
                _ => apply(&mut w, h, &mut model, &mut next, op),
            }
            check(&w, h).unwrap();
            prop_assert_eq!(len(&w, h).unwrap(), model.len() as u64);
        }
        assert_same(&w, h, &model);
        w.commit().unwrap();
        assert_same(&w, h, &model);
    }

    #[test]
    fn damaged_pages_give_an_error_or_data(
        size in prop_oneof![Just(3u64), Just(400), Just(3000), Just(140_000)],
        damage in proptest::collection::vec((any::<u64>(), any::<u16>(), any::<u64>(), 0..6u8), 1..6),
        ops in proptest::collection::vec(op(), 1..12),
    ) {
        let (mut w, h) = fresh();
        extend(&mut w, h, &(0..size).map(word).collect::<Vec<_>>()).unwrap();
        w.commit().unwrap();
        let mut nodes = Vec::new();
        segments(&w, h, &mut |a| { nodes.push(a); Ok(()) }).unwrap();
        let some = |i: u64| nodes[i as usize % nodes.len()];
        for &(which, at, value, how) in &damage {
            // Damage the header, the root, or a node of any kind.
            let (base, room) = match which >> 40 & 7 {
                0 => (h, 64),
                1..4 => (nodes[0], heap::size_of(&w, nodes[0]).unwrap()),
                _ => (some(which), heap::size_of(&w, some(which)).unwrap()),
            };
            let slot = (at as usize % (room / 8)) as u64;
            let value = match how {
                0 | 1 => value,
                2 => some(value).0,
                3 => value % 2000,
                4 => some(value).0 | value << 48,
                _ => w.u64_at(base + slot * 8).unwrap() ^ 1 << (value % 64 % (8 + value / 64 % 57)),
            };
            // Mostly damage a structural field: the header's form, body and length; a node's head, first
            // counts and first children.
            let fields = if base == h {
                [0, 5, 7, slot]
            } else {
                [0, 2 + at as u64 % 4, (CHILDREN / 8) as u64 + at as u64 % 4, slot]
            };
            let slot = fields[(which >> 32) as usize % 4] % (room as u64 / 8);
            w.set_u64(base + slot * 8, value).unwrap();
        }
        w.commit().unwrap();
        let _ = check(&w, h);
        for op in &ops {
            let _ = hostile(&mut w, h, op);
            let _ = check(&w, h);
            // A caller rolls back after an error; a caller that does not must be safe too.
            if w.commit().is_err() {
                w.rollback();
            }
        }
        for _ in 0..2000 {
            if !matches!(drain(&mut w, h, 1000, &mut Vec::new()), Ok(false)) {
                break;
            }
        }
    }
}

/// Run `apply` without a model and without expectations.
fn hostile(w: &mut HeapMem, h: Addr, op: &Op) -> Result<()> {
    let n = len(w, h)?;
    let v = Word::TRUE;
    let mut out = Vec::new();
    scan(w, h, n / 2, 5000, &mut out)?;
    find_child(w, h, Addr(4160), n / 3, 5000)?;
    match *op {
        Op::Insert(i, _) | Op::Set(i) => {
            let i = i % n.max(1);
            get(w, h, i)?;
            insert(w, h, i, v)?;
            set(w, h, i, v).map(drop)
        }
        Op::Burst(i, k) => (0..k % 600).try_for_each(|_| insert(w, h, i % n.max(1), v)),
        Op::Append(k) => (0..u64::from(k)).try_for_each(|i| insert(w, h, n.wrapping_add(i), v)),
        Op::Extend(k) => extend(w, h, &vec![v; k as usize]),
        Op::Remove(i) => remove(w, h, i % n.max(1)).map(drop),
        Op::RemoveBurst(i, k) => (0..k % 600).try_for_each(|_| remove(w, h, i % n.max(1)).map(drop)),
        Op::PopFront(k) => (0..k).try_for_each(|_| remove(w, h, 0).map(drop)),
        Op::PopBack(k) => (0..u64::from(k)).try_for_each(|i| remove(w, h, n.wrapping_sub(i + 1)).map(drop)),
        Op::Range(i, k, max) => {
            let i = i % n.max(1);
            remove_range(w, h, i, i.saturating_add(u64::from(k)), max as usize, &mut out).map(drop)
        }
        Op::Drain(k) => drain(w, h, k as usize, &mut out).map(drop),
        Op::Commit => w.commit(),
        Op::Rollback => {
            w.rollback();
            Ok(())
        }
    }
}
