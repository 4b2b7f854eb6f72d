//! The cost of the common cases: `cargo test --release lock::tests::speed -- --ignored --nocapture`.

use super::{Region, S, X, entry, object, thread};
use crate::ids::ObjectId;
use crate::lock::{LockMode, Request, Table, Target, Wakes};
use std::hint::black_box;
use std::time::Instant;

fn time(name: &str, rounds: u32, mut f: impl FnMut()) {
    let best = (0..5)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..rounds {
                f();
            }
            begun.elapsed().as_nanos() as f64 / f64::from(rounds)
        })
        .fold(f64::MAX, f64::min);
    println!("{name}: {best:.1} ns");
}

fn pair(t: &Table<'_>, target: Target, mode: LockMode) {
    let w = &mut Wakes::new();
    assert!(
        t.try_lock(&Request::lock(thread(1), target, mode).unwrap(), w)
            .unwrap()
            .is_none()
    );
    t.unlock(&thread(1), &target, w).unwrap();
}

#[test]
#[ignore = "a measurement"]
fn uncontended() {
    let region = Region::new();
    let t = region.table();
    time("try_lock X + unlock, container", 200_000, || {
        pair(&t, object(5), X)
    });
    time("try_lock X + unlock, entry", 200_000, || {
        pair(&t, entry(5, 77), X)
    });
    pair(&t, object(5), S);
    time("may_concern: no", 2_000_000, || {
        assert!(!black_box(&t).may_concern(black_box(ObjectId(5))))
    });
    let w = &mut Wakes::new();
    t.try_lock(&Request::lock(thread(1), object(5), X).unwrap(), w)
        .unwrap();
    time("re-entry X + unlock, container", 200_000, || {
        pair(&t, object(5), X)
    });
    time("change_blocked by no other owner", 2_000_000, || {
        assert!(
            black_box(&t)
                .change_blocked(&thread(1), ObjectId(5), Some(3))
                .unwrap()
                .is_none()
        );
    });
    time("change_blocked by another", 2_000_000, || {
        assert!(
            black_box(&t)
                .change_blocked(&thread(2), ObjectId(5), Some(3))
                .unwrap()
                .is_some()
        );
    });
}
