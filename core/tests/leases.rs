//! Leases: a change comes through when the holder keeps nothing of what it changes any more, and never before.

use persist_core::Error;
use persist_core::store::door::{HeldLease, LeaseBucket, Member, Word};
use persist_core::store::{Actor, In, Key, Kind, Obj, Options, Store, Value, Wait, Writer};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const X: Key<'_> = Key::Str(b"x");
const Y: Key<'_> = Key::Str(b"y");

/// The time for which a kernel may keep what a lease covers.
const LEASE: Duration = Duration::from_secs(1);

/// A store with a holder of leases, and another opening that changes it.
struct Pair {
    holder: Store,
    writer: Store,
    _dir: tempfile::TempDir,
}

impl Pair {
    fn new() -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.store");
        let holder = Store::open(&path, &Options::default()).unwrap();
        let writer = Store::open(&path, &Options::default()).unwrap();
        for key in [X, Y] {
            set(&writer, writer.root(), &key, 1).unwrap();
        }
        assert!(holder.hold_leases().unwrap());
        Pair {
            holder,
            writer,
            _dir: dir,
        }
    }

    /// Lease an entry, as a request of the mount does.
    fn lease(&self, obj: Obj, key: Option<&Key<'_>>) -> LeaseBucket {
        let bucket = self.holder.lease_bucket(obj, key);
        let stamp = self.holder.read(&mut Wait::default(), |r| Ok(r.lease(bucket)));
        assert!(stamp.unwrap().is_some());
        bucket
    }

    fn wanted(&self) -> Vec<HeldLease> {
        let mut held = self.holder.held_leases();
        held.retain(|lease| lease.wanted);
        held
    }

    /// End the leases that are wanted, one after the other, while `f` runs. Return their number.
    fn giving_up(&self, f: impl FnOnce()) -> usize {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let giver = scope.spawn(|| {
                let (mut ended, mut calls) = (0, 0);
                while !over.load(Ordering::SeqCst) {
                    calls = self.holder.await_lease_call(calls, Duration::from_millis(5));
                    ended += self
                        .wanted()
                        .iter()
                        .filter(|lease| self.holder.end_lease(lease))
                        .count();
                }
                ended
            });
            f();
            over.store(true, Ordering::SeqCst);
            giver.join().unwrap()
        })
    }
}

fn set(store: &Store, obj: Obj, key: &Key<'_>, value: i64) -> Result<(), Error> {
    store.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(obj, key, &In::Int(value))
    })
}

fn get(store: &Store, key: &Key<'_>) -> Option<Value> {
    store
        .read(&mut Wait::default(), |r| r.get(store.root(), key))
        .unwrap()
}

fn is_stopped_by(pair: &Pair, change: impl FnOnce(&Store) -> Result<(), Error>) {
    let done = change(&pair.writer);
    assert!(matches!(done, Err(Error::WouldBlock { .. })), "{done:?}");
}

#[test]
fn a_change_waits_until_the_lease_is_given_up() {
    let pair = Pair::new();
    let root = pair.writer.root();
    for key in [Some(&X), None] {
        pair.lease(root, key);
        is_stopped_by(&pair, |s| {
            s.write(Actor::Thread, &mut Wait::never(), |w| {
                w.set(root, &X, &In::Int(2))
            })
        });
        assert_eq!(get(&pair.writer, &X), Some(Value::Int(1)));
        let held = pair.wanted();
        assert_eq!(held.len(), 1);
        assert!(pair.holder.end_lease(&held[0]));
        set(&pair.writer, root, &X, 1).unwrap();
    }
    // A lease of another entry is in no one's way.
    pair.lease(root, Some(&Y));
    set(&pair.writer, root, &X, 3).unwrap();
    assert_eq!(pair.giving_up(|| set(&pair.writer, root, &Y, 3).unwrap()), 1);
    assert_eq!(get(&pair.holder, &Y), Some(Value::Int(3)));
}

