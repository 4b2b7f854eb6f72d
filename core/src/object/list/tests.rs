//! The list body: single operations, and the required shapes and costs of appends and queues. See `model` for
//! the random histories and the damaged pages.

use super::node::{CHILDREN, COUNTS, LEAF_CAP, Root};
use super::*;
use crate::heap::{self, testing::HeapMem};
use crate::ids::PAGE_SIZE;
use crate::object::header::Kind;

mod model;

fn word(v: u64) -> Word {
    Word::int(v as i64).unwrap()
}

fn new_list(w: &mut HeapMem) -> Addr {
    let h = heap::alloc(w, header::SIZE).unwrap();
    let b = w.init(h, header::SIZE).unwrap();
    b.fill(0);
    b[0] = Kind::List as u8;
    h
}

fn fresh() -> (HeapMem, Addr) {
    let mut w = HeapMem::new();
    let h = new_list(&mut w);
    w.commit().unwrap();
    (w, h)
}

fn content(w: &HeapMem, h: Addr) -> Vec<Word> {
    let mut out = Vec::new();
    scan(w, h, 0, usize::MAX, &mut out).unwrap();
    out
}

fn assert_same(w: &HeapMem, h: Addr, model: &[Word]) {
    check(w, h).unwrap();
    assert_eq!(len(w, h).unwrap(), model.len() as u64);
    assert!(content(w, h) == model, "content differs");
    for i in (0..model.len()).step_by(97) {
        assert_eq!(get(w, h, i as u64).unwrap(), Some(model[i]));
    }
    assert_eq!(get(w, h, model.len() as u64).unwrap(), None);
}

/// Return the number of bytes in all segments of the list's body.
fn bytes(w: &HeapMem, h: Addr) -> usize {
    let mut sum = 0;
    segments(w, h, &mut |a| {
        let size = heap::size_of(w, a)?;
        sum += if size == heap::MAX_SEGMENT {
            PAGE_SIZE
        } else {
            size
        };
        Ok(())
    })
    .unwrap();
    sum
}

#[test]
fn an_empty_list_answers() {
    let (mut w, h) = fresh();
    assert_eq!((len(&w, h).unwrap(), get(&w, h, 0).unwrap()), (0, None));
    assert!(matches!(
        set(&mut w, h, 0, Word::NONE),
        Err(Error::Index { index: 0, len: 0 })
    ));
    assert!(matches!(
        insert(&mut w, h, 1, Word::NONE),
        Err(Error::Index { .. })
    ));
    assert!(matches!(remove(&mut w, h, u64::MAX), Err(Error::Index { .. })));
    assert_eq!(find_child(&w, h, Addr(64), 0, 100).unwrap(), None);
    assert!(drain(&mut w, h, 0, &mut Vec::new()).unwrap());
    check(&w, h).unwrap();
}

#[test]
fn appends_fill_leaves_and_small_lists_are_small() {
    let (mut w, h) = fresh();
    let mut last = 0;
    for i in 0..LEAF_CAP as u64 {
        insert(&mut w, h, i, word(i)).unwrap();
        w.commit().unwrap();
        if i == 2 {
            assert_eq!(bytes(&w, h), 32);
        }
        let now = bytes(&w, h);
        assert!(now >= last && (now <= 32 || now <= 8 * 2 * (i as usize + 1) + 16 || now == PAGE_SIZE));
        last = now;
    }
    const N: u64 = 1_000_000;
    for i in LEAF_CAP as u64..N {
        insert(&mut w, h, i, word(i)).unwrap();
        if i % 1000 == 0 {
            w.commit().unwrap();
        }
    }
    w.commit().unwrap();
    check(&w, h).unwrap();
    let per_item = bytes(&w, h) as f64 / N as f64;
    assert!(per_item < 8.2, "{per_item} bytes an item");
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..10_000 {
        let i = rng.u64(..N);
        assert_eq!(get(&w, h, i).unwrap(), Some(word(i)));
    }
    assert_eq!(Root::read(&w, h).unwrap().height, 2);

    // The bulk operation gives the same shape, and draining returns every page.
    let (mut w2, h2) = fresh();
    let pages = w2.mem.page_count();
    let words: Vec<Word> = (0..N).map(word).collect();
    for chunk in words.chunks(12_345) {
        extend(&mut w2, h2, chunk).unwrap();
        w2.commit().unwrap();
    }
    assert_eq!(bytes(&w2, h2), bytes(&w, h));
    assert_same(&w2, h2, &words);
    let mut rest = words.clone();
    let mut out = Vec::new();
    while !drain(&mut w2, h2, 50_000, &mut out).unwrap() {
        w2.commit().unwrap();
        rest.truncate(rest.len() - out.len());
        out.sort_unstable_by_key(|w| w.0);
        assert!(out == words[rest.len()..rest.len() + out.len()]);
        out.clear();
        check(&w2, h2).unwrap();
    }
    w2.commit().unwrap();
    check(&w2, h2).unwrap();
    assert_eq!(Root::read(&w2, h2).unwrap().body, Addr::NULL);
    let free = w2.u64_at(crate::page::superblock::FREE_PAGES).unwrap() as usize;
    // A spare page per small class, used while the list grew, may stay.
    assert!(w2.mem.page_count() - free <= pages + heap::class_count());
}

