//! The heap against a model: a map of live segments with the bytes written to each.

use super::testing::HeapMem;
use super::*;
use crate::page::superblock as sb;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn fill(w: &mut HeapMem, addr: Addr, len: usize, seed: u8) {
    w.init(addr, len).unwrap().fill(seed);
}

/// Check every invariant of the heap that its pages show. Return the number of its pages.
fn verify(p: &HeapMem, live: &BTreeMap<Addr, (usize, u8)>) -> usize {
    let limit = p.u64_at(sb::NEXT_PAGE).unwrap();
    let mut free_list = Vec::new();
    let mut at = p.u64_at(sb::FREE_PAGE).unwrap();
    while at != 0 {
        free_list.push(at);
        at = p.u64_at(PageNo(at).addr()).unwrap();
    }
    let listed: Vec<PageNo> = (0..class_count())
        .flat_map(|c| list(p, c, limit as usize).unwrap())
        .collect();
    let (mut segments, mut pages) = (0, 0);
    for page in (1..limit).filter(|n| !free_list.contains(n)).map(PageNo) {
        assert!(is_heap_page(p, page));
        pages += 1;
        let all = page_segments(p, page).unwrap();
        assert_eq!(
            listed.iter().filter(|&&l| l == page).count(),
            usize::from(is_listed(p, page).unwrap())
        );
        for s in all.iter().filter(|s| s.allocated) {
            let (len, seed) = live[&s.addr];
            assert!(len <= s.size && size_of(p, s.addr).unwrap() == s.size);
            assert!(p.bytes(s.addr, len).unwrap().iter().all(|&b| b == seed));
            segments += 1;
        }
    }
    assert_eq!(segments, live.len());
    pages
}