#[test]
fn every_kind_of_change_looks() {
    let pair = Pair::new();
    let root = pair.writer.root();
    let make = |w: &mut Writer<'_>| {
        let (list, dict, object) = (w.new_list()?, w.new_dict()?, w.new_object("a:B")?);
        for (name, obj) in [(&b"list"[..], list), (b"dict", dict), (b"object", object)] {
            w.set(root, &Key::Str(name), &In::Obj(obj))?;
        }
        w.insert(list, 0, &In::Int(1))?;
        w.set(dict, &X, &In::Int(7))?;
        w.set(object, &X, &In::Int(1))?;
        Ok([list, dict, object])
    };
    let [list, dict, object] = pair
        .writer
        .write(Actor::Thread, &mut Wait::default(), make)
        .unwrap();
    type Change = Box<dyn Fn(&mut Writer<'_>) -> Result<(), Error>>;
    let changes: Vec<(Obj, Option<&Key<'_>>, Change)> = vec![
        (dict, Some(&X), Box::new(move |w| w.set(dict, &X, &In::Int(2)))),
        (dict, Some(&Y), Box::new(move |w| w.set(dict, &Y, &In::Int(2)))),
        (dict, Some(&X), Box::new(move |w| w.remove(dict, &X).map(drop))),
        (dict, None, Box::new(move |w| w.remove(dict, &X).map(drop))),
        (dict, Some(&X), Box::new(move |w| w.clear(dict))),
        (
            dict,
            Some(&X),
            Box::new(move |w| w.convert(dict, Kind::Object, "")),
        ),
        (dict, None, Box::new(move |w| w.set_mtime(dict, 1))),
        (
            object,
            Some(&X),
            Box::new(move |w| w.set(object, &X, &In::Int(2))),
        ),
        (object, Some(&X), Box::new(move |w| w.clear(object))),
        (list, None, Box::new(move |w| w.set_item(list, 0, &In::Int(2)))),
        (list, None, Box::new(move |w| w.insert(list, 0, &In::Int(2)))),
        (list, None, Box::new(move |w| w.remove_items(list, 0, 1))),
        (list, None, Box::new(move |w| w.clear(list))),
    ];
    for (n, (obj, key, change)) in changes.iter().enumerate() {
        pair.lease(*obj, *key);
        is_stopped_by(&pair, |s| s.write(Actor::Thread, &mut Wait::never(), change));
        for lease in pair.holder.held_leases() {
            assert!(pair.holder.end_lease(&lease), "change {n}");
        }
    }
    // The fast path leaves such a change to the others.
    let three = Word::small(&In::Int(3));
    let end_all = || {
        pair.holder
            .held_leases()
            .iter()
            .all(|lease| pair.holder.end_lease(lease))
    };
    for (obj, key, member) in [(root, Some(&X), Member::Key(X)), (list, None, Member::Item(0))] {
        let slowly = || {
            let change = |w: &mut Writer<'_>| match key {
                Some(key) => w.set(obj, key, &In::Int(2)),
                None if w.len(obj)? == 0 => w.insert(obj, 0, &In::Int(2)),
                None => w.set_item(obj, 0, &In::Int(2)),
            };
            pair.writer
                .write(Actor::Thread, &mut Wait::default(), change)
                .unwrap();
        };
        // A checkpoint may take the page away for a moment.
        let fast = |change: &dyn Fn()| {
            (0..1000).any(|_| {
                change();
                get(&pair.writer, &X);
                pair.writer.fast_set(obj, member, three)
            })
        };
        assert!(fast(&slowly));
        pair.lease(obj, key);
        assert!(!fast(&|| ()));
        assert!(end_all());
        assert!(fast(&slowly));
    }
}

/// A change in place notes that its entry is not leased. The note counts until the next grant.
#[test]
fn a_change_in_place_looks_again_after_a_grant() {
    let pair = Pair::new();
    let root = pair.writer.root();
    let end = |bucket: LeaseBucket| {
        let held = pair.holder.held_leases();
        let mut of_bucket = held.iter().filter(|lease| lease.bucket == bucket);
        assert!(of_bucket.all(|lease| pair.holder.end_lease(lease)));
    };
    // A checkpoint may take the page away for a moment: then a change that is not in place brings it back.
    let is_fast = |renew: bool| {
        (0..1000).any(|_| {
            if renew {
                set(&pair.writer, root, &X, 2).unwrap();
            }
            get(&pair.writer, &X);
            pair.writer
                .fast_set(root, Member::Key(X), Word::small(&In::Int(3)))
        })
    };
    let other = pair.lease(root, Some(&Y));
    for key in [Some(&X), None] {
        for _ in 0..3 {
            // The second one finds the note of the first one.
            assert!(is_fast(true) && is_fast(true));
            let bucket = pair.lease(root, key);
            assert_ne!(bucket, other);
            assert!(!is_fast(false));
            // A lease that is used again, and one that is ended.
            assert_eq!(pair.lease(root, key), bucket);
            assert!(!is_fast(false));
            end(bucket);
            assert!(is_fast(true));
            pair.holder.hold_back(bucket);
            assert!(!is_fast(false));
            end(bucket);
        }
    }
}

