//! Waiting for durability: a change is made only once, and a replay restores it completely.

use super::*;

/// A thread whose next flush (of this kind) stops until it may continue.
struct Slow {
    go: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Slow {
    fn new(kind: Moment, work: impl FnOnce() + Send + 'static) -> Slow {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (began, begun) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut once = Some((began, wait));
            observe(Some(Box::new(move |moment| {
                if moment == kind
                    && let Some((began, wait)) = once.take()
                {
                    began.send(()).unwrap();
                    let _ = wait.recv();
                }
                Ok(())
            })));
            work();
            observe(None);
        });
        begun.recv().unwrap();
        Slow { go, thread }
    }

    fn resume(self) {
        drop(self.go);
        self.thread.join().unwrap();
    }
}

/// Assert the error of a wait for durability that reaches its bound, and that the change was made once.
fn is_unknown(done: Result<(), Error>, what: &str) {
    let Err(e @ Error::DurabilityUnknown { .. }) = done else {
        panic!("{what}: {done:?}");
    };
    assert_eq!(e.errno(), libc::ETIMEDOUT, "{what}: {e}");
}

fn count(store: &Store, list: Obj) -> Vec<Value> {
    store
        .read(&mut Wait::default(), |r| {
            (0..r.len(list)?).map(|i| Ok(r.item(list, i)?.unwrap())).collect()
        })
        .unwrap()
}

/// While the flush or checkpoint of another thread is stopped, changes are made once, and report that their durability
/// is unknown. The next wait covers them.
#[test]
fn a_change_whose_wait_failed_is_done_once_and_covered_by_the_next_wait() {
    // In the log; and by a checkpoint, if they do not fit the log.
    for (kind, large) in [(Moment::LogFlushing, false), (Moment::Flushing, true)] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let short = Options {
            lock_timeout: Duration::from_millis(150),
            ..options(Durability::Commit)
        };
        let store = Store::open(&path, &short).unwrap();
        let root = store.root();
        let mut wait = Wait::default();
        let list = store
            .write(Actor::Thread, &mut wait, |w| {
                let list = w.new_list()?;
                w.set(root, &Key::Str(b"list"), &In::Obj(list))?;
                Ok(list)
            })
            .unwrap();
        let pad = vec![7u8; if large { 300 << 10 } else { 10 }];
        let append = |n: i64| {
            store.write(Actor::Thread, &mut Wait::never(), |w| {
                w.set(root, &Key::Str(b"pad"), &In::Bytes(&pad))?;
                w.insert(list, w.len(list)?, &In::Int(n))
            })
        };
        append(66).unwrap();
        let other = store.clone();
        let slow = Slow::new(kind, move || {
            set(&other, "other", 1).unwrap();
            if large {
                other.sync().unwrap();
            }
        });
        let what = format!("{kind:?}");
        is_unknown(append(67), &what);
        assert_eq!(count(&store, list), [Value::Int(66), Value::Int(67)], "{what}");
        // A transaction is committed too: a second commit of it is refused, and nothing is undone.
        store.begin(&mut wait).unwrap();
        append(68).unwrap();
        is_unknown(store.commit(), &what);
        assert!(!store.in_transaction());
        assert!(matches!(store.commit(), Err(Error::Invalid { .. })));
        // An operation without changes waits for the changes before it.
        let nothing = || store.write(Actor::Thread, &mut Wait::default(), |_| Ok(()));
        is_unknown(nothing(), &what);
        // So does another thread.
        std::thread::scope(|s| {
            s.spawn(|| is_unknown(nothing(), &what));
        });
        slow.resume();
        nothing().unwrap();
        let all = [66, 67, 68].map(Value::Int);
        assert_eq!(count(&store, list), all, "{what}");
        // Now reported durable: present without the sidecar.
        let cut = dir.path().join("cut.store");
        copy(&path, &cut);
        let found = Store::open(
            &cut,
            &Options {
                max_age: None,
                ..Options::default()
            },
        )
        .unwrap();
        let Some(Value::Obj(there)) = get(&found, "list") else {
            panic!("{what}: no list")
        };
        assert_eq!(count(&found, there), all, "{what}");
        found.close().unwrap();
        store.close().unwrap();
    }
}

/// A record restores all of a change, including the times of change.
#[test]
fn what_is_replayed_has_its_times_of_change() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = open(&path);
    let root = store.root();
    let mut forever = Wait::default();
    let (list, object, dict) = store
        .write(Actor::Thread, &mut forever, |w| {
            let (list, object, dict) = (w.new_list()?, w.new_object("m.C")?, w.new_dict()?);
            for (key, obj) in [("list", list), ("object", object), ("dict", dict)] {
                w.set(root, &Key::Str(key.as_bytes()), &In::Obj(obj))?;
            }
            for i in 0..100 {
                w.insert(list, i, &In::Int(0))?;
                w.set(dict, &Key::Int(i as i64), &In::Int(0))?;
            }
            w.set(object, &Key::Str(b"a"), &In::Int(0))?;
            Ok((list, object, dict))
        })
        .unwrap();
    type Change<'a> = (
        &'a str,
        Obj,
        &'a dyn Fn(&mut Writer<'_>, i64) -> Result<(), Error>,
    );
    let changes: [Change<'_>; 8] = [
        ("replaced", root, &|w, n| {
            w.set(root, &Key::Str(b"x"), &In::Int(n))
        }),
        ("of a large dict", dict, &|w, n| {
            w.set(dict, &Key::Int(50), &In::Int(n))
        }),
        ("removed", dict, &|w, n| {
            let key = Key::Int(n % 100);
            if w.remove(dict, &key)? {
                Ok(())
            } else {
                w.set(dict, &key, &In::Int(n))
            }
        }),
        ("an item", list, &|w, n| w.set_item(list, 5, &In::Int(n))),
        ("inserted", list, &|w, n| w.insert(list, 0, &In::Int(n))),
        ("an attribute", object, &|w, n| {
            w.set(object, &Key::Str(b"a"), &In::Int(n))
        }),
        ("a new attribute", object, &|w, n| {
            w.set(object, &Key::Str(format!("{n}").as_bytes()), &In::Int(n))
        }),
        ("a time", list, &|w, n| w.set_mtime(list, 1_000_000 + n as u64)),
    ];
    let mtime = |s: &Store, obj| s.read(&mut Wait::default(), |r| r.mtime(obj)).unwrap();
    for (i, (what, obj, change)) in changes.iter().enumerate() {
        for in_transaction in [false, true] {
            store.sync().unwrap();
            let before = mtime(&store, *obj);
            let end = Instant::now() + Duration::from_secs(60);
            let mut n = 0;
            // Wait until the clock has advanced.
            while mtime(&store, *obj) == before {
                assert!(Instant::now() < end, "{what}: its time stands still");
                n += 1;
                if in_transaction {
                    store.begin(&mut forever).unwrap();
                }
                store
                    .write(Actor::Thread, &mut forever, |w| change(w, n))
                    .unwrap();
                if in_transaction {
                    store.commit().unwrap();
                }
            }
            let cut = dir.path().join(format!("cut{i}{in_transaction}.store"));
            copy(&path, &cut);
            let found = Store::open(&cut, &Options::default()).unwrap();
            for obj in [root, list, object, dict] {
                assert_eq!(
                    mtime(&found, obj),
                    mtime(&store, obj),
                    "{what}, in a transaction: {in_transaction}"
                );
            }
            found.close().unwrap();
        }
    }
    store.close().unwrap();
}
