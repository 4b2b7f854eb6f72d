//! Blobs: every offset of every length reads back, a free releases all segments, and damage gives errors.

use super::*;
use crate::heap::testing::HeapMem;
use proptest::prelude::*;

fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect()
}

fn segment_count(w: &HeapMem) -> usize {
    (1..w.mem.page_count() as u64)
        .filter_map(|n| heap::page_segments(w, crate::ids::PageNo(n)).ok())
        .map(|all| all.iter().filter(|s| s.allocated).count())
        .sum()
}

#[test]
fn any_piece_of_any_length_reads_back() {
    let two_levels = LEAF * FAN as usize;
    for len in [
        0,
        1,
        LEAF - 1,
        LEAF,
        LEAF + 1,
        70_000,
        two_levels - 1,
        two_levels,
        two_levels + 1,
    ] {
        let mut w = HeapMem::new();
        let data = pattern(len);
        let addr = create(&mut w, LargeKind::Bytes, &data).unwrap();
        w.commit().unwrap();
        let l = large(&w, addr).unwrap();
        assert_eq!((l.len, l.kind), (len as u64, LargeKind::Bytes));
        for offset in [0, 1, LEAF - 1, LEAF, len / 2, len.saturating_sub(1), len, len + 5] {
            for n in [0, 1, 100, LEAF, 65_536] {
                let mut buf = vec![0; n];
                let got = large_read(&w, &l, offset as u64, &mut buf).unwrap();
                let from = offset.min(len);
                assert_eq!(&buf[..got], &data[from..(from + n).min(len)]);
            }
        }
        assert_eq!(large_read(&w, &l, u64::MAX, &mut [0; 9]).unwrap(), 0);
        assert!(equals(&w, addr, &data).unwrap());
        let mut other = data.clone();
        other.push(0);
        assert!(!equals(&w, addr, &other).unwrap());
        if let Some(last) = data.len().checked_sub(1) {
            other.pop();
            other[last] ^= 1;
            assert!(!equals(&w, addr, &other).unwrap());
        }
        let (mut n, mut used) = (0, 0);
        segments(&w, addr, &mut |a, len| {
            assert!(heap::size_of(&w, a).unwrap() >= len);
            (n, used) = (n + 1, used + len);
            Ok(())
        })
        .unwrap();
        assert!(n == segment_count(&w) && used >= len + ROOT_SIZE);
        free(&mut w, addr).unwrap();
        assert!(matches!(large_read(&w, &l, 0, &mut [0; 9]), Err(Error::Gone(_))));
        w.commit().unwrap();
        assert_eq!(segment_count(&w), 0);
        assert!(matches!(large_read(&w, &l, 0, &mut [0; 9]), Err(Error::Gone(_))));
    }
}

#[test]
fn freeing_in_steps_frees_all_and_is_bounded() {
    for (len, step) in [
        (LEAF * 1200 + 17, 100),
        (LEAF * 505, 1),
        (LEAF * 3, 2),
        (5, 1),
        (LEAF * 506, 505),
    ] {
        let mut w = HeapMem::new();
        let addr = create(&mut w, LargeKind::Str { no_newline: true }, &pattern(len)).unwrap();
        w.commit().unwrap();
        let before = segment_count(&w);
        let l = large(&w, addr).unwrap();
        let mut steps = 0;
        loop {
            let there = segment_count(&w);
            let done = free_some(&mut w, addr, step).unwrap();
            w.commit().unwrap();
            let now = segment_count(&w);
            assert!(there - now <= step as usize + 8);
            assert!(matches!(large_read(&w, &l, 0, &mut [0; 9]), Err(Error::Gone(_))));
            steps += 1;
            if done {
                break;
            }
            let mut n = 0;
            segments(&w, addr, &mut |a, _| heap::size_of(&w, a).map(|_| n += 1)).unwrap();
            assert_eq!(n, now);
        }
        assert_eq!(
            (segment_count(&w), steps),
            (0, leaves_of(len as u64).div_ceil(step)),
            "of {before}"
        );
    }
}

#[test]
fn readers_are_let_in_while_writing() {
    let mut w = HeapMem::new();
    create(&mut w, LargeKind::Bytes, &pattern(LEAF * 1000)).unwrap();
    assert!((10..=20).contains(&w.yields));
}

