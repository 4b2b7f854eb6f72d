//! The state after a value that did not fit the disk: the undo is not damage, and removals and backups work.

use super::{Disk, open, remove_sidecar, set};
use persist_core::backup::{self, Input, Restoring, backup_to, restore};
use persist_core::check;
use persist_core::store::{Actor, Error, In, Key, Result, Store, Wait};

fn remove(s: &Store, key: &str) -> Result<bool> {
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.remove(s.root(), &Key::Str(key.as_bytes()))
    })
}

/// Entries of several pages each, one subtree among them.
fn fill(s: &Store, n: usize) {
    for i in 0..n {
        set(s, &format!("entry {i}"), In::Bytes(&vec![i as u8; 9000])).unwrap();
    }
    let done = s.write(Actor::Thread, &mut Wait::default(), |w| {
        let dict = w.new_dict()?;
        w.set(s.root(), &Key::Str(b"tree"), &In::Obj(dict))?;
        for i in 0..2000 {
            w.set(dict, &Key::Str(format!("{i}").as_bytes()), &In::Bytes(&[7; 200]))?;
        }
        Ok(())
    });
    done.unwrap();
}

fn refused(s: &Store, bytes: usize, in_transaction: bool) {
    let value = vec![9u8; bytes];
    if in_transaction {
        s.begin(&mut Wait::default()).unwrap();
    }
    let done = set(s, "refused", In::Bytes(&value));
    assert!(matches!(done, Err(Error::NoSpace { .. })), "{done:?}");
    if in_transaction {
        s.rollback().unwrap();
    }
}

#[test]
fn removing_works_after_a_refused_value_of_any_size() {
    // MiB of the disk, and of the value.
    for (disk, value, in_transaction) in [
        (12, 13, false),
        (12, 100, false),
        (12, 13, true),
        (40, 45, false),
        (40, 200, true),
    ] {
        let what = format!("{disk} MiB, {value} MiB, {in_transaction}");
        let Some(disk) = Disk::new(disk * 1024) else {
            return;
        };
        let path = disk.path();
        let store = open(&path);
        fill(&store, 200);
        for _ in 0..3 {
            refused(&store, value << 20, in_transaction);
        }
        // No more space is on the disk.
        disk.leave(0);
        for i in 0..200 {
            assert!(remove(&store, &format!("entry {i}")).unwrap_or_else(|e| panic!("{what}: {i}: {e}")));
        }
        assert!(remove(&store, "tree").unwrap_or_else(|e| panic!("{what}: tree: {e}")));
        set(&store, "new", In::Bytes(&[1; 100_000])).unwrap_or_else(|e| panic!("{what}: new: {e}"));
        store.check().unwrap();
        store.check_pages().unwrap();
        store.close().unwrap_or_else(|e| panic!("{what}: close: {e}"));
        drop(store);
        let report = check::check(&path, &mut ()).unwrap();
        assert!(report.is_sound(), "{what}: {:?}", report.findings);
    }
}

/// A removal leaves most of its work to later changes, and small changes do little of it. A change that finds no space
/// does it.
#[test]
fn what_a_removal_left_to_be_freed_is_room() {
    for in_transaction in [false, true] {
        let Some(disk) = Disk::new(12 * 1024) else {
            return;
        };
        let store = open(&disk.path());
        let tree = || {
            let done = store.write(Actor::Thread, &mut Wait::default(), |w| {
                let dict = w.new_dict()?;
                w.set(store.root(), &Key::Str(b"tree"), &In::Obj(dict))?;
                for i in 0..1000 {
                    w.set(dict, &Key::Int(i), &In::Bytes(&[7; 3000]))?;
                }
                Ok(())
            });
            done.unwrap_or_else(|e| panic!("{in_transaction}: {e}"));
        };
        tree();
        remove(&store, "tree").unwrap();
        store.sync().unwrap();
        disk.leave(0);
        assert!(store.stat().unwrap().orphans > 0);
        let value = vec![9u8; 2 << 20];
        let mut done = Ok(());
        // A transaction is not repeated automatically.
        for _ in 0..2 {
            if in_transaction {
                store.begin(&mut Wait::default()).unwrap();
            }
            done = set(&store, "value", In::Bytes(&value));
            match (in_transaction, &done) {
                (true, Ok(())) => store.commit().unwrap(),
                (true, Err(_)) => store.rollback().unwrap(),
                (false, _) => {}
            }
            if done.is_ok() {
                break;
            }
            assert!(in_transaction, "{done:?}");
        }
        done.unwrap_or_else(|e| panic!("{in_transaction}: {e}"));
        store.check().unwrap();
        store.check_pages().unwrap();
        store.close().unwrap();
    }
}

#[test]
fn the_last_undone_change_is_not_damage_and_can_be_backed_up() {
    for (value, in_transaction, sidecar) in [
        (13, false, true),
        (100, true, true),
        (30, true, false),
        (20, false, false),
    ] {
        let what = format!("{value} MiB, {in_transaction}, {sidecar}");
        let Some(disk) = Disk::new(12 * 1024) else { return };
        let path = disk.path();
        let store = open(&path);
        fill(&store, 100);
        refused(&store, value << 20, in_transaction);
        store.close().unwrap();
        drop(store);
        if !sidecar {
            remove_sidecar(&path);
        }
        let report = check::check(&path, &mut ()).unwrap();
        assert!(report.is_sound(), "{what}: {:?}", report.findings);
        let copies = tempfile::tempdir().unwrap();
        let (copy, again) = (copies.path().join("a.backup"), copies.path().join("b.store"));
        backup_to(&path, &copy, &backup::Options::default(), &mut ())
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        restore(vec![Input::file(&copy)], &again, &Restoring::default(), &mut ())
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        let report = check::check(&again, &mut ()).unwrap();
        assert!(report.is_sound(), "{what}: {:?}", report.findings);
    }
}