#[test]
fn prepends_fill_leaves_without_moving_items() {
    let (mut w, h) = fresh();
    for i in 0..50_000 {
        insert(&mut w, h, 0, word(i)).unwrap();
        w.commit().unwrap();
    }
    let model: Vec<Word> = (0..50_000).rev().map(word).collect();
    assert_same(&w, h, &model);
    assert!(bytes(&w, h) as f64 / 50_000.0 < 8.5);
}

#[test]
fn set_is_one_logged_store() {
    let (mut w, h) = fresh();
    let words: Vec<Word> = (0..2000).map(word).collect();
    extend(&mut w, h, &words).unwrap();
    w.commit().unwrap();
    let before = w.logged;
    assert_eq!(set(&mut w, h, 1234, Word::TRUE).unwrap(), word(1234));
    assert_eq!(w.logged, before + 1);
    assert_eq!(get(&w, h, 1234).unwrap(), Some(Word::TRUE));
    w.rollback();
    assert_same(&w, h, &words);
}

#[test]
fn random_inserts_and_removals_keep_the_space_bounded() {
    let (mut w, h) = fresh();
    let (mut rng, mut model) = (fastrand::Rng::with_seed(99), Vec::new());
    for i in 0..100_000 {
        let at = rng.u64(..model.len() as u64 + 1);
        insert(&mut w, h, at, word(i)).unwrap();
        model.insert(at as usize, word(i));
        if i % 16 == 0 {
            w.commit().unwrap();
        }
    }
    w.commit().unwrap();
    assert_same(&w, h, &model);
    while !model.is_empty() {
        let at = rng.u64(..model.len() as u64);
        assert_eq!(remove(&mut w, h, at).unwrap(), model.remove(at as usize));
        if model.len() % 5000 == 0 {
            w.commit().unwrap();
            assert_same(&w, h, &model);
            // Nodes are at least 40% full, apart from the waste at the ends of each level.
            assert!(bytes(&w, h) <= (model.len() * 8) * 10 / 4 * 102 / 100 + 6 * PAGE_SIZE);
        }
    }
    assert_eq!(Root::read(&w, h).unwrap().height, 0);
}

#[test]
fn queues_cost_little_and_keep_little() {
    for (size, lifo) in [
        (1u64, false),
        (10, false),
        (502, false),
        (503, false),
        (504, false),
        (5000, false),
        (5000, true),
    ] {
        let (mut w, h) = fresh();
        extend(&mut w, h, &(0..size).map(word).collect::<Vec<_>>()).unwrap();
        w.commit().unwrap();
        let before = w.logged;
        for i in 0..20_000 {
            // Append at the end and remove at the front, or the mirror image.
            if lifo {
                insert(&mut w, h, 0, word(i + size)).unwrap();
                remove(&mut w, h, size).unwrap();
            } else {
                insert(&mut w, h, size, word(i + size)).unwrap();
                assert_eq!(remove(&mut w, h, 0).unwrap(), word(i));
            }
            w.commit().unwrap();
        }
        check(&w, h).unwrap();
        assert_eq!(len(&w, h).unwrap(), size);
        assert!(
            bytes(&w, h) as u64 <= size * 8 + 5 * PAGE_SIZE as u64,
            "{size}: {}",
            bytes(&w, h)
        );
        let stores = (w.logged - before) as f64 / 20_000.0;
        assert!(stores < 9.0, "{size}: {stores} logged stores a step");
    }
}

#[test]
fn an_emptied_small_list_keeps_a_small_segment() {
    let (mut w, h) = fresh();
    for i in 0..4 {
        insert(&mut w, h, i, word(i)).unwrap();
    }
    while len(&w, h).unwrap() > 0 {
        remove(&mut w, h, 0).unwrap();
    }
    w.commit().unwrap();
    check(&w, h).unwrap();
    assert!(bytes(&w, h) <= 64);
    assert!(drain(&mut w, h, 1, &mut Vec::new()).unwrap());
    assert_eq!(bytes(&w, h), 0);
    w.commit().unwrap();
}

#[test]
fn children_are_found_near_the_hint_first() {
    let (mut w, h) = fresh();
    let n = 10_000u64;
    let mut words: Vec<Word> = (0..n).map(word).collect();
    let child = Addr(4096 + 64);
    for i in [17, 5000, 5003, 9999] {
        words[i] = Word::container(child);
    }
    extend(&mut w, h, &words).unwrap();
    let find = |hint, max| find_child(&w, h, child, hint, max).unwrap();
    assert_eq!(find(17, 1), Some(17));
    assert_eq!(find(5001, 1), Some(5000));
    assert_eq!(find(5002, 1), Some(5003));
    assert_eq!(find(u64::MAX, 1), Some(9999));
    assert_eq!(find(2500, 600), None);
    assert!(matches!(find(2500, u64::MAX), Some(17 | 5000)));
    assert_eq!(find(8000, u64::MAX), Some(9999));
    assert_eq!(find_child(&w, h, Addr(64), 4000, u64::MAX).unwrap(), None);
}

