//! The operations that the kill tests take to pieces: how the store is filled before, and what is done.

use super::state::State;
use persist_core::store::{
    Actor, In, Key, Kind, LockMode, LockTarget, Obj, Result, Step, Store, Value, Wait, Word, Writer,
};

/// What a child does between its two marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Marked {
    /// An operation on an open store.
    Operation,
    /// Opening it.
    Open,
    /// Closing it.
    Close,
}

/// An operation to be killed.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub marked: Marked,
    /// Fills the store before.
    pub prepare: fn(&Store) -> Result<()>,
    pub run: fn(&Store) -> Result<()>,
}

fn write(s: &Store, f: impl FnMut(&mut Writer<'_>) -> Result<()>) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::forever(), f)
}

fn set(s: &Store, o: Obj, k: &str, v: In<'_>) -> Result<()> {
    write(s, |w| w.set(o, &Key::Str(k.as_bytes()), &v))
}

fn child(s: &Store, k: &str) -> Result<Obj> {
    match s.read(&mut Wait::forever(), |r| r.get(s.root(), &Key::Str(k.as_bytes())))? {
        Some(Value::Obj(o)) => Ok(o),
        _ => Err(persist_core::Error::NoKey),
    }
}

fn nothing(_: &Store) -> Result<()> {
    Ok(())
}

fn some_values(s: &Store) -> Result<()> {
    set(s, s.root(), "a", In::Int(1))?;
    set(
        s,
        s.root(),
        "b",
        In::str("a string that takes a segment of its own"),
    )?;
    set(s, s.root(), "c", In::Float(0.5))
}

fn a_dict_of(s: &Store, n: i64) -> Result<()> {
    write(s, |w| {
        let d = w.new_dict()?;
        for i in 0..n {
            w.set(d, &Key::Str(format!("key {i}").as_bytes()), &In::Int(i))?;
        }
        w.set(s.root(), &Key::Str(b"d"), &In::Obj(d))
    })
}

fn a_list_of(s: &Store, n: i64) -> Result<()> {
    write(s, |w| {
        let l = w.new_list()?;
        for i in 0..n {
            w.insert(l, i as u64, &In::Int(i))?;
        }
        w.set(s.root(), &Key::Str(b"l"), &In::Obj(l))
    })
}

fn insert_into_d(s: &Store) -> Result<()> {
    set(
        s,
        child(s, "d")?,
        "one more key",
        In::str("and a value beside it"),
    )
}

/// A store in which a checkpoint has something to build, and pages of an older one to free.
pub fn used_for_a_while(s: &Store) -> Result<()> {
    some_values(s)?;
    a_list_of(s, 1200)?;
    for round in 0..3 {
        set(s, s.root(), "a", In::Int(round))?;
        write(s, |w| {
            let l = w.new_dict()?;
            w.set(s.root(), &Key::Int(round), &In::Obj(l))
        })?;
        if round < 2 {
            s.sync()?;
        }
    }
    Ok(())
}

/// A store with two snapshots that share most of what they hold, and hold some that it has no more.
fn with_snapshots(s: &Store) -> Result<()> {
    some_values(s)?;
    a_list_of(s, 100)?;
    s.snapshot("one")?;
    set(
        s,
        s.root(),
        "a",
        In::str("changed after the first snapshot was taken"),
    )?;
    a_dict_of(s, 30)?;
    s.snapshot("two")?;
    set(s, s.root(), "d", In::None)?;
    set(s, s.root(), "b", In::Bytes(&[7; 20_000]))?;
    s.sync()?;
    set(s, s.root(), "c", In::Int(1))
}

fn three_changes(s: &Store) -> Result<()> {
    s.begin(&mut Wait::forever())?;
    set(
        s,
        s.root(),
        "a",
        In::str("a longer value than before, in a segment"),
    )?;
    set(s, s.root(), "b", In::Int(2))?;
    write(s, |w| {
        let o = w.new_object("module:Class")?;
        w.set(o, &Key::Str(b"x"), &In::Int(1))?;
        w.set(s.root(), &Key::Str(b"new"), &In::Obj(o))
    })
}

pub const CASES: &[Case] = &[
    Case {
        name: "set inline over inline",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| set(s, s.root(), "a", In::Int(2)),
    },
    Case {
        name: "set inline, first change after a checkpoint",
        marked: Marked::Operation,
        prepare: |s| some_values(s).and_then(|()| s.sync()),
        run: |s| set(s, s.root(), "a", In::Int(2)),
    },
    Case {
        name: "insert into a small dict",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 5),
        run: insert_into_d,
    },
    Case {
        name: "a small dict grows sparse",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 160),
        run: insert_into_d,
    },
    Case {
        name: "a small dict becomes large",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 236),
        run: insert_into_d,
    },
    Case {
        name: "insert into a large dict",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 2000),
        run: insert_into_d,
    },
    Case {
        name: "remove from a large dict",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 400),
        run: |s| {
            let d = child(s, "d")?;
            write(s, |w| w.remove(d, &Key::Str(b"key 200")).map(|_| ()))
        },
    },
    Case {
        name: "overwrite with a longer string",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| set(s, s.root(), "b", In::str(&"longer ".repeat(80))),
    },
    Case {
        name: "a string of many pieces",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| set(s, s.root(), "b", In::Bytes(&[7; 20_000])),
    },
    Case {
        name: "a string that the redo log has no room for",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| set(s, s.root(), "b", In::Bytes(&[7; 70_000])),
    },
    Case {
        name: "remove a string of many pieces",
        marked: Marked::Operation,
        prepare: |s| set(s, s.root(), "b", In::Bytes(&[7; 20_000])),
        run: |s| write(s, |w| w.remove(s.root(), &Key::Str(b"b")).map(|_| ())),
    },
    Case {
        name: "remove",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| write(s, |w| w.remove(s.root(), &Key::Str(b"b")).map(|_| ())),
    },
    Case {
        name: "append to a list",
        marked: Marked::Operation,
        prepare: |s| a_list_of(s, 64),
        run: |s| {
            let l = child(s, "l")?;
            write(s, |w| {
                w.insert(l, 64, &In::str("an item with a segment of its own"))
            })
        },
    },
    Case {
        name: "replace a value that was found lately",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 10),
        run: |s| {
            let d = child(s, "d")?;
            let key = Key::Str(b"key 3");
            // Copies the page of this epoch, and changes nothing else.
            for _ in 0..3 {
                write(s, |w| w.set(d, &key, &In::Int(3)))?;
            }
            assert!(
                s.set_at_once(d, &key, Word::small(&In::Int(31))),
                "nothing was remembered"
            );
            Ok(())
        },
    },
    Case {
        name: "insert into a full leaf",
        marked: Marked::Operation,
        prepare: |s| a_list_of(s, 2000),
        run: |s| {
            let l = child(s, "l")?;
            write(s, |w| w.insert(l, 10, &In::Int(-1)))
        },
    },
    Case {
        name: "remove from a list until leaves merge",
        marked: Marked::Operation,
        prepare: |s| a_list_of(s, 1600),
        run: |s| {
            let l = child(s, "l")?;
            write(s, |w| w.remove_items(l, 100, 900))
        },
    },
    Case {
        name: "a new dict",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| {
            write(s, |w| {
                let d = w.new_dict()?;
                w.set(d, &Key::Int(1), &In::Bool(true))?;
                w.set(s.root(), &Key::Str(b"new"), &In::Obj(d))
            })
        },
    },
    Case {
        name: "an attribute",
        marked: Marked::Operation,
        prepare: |s| {
            write(s, |w| {
                let o = w.new_object("module:Class")?;
                w.set(o, &Key::Str(b"x"), &In::Int(1))?;
                w.set(s.root(), &Key::Str(b"o"), &In::Obj(o))
            })
        },
        run: |s| {
            let o = child(s, "o")?;
            write(s, |w| {
                w.set(o, &Key::Str(b"x"), &In::str("changed, in a segment of its own"))?;
                w.set(o, &Key::Str(b"y"), &In::Int(2))
            })
        },
    },
    Case {
        name: "release a subtree",
        marked: Marked::Operation,
        prepare: |s| {
            write(s, |w| {
                let top = w.new_dict()?;
                for i in 0..6 {
                    let (d, l) = (w.new_dict()?, w.new_list()?);
                    w.insert(l, 0, &In::str("a string in a list in a dict in a dict"))?;
                    w.set(d, &Key::Str(b"l"), &In::Obj(l))?;
                    w.set(top, &Key::Int(i), &In::Obj(d))?;
                }
                w.set(s.root(), &Key::Str(b"top"), &In::Obj(top))
            })
        },
        run: |s| write(s, |w| w.remove(s.root(), &Key::Str(b"top")).map(|_| ())),
    },
    Case {
        name: "a transaction",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| three_changes(s).and_then(|()| s.commit()),
    },
    Case {
        name: "a rollback",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| three_changes(s).and_then(|()| s.rollback()),
    },
    Case {
        name: "lock and unlock",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| {
            let whole = LockTarget {
                obj: s.root(),
                key: None,
            };
            let entry = LockTarget {
                obj: s.root(),
                key: Some(Key::Str(b"a")),
            };
            s.lock(Actor::Thread, entry, LockMode::Exclusive, &mut Wait::forever())?;
            s.lock(Actor::Thread, whole, LockMode::Shared, &mut Wait::forever())?;
            s.unlock(Actor::Thread, entry)?;
            s.unlock(Actor::Thread, whole)
        },
    },
    Case {
        name: "collect a cycle",
        marked: Marked::Operation,
        prepare: |s| {
            write(s, |w| {
                let (a, b) = (w.new_dict()?, w.new_dict()?);
                w.set(a, &Key::Str(b"b"), &In::Obj(b))?;
                w.set(b, &Key::Str(b"a"), &In::Obj(a))?;
                w.set(s.root(), &Key::Str(b"a"), &In::Obj(a))
            })?;
            write(s, |w| w.remove(s.root(), &Key::Str(b"a")).map(|_| ()))
        },
        run: |s| s.gc().map(|_| ()),
    },
    Case {
        name: "read everything",
        marked: Marked::Operation,
        prepare: used_for_a_while,
        run: |s| {
            State::of(s);
            Ok(())
        },
    },
    Case {
        name: "pin and unpin",
        marked: Marked::Operation,
        prepare: |s| a_list_of(s, 10),
        run: |s| {
            let l = child(s, "l")?;
            s.read(&mut Wait::forever(), |r| r.pin(l))?;
            write(s, |w| w.remove(s.root(), &Key::Str(b"l")).map(|_| ()))?;
            write(s, |w| w.insert(l, 0, &In::Int(-1)))?;
            s.unpin(l);
            s.gc().map(|_| ())
        },
    },
    Case {
        name: "rename over another",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 20).and_then(|()| a_list_of(s, 20)),
        run: |s| {
            let step = |k: &str| {
                Step::Key(Value::Str {
                    bytes: k.as_bytes().into(),
                    no_newline: false,
                })
            };
            let d = child(s, "d")?;
            write(s, |w| w.rename(s.root(), &step("l"), d, &step("key 3")))
        },
    },
    Case {
        name: "turn a dict into an object",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 12),
        run: |s| {
            let d = child(s, "d")?;
            write(s, |w| w.convert(d, Kind::Object, "module:Class"))
        },
    },
    Case {
        name: "clear",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 600),
        run: |s| {
            let d = child(s, "d")?;
            write(s, |w| w.clear(d))
        },
    },
    Case {
        name: "give pages back on a full disk",
        marked: Marked::Operation,
        prepare: |s| {
            set(s, s.root(), "big", In::Bytes(&[3; 40_000]))?;
            used_for_a_while(s)?;
            write(s, |w| w.remove(s.root(), &Key::Str(b"big")).map(|_| ()))?;
            s.sync()?;
            s.sync()
        },
        run: Store::release_free_pages,
    },
    Case {
        name: "a checkpoint",
        marked: Marked::Operation,
        prepare: used_for_a_while,
        run: Store::sync,
    },
    Case {
        name: "take a snapshot",
        marked: Marked::Operation,
        prepare: used_for_a_while,
        run: |s| s.snapshot("a snapshot").map(|_| ()),
    },
    Case {
        name: "take one more snapshot",
        marked: Marked::Operation,
        prepare: with_snapshots,
        run: |s| s.snapshot("three").map(|_| ()),
    },
    Case {
        name: "drop a snapshot",
        marked: Marked::Operation,
        prepare: with_snapshots,
        run: |s| s.drop_snapshot("one"),
    },
    Case {
        name: "drop the newest snapshot",
        marked: Marked::Operation,
        prepare: with_snapshots,
        run: |s| s.drop_snapshot("two"),
    },
    Case {
        name: "open",
        marked: Marked::Open,
        prepare: used_for_a_while,
        run: nothing,
    },
    Case {
        name: "close",
        marked: Marked::Close,
        prepare: used_for_a_while,
        run: nothing,
    },
];
