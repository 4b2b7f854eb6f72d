//! Calls of a store inside the closures of `read` and `write`: each returns an error or a result at once. The open
//! section, its operation and the transaction around it stay intact.

use persist_core::store::door::{LeaseBucket, LockReply, Member, Pending, Word, set_task};
use persist_core::store::{
    Actor, Block, Durability, In, Key, LockMode, LockTarget, Options, Store, Value, Wait,
};
use persist_core::{Error, Result};
use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

type Call = fn(&Store) -> Result<()>;

/// The calls, and whether an open section of this thread refuses them.
const CALLS: &[(&str, bool, Call)] = &[
    ("begin", true, |s| s.begin(&mut soon()).map(|_| ())),
    ("commit", true, |s| s.commit()),
    ("commit_without_wait", true, |s| s.commit_without_wait()),
    ("end", true, |s| s.end(begun().0, true)),
    ("end_without_wait", true, |s| s.end_without_wait(begun().0, false)),
    ("write_without_wait", true, |s| {
        s.write_without_wait(Actor::Thread, &mut soon(), |_| Ok(()))
            .map(drop)
    }),
    ("await_durability", true, |s| s.await_durability(&mut soon())),
    ("rollback", true, |s| s.rollback()),
    ("sync", true, |s| s.sync()),
    ("gc", true, |s| s.gc().map(drop)),
    ("free_some", true, |s| s.free_some(64, &mut soon()).map(drop)),
    ("stat", true, |s| s.stat().map(drop)),
    ("check", true, |s| s.check().map(drop)),
    ("check_pages", true, |s| s.check_pages().map(drop)),
    ("close", true, |s| s.close()),
    ("read", true, |s| s.read(&mut soon(), |_| Ok(()))),
    ("write", true, |s| s.write(Actor::Thread, &mut soon(), |_| Ok(()))),
    ("snapshot", true, |s| s.snapshot("inside").map(drop)),
    ("snapshots", true, |s| s.snapshots().map(drop)),
    ("frozen", true, |s| s.frozen(&mut soon()).map(drop)),
    ("drop_snapshot", true, |s| s.drop_snapshot("there")),
    ("feed", true, |s| s.feed().map(drop)),
    ("await_changes", false, |s| {
        s.await_changes(s.feed_end(), Duration::from_secs(60)).map(drop)
    }),
    ("stir_feeds", false, |s| {
        s.stir_feeds();
        Ok(())
    }),
    ("await_stir", false, |s| {
        s.stir();
        s.await_stir(s.stirs()?, Duration::from_secs(60))
    }),
    ("release_free_pages", true, |s| s.release_free_pages()),
    ("lock", true, |s| {
        s.lock(Actor::Thread, root(s), LockMode::Exclusive, &mut soon())
            .map(drop)
    }),
    ("try_acquire", true, |s| {
        s.try_acquire(Actor::Thread, root(s), LockMode::Exclusive)
            .map(drop)
    }),
    ("set_lock", true, |s| {
        s.set_lock(Actor::Thread, root(s), Some(LockMode::Shared), &mut soon())
    }),
    ("unlock", true, |s| s.unlock(Actor::Thread, root(s)).map(drop)),
    ("release", true, |s| {
        s.release(&s.lock_handle(Actor::Thread, root(s))?, LockMode::Exclusive)
    }),
    ("wait_for_conflict", true, |s| {
        s.wait_for_conflict(Actor::Thread, &mut soon())
    }),
    ("lock_later", true, |s| {
        s.lock_later(Actor::Thread, root(s), LockMode::Exclusive, None)
            .map(drop)
    }),
    ("lock_poll", true, |s| s.lock_poll(&begun().1).map(drop)),
    ("lock_cancel", true, |s| s.lock_cancel(&begun().1).map(drop)),
    ("lock_awaited", true, |s| {
        s.lock_awaited(&begun().1, LockMode::Shared).map(drop)
    }),
    ("lock_behind", true, |s| s.lock_behind(&begun().1).map(drop)),
    ("lock_sleep", false, |s| {
        s.lock_sleep(&begun().1, Duration::from_secs(60));
        Ok(())
    }),
    ("lock_is_stirred", false, |s| {
        let _ = s.lock_is_stirred(&begun().1);
        Ok(())
    }),
    ("forget_pages", false, |s| {
        s.forget_pages();
        Ok(())
    }),
    ("release_task", true, |s| {
        let owner = s.lock_handle(Actor::Thread, root(s))?.owner();
        s.release_task(owner).map(drop)
    }),
    ("close_at_exit", true, |s| s.close_at_exit()),
    ("test_lock", true, |s| {
        s.test_lock(Actor::Thread, root(s), LockMode::Shared).map(drop)
    }),
    ("unlock_all", true, |s| s.unlock_all(Actor::Thread)),
    ("locks", true, |s| s.locks().map(drop)),
    // The others return a result: the handle belongs to another, nothing was done, or no section is needed.
    ("compact", true, |s| s.clone().compact(&mut |_| {}).map(drop)),
    ("pages", true, |s| s.pages(None).map(drop)),
    ("open_snapshot", false, |s| s.open_snapshot("there").map(drop)),
    ("path_of", false, |s| {
        assert_eq!(s.path_of(root(s)), None);
        Ok(())
    }),
    ("fast_get", false, |s| {
        let known = persist_core::store::door::Known::default();
        nothing(s.fast_get(s.root(), Member::Key(X), |_, _| None::<()>))?;
        nothing(s.fast_get(s.root(), Member::Attribute(X, &known), |_, _| None::<()>))?;
        nothing(s.fast_get(s.root(), Member::Item(0), |_, _| None::<()>))
    }),
    ("fast_set", false, |s| {
        let known = persist_core::store::door::Known::default();
        refused(s.fast_set(s.root(), Member::Key(X), two()))?;
        refused(s.fast_set(s.root(), Member::Attribute(X, &known), two()))?;
        refused(s.fast_set(s.root(), Member::Item(0), two()))
    }),
    ("name_task", false, |s| {
        let before = set_task(1);
        s.name_task("inside");
        assert!(!s.lacks_task_name());
        set_task(before);
        Ok(())
    }),
    ("lock_handle", false, |s| {
        s.lock_handle(Actor::Thread, root(s)).map(drop)
    }),
    ("unpin", false, |s| {
        s.unpin(s.root());
        Ok(())
    }),
    ("hold_leases", false, |s| s.hold_leases().map(drop)),
    ("stop_holding_leases", false, |s| {
        s.hold_leases()?;
        s.hold_back(bucket(s));
        s.stop_holding_leases();
        assert!(s.held_leases().is_empty());
        Ok(())
    }),
    ("end_lease", false, |s| {
        s.hold_leases()?;
        s.hold_back(bucket(s));
        assert!(s.is_lease_wanted(bucket(s)));
        s.call_for_leases();
        assert_eq!(
            s.await_lease_call(s.lease_calls(), Duration::from_secs(60)),
            s.lease_calls()
        );
        assert!(s.held_leases().iter().all(|lease| s.end_lease(lease)));
        Ok(())
    }),
];
/// Plain figures.
const PLAIN: &[&str] = &[
    "open",
    "root",
    "path",
    "change_count",
    "feed_end",
    "is_latched",
    "in_transaction",
    "level_of",
    "must_await_durability",
    "is_only_process",
    "lacks_task_name",
    "shorten_max_age",
    "without_checkpoints",
    "skip_room",
    "opened_snapshot",
    "is_frozen",
    "is_view",
    "uuid",
    "undurable_age",
    // Tried with `await_stir`.
    "stirs",
    "stir",
    // The calls of leases together are tried as `end_lease`.
    "lease_bucket",
    "lease_calls",
    // It runs a closure, and enters nothing itself.
    "touching",
    "await_lease_call",
    "held_leases",
    "is_lease_wanted",
    "call_for_leases",
    "hold_back",
];