#[test]
fn a_holder_that_does_not_answer_delays_the_changes_once() {
    let pair = Pair::new();
    let root = pair.writer.root();
    let keys: Vec<String> = (0..100).map(|n| format!("key {n}")).collect();
    for key in &keys {
        pair.lease(root, Some(&Key::Str(key.as_bytes())));
    }
    let begun = Instant::now();
    set(&pair.writer, root, &Key::Str(keys[0].as_bytes()), 1).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    for key in &keys {
        pair.writer
            .write(Actor::Thread, &mut Wait::never(), |w| {
                w.set(root, &Key::Str(key.as_bytes()), &In::Int(1))
            })
            .unwrap();
    }
    assert!(pair.holder.held_leases().is_empty());
}

#[test]
fn holders_that_do_not_answer_delay_a_change_together_as_long_as_one() {
    let pair = Pair::new();
    let root = pair.writer.root();
    let second = Store::open(pair.writer.path(), &Options::default()).unwrap();
    assert!(second.hold_leases().unwrap());
    let change = Store::open(pair.writer.path(), &Options::default()).unwrap();
    let lease = |store: &Store, key: Option<&Key<'_>>| {
        let bucket = store.lease_bucket(root, key);
        let stamp = store.read(&mut Wait::default(), |r| Ok(r.lease(bucket)));
        assert!(stamp.unwrap().is_some());
    };
    // One wait ends what the other holder had leased, too.
    lease(&pair.holder, Some(&X));
    lease(&second, Some(&Y));
    set(&change, root, &X, 2).unwrap();
    assert!(second.held_leases().is_empty());
    // A lease that is granted while the change waits is met when the change runs again: it has been seen for a while.
    // A machine that stalls can make one wait as long as two.
    let delay = || {
        lease(&pair.holder, Some(&X));
        let granted = thread::scope(|scope| {
            let granter = scope.spawn(|| {
                while pair.wanted().is_empty() {
                    thread::yield_now();
                }
                lease(&second, None);
                Instant::now()
            });
            set(&change, root, &X, 3).unwrap();
            granter.join().unwrap()
        });
        granted.elapsed()
    };
    let once = |delay: Duration| {
        assert!(delay >= LEASE, "{delay:?}");
        delay < LEASE * 3 / 2
    };
    assert!((0..10).any(|_| once(delay())));
}

#[test]
fn a_transaction_waits_at_each_change_and_is_not_rolled_back() {
    let pair = Pair::new();
    let root = pair.writer.root();
    pair.lease(root, Some(&X));
    let ended = pair.giving_up(|| {
        pair.writer.begin(&mut Wait::default()).unwrap();
        set(&pair.writer, root, &X, 5).unwrap();
        set(&pair.writer, root, &Y, 5).unwrap();
        // What the transaction has changed is shown as it was, and is not leased.
        let seen = pair.holder.read(&mut Wait::default(), |r| {
            let value = r.get(root, &X)?;
            Ok((value, r.lease(pair.holder.lease_bucket(root, Some(&X)))))
        });
        let (value, stamp) = seen.unwrap();
        assert_eq!((value, stamp), (Some(Value::Int(1)), None));
        pair.writer.commit().unwrap();
    });
    assert_eq!(ended, 1);
    assert_eq!(get(&pair.holder, &X), Some(Value::Int(5)));
}

#[test]
fn the_holders_own_change_of_an_entry_leaves_its_leases_if_they_are_noted() {
    let pair = Pair::new();
    let root = pair.writer.root();
    let bucket = pair.lease(root, Some(&X));
    let calls = pair.holder.lease_calls();
    let set = |value| {
        pair.holder.write(Actor::Command, &mut Wait::never(), |w| {
            w.set(root, &X, &In::Int(value))
        })
    };
    let (done, touched) = pair.holder.touching(|| set(2));
    done.unwrap();
    assert_eq!(touched, [bucket]);
    assert_eq!(pair.holder.lease_calls(), calls);
    assert_eq!(pair.wanted().len(), 0);
    // Other changes wait as before.
    is_stopped_by(&pair, |s| {
        s.write(Actor::Thread, &mut Wait::never(), |w| {
            w.set(root, &X, &In::Int(3))
        })
    });
    // What changes is not one entry: all leases are called for.
    let again = Pair::new();
    let root = again.writer.root();
    let bucket = again.lease(root, Some(&X));
    let clear = || {
        again
            .holder
            .write(Actor::Command, &mut Wait::never(), |w| w.clear(root))
    };
    let (done, touched) = again.holder.touching(clear);
    done.unwrap();
    assert_eq!(touched, []);
    assert_eq!(
        again.wanted().iter().map(|l| l.bucket).collect::<Vec<_>>(),
        [bucket]
    );
}

