//! One operation with many effects, killed at every single store.

use super::verify::verify;
use super::{Region, S, X, entry, object, owner, thread, try_lock};
use crate::lock::{OwnerKind, Queued, Request, Table, Wakes};
use std::sync::atomic::Ordering;

fn queue(table: &Table<'_>, request: Request) {
    assert!(matches!(
        table.enqueue(&request, &mut Wakes::new()).unwrap(),
        Queued::Waiting { .. }
    ));
}

/// Return a region in which releasing thread 1's lock grants several waiters of both levels.
fn busy() -> Region {
    let region = Region::new();
    let table = region.table();
    assert!(try_lock(&table, thread(1), object(1), X));
    assert!(try_lock(&table, thread(1), entry(1, 5), X));
    for id in 2..5 {
        queue(&table, Request::lock(thread(id), entry(1, id), X).unwrap());
    }
    queue(
        &table,
        Request::lock(owner(2, OwnerKind::Flock, 1), object(1), S).unwrap(),
    );
    queue(
        &table,
        Request::change(owner(2, OwnerKind::Thread, 9), object(1).id, Some(2)),
    );
    region
}

#[test]
fn every_store_of_a_release_can_be_the_last() {
    let region = busy();
    let table = region.table();
    let (image, before) = (region.image(), verify(&table));
    table.unlock(&thread(1), &object(1), &mut Wakes::new()).unwrap();
    let after = verify(&table);
    assert_eq!(after.granted.len(), 3);
    for at in 0.. {
        region.restore(&image);
        table.fuse.store(at, Ordering::Relaxed);
        let result = table.unlock(&thread(1), &object(1), &mut Wakes::new());
        table.fuse.store(u64::MAX, Ordering::Relaxed);
        if result.is_ok() {
            assert!(at > 50);
            return;
        }
        table.recover(&mut Wakes::new()).unwrap();
        let state = verify(&table);
        assert!(state == before || state == after, "cut at {at}");
    }
}

#[test]
fn a_recovery_can_be_killed_at_every_store() {
    let region = busy();
    let table = region.table();
    let image = region.image();
    for cut in [20, 60, 100] {
        for at in 0.. {
            region.restore(&image);
            table.fuse.store(cut, Ordering::Relaxed);
            table.release_process(1, 7, &mut Wakes::new()).unwrap_err();
            table.fuse.store(at, Ordering::Relaxed);
            let recovered = table.recover(&mut Wakes::new());
            table.fuse.store(u64::MAX, Ordering::Relaxed);
            table.recover(&mut Wakes::new()).unwrap();
            verify(&table);
            table.release_process(1, 7, &mut Wakes::new()).unwrap();
            let state = verify(&table);
            assert_eq!(
                state.holds.len(),
                1,
                "one of the two others was granted: {state:?}"
            );
            if recovered.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn recovery_brings_back_a_lost_signal() {
    let region = busy();
    let table = region.table();
    table.unlock(&thread(1), &object(1), &mut Wakes::new()).unwrap();
    let mut wakes = Wakes::new();
    let old: Vec<u32> = region.signals.iter().map(|s| s.load(Ordering::Relaxed)).collect();
    table.recover(&mut wakes).unwrap();
    assert_eq!(wakes.len(), 3);
    for signal in wakes {
        assert!(region.signals[signal as usize].load(Ordering::Relaxed) > old[signal as usize]);
    }
}
