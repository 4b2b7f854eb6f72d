//! The change feed: every committed change of a watched container is reported, in order, whichever process made it;
//! what was undone is not; and what cannot be reported is said to be missing.
//!
//! In test builds the ring has 512 words, so that readers are overtaken.

mod common;

use common::{Body, Model, Rng, Val, open, scratch, seed, step, time};
use persist_core::store::door::{Change, Changes, Edit, Feed, MetadataOf};
use persist_core::store::{
    Actor, Durability, Error, In, Key, Kind, LargeKind, Obj, Result, Step, Store, Value, Wait, Writer,
};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than any step takes.
const LONGEST: Duration = Duration::from_secs(60);

fn write<R>(s: &Store, f: impl FnMut(&mut Writer<'_>) -> Result<R>) -> R {
    s.write(Actor::Thread, &mut Wait::default(), f).unwrap()
}

fn set(s: &Store, obj: Obj, key: &str, n: i64) {
    write(s, |w| w.set(obj, &Key::Str(key.as_bytes()), &In::Int(n)));
}

fn text(key: &str) -> Value {
    Value::Str {
        bytes: key.as_bytes().into(),
        no_newline: false,
    }
}

fn entry(obj: Obj, key: &str, existed: bool, exists: bool) -> Change {
    Change::Entry {
        container: obj.id,
        key: text(key),
        existed,
        exists,
    }
}

fn items(obj: Obj, at: u64, removed: u64, added: u64) -> Change {
    Change::Items {
        container: obj.id,
        at,
        removed,
        added,
    }
}

/// What is reported now.
fn reported(feed: &mut Feed) -> Vec<Change> {
    match feed.next(&mut Wait::never()).unwrap() {
        Some(Changes::These(changes)) => changes,
        None => Vec::new(),
        Some(Changes::Lost) => panic!("changes were lost"),
    }
}

struct Scene {
    _dir: tempfile::TempDir,
    store: Store,
    dict: Obj,
    list: Obj,
    object: Obj,
    feed: Feed,
}

/// A watched dict, list and object, and the root, which is not.
fn scene() -> Scene {
    let dir = scratch();
    let store = open(dir.path(), Durability::Checkpoint, None);
    let root = store.root();
    let (dict, list, object) = write(&store, |w| {
        let (dict, list, object) = (w.new_dict()?, w.new_list()?, w.new_object("m:C")?);
        for (key, obj) in [("d", dict), ("l", list), ("o", object)] {
            w.set(root, &Key::Str(key.as_bytes()), &In::Obj(obj))?;
        }
        for i in 0..3 {
            w.insert(list, i, &In::Int(i as i64))?;
        }
        Ok((dict, list, object))
    });
    let mut feed = store.feed().unwrap();
    for obj in [dict, list, object] {
        feed.watch(obj, &mut Wait::default()).unwrap();
    }
    Scene {
        _dir: dir,
        store,
        dict,
        list,
        object,
        feed,
    }
}

#[test]
fn each_kind_of_change_is_reported_as_it_was_made() {
    let Scene {
        _dir,
        store: s,
        dict,
        list,
        object,
        mut feed,
    } = scene();
    set(&s, s.root(), "not watched", 1);
    assert_eq!(reported(&mut feed), []);
    set(&s, dict, "a", 1);
    set(&s, dict, "a", 2);
    assert_eq!(
        reported(&mut feed),
        [entry(dict, "a", false, true), entry(dict, "a", true, true)]
    );
    let a = Key::Str(b"a");
    assert!(write(&s, |w| w.remove(dict, &a)));
    assert!(!write(&s, |w| w.remove(dict, &a)));
    assert_eq!(reported(&mut feed), [entry(dict, "a", true, false)]);
    set(&s, object, "x", 1);
    assert_eq!(reported(&mut feed), [entry(object, "x", false, true)]);
    write(&s, |w| w.insert(list, 3, &In::Int(3)));
    write(&s, |w| w.set_item(list, 0, &In::None));
    write(&s, |w| w.remove_items(list, 1, 3));
    assert_eq!(
        reported(&mut feed),
        [items(list, 3, 0, 1), items(list, 0, 1, 1), items(list, 1, 2, 0)]
    );
    write(&s, |w| w.clear(list));
    assert_eq!(reported(&mut feed), [items(list, 0, 2, 0)]);
    // A part of a long value.
    let long = vec![b'x'; 100_000];
    write(&s, |w| w.set(dict, &a, &In::Bytes(&long)));
    let part = Edit {
        offset: 5000,
        bytes: b"yy",
        len: None,
        no_newline: None,
    };
    write(&s, |w| w.edit(dict, &Step::Key(text("a")), &part));
    assert_eq!(
        reported(&mut feed),
        [entry(dict, "a", false, true), entry(dict, "a", true, true)]
    );
    // A value that was built elsewhere takes the place of another.
    write(&s, |w| {
        w.set(s.root(), &Key::Str(b"built"), &In::Bytes(&long))?;
        w.adopt(
            s.root(),
            &Key::Str(b"built"),
            dict,
            &Step::Key(text("a")),
            LargeKind::Bytes,
        )
    });
    assert_eq!(reported(&mut feed), [entry(dict, "a", true, true)]);
    // Moving an entry changes both containers.
    let (from, to) = (Step::Key(text("a")), Step::Key(text("b")));
    write(&s, |w| w.rename(dict, &from, object, &to));
    let mut moved = reported(&mut feed);
    moved.sort_by_key(|c| c.container() == dict.id);
    assert_eq!(
        moved,
        [entry(object, "b", false, true), entry(dict, "a", true, false)]
    );
    write(&s, |w| {
        w.set_metadata(dict, &MetadataOf::Container, Some(b"mode"))
    });
    assert_eq!(reported(&mut feed), [Change::Metadata { container: dict.id }]);
    set(&s, dict, "c", 1);
    write(&s, |w| w.clear(dict));
    write(&s, |w| w.convert(dict, Kind::List, ""));
    let any = Change::Any { container: dict.id };
    let all = reported(&mut feed);
    assert_eq!(
        all[..3],
        [entry(dict, "c", false, true), any.clone(), any.clone()]
    );
    // A key that a record has no room for.
    let key = vec![b'k'; 5000];
    write(&s, |w| w.set(object, &Key::Str(&key), &In::Int(1)));
    assert_eq!(reported(&mut feed), [Change::Any { container: object.id }]);
    feed.unwatch(object.id);
    set(&s, object, "x", 2);
    assert_eq!(reported(&mut feed), []);
    s.close().unwrap();
    assert!(matches!(feed.next(&mut Wait::never()), Err(Error::Closed)));
}

#[test]
fn what_is_undone_is_not_reported_and_a_transaction_is_reported_at_its_commit() {
    let Scene {
        _dir,
        store: s,
        dict,
        mut feed,
        ..
    } = scene();
    let failed = s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(dict, &Key::Str(b"a"), &In::Int(1))?;
        Err::<(), _>(Error::invalid("no"))
    });
    assert!(failed.is_err());
    s.begin(&mut Wait::default()).unwrap();
    set(&s, dict, "b", 1);
    s.rollback().unwrap();
    assert_eq!(reported(&mut feed), []);
    s.begin(&mut Wait::default()).unwrap();
    set(&s, dict, "c", 1);
    set(&s, dict, "d", 1);
    assert_eq!(reported(&mut feed), []);
    s.commit().unwrap();
    assert_eq!(
        reported(&mut feed),
        [entry(dict, "c", false, true), entry(dict, "d", false, true)]
    );
    s.close().unwrap();
}