#[test]
fn the_holders_own_change_calls_the_holder_and_does_not_wait() {
    let pair = Pair::new();
    let root = pair.writer.root();
    let bucket = pair.lease(root, Some(&X));
    let calls = pair.holder.lease_calls();
    pair.holder
        .write(Actor::Command, &mut Wait::never(), |w| {
            w.set(root, &X, &In::Int(2))
        })
        .unwrap();
    assert_ne!(pair.holder.lease_calls(), calls);
    let wanted = pair.wanted();
    assert_eq!(wanted.iter().map(|l| l.bucket).collect::<Vec<_>>(), [bucket]);
    // Until the holder has given it up, nothing is granted, and others wait.
    let again = pair.holder.read(&mut Wait::default(), |r| Ok(r.lease(bucket)));
    assert_eq!(again.unwrap(), None);
    is_stopped_by(&pair, |s| {
        s.write(Actor::Thread, &mut Wait::never(), |w| {
            w.set(root, &X, &In::Int(3))
        })
    });
    assert!(pair.holder.end_lease(&wanted[0]));
    // The same for what is held back without a lease.
    pair.holder.hold_back(bucket);
    is_stopped_by(&pair, |s| {
        s.write(Actor::Thread, &mut Wait::never(), |w| {
            w.set(root, &X, &In::Int(3))
        })
    });
    assert_eq!(pair.giving_up(|| set(&pair.writer, root, &X, 3).unwrap()), 1);
}

#[test]
fn there_are_two_holders_and_each_is_asked() {
    let pair = Pair::new();
    let root = pair.writer.root();
    assert!(pair.writer.hold_leases().unwrap());
    let third = Store::open(pair.writer.path(), &Options::default()).unwrap();
    assert!(!third.hold_leases().unwrap());
    let bucket = pair.lease(root, Some(&X));
    let granted = pair.writer.read(&mut Wait::default(), |r| Ok(r.lease(bucket)));
    assert!(granted.unwrap().is_some());
    let ends = |store: &Store| store.held_leases().iter().all(|lease| store.end_lease(lease));
    let stopped = || {
        let done = third.write(Actor::Thread, &mut Wait::never(), |w| {
            w.set(root, &X, &In::Int(3))
        });
        assert!(matches!(done, Err(Error::WouldBlock { .. })), "{done:?}");
    };
    stopped();
    assert!(ends(&pair.holder));
    stopped();
    assert!(ends(&pair.writer));
    set(&third, root, &X, 3).unwrap();
    // A place that is given back is free, and its leases are ended.
    pair.lease(root, Some(&X));
    pair.holder.stop_holding_leases();
    set(&third, root, &X, 4).unwrap();
    assert!(third.hold_leases().unwrap());
}

#[test]
fn a_container_that_gets_another_home_without_a_change_of_its_entry_is_given_up() {
    let pair = Pair::new();
    let root = pair.writer.root();
    // `a` and `b` are in a cycle, and `b` is also in the root: without `a` in the root, the home of `b` changes.
    let (a, b) = pair
        .writer
        .write(Actor::Thread, &mut Wait::default(), |w| {
            let (a, b) = (w.new_dict()?, w.new_dict()?);
            w.set(root, &Key::Str(b"a"), &In::Obj(a))?;
            w.set(a, &Key::Str(b"b"), &In::Obj(b))?;
            w.set(b, &Key::Str(b"a"), &In::Obj(a))?;
            w.set(root, &Key::Str(b"b"), &In::Obj(b))?;
            Ok((a, b))
        })
        .unwrap();
    let _ = b;
    pair.lease(a, Some(&Key::Str(b"b")));
    let ended = pair.giving_up(|| {
        pair.writer
            .write(Actor::Thread, &mut Wait::default(), |w| {
                w.remove(root, &Key::Str(b"a"))
            })
            .unwrap();
    });
    assert_eq!(ended, 1);
}
