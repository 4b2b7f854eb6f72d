//! A store that was moved, replaced or linked, while it is open or after its processes were killed.

use super::common::scratch;
use super::support::plain::{set, sidecar, try_open};
use super::support::sys;
use super::{get, open, refused, run, two_stores};
use persist_core::store::Error;

#[test]
fn a_store_that_was_moved_while_open_is_found_with_its_sidecar_only() {
    let dir = scratch();
    let (a, b) = (dir.path().join("a.store"), dir.path().join("b.store"));
    let store = open(&a);
    set(&store, "n", 1).unwrap();
    std::fs::rename(&a, &b).unwrap();
    set(&store, "n", 2).unwrap();
    refused(&b, "by another name");
    // The old name is free for another store, which does not affect this one.
    let other = open(&a);
    assert_eq!(get(&other, "n"), None);
    set(&other, "n", 100).unwrap();
    set(&store, "n", 3).unwrap();
    assert_eq!((get(&store, "n"), get(&other, "n")), (Some(3), Some(100)));
    other.close().unwrap();
    store.close().unwrap();
    drop((store, other));
    let store = open(&b);
    assert_eq!(get(&store, "n"), Some(3));
    // Moved with its sidecar and its lock file, it is found by all.
    let c = dir.path().join("c.store");
    std::fs::rename(&b, &c).unwrap();
    std::fs::rename(sidecar(&b), sidecar(&c)).unwrap();
    refused(&c, "by another name");
    std::fs::rename(dir.path().join("b.store-lock"), dir.path().join("c.store-lock")).unwrap();
    let second = open(&c);
    set(&second, "n", 4).unwrap();
    assert_eq!(get(&store, "n"), Some(4));
    second.close().unwrap();
    store.close().unwrap();
}

#[test]
fn a_store_that_was_replaced_while_open_is_two_stores() {
    let dir = scratch();
    let (a, b) = two_stores(dir.path());
    let old = open(&a);
    std::fs::rename(&b, &a).unwrap();
    let new = open(&a);
    set(&old, "n", 10).unwrap();
    set(&new, "n", 20).unwrap();
    assert_eq!((get(&old, "n"), get(&new, "n")), (Some(10), Some(20)));
    old.close().unwrap();
    new.close().unwrap();
    drop((old, new));
    let store = open(&a);
    assert_eq!(get(&store, "n"), Some(20));
    store.check().unwrap();
    store.close().unwrap();
}

#[test]
fn a_store_with_two_names_is_used_by_one_at_a_time() {
    let dir = scratch();
    let (a, b) = (dir.path().join("a.store"), dir.path().join("b.store"));
    let store = open(&a);
    std::fs::hard_link(&a, &b).unwrap();
    refused(&b, "by another name");
    set(&store, "n", 1).unwrap();
    store.close().unwrap();
    drop(store);
    let store = open(&b);
    assert_eq!(get(&store, "n"), Some(1));
    // The first name has an old sidecar, which does not belong to this session.
    assert!(matches!(try_open(&a, 5), Err(Error::Refused { .. })));
    set(&store, "n", 2).unwrap();
    store.close().unwrap();
    drop(store);
    let store = open(&a);
    assert_eq!(get(&store, "n"), Some(2));
    store.check().unwrap();
    store.close().unwrap();
}

/// The location of the files that killed processes left, and how to continue with them or discard them.
#[test]
fn a_store_renamed_after_a_kill_does_not_silently_lose_changes() {
    for linked in [false, true] {
        for keep in [false, true] {
            let dir = scratch();
            let (a, b) = (dir.path().join("a.store"), dir.path().join("b.store"));
            open(&a).close().unwrap();
            run(&a, "die");
            if linked {
                std::fs::hard_link(&a, &b).unwrap();
            } else {
                std::fs::rename(&a, &b).unwrap();
            }
            refused(&b, "rename that to");
            refused(&b, &sidecar(&a).display().to_string());
            assert!(!sidecar(&b).exists());
            if keep {
                std::fs::rename(sidecar(&a), sidecar(&b)).unwrap();
            } else {
                std::fs::remove_file(sidecar(&a)).unwrap();
            }
            let store = open(&b);
            assert_eq!(get(&store, "neighbour"), keep.then_some(1));
            store.check().unwrap();
            store.close().unwrap();
        }
    }
}

/// Two sidecars, each left by processes that were killed before a checkpoint: only the younger one fits.
#[test]
fn an_old_sidecar_of_another_name_is_not_taken_for_the_last_one() {
    let dir = scratch();
    let (a, b) = (dir.path().join("a.store"), dir.path().join("b.store"));
    let aside = dir.path().join("aside");
    open(&a).close().unwrap();
    std::fs::hard_link(&a, &b).unwrap();
    run(&a, "fill");
    std::fs::rename(sidecar(&a), &aside).unwrap();
    run(&b, "fill");
    std::fs::rename(&aside, sidecar(&a)).unwrap();
    // Both fit the last checkpoint; the second session has overwritten the changes of the first.
    refused(&a, &sidecar(&b).display().to_string());
    std::fs::remove_file(sidecar(&b)).unwrap();
    let store = open(&a);
    assert_eq!(
        (get(&store, "neighbour"), store.stat().unwrap().dirty_pages),
        (None, 0)
    );
    store.check().unwrap();
    set(&store, "after", 1).unwrap();
    store.close().unwrap();
    drop(store);
    let store = open(&b);
    assert_eq!(get(&store, "after"), Some(1));
    store.close().unwrap();
}

/// On a filesystem without attributes, or if the attribute was removed, sidecars are identified by the checkpoint.
#[test]
fn a_store_whose_attribute_is_gone_keeps_its_sidecar() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    open(&path).close().unwrap();
    run(&path, "die");
    sys::forget_session(&path);
    let store = open(&path);
    assert_eq!(get(&store, "neighbour"), Some(1));
    store.close().unwrap();
}