const X: Key<'static> = Key::Str(b"x");

fn soon() -> Wait<'static> {
    Wait::at_most(Duration::from_millis(50))
}

fn bucket(store: &Store) -> LeaseBucket {
    store.lease_bucket(store.root(), Some(&X))
}

fn root(store: &Store) -> LockTarget<'static> {
    LockTarget {
        obj: store.root(),
        key: None,
    }
}

/// A block that was begun and a requested lock, both before the section: of another store, which must not matter.
fn begun() -> &'static (Block, Pending) {
    static BEGUN: OnceLock<(Block, Pending)> = OnceLock::new();
    BEGUN.get_or_init(|| {
        let others = std::thread::spawn(|| {
            let (_dir, store) = open(Durability::Checkpoint);
            store
                .lock(Actor::Flock(1, 0), root(&store), LockMode::Exclusive, &mut soon())
                .expect("a lock");
            let asked = store.lock_later(Actor::Thread, root(&store), LockMode::Exclusive, None);
            let Ok(LockReply::Queued(pending)) = asked else {
                panic!("a lock that is held: {asked:?}");
            };
            let block = store.begin(&mut soon()).expect("a transaction");
            store.rollback().expect("an end");
            (block, pending)
        });
        others.join().expect("no panic")
    })
}

fn two() -> Word {
    Word::small(&In::Int(2))
}

fn nothing(found: std::result::Result<Word, ()>) -> Result<()> {
    assert_eq!(found, Ok(Word::EMPTY));
    Ok(())
}

fn refused(done: bool) -> Result<()> {
    assert!(!done);
    Ok(())
}

fn open(durability: Durability) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a folder");
    let options = Options {
        durability,
        lock_timeout: Duration::from_secs(20),
        ..Options::default()
    };
    let store = Store::open(dir.path().join("a.store"), &options).expect("a store");
    set(&store, 0).expect("a value");
    store.snapshot("there").expect("a snapshot");
    (dir, store)
}