/// Readers that are too late, and a transaction that does not fit the ring.
#[test]
fn what_cannot_be_reported_is_said_to_be_missing() {
    let Scene {
        _dir,
        store: s,
        dict,
        mut feed,
        ..
    } = scene();
    for i in 0..200 {
        set(&s, dict, "late", i);
    }
    assert_eq!(feed.next(&mut Wait::never()).unwrap(), Some(Changes::Lost));
    set(&s, dict, "again", 1);
    assert_eq!(reported(&mut feed), [entry(dict, "again", false, true)]);
    s.begin(&mut Wait::default()).unwrap();
    for i in 0..200 {
        set(&s, dict, "large", i);
    }
    s.commit().unwrap();
    assert_eq!(feed.next(&mut Wait::never()).unwrap(), Some(Changes::Lost));
    set(&s, dict, "again", 2);
    assert_eq!(reported(&mut feed), [entry(dict, "again", true, true)]);
    s.close().unwrap();
}

/// A container that differs is one of which a change was reported. Random operations, some of them in transactions that
/// are committed or undone.
#[test]
fn every_container_that_differs_was_reported() {
    let dir = scratch();
    let s = open(dir.path(), Durability::Checkpoint, None);
    let seed = seed(7);
    let mut rng = Rng(seed);
    let mut m = Model::read(&s).unwrap();
    let mut feed = s.feed().unwrap();
    let (begun, long) = (Instant::now(), time(3));
    let (mut steps, mut differing) = (0, 0);
    while begun.elapsed() < long || steps < 200 {
        m.prune();
        for node in m.nodes.values() {
            feed.watch(node.obj, &mut Wait::default()).unwrap();
        }
        assert_eq!(reported(&mut feed), [], "seed {seed}, step {steps}");
        let lines = |m: &Model| -> HashMap<u64, String> {
            let text = m.text();
            let lines = text
                .lines()
                .map(|l| (l[1..].split(' ').next().unwrap().parse().unwrap(), l.to_owned()));
            lines.collect()
        };
        let before = lines(&m);
        let mut reported_of = HashSet::new();
        let mut lost = false;
        let mut take = |feed: &mut Feed| match feed.next(&mut Wait::never()).unwrap() {
            Some(Changes::These(all)) => reported_of.extend(all.iter().map(|c| c.container().0)),
            Some(Changes::Lost) => lost = true,
            None => {}
        };
        let kept = m.clone();
        if rng.one_in(4) {
            s.begin(&mut Wait::default()).unwrap();
            for _ in 0..rng.below(5) {
                step(&s, &mut m, &mut rng, 200_000).unwrap();
            }
            if rng.one_in(2) {
                s.commit().unwrap();
            } else {
                s.rollback().unwrap();
                m = kept;
            }
        } else {
            step(&s, &mut m, &mut rng, 200_000).unwrap();
        }
        take(&mut feed);
        let after = lines(&m);
        for (id, line) in &before {
            if after.get(id).is_some_and(|now| now != line) {
                differing += 1;
                assert!(
                    lost || reported_of.contains(id),
                    "seed {seed}, step {steps}: {line}"
                );
            }
        }
        steps += 1;
    }
    println!("{steps} steps, {differing} containers differed");
    assert!(differing > 50);
    common::compare(&s, &m, "at the end");
    s.close().unwrap();
}