#[test]
fn a_replaced_blob_at_the_same_address_is_gone() {
    let mut w = HeapMem::new();
    let addr = create(&mut w, LargeKind::Bytes, &pattern(9000)).unwrap();
    let old = large(&w, addr).unwrap();
    w.commit().unwrap();
    free(&mut w, addr).unwrap();
    w.rollback();
    assert_eq!(large_read(&w, &old, 8990, &mut [0; 100]).unwrap(), 10);
    free(&mut w, addr).unwrap();
    w.commit().unwrap();
    let again = create(&mut w, LargeKind::Bytes, &pattern(9000)).unwrap();
    assert_eq!(again, addr);
    assert!(matches!(
        large_read(&w, &old, 0, &mut [0; 9]),
        Err(Error::Gone(_))
    ));
    assert!(large_read(&w, &large(&w, addr).unwrap(), 0, &mut [0; 9]).is_ok());
}

#[test]
fn a_false_length_costs_little() {
    let mut w = HeapMem::new();
    let addr = create(&mut w, LargeKind::Bytes, &pattern(LEAF * 600)).unwrap();
    w.commit().unwrap();
    w.set_u64(addr + LEN, 1 << 44).unwrap();
    assert!(matches!(large(&w, addr), Err(Error::Corrupt { .. })));
    assert!(matches!(free(&mut w, addr), Err(Error::Corrupt { .. })));
    w.set_u64(sb::NEXT_PAGE, 1 << 36).unwrap();
    assert!(large(&w, addr).is_ok());
    assert!(matches!(
        free(&mut w, addr),
        Err(Error::TransactionTooLarge { .. })
    ));
    let mut seen = std::collections::HashSet::new();
    let walk = segments(&w, addr, &mut |a, _| {
        if seen.insert(a) {
            Ok(())
        } else {
            Err(Error::corrupt("seen before", a))
        }
    });
    assert!(walk.is_err());
    let _ = free_some(&mut w, addr, 100);
    assert!(w.take_deferred().len() < 110);
}

#[test]
fn a_full_disk_rolls_back() {
    let mut w = HeapMem::new();
    w.mem.pages_left = 50;
    assert!(matches!(
        create(&mut w, LargeKind::Bytes, &pattern(300_000)),
        Err(Error::NoSpace { .. })
    ));
    w.rollback();
    w.mem.pages_left = usize::MAX;
    create(&mut w, LargeKind::Bytes, &pattern(300_000)).unwrap();
    w.commit().unwrap();
    assert!(w.mem.page_count() < 80);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_gives_errors_or_other_data(
        damage in prop::collection::vec((any::<u64>(), any::<u8>()), 1..12),
        len in 1..3_000_000usize,
    ) {
        let mut w = HeapMem::new();
        let addr = create(&mut w, LargeKind::Bytes, &pattern(len)).unwrap();
        w.commit().unwrap();
        let l = large(&w, addr).unwrap();
        let top = w.u64_at(addr + TOP).unwrap();
        for &(at, value) in &damage {
            let at = match at % 3 {
                0 => addr.0 + at / 3 % ROOT_SIZE as u64,
                1 => top + at / 3 % 64,
                _ => at / 3 % (w.mem.page_count() as u64 * 4096),
            };
            w.set_bytes(Addr(at), &[value]).unwrap();
        }
        let mut buf = vec![0; 10_000];
        for offset in (0..len as u64).step_by(300_000) {
            let _ = large_read(&w, &l, offset, &mut buf);
            if let Ok(l) = large(&w, addr) {
                let _ = large_read(&w, &l, offset, &mut buf);
            }
        }
        let _ = equals(&w, addr, &pattern(len));
        let mut n = 0u64;
        let _ = segments(&w, addr, &mut |_, _| { n += 1; Ok(()) });
        prop_assert!(n <= w.mem.page_count() as u64 * 2);
        let _ = free_some(&mut w, addr, 10);
        let _ = free(&mut w, addr);
        let _ = heap::apply_frees(&mut w);
    }
}