fn set(store: &Store, value: i64) -> Result<()> {
    let root = store.root();
    store.write(Actor::Thread, &mut soon(), |w| w.set(root, &X, &In::Int(value)))
}

fn get(store: &Store) -> Option<Value> {
    let root = store.root();
    // By another thread, which shows the committed state.
    std::thread::scope(|s| s.spawn(|| store.read(&mut soon(), |r| r.get(root, &X))).join())
        .expect("no panic")
        .expect("a value")
}

/// Make the call inside the section, and check that it did not take long.
fn call(store: &Store, (name, wrong, act): &(&str, bool, Call)) {
    let begin = Instant::now();
    let done = act(store);
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{name} waits inside a section"
    );
    match done {
        Err(Error::Invalid { .. } | Error::Refused { .. }) => assert!(wrong, "{name}: {done:?}"),
        Ok(()) => assert!(!wrong, "{name} was done inside a section"),
        Err(e) => panic!("{name}: {e}"),
    }
}

#[test]
fn inside_a_write() {
    for durability in [Durability::Checkpoint, Durability::Commit] {
        for one in CALLS {
            let (_dir, store) = open(durability);
            let root = store.root();
            // A single operation that fails is undone, whatever was called in it.
            let done = store.write(Actor::Thread, &mut soon(), |w| {
                w.set(root, &X, &In::Int(7))?;
                call(&store, one);
                w.set(root, &Key::Str(b"y"), &In::Int(7))?;
                Err::<(), _>(Error::invalid("by intent"))
            });
            assert!(matches!(done, Err(Error::Invalid { .. })), "{}: {done:?}", one.0);
            assert_eq!(get(&store), Some(Value::Int(0)), "{}", one.0);
            // An operation that does not fail is done.
            store
                .write(Actor::Thread, &mut soon(), |w| {
                    call(&store, one);
                    w.set(root, &X, &In::Int(8))
                })
                .unwrap_or_else(|e| panic!("{}: {e}", one.0));
            assert_eq!(get(&store), Some(Value::Int(8)), "{}", one.0);
            assert!(!store.in_transaction());
            store.check().expect("a sound store");
            store.close().expect("a close");
        }
    }
}

#[test]
fn inside_a_write_of_a_transaction() {
    for one in CALLS {
        for depth in [1, 2] {
            let (_dir, store) = open(Durability::Checkpoint);
            let root = store.root();
            for _ in 0..depth {
                store.begin(&mut soon()).expect("a transaction");
            }
            set(&store, 6).expect("a change");
            store
                .write(Actor::Thread, &mut soon(), |w| {
                    w.set(root, &X, &In::Int(7))?;
                    call(&store, one);
                    w.set(root, &X, &In::Int(8))
                })
                .unwrap_or_else(|e| panic!("{}: {e}", one.0));
            assert!(store.in_transaction(), "{} ended the transaction", one.0);
            for _ in 0..depth {
                store.rollback().unwrap_or_else(|e| panic!("{}: {e}", one.0));
            }
            assert!(!store.in_transaction());
            assert_eq!(get(&store), Some(Value::Int(0)), "{}", one.0);
            set(&store, 9).expect("a change");
            store.check().expect("a sound store");
            store.close().expect("a close");
        }
    }
}

#[test]
fn inside_a_read() {
    for transaction in [false, true] {
        for one in CALLS {
            let (_dir, store) = open(Durability::Checkpoint);
            let root = store.root();
            if transaction {
                store.begin(&mut soon()).expect("a transaction");
                set(&store, 1).expect("a change");
            }
            let seen = store.read(&mut soon(), |r| {
                let before = r.get(root, &X)?;
                call(&store, one);
                assert_eq!(r.get(root, &X)?, before, "{}", one.0);
                Ok(before)
            });
            let seen = seen.unwrap_or_else(|e| panic!("{}: {e}", one.0));
            assert_eq!(seen, Some(Value::Int(i64::from(transaction))));
            assert_eq!(store.in_transaction(), transaction, "{}", one.0);
            if transaction {
                store.commit().unwrap_or_else(|e| panic!("{}: {e}", one.0));
            }
            set(&store, 9).expect("a change");
            store.check().expect("a sound store");
            store.close().expect("a close");
        }
    }
}

/// Every public method of `Store` is tested above: a new one has to be added.
#[test]
fn every_call_is_tried() {
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).expect("text");
        let mut inside = false;
        for row in text.lines() {
            inside = row.starts_with("impl Store {") || inside && !row.starts_with('}');
            if let Some(rest) = row.strip_prefix("    pub fn ").filter(|_| inside) {
                let end = rest
                    .find(|c: char| c != '_' && !c.is_alphanumeric())
                    .expect("a bracket");
                found.insert(rest[..end].to_owned());
            }
        }
    }
    let tried = CALLS
        .iter()
        .map(|c| c.0)
        .chain(PLAIN.iter().copied())
        .map(str::to_owned);
    assert_eq!(found, tried.collect());
}