/// The program of another process: set entries of the dict until killed, and say each.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn the_other_process() {
    let Some(dir) = std::env::var_os("PERSIST_FEED_DIR") else {
        return;
    };
    let s = open(Path::new(&dir), Durability::Checkpoint, None);
    let dict = s
        .read(&mut Wait::default(), |r| r.get(s.root(), &Key::Str(b"d")))
        .unwrap();
    let Some(Value::Obj(dict)) = dict else {
        panic!("no dict");
    };
    println!("\nready");
    for i in 0.. {
        write(&s, |w| w.set(dict, &Key::Int(i), &In::Int(i)));
        println!("\nset {i}");
        if std::env::var_os("PERSIST_FEED_PAUSES").is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Start the other process; return it and the lines that it says.
fn other(dir: &Path, envs: &[(&str, &str)]) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "the_other_process"])
        .env("PERSIST_FEED_DIR", dir)
        .envs(envs.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines.map_while(std::io::Result::ok))
}

/// The keys of the reported entries, from a feed that may have lost some.
fn reported_keys(changes: Changes, keys: &mut HashSet<i64>) {
    let Changes::These(all) = changes else {
        panic!("changes were lost");
    };
    for change in all {
        if let Change::Entry {
            key: Value::Int(n), ..
        } = change
        {
            keys.insert(n);
        }
    }
}

