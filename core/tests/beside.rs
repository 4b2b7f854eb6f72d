//! Entries that wait beside a list are data: they are in reopened and compacted stores, in snapshots and in
//! backups, and the checker knows them. The memory of the log of splices is accounted for.

use persist_core::backup::{self, Input, Restoring, backup_to, restore};
use persist_core::check::check;
use persist_core::store::door::{Cursor, Since, Splice};
use persist_core::store::{Actor, In, Key, Obj, Options, Store, Value, Wait, Writer};
use std::path::Path;

fn open(path: &Path) -> Store {
    Store::open(path, &Options::default()).unwrap()
}

fn write<R>(store: &Store, f: impl FnMut(&mut Writer<'_>) -> persist_core::store::Result<R>) -> R {
    store.write(Actor::Thread, &mut Wait::default(), f).unwrap()
}

fn list(store: &Store) -> Obj {
    let get = store.read(&mut Wait::default(), |r| r.get(store.root(), &Key::Str(b"l")));
    match get.unwrap() {
        Some(Value::Obj(list)) => list,
        other => panic!("{other:?}"),
    }
}

/// The items, and what waits under the name 7 and in the directory under 9.
fn found(store: &Store) -> (Vec<Value>, Option<Value>, Option<Value>) {
    let l = list(store);
    let read = store.read(&mut Wait::default(), |r| {
        let mut items = Vec::new();
        r.items(l, 0, 100, &mut items)?;
        let dict = r.waiting(l)?.expect("entries wait");
        let inner = match r.get(dict, &Key::Int(9))? {
            Some(Value::Obj(dir)) => r.get(dir, &Key::Str(b"x"))?,
            other => panic!("{other:?}"),
        };
        Ok((items, r.get(dict, &Key::Int(7))?, inner))
    });
    read.unwrap()
}

fn expected() -> (Vec<Value>, Option<Value>, Option<Value>) {
    (vec![Value::Int(0)], Some(Value::Int(7)), Some(Value::Int(9)))
}

fn make(path: &Path) -> Store {
    let store = open(path);
    write(&store, |w| {
        w.log_splices(true)?;
        let l = w.new_list()?;
        w.set(store.root(), &Key::Str(b"l"), &In::Obj(l))?;
        w.insert(l, 0, &In::Int(0))?;
        let dict = w.make_waiting(l)?;
        w.set(dict, &Key::Int(7), &In::Int(7))?;
        let dir = w.new_dict()?;
        w.set(dir, &Key::Str(b"x"), &In::Int(9))?;
        w.set(dict, &Key::Int(9), &In::Obj(dir))
    });
    store
}

#[test]
fn waiting_entries_are_kept_wherever_data_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    let store = make(&path);
    store.gc().unwrap();
    assert_eq!(found(&store), expected());
    store.snapshot("s").unwrap();
    store.close().unwrap();
    assert_eq!(check(&path, &mut ()).unwrap().findings, []);

    let store = open(&path);
    assert_eq!(found(&store), expected());
    let (saved, back) = (dir.path().join("a.backup"), dir.path().join("b.store"));
    backup_to(&path, &saved, &backup::Options::default(), &mut ()).unwrap();
    restore(vec![Input::file(&saved)], &back, &Restoring::default(), &mut ()).unwrap();
    assert_eq!(found(&open(&back)), expected());
    write(&store, |w| w.remove(store.root(), &Key::Str(b"l")));
    store.gc().unwrap();
    store.check().unwrap();
    let snapshot = store.open_snapshot("s").unwrap();
    assert_eq!(found(&snapshot), expected());
    snapshot.close().unwrap();
    store.close().unwrap();
    assert_eq!(check(&path, &mut ()).unwrap().findings, []);
}

#[test]
fn the_log_follows_what_other_handles_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    let (store, other) = (make(&path), open(&path));
    let since = |store: &Store, cursor: &Cursor| {
        let l = list(store);
        store
            .read(&mut Wait::default(), |r| r.spliced(l, cursor))
            .unwrap()
    };
    let Since::Lost(cursor) = since(&store, &Cursor::default()) else {
        panic!("a first cursor");
    };
    let l = list(&other);
    write(&other, |w| w.insert(l, 1, &In::Int(1)));
    write(&other, |w| w.set_item(l, 1, &In::Int(2)));
    let Since::Spliced(splices, next) = since(&store, &cursor) else {
        panic!("one insertion");
    };
    let inserted = Splice {
        at: 1,
        removed: 0,
        inserted: 1,
    };
    assert_eq!(splices, [inserted]);
    // What is undone was never there, and a new value does not make another item.
    let failed = other.write(Actor::Thread, &mut Wait::default(), |w| {
        w.remove_items(l, 0, 1)?;
        Err::<(), _>(persist_core::Error::invalid("no"))
    });
    failed.unwrap_err();
    assert_eq!(since(&store, &next), Since::Same);
    write(&store, |w| w.log_splices(false));
    assert_eq!(since(&store, &next), Since::Off);
    store.gc().unwrap();
    store.check().unwrap();
}
