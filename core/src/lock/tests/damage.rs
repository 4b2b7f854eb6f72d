//! A table of random bytes gives errors: no panic, no hang.

use super::{Region, S, X, entry, object, owner, thread, try_lock};
use crate::ids::ObjectId;
use crate::lock::memory::layout::{BASE, BUCKETS, UNDO, WORDS, bucket};
use crate::lock::{OwnerKind, Queued, Request, Table, Ticket, Wakes};
use proptest::prelude::*;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

fn populated() -> Region {
    let region = Region::new();
    let t = region.table();
    for id in 1..6 {
        assert!(try_lock(&t, thread(id), object(id), X));
        assert!(try_lock(&t, thread(id), entry(9, id), X));
    }
    for id in 1..5 {
        let request = Request::lock(thread(id), object(id + 1), S).unwrap();
        t.enqueue(&request, &mut Wakes::new()).unwrap();
    }
    region
}

/// Call every function; errors are allowed.
fn exercise(t: &Table<'_>) {
    let w = &mut Wakes::new();
    let begun = Instant::now();
    let _ = t.recover(w);
    for id in 1..7 {
        let _ = t.change_blocked(&thread(9), ObjectId(id), Some(1));
        let _ = t.test(&thread(9), &object(id), S);
        let _ = t.unlock(&thread(id), &object(id), w);
        let _ = t.try_lock(&Request::lock(thread(id), entry(9, id + 1), X).unwrap(), w);
        if let Ok(Queued::Waiting { ticket, .. }) = t.enqueue(
            &Request::lock(owner(3, OwnerKind::Posix, id), object(id), X).unwrap(),
            w,
        ) {
            let _ = t.wait_state(ticket, w);
            let _ = t.cancel(ticket, w);
        }
        for signal in [0, 3, u32::MAX] {
            t.abandon(Ticket { signal, sequence: id });
            let _ = t.granted(Ticket { signal, sequence: id }, w);
        }
    }
    let _ = t.list();
    let _ = t.processes();
    let _ = t.release_process(1, 7, w);
    let _ = t.unlock_all(&thread(2), w);
    assert!(
        begun.elapsed() < Duration::from_secs(300),
        "the walk does not end"
    );
}

#[test]
fn cycles_in_chains_end() {
    let region = populated();
    // Every record of every pool refers to itself and to its neighbour.
    for base in BASE {
        for record in 0..16 {
            for field in [0, 1, 3, 4, 6] {
                let link = record as u64 + 1;
                region.words[base + record * 8 + field].store(link | link << 32, Ordering::Relaxed);
            }
        }
    }
    region.words[BUCKETS + bucket(1, None)].store(1, Ordering::Relaxed);
    exercise(&region.table());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn random_content_gives_errors(
        hits in prop::collection::vec((0usize..5, 0usize..256, prop_oneof![
            0u64..20,
            (0u64..20, 0u64..20).prop_map(|(a, b)| a | b << 32),
            any::<u64>(),
        ]), 1..40),
        fill in prop::option::of(any::<u64>()),
    ) {
        let region = populated();
        if let Some(fill) = fill {
            for (i, word) in region.words.iter().enumerate() {
                word.store(fill.rotate_left((i % 64) as u32) % 9000, Ordering::Relaxed);
            }
        }
        for (place, offset, value) in hits {
            let base = [0, BASE[0], BASE[1], BASE[2], BASE[3]][place];
            region.words[base + offset].store(value, Ordering::Relaxed);
            if place == 0 {
                region.words[(UNDO + offset).min(WORDS - 1)].store(value, Ordering::Relaxed);
            }
        }
        exercise(&region.table());
    }
}
