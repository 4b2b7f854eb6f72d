//! The change feed of a whole store, what of a transaction it leaves out, and sleeping without a feed.

mod common;

use common::{open, scratch};
use persist_core::store::door::{Change, Changes, Feed};
use persist_core::store::{Actor, Durability, Error, In, Key, Kind, Obj, Result, Store, Value, Wait, Writer};
use std::time::{Duration, Instant};

/// Longer than any step takes.
const LONGEST: Duration = Duration::from_secs(60);

fn write<R>(s: &Store, f: impl FnMut(&mut Writer<'_>) -> Result<R>) -> R {
    s.write(Actor::Thread, &mut Wait::default(), f).unwrap()
}

fn set(s: &Store, obj: Obj, key: &str) {
    write(s, |w| w.set(obj, &Key::Str(key.as_bytes()), &In::Int(1)));
}

/// The keys of the entries that are reported now.
fn keys(feed: &mut Feed) -> Vec<String> {
    let changes = match feed.next(&mut Wait::never()).unwrap() {
        Some(Changes::These(changes)) => changes,
        None => Vec::new(),
        Some(Changes::Lost) => panic!("changes were lost"),
    };
    let key = |change: &Change| match change {
        Change::Entry {
            key: Value::Str { bytes, .. },
            ..
        } => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    changes.iter().map(key).collect()
}

#[test]
fn a_feed_of_everything_reports_containers_that_are_made_later() {
    let dir = scratch();
    let s = open(dir.path(), Durability::Checkpoint, None);
    let root = s.root();
    let mut feed = s.feed().unwrap();
    feed.watch_all(&mut Wait::default()).unwrap();
    feed.watch_all(&mut Wait::default()).unwrap();
    let made = write(&s, |w| {
        let made = w.new_dict()?;
        w.set(root, &Key::Str(b"made"), &In::Obj(made))?;
        Ok(made)
    });
    set(&s, made, "in it");
    set(&s, root, "beside it");
    assert_eq!(keys(&mut feed), ["made", "in it", "beside it"]);
    assert_eq!(feed.containers(), [root, made, root]);
    for obj in feed.containers() {
        assert_eq!(
            s.read(&mut Wait::default(), |r| r.kind(*obj)).unwrap(),
            Kind::Dict
        );
    }
    drop(feed);
    // One container is watched beside everything, and stays so.
    let mut one = s.feed().unwrap();
    one.watch(made, &mut Wait::default()).unwrap();
    let mut all = s.feed().unwrap();
    all.watch_all(&mut Wait::default()).unwrap();
    drop(all);
    set(&s, made, "still");
    assert_eq!(keys(&mut one), ["still"]);
    s.close().unwrap();
}

#[test]
fn a_block_and_an_operation_that_are_undone_in_a_transaction_are_not_reported() {
    let dir = scratch();
    let s = open(dir.path(), Durability::Checkpoint, None);
    let root = s.root();
    let mut feed = s.feed().unwrap();
    feed.watch(root, &mut Wait::default()).unwrap();
    s.begin(&mut Wait::default()).unwrap();
    set(&s, root, "before");
    s.begin(&mut Wait::default()).unwrap();
    set(&s, root, "undone");
    s.begin(&mut Wait::default()).unwrap();
    set(&s, root, "undone with it");
    s.commit().unwrap();
    s.rollback().unwrap();
    let failed = s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(root, &Key::Str(b"failed"), &In::Int(1))?;
        Err::<(), _>(Error::invalid("no"))
    });
    assert!(failed.is_err());
    set(&s, root, "after");
    s.commit().unwrap();
    assert_eq!(keys(&mut feed), ["before", "after"]);
    // A block with more changes than fit: what is missing is only what was undone.
    s.begin(&mut Wait::default()).unwrap();
    s.begin(&mut Wait::default()).unwrap();
    for _ in 0..200 {
        set(&s, root, "many");
    }
    s.rollback().unwrap();
    set(&s, root, "one");
    s.commit().unwrap();
    assert_eq!(keys(&mut feed), ["one"]);
    // Some of the missing ones were made before the block.
    s.begin(&mut Wait::default()).unwrap();
    set(&s, root, "first");
    s.begin(&mut Wait::default()).unwrap();
    for _ in 0..200 {
        set(&s, root, "many");
    }
    s.rollback().unwrap();
    s.commit().unwrap();
    assert_eq!(feed.next(&mut Wait::never()).unwrap(), Some(Changes::Lost));
    s.close().unwrap();
}

#[test]
fn a_sleep_for_changes_ends_with_one_with_a_stir_and_with_the_store() {
    let dir = scratch();
    let s = open(dir.path(), Durability::Checkpoint, None);
    let mut feed = s.feed().unwrap();
    feed.watch(s.root(), &mut Wait::default()).unwrap();
    let seen = feed.position();
    assert_eq!(s.await_changes(seen, Duration::from_millis(1)).unwrap(), seen);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| s.await_changes(seen, LONGEST).unwrap());
        set(&s, s.root(), "x");
        assert_eq!(sleeper.join().unwrap(), s.feed_end());
        assert_ne!(s.feed_end(), seen);
    });
    assert_eq!(keys(&mut feed), ["x"]);
    let seen = feed.position();
    std::thread::scope(|scope| {
        let begun = Instant::now();
        let sleeper = scope.spawn(|| s.await_changes(seen, LONGEST).unwrap());
        while !sleeper.is_finished() {
            s.stir_feeds();
            std::thread::yield_now();
        }
        assert_eq!(sleeper.join().unwrap(), seen);
        assert!(begun.elapsed() < LONGEST);
    });
    s.close().unwrap();
    assert!(matches!(s.await_changes(seen, LONGEST), Err(Error::Closed)));
}

/// What no feed watches costs no record: the ring stays as it is.
#[test]
fn nothing_is_recorded_of_containers_that_no_feed_watches() {
    let dir = scratch();
    let s = open(dir.path(), Durability::Checkpoint, None);
    let root = s.root();
    let before = s.feed_end();
    for n in 0..1000 {
        set(&s, root, &n.to_string());
    }
    assert_eq!(s.feed_end(), before);
    // Containers share buckets, so a feed may see changes of a few that it does not watch.
    let others: Vec<Obj> = (0..64)
        .map(|n| {
            write(&s, |w| {
                let made = w.new_dict()?;
                w.set(root, &Key::Int(n), &In::Obj(made))?;
                Ok(made)
            })
        })
        .collect();
    let mut feed = s.feed().unwrap();
    feed.watch(others[0], &mut Wait::default()).unwrap();
    let recorded = others[1..].iter().filter(|other| {
        let before = s.feed_end();
        set(&s, **other, "x");
        s.feed_end() != before
    });
    let recorded = recorded.count();
    assert!(recorded < 8, "{recorded} of 63");
    set(&s, others[0], "x");
    assert_eq!(keys(&mut feed), ["x"]);
}
