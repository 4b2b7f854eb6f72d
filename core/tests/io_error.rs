//! A disk that reports an error while the store is being flushed: the error is final for everyone who has the
//! store open, reading goes on, and the last checkpoint stands.

mod common;

use common::{Model, Rng, compare, scratch, step};
use persist_core::raw::observe::{Moment, observe};
use persist_core::store::{Error, Options, Store};
use std::cell::Cell;
use std::io;
use std::rc::Rc;

/// The `n`th moment of this kind from now on fails.
fn fail(kind: Moment, n: usize) -> Rc<Cell<usize>> {
    let left = Rc::new(Cell::new(n));
    let counter = left.clone();
    observe(Some(Box::new(move |moment| {
        if moment == kind && counter.get() > 0 {
            counter.set(counter.get() - 1);
            if counter.get() == 0 {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
        }
        Ok(())
    })));
    left
}

fn is_poisoned<T: std::fmt::Debug>(done: Result<T, Error>, what: &str) {
    assert!(matches!(done, Err(Error::Poisoned { .. })), "{what}: {done:?}");
}

#[test]
fn a_flush_that_fails_is_final_and_the_last_checkpoint_stands() {
    let mut rng = Rng(5);
    let moments = [
        Moment::Flushing,
        Moment::Flushed,
        Moment::Writing,
        Moment::Written,
    ];
    for (kind, n) in moments.into_iter().flat_map(|m| [(m, 1), (m, 2)]) {
        let what = format!("{kind:?} {n}");
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = Store::open(&path, &Options::default()).unwrap();
        let second = Store::open(&path, &Options::default()).unwrap();
        let mut model = Model::read(&store).unwrap();
        for _ in 0..40 {
            step(&store, &mut model, &mut rng, 200_000).unwrap();
        }
        store.sync().unwrap();
        let synced = model.clone();
        for _ in 0..40 {
            step(&store, &mut model, &mut rng, 200_000).unwrap();
        }
        let left = fail(kind, n);
        let first = store.sync();
        if left.get() > 0 {
            // A meta page is written once in a checkpoint: the next one fails.
            first.unwrap();
            step(&store, &mut model, &mut rng, 200_000).unwrap();
            is_poisoned(store.sync(), &what);
        } else {
            is_poisoned(first, &what);
        }
        observe(None);
        // For everyone, whatever the disk says next.
        for s in [&store, &second] {
            is_poisoned(s.sync(), &what);
            let mut unchanged = model.clone();
            is_poisoned(step(s, &mut unchanged, &mut rng, 200_000), &what);
            compare(s, &model, &what);
        }
        let _ = second.close();
        let _ = store.close();
        drop((store, second));
        // Opened again, on a disk that works again: a checkpoint, whole. The failed one may have got through.
        let store = Store::open(&path, &Options::default()).unwrap();
        let found = Model::read(&store).unwrap();
        assert!(
            [synced.text(), model.text()].contains(&found.text()) || n == 2,
            "{what}"
        );
        let mut model = found;
        for _ in 0..3 {
            for _ in 0..20 {
                step(&store, &mut model, &mut rng, 200_000).unwrap();
            }
            store.sync().unwrap();
            compare(&store, &model, &what);
        }
        store.close().unwrap();
    }
}

#[test]
fn a_meta_page_that_the_disk_refused_is_written_again_before_it_is_built_on() {
    let mut rng = Rng(6);
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &Options::default()).unwrap();
    let mut model = Model::read(&store).unwrap();
    step(&store, &mut model, &mut rng, 200_000).unwrap();
    // The second flush of a checkpoint: the meta page is in the page cache and perhaps nowhere else.
    fail(Moment::Flushing, 2);
    is_poisoned(store.sync(), "sync");
    let _ = store.close();
    drop(store);
    let seen = Rc::new(Cell::new(Vec::new()));
    let log = seen.clone();
    observe(Some(Box::new(move |moment| {
        let mut all = log.take();
        all.push(moment);
        log.set(all);
        Ok(())
    })));
    let store = Store::open(&path, &Options::default()).unwrap();
    observe(None);
    assert_eq!(
        seen.take(),
        [
            Moment::Writing,
            Moment::Written,
            Moment::Flushing,
            Moment::Flushed
        ]
    );
    compare(&store, &model, "the checkpoint got through");
    store.close().unwrap();
    drop(store);

    // And if the disk still refuses, so does opening.
    let store = Store::open(&path, &Options::default()).unwrap();
    step(&store, &mut model, &mut rng, 200_000).unwrap();
    fail(Moment::Flushing, 2);
    is_poisoned(store.sync(), "sync");
    let _ = store.close();
    drop(store);
    fail(Moment::Flushing, 1);
    is_poisoned(Store::open(&path, &Options::default()), "opening");
    observe(None);
    Store::open(&path, &Options::default()).unwrap().close().unwrap();
}