/// Another process is killed at each step of a change. What it has acknowledged is reported, also if a third process
/// recovers; and what is reported twice or for nothing does no harm.
#[test]
fn changes_of_a_process_that_dies_are_reported() {
    for (point, pass) in [
        ("feed.staged", 5),
        ("commit.operation", 5),
        ("commit.done", 5),
        ("feed.published", 5),
        ("undo.logged", 9),
    ] {
        let Scene {
            _dir: dir,
            store: s,
            dict,
            mut feed,
            ..
        } = scene();
        // The first change of the process may make the file larger; count from one that does not.
        let fail = format!("{point}={pass}");
        let (mut child, lines) = other(dir.path(), &[("PERSIST_FAIL", &fail)]);
        let mut acknowledged = HashSet::new();
        for line in lines {
            if let Some(n) = line.strip_prefix("set ") {
                acknowledged.insert(n.parse::<i64>().unwrap());
            }
        }
        child.wait().unwrap();
        // This finds the dead process, and recovers.
        set(&s, dict, "mine", 1);
        let mut keys = HashSet::new();
        let mut mine = false;
        for change in reported(&mut feed) {
            match change {
                Change::Entry {
                    key: Value::Int(n), ..
                } => assert!(keys.insert(n), "{point}: {n} twice"),
                other => {
                    assert_eq!(other, entry(dict, "mine", false, true), "{point}");
                    mine = true;
                }
            }
        }
        let Body::Dict(content) = Model::read(&s).unwrap().nodes[&dict.id.0].body.clone() else {
            panic!("no dict");
        };
        let int = |key: &Val| match key {
            Val::Int(n) => Some(*n),
            _ => None,
        };
        let stored: HashSet<i64> = content.keys().iter().filter_map(int).collect();
        assert!(
            acknowledged.is_subset(&stored),
            "{point}: {acknowledged:?} {stored:?}"
        );
        assert!(mine && stored.is_subset(&keys), "{point}: {stored:?} {keys:?}");
        assert!(
            acknowledged.len() >= 4 || point == "undo.logged",
            "{point}: {acknowledged:?}"
        );
        // The next process has the slot of the dead one, and watches nothing.
        s.check().unwrap();
        drop(feed);
        s.close().unwrap();
    }
}

/// A change wakes a reader in another process: no wait is as long as the slice after which a reader looks anyway.
#[test]
fn a_change_wakes_the_readers() {
    let Scene {
        _dir: dir, mut feed, ..
    } = scene();
    let (mut child, mut lines) = other(dir.path(), &[("PERSIST_FEED_PAUSES", "1")]);
    assert!(lines.any(|line| line == "ready"));
    let mut keys = HashSet::new();
    let begun = Instant::now();
    while keys.len() < 100 {
        assert!(begun.elapsed() < LONGEST, "{keys:?}");
        let found = feed.next(&mut Wait::at_most(LONGEST)).unwrap();
        reported_keys(found.expect("a change in time"), &mut keys);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Nothing missing in between.
    let most = keys.iter().max().unwrap();
    assert!((0..*most).all(|n| keys.contains(&n)), "{keys:?}");
}

/// What a process watched ends with it, in whatever way it ends.
#[test]
fn watching_ends_with_the_feed_and_with_the_process() {
    let Scene {
        _dir: dir,
        store: s,
        dict,
        mut feed,
        ..
    } = scene();
    let second = s.feed().map(|mut f| {
        f.watch(dict, &mut Wait::default()).unwrap();
        f
    });
    drop(second);
    set(&s, dict, "a", 1);
    assert_eq!(reported(&mut feed).len(), 1, "the first feed still watches");
    drop(feed);
    let mut idle = s.feed().unwrap();
    set(&s, dict, "a", 2);
    assert_eq!(idle.next(&mut Wait::never()).unwrap(), None);
    drop((s, idle));
    // The sidecar of a closed store is used again.
    let s = open(dir.path(), Durability::Checkpoint, None);
    set(&s, dict, "a", 3);
    let mut feed = s.feed().unwrap();
    feed.watch(dict, &mut Wait::default()).unwrap();
    set(&s, dict, "a", 4);
    assert_eq!(reported(&mut feed), [entry(dict, "a", true, true)]);
    let gone = write(&s, |w| {
        w.remove(s.root(), &Key::Str(b"d"))?;
        w.new_dict()
    });
    let mut other = s.feed().unwrap();
    assert!(matches!(
        other.watch(gone, &mut Wait::default()),
        Err(Error::Gone(_))
    ));
}