#[test]
fn a_tree_that_counts_more_than_the_store_holds_is_refused() {
    let (mut w, h) = fresh();
    extend(&mut w, h, &(0..2000).map(word).collect::<Vec<_>>()).unwrap();
    let top = Root::read(&w, h).unwrap().body;
    let extra = 1u64 << 40;
    w.set_u64(h + header::CLASS_OR_LEN, 2000 + extra).unwrap();
    let count = w.u64_at(top + COUNTS as u64).unwrap();
    w.set_u64(top + COUNTS as u64, count + extra).unwrap();
    let mut out = Vec::new();
    assert!(matches!(scan(&w, h, 0, 10, &mut out), Err(Error::Corrupt { .. })));
    assert!(check(&w, h).is_err() && out.is_empty());
    // A node below itself: counts fit, but the walk would not end.
    w.rollback();
    let (mut w, h) = fresh();
    extend(&mut w, h, &(0..140_000).map(word).collect::<Vec<_>>()).unwrap();
    let top = Root::read(&w, h).unwrap().body;
    let (first, n) = (
        w.u64_at(top + CHILDREN as u64).unwrap(),
        w.u64_at(top + COUNTS as u64).unwrap(),
    );
    w.set_u64(top + CHILDREN as u64 + 8, first).unwrap();
    w.set_u64(top + COUNTS as u64 + 8, n).unwrap();
    w.set_u64(h + header::CLASS_OR_LEN, 2 * n).unwrap();
    assert!(check(&w, h).is_err());
}

#[test]
fn removal_works_on_a_full_disk() {
    let (mut w, h) = fresh();
    extend(&mut w, h, &(0..20_000).map(word).collect::<Vec<_>>()).unwrap();
    w.commit().unwrap();
    w.mem.pages_left = 0;
    let mut rng = fastrand::Rng::with_seed(5);
    for left in (0..20_000).rev() {
        remove(&mut w, h, rng.u64(..left + 1)).unwrap();
    }
    check(&w, h).unwrap();
}

/// `cargo test --release -p persist-core list::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn speed() {
    use std::time::Instant;
    const N: u64 = 1_000_000;
    let (mut w, h) = fresh();
    w.mem.check_init = false;
    let time = |what: &str, n: u64, w: &mut HeapMem, f: &mut dyn FnMut(&mut HeapMem, u64)| {
        let start = Instant::now();
        for i in 0..n {
            f(w, i);
        }
        println!("{what}: {} ns", start.elapsed().as_nanos() as u64 / n);
        w.commit().unwrap();
    };
    let mut rng = fastrand::Rng::with_seed(3);
    time("append", N, &mut w, &mut |w, i| {
        insert(w, h, i, word(i)).unwrap();
        w.commit().unwrap();
    });
    time("get, random of 1e6", N, &mut w, &mut |w, _| {
        std::hint::black_box(get(w, h, rng.u64(..N)).unwrap());
    });
    time("set, random of 1e6", N, &mut w, &mut |w, _| {
        set(w, h, rng.u64(..N), Word::NONE).unwrap();
        w.commit().unwrap();
    });
    time("scan 1e6, an item", 1, &mut w, &mut |w, _| {
        let mut out = Vec::with_capacity(N as usize);
        let start = Instant::now();
        scan(w, h, 0, usize::MAX, &mut out).unwrap();
        println!("  {:.2} ns an item", start.elapsed().as_nanos() as f64 / N as f64);
    });
    time("insert in the middle of 1e6", 200_000, &mut w, &mut |w, _| {
        let n = len(w, h).unwrap();
        insert(w, h, n / 2, Word::TRUE).unwrap();
        w.commit().unwrap();
    });
    time("insert anywhere in 1e6", 200_000, &mut w, &mut |w, _| {
        let n = len(w, h).unwrap();
        insert(w, h, rng.u64(..n), Word::TRUE).unwrap();
        w.commit().unwrap();
    });
    time("remove anywhere of 1e6", 200_000, &mut w, &mut |w, _| {
        let n = len(w, h).unwrap();
        remove(w, h, rng.u64(..n)).unwrap();
        w.commit().unwrap();
    });
    time("queue step at 1e6", N, &mut w, &mut |w, i| {
        let n = len(w, h).unwrap();
        insert(w, h, n, word(i)).unwrap();
        remove(w, h, 0).unwrap();
        w.commit().unwrap();
    });
    check(&w, h).unwrap();
    let (mut w, h) = fresh();
    w.mem.check_init = false;
    let words: Vec<Word> = (0..N).map(word).collect();
    time("extend 1e6", 1, &mut w, &mut |w, _| extend(w, h, &words).unwrap());
}
