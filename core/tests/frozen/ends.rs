//! What a view refuses, and how it ends.

use super::common::{read_only, scratch};
use super::{get, nothing_lost, options, set, take};
use persist_core::Error;
use persist_core::store::{Actor, In, Key, LockMode, LockTarget, Store, Value, Wait};

#[test]
fn a_view_is_for_reading_and_ends_when_it_is_closed() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    set(&store, "a", &In::Int(1));
    let view = take(&store);
    set(&store, "a", &In::Int(2));
    assert!(view.is_frozen() && !store.is_frozen());
    assert_eq!(view.uuid(), store.uuid());
    let root = view.root();
    let e = view.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(root, &Key::Str(b"a"), &In::Int(3))
    });
    assert!(matches!(e, Err(Error::ReadOnly)));
    assert!(matches!(view.begin(&mut Wait::default()), Err(Error::ReadOnly)));
    for done in [
        view.sync(),
        view.gc().map(drop),
        view.snapshot("s").map(drop),
        view.drop_snapshot("s"),
        view.check_pages().map(drop),
        view.clone().compact(&mut |_| ()).map(drop),
    ] {
        assert!(matches!(done, Err(Error::ReadOnly)), "{done:?}");
    }
    let target = LockTarget { obj: root, key: None };
    let e = view.lock(Actor::Thread, target, LockMode::Shared, &mut Wait::default());
    assert!(matches!(e, Err(Error::Invalid { .. })), "{e:?}");
    assert!(matches!(view.feed(), Err(Error::Invalid { .. })));
    // A pin is not needed, and none is left.
    view.read(&mut Wait::default(), |r| r.pin(root)).unwrap();
    view.unpin(root);
    let again = take(&view);
    assert_eq!(get(&again, "a").unwrap(), Some(Value::Int(1)));
    view.close().unwrap();
    view.close().unwrap();
    for one in [&view, &again] {
        let e = get(one, "a").unwrap_err();
        assert!(
            matches!(e, Error::ViewEnded { .. }) && e.to_string().contains("ended"),
            "{e}"
        );
    }
    assert_eq!(get(&store, "a").unwrap(), Some(Value::Int(2)));
    nothing_lost(&store, "closed");
    // Views beside a closed store, and views that outlive its handle.
    let view = take(&store);
    store.close().unwrap();
    assert!(matches!(get(&view, "a"), Err(Error::Closed)));
    assert!(matches!(store.frozen(&mut Wait::default()), Err(Error::Closed)));
    let store = Store::open(&path, &options()).unwrap();
    let view = take(&store);
    drop(store);
    assert!(matches!(get(&view, "a"), Err(Error::Closed)));
    drop(view);
    let store = Store::open(&path, &options()).unwrap();
    nothing_lost(&store, "opened again");
}

#[test]
fn openings_that_only_read_have_views_too() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    set(&store, "a", &In::Int(1));
    store.snapshot("s").unwrap();
    let snapshot = store.open_snapshot("s").unwrap();
    let reader = read_only(&path).unwrap();
    let views = [take(&reader), take(&snapshot)];
    set(&store, "a", &In::Int(2));
    assert_eq!(get(&reader, "a").unwrap(), Some(Value::Int(2)));
    for view in &views {
        assert_eq!(get(view, "a").unwrap(), Some(Value::Int(1)));
    }
}

#[test]
fn there_are_64_views_and_one_more_is_an_error() {
    let dir = scratch();
    let store = Store::open(dir.path().join("a.store"), &options()).unwrap();
    let mut views = Vec::new();
    for n in 0..64 {
        set(&store, "n", &In::Int(n));
        views.push(take(&store));
    }
    assert!(matches!(
        store.frozen(&mut Wait::default()),
        Err(Error::TooMany { limit: 64, .. })
    ));
    store.sync().unwrap();
    set(&store, "n", &In::Int(99));
    for (n, view) in views.iter().enumerate() {
        assert_eq!(get(view, "n").unwrap(), Some(Value::Int(n as i64)));
    }
    views.remove(7);
    views.push(take(&store));
    assert_eq!(get(&views[63], "n").unwrap(), Some(Value::Int(99)));
    drop(views);
    nothing_lost(&store, "after 64");
}

/// More pages change than are kept for views: the views end, with an error that says so. Writers notice nothing.
#[test]
fn views_end_when_they_take_too_much_space() {
    let dir = scratch();
    let store = Store::open(dir.path().join("a.store"), &options()).unwrap();
    for i in 0..400 {
        set(&store, &format!("k{i}"), &In::Bytes(&[1; 3000]));
    }
    let view = take(&store);
    let mut rounds = 0u32;
    let ended = loop {
        rounds += 1;
        assert!(rounds < 100, "the view never ends");
        for i in 0..400 {
            set(&store, &format!("k{i}"), &In::Bytes(&[rounds as u8; 3000]));
        }
        store.sync().unwrap();
        // Views that overlap, so that something is kept in each round.
        let next = take(&store);
        let found = get(&view, "k1");
        match found {
            Ok(found) => assert_eq!(found, Some(Value::Bytes((&[1u8; 3000][..]).into()))),
            Err(e) => break e,
        }
        drop(next);
        let _ = Box::leak(Box::new(take(&store)));
        if rounds > 40 {
            break get(&view, "k1").unwrap_err();
        }
    };
    assert!(
        matches!(ended, Error::ViewEnded { .. }) && ended.to_string().contains("space"),
        "{ended}"
    );
    let view = take(&store);
    assert!(get(&view, "k1").unwrap().is_some());
    view.close().unwrap();
    store.check().unwrap();
    store.check_pages().unwrap();
}