/// One change of a blob beside a vector: at any offset, over the ends of leaves and of levels.
#[derive(Clone, Debug)]
enum Change {
    Overwrite(usize, usize),
    Append(usize),
    Truncate(usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let size = prop_oneof![1..40usize, 4000..4200usize, 1..3 * LEAF, Just(LEAF),];
    let one = prop_oneof![
        (any::<usize>(), 1..3 * LEAF).prop_map(|(at, n)| Change::Overwrite(at, n)),
        size.prop_map(Change::Append),
        any::<usize>().prop_map(Change::Truncate),
    ];
    proptest::collection::vec(one, 1..16)
}

fn check_same(w: &HeapMem, addr: Addr, model: &[u8]) {
    let l = large(w, addr).unwrap();
    assert_eq!(l.len, model.len() as u64);
    let mut found = vec![0; model.len() + 1];
    assert_eq!(large_read(w, &l, 0, &mut found).unwrap(), model.len());
    assert!(found[..model.len()] == *model, "the content differs");
    let (mut n, mut used) = (0, 0);
    segments(w, addr, &mut |a, len| {
        assert!(heap::size_of(w, a).unwrap() >= len);
        (n, used) = (n + 1, used + len);
        Ok(())
    })
    .unwrap();
    assert_eq!(n, edit::segments_of(model.len() as u64));
}

/// The tree grows and shrinks by levels, and no segment is lost.
#[test]
fn a_blob_grows_and_shrinks_by_levels() {
    let mut w = HeapMem::new();
    let mut model = pattern(100);
    let addr = create(&mut w, LargeKind::Bytes, &model).unwrap();
    w.commit().unwrap();
    for n in [
        LEAF - 100,
        1,
        5,
        499 * LEAF,
        2 * LEAF,
        2 * LEAF,
        LEAF,
        505 * LEAF,
        33,
    ] {
        let more = pattern(n);
        edit::append(&mut w, addr, &more).unwrap();
        model.extend(more);
        w.commit().unwrap();
        check_same(&w, addr, &model);
        assert_eq!(segment_count(&w), edit::segments_of(model.len() as u64));
    }
    for leaves in [1009, 1008, 505, 504, 503, 2, 1] {
        model.truncate(leaves * LEAF - 7);
        edit::truncate(&mut w, addr, model.len() as u64).unwrap();
        w.commit().unwrap();
        check_same(&w, addr, &model);
        assert_eq!(segment_count(&w), edit::segments_of(model.len() as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn changes_in_place_equal_those_of_a_vector(len in 1..3 * LEAF, changes in changes()) {
        let mut w = HeapMem::new();
        let mut model = pattern(len);
        let addr = create(&mut w, LargeKind::Bytes, &model).unwrap();
        w.commit().unwrap();
        for (i, change) in changes.into_iter().enumerate() {
            let before = large(&w, addr).unwrap();
            let fresh: Vec<u8> = pattern(i + 3 * LEAF).split_off(i);
            let undone = i % 3 == 2;
            let old = model.clone();
            match change {
                Change::Overwrite(at, n) => {
                    let at = at % model.len();
                    let n = n.min(model.len() - at);
                    edit::overwrite(&mut w, addr, at as u64, &fresh[..n]).unwrap();
                    model[at..at + n].copy_from_slice(&fresh[..n]);
                }
                Change::Append(n) => {
                    edit::append(&mut w, addr, &fresh[..n]).unwrap();
                    model.extend_from_slice(&fresh[..n]);
                }
                Change::Truncate(len) => {
                    let len = 1 + len % model.len();
                    edit::truncate(&mut w, addr, len as u64).unwrap();
                    model.truncate(len);
                }
            }
            if undone {
                w.rollback();
                model = old;
            } else {
                w.commit().unwrap();
                let changed = model != old;
                prop_assert!(!changed || matches!(large_read(&w, &before, 0, &mut [0; 9]), Err(Error::Gone(_))));
            }
            check_same(&w, addr, &model);
        }
    }
}

#[test]
fn changes_beyond_the_end_are_refused() {
    let mut w = HeapMem::new();
    let addr = create(&mut w, LargeKind::Bytes, &pattern(9000)).unwrap();
    w.commit().unwrap();
    for (at, n) in [(9000, 1), (8999, 2), (u64::MAX, 2)] {
        assert!(edit::overwrite(&mut w, addr, at, &pattern(n)).is_err());
    }
    assert!(edit::truncate(&mut w, addr, 0).is_err() && edit::truncate(&mut w, addr, 9001).is_err());
    check_same(&w, addr, &pattern(9000));
}