#[derive(Clone, Debug)]
enum Op {
    Alloc(usize, u8),
    Free(usize),
    Commit,
    Rollback,
    NoSpace(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let size = prop_oneof![4 => 1..=128usize, 1 => 1..=MAX_SEGMENT, 1 => Just(MAX_SEGMENT), 1 => Just(64)];
    let op = prop_oneof![
        10 => (size, any::<u8>()).prop_map(|(n, seed)| Op::Alloc(n, seed)),
        8 => any::<usize>().prop_map(Op::Free),
        2 => Just(Op::Commit),
        1 => Just(Op::Rollback),
        1 => (1..20usize).prop_map(Op::NoSpace),
    ];
    prop::collection::vec(op, 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_map_of_live_segments(ops in ops()) {
        let mut w = HeapMem::new();
        let mut live: BTreeMap<Addr, (usize, u8)> = BTreeMap::new();
        let mut freed = Vec::new();
        let mut saved = live.clone();
        for op in ops {
            match op {
                Op::Alloc(len, seed) => match alloc(&mut w, len) {
                    Ok(addr) => {
                        prop_assert!(addr.0 % 16 == 0 && !freed.contains(&addr));
                        fill(&mut w, addr, len, seed);
                        prop_assert!(live.insert(addr, (len, seed)).is_none());
                    }
                    Err(Error::NoSpace { .. }) => {
                        w.rollback();
                        live = saved.clone();
                        freed.clear();
                        w.mem.pages_left = usize::MAX;
                    }
                    Err(e) => panic!("{e}"),
                },
                Op::Free(i) if !live.is_empty() => {
                    let addr = *live.keys().nth(i % live.len()).unwrap();
                    free(&mut w, addr).unwrap();
                    live.remove(&addr);
                    freed.push(addr);
                }
                Op::Free(_) => {}
                Op::Commit => {
                    w.commit().unwrap();
                    verify(&w, &live);
                    saved = live.clone();
                    freed.clear();
                }
                Op::Rollback => {
                    w.rollback();
                    live = saved.clone();
                    verify(&w, &live);
                    freed.clear();
                }
                Op::NoSpace(left) => w.mem.pages_left = left,
            }
        }
        w.commit().unwrap();
        let pages = w.u64_at(sb::NEXT_PAGE).unwrap();
        // All freed memory is reusable: the same segments fit in no more pages.
        for &addr in live.keys() {
            free(&mut w, addr).unwrap();
        }
        w.commit().unwrap();
        prop_assert!(verify(&w, &BTreeMap::new()) <= class_count());
        w.mem.pages_left = usize::MAX;
        for &(len, _) in live.values() {
            alloc(&mut w, len).unwrap();
        }
        prop_assert!(w.u64_at(sb::NEXT_PAGE).unwrap() <= pages + class_count() as u64);
    }

    #[test]
    fn damage_gives_errors_or_other_data(
        damage in prop::collection::vec((any::<u64>(), any::<u8>()), 1..40),
        sizes in prop::collection::vec(1..=MAX_SEGMENT, 1..60),
    ) {
        let mut w = HeapMem::new();
        let mut addrs = Vec::new();
        for &n in &sizes {
            for _ in 0..5 {
                addrs.push(alloc(&mut w, n.min(300)).unwrap());
            }
        }
        w.commit().unwrap();
        w.mem.check_init = false;
        let end = w.u64_at(sb::NEXT_PAGE).unwrap();
        for &(at, value) in &damage {
            // Mostly damage the structure: list heads, page headers.
            let at = match at % 3 {
                0 => sb::HEAP.0 + at / 3 % 512,
                1 => (1 + at / 3 / 64 % (end - 1)) * 4096 + at / 3 % 64,
                _ => 4096 + at / 3 % ((end - 1) * 4096),
            };
            w.set_bytes(Addr(at), &[value]).unwrap();
        }
        for page in 0..end + 2 {
            let _ = page_segments(&w, PageNo(page));
            let _ = is_listed(&w, PageNo(page));
        }
        for class in 0..class_count() {
            let _ = list(&w, class, 1000);
        }
        for (i, &addr) in addrs.iter().enumerate() {
            let _ = size_of(&w, addr);
            let _ = size_of(&w, addr + 8);
            let _ = free(&mut w, addr);
            let _ = alloc(&mut w, sizes[i % sizes.len()]);
            if i % 7 == 0 {
                let _ = apply_frees(&mut w);
            }
        }
        let _ = apply_frees(&mut w);
    }
}

#[test]
fn the_common_case_logs_one_word() {
    let mut w = HeapMem::new();
    alloc(&mut w, 64).unwrap();
    let before = w.logged;
    for _ in 0..50 {
        alloc(&mut w, 64).unwrap();
    }
    assert_eq!(w.logged - before, 50);
}

/// Random replacement in a nearly full heap touches the pages of both segments, and seldom more.
#[test]
fn replacing_in_full_pages_rarely_moves_pages_between_lists() {
    let mut w = HeapMem::new();
    let mut addrs: Vec<Addr> = (0..63 * 50).map(|_| alloc(&mut w, 64).unwrap()).collect();
    w.commit().unwrap();
    let before = w.logged;
    let mut i = 0;
    for _ in 0..10_000 {
        i = (i * 7919 + 13) % addrs.len();
        let new = alloc(&mut w, 64).unwrap();
        free(&mut w, addrs[i]).unwrap();
        w.commit().unwrap();
        addrs[i] = new;
    }
    assert!(w.logged - before < 32_000, "{}", w.logged - before);
    assert!(w.mem.page_count() <= 50 * 8 / 7 + 3, "{}", w.mem.page_count());
}

#[test]
fn a_double_free_is_found() {
    let mut w = HeapMem::new();
    let (a, b) = (alloc(&mut w, 100).unwrap(), alloc(&mut w, 100).unwrap());
    w.commit().unwrap();
    free(&mut w, a).unwrap();
    free(&mut w, a).unwrap();
    assert!(matches!(w.commit(), Err(Error::Corrupt { .. })));
    w.rollback();
    free(&mut w, a).unwrap();
    w.commit().unwrap();
    assert!(matches!(free(&mut w, a), Err(Error::Corrupt { .. })));
    assert!(matches!(free(&mut w, b + 16), Err(Error::Corrupt { .. })));
    assert!(size_of(&w, b).is_ok());
}

#[test]
fn impossible_sizes_are_refused() {
    let mut w = HeapMem::new();
    for size in [0, MAX_SEGMENT + 1, usize::MAX] {
        assert!(matches!(alloc(&mut w, size), Err(Error::Invalid { .. })));
    }
    for addr in [0, 8, 64, 4096, u64::MAX, u64::MAX - 63, 1 << 60] {
        assert!(matches!(size_of(&w, Addr(addr)), Err(Error::Corrupt { .. })));
    }
}

#[test]
fn a_full_disk_changes_nothing() {
    let mut w = HeapMem::new();
    w.mem.pages_left = 0;
    assert!(matches!(alloc(&mut w, 10), Err(Error::NoSpace { .. })));
    assert_eq!(w.logged, 0);
}

#[test]
fn one_empty_page_is_kept_and_the_others_are_freed() {
    let mut w = HeapMem::new();
    let addrs: Vec<Addr> = (0..63 * 10).map(|_| alloc(&mut w, 64).unwrap()).collect();
    w.commit().unwrap();
    assert_eq!(w.u64_at(sb::FREE_PAGES).unwrap(), 0);
    for &addr in &addrs {
        free(&mut w, addr).unwrap();
    }
    w.commit().unwrap();
    assert_eq!(w.u64_at(sb::FREE_PAGES).unwrap(), 9);
    // Allocating and freeing one segment in turn moves no page.
    for _ in 0..5 {
        let addr = alloc(&mut w, 64).unwrap();
        w.commit().unwrap();
        free(&mut w, addr).unwrap();
        w.commit().unwrap();
        assert_eq!(w.u64_at(sb::FREE_PAGES).unwrap(), 9);
    }
}
