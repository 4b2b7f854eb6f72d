//! Dict bodies: single cases, damage and size.

use super::model::World;
use super::{LIMIT, allocated, int, with_key};
use crate::heap;
use crate::object::dict::*;
use crate::object::header;
use proptest::prelude::*;

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
fn entries_of_a_dict_that_was_empty_follow_all_earlier_ones() {
    for n in [1u64, 3, 300] {
        let mut world = World::new();
        let mut last = 0;
        for round in 0..20u64 {
            (0..n).for_each(|k| world.set(k));
            let (first, ..) = next(&world.w, world.h, 0).unwrap().unwrap();
            assert!(first > last, "round {round} of {n}: {first} after {last}");
            (last, ..) = prev(&world.w, world.h, u64::MAX).unwrap().unwrap();
            world.check(false);
            match round % 2 {
                0 => (0..n).for_each(|k| world.remove(k)),
                _ => world.drain(usize::MAX),
            }
            world.commit();
            world.check(true);
        }
    }
}

#[test]
fn an_empty_dict_may_have_any_number_in_its_form() {
    // As earlier builds leave it, 0, and up to the highest, after which the numbers begin again.
    for first in [0u16, 1, 2, (1 << 14) - 2, (1 << 14) - 1] {
        let mut world = World::new();
        let form = |world: &World| world.w.bytes(world.h + header::FORM, 2).unwrap().to_vec();
        world
            .w
            .set_bytes(world.h + header::FORM, &(first << 2).to_le_bytes())
            .unwrap();
        world.commit();
        world.check(true);
        assert_eq!(prev(&world.w, world.h, u64::MAX).unwrap(), None);
        (0..300).for_each(|k| world.set(k));
        let (cursor, ..) = next(&world.w, world.h, 0).unwrap().unwrap();
        assert_eq!(cursor, (u64::from(first) << 16) + 1);
        (0..300).for_each(|k| world.remove(k));
        world.commit();
        world.check(true);
        assert_eq!(form(&world), ((first + 1) << 2).to_le_bytes());
        world.set(7);
        world.commit();
        world.check(true);
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
    // A few entries stay, and a window of others moves on.
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
    // One entry of each leaf stays: the worst case.
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

    /// Any damage gives errors or wrong results, but no panic and no endless loop.
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

/// A test of scale, not of speed; `cargo test --release -- --ignored --nocapture` reports times.
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
