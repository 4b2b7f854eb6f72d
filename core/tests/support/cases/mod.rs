//! The operations that the kill tests examine, and (`scenes`) the content of the store before them.

mod scenes;

pub use scenes::{die_as_requested, use_store, used_for_a_while};

use super::state::State;
use persist_core::store::door::{Member, Word};
use persist_core::store::{
    Actor, Error, In, Key, Kind, LockMode, LockTarget, Result, Step, Store, Value, Wait,
};
use scenes::{
    a_dict_of, a_list_of, a_sorted_dict, child, end_leases, entry_b, first_operation, hold_a_view,
    hold_leases, insert_into_d, keep_pages, let_no_slot_be_taken, let_one_die, lock_b,
    many_pieces_in_a_checkpoint, nothing, set, some_undone, some_values, three_changes, with_snapshots,
    write,
};
use std::io::{IoSlice, Write};
use std::time::Duration;

/// What a child does between its two marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Marked {
    /// An operation on an open store.
    Operation,
    /// Opening it.
    Open,
    /// Closing the store.
    Close,
    /// An operation, and the end of the thread that ran it.
    Thread,
    /// A fork, and an operation after it.
    Fork,
    /// An operation in a forked child, from its first instruction on.
    Forked,
}

/// An operation in which a process is killed.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub marked: Marked,
    /// Fills the store before the operation.
    pub prepare: fn(&Store) -> Result<()>,
    /// What the child does before the operation.
    pub begin: fn(&Store) -> Result<()>,
    pub run: fn(&Store) -> Result<()>,
}

impl Case {
    const fn new(name: &'static str, marked: Marked, prepare: fn(&Store) -> Result<()>) -> Case {
        Case {
            name,
            marked,
            prepare,
            begin: nothing,
            run: nothing,
        }
    }

    const fn after(mut self, begin: fn(&Store) -> Result<()>) -> Case {
        self.begin = begin;
        self
    }

    const fn does(mut self, run: fn(&Store) -> Result<()>) -> Case {
        self.run = run;
        self
    }

    /// True if it leaves everything unchanged.
    pub fn changes_nothing(&self) -> bool {
        matches!(self.marked, Marked::Open | Marked::Close)
    }
}

const fn operation(
    name: &'static str,
    prepare: fn(&Store) -> Result<()>,
    run: fn(&Store) -> Result<()>,
) -> Case {
    Case::new(name, Marked::Operation, prepare).does(run)
}

/// Each operation that the promise covers. `kill_steps` also covers openings that create, replace and recover.
pub const CASES: &[Case] = &[
    operation("set inline over inline", some_values, |s| {
        set(s, s.root(), "a", In::Int(2))
    }),
    operation(
        "set inline, first change after a checkpoint",
        |s| some_values(s).and_then(|()| s.sync()),
        |s| set(s, s.root(), "a", In::Int(2)),
    ),
    operation("insert into a small dict", |s| a_dict_of(s, 5), insert_into_d),
    operation("a small dict grows sparse", |s| a_dict_of(s, 160), insert_into_d),
    operation("a small dict becomes large", |s| a_dict_of(s, 236), insert_into_d),
    operation("insert into a large dict", |s| a_dict_of(s, 2000), insert_into_d),
    operation(
        "remove from a large dict",
        |s| a_dict_of(s, 400),
        |s| {
            let d = child(s, "d")?;
            write(s, |w| w.remove(d, &Key::Str(b"key 200")).map(|_| ()))
        },
    ),
    operation("overwrite with a longer string", some_values, |s| {
        set(s, s.root(), "b", In::str(&"longer ".repeat(80)))
    }),
    operation("a string of many pieces", some_values, |s| {
        set(s, s.root(), "b", In::Bytes(&[7; 20_000]))
    }),
    operation("a string that the redo log has no room for", some_values, |s| {
        set(s, s.root(), "b", In::Bytes(&[7; 70_000]))
    }),
    operation(
        "remove a string of many pieces",
        |s| set(s, s.root(), "b", In::Bytes(&[7; 20_000])),
        |s| write(s, |w| w.remove(s.root(), &Key::Str(b"b")).map(|_| ())),
    ),
    operation(
        "replace a string of many pieces that a checkpoint has",
        many_pieces_in_a_checkpoint,
        |s| set(s, s.root(), "b", In::Bytes(&[8; 24_000])),
    ),
    operation(
        "replace a string of many pieces that a checkpoint has, in a transaction",
        many_pieces_in_a_checkpoint,
        |s| {
            s.begin(&mut Wait::default())?;
            set(s, s.root(), "b", In::Bytes(&[8; 24_000]))?;
            set(s, s.root(), "a", In::Int(2))?;
            s.commit()
        },
    ),
    operation("remove", some_values, |s| {
        write(s, |w| w.remove(s.root(), &Key::Str(b"b")).map(|_| ()))
    }),
    operation(
        "append to a list",
        |s| a_list_of(s, 64),
        |s| {
            let l = child(s, "l")?;
            write(s, |w| {
                w.insert(l, 64, &In::str("an item with a segment of its own"))
            })
        },
    ),
    operation(
        "give a list a class",
        |s| a_list_of(s, 64),
        |s| {
            let l = child(s, "l")?;
            write(s, |w| w.set_class(l, Some("shop:Line")))
        },
    ),
    operation("insert into a sorted dict", a_sorted_dict, |s| {
        set(s, child(s, "sorted")?, "key 50 and more", In::Int(1))
    }),
    operation("remove from a sorted dict", a_sorted_dict, |s| {
        let d = child(s, "sorted")?;
        write(s, |w| w.remove(d, &Key::Str(b"key 50")).map(|_| ()))
    }),
    operation("clear a sorted dict", a_sorted_dict, |s| {
        let d = child(s, "sorted")?;
        write(s, |w| w.clear(d))
    }),
    operation(
        "replace a value that was found lately",
        |s| a_dict_of(s, 10),
        |s| {
            let d = child(s, "d")?;
            let key = Key::Str(b"key 3");
            // This copies the page of this epoch, and changes nothing else.
            for _ in 0..3 {
                write(s, |w| w.set(d, &key, &In::Int(3)))?;
            }
            assert!(
                s.fast_set(d, Member::Key(key), Word::small(&In::Int(31))),
                "nothing was remembered"
            );
            Ok(())
        },
    ),
    operation(
        "insert into a full leaf",
        |s| a_list_of(s, 2000),
        |s| {
            let l = child(s, "l")?;
            write(s, |w| w.insert(l, 10, &In::Int(-1)))
        },
    ),
    operation(
        "remove from a list until leaves merge",
        |s| a_list_of(s, 1600),
        |s| {
            let l = child(s, "l")?;
            write(s, |w| w.remove_items(l, 100, 900))
        },
    ),
    operation("a new dict", some_values, |s| {
        write(s, |w| {
            let d = w.new_dict()?;
            w.set(d, &Key::Int(1), &In::Bool(true))?;
            w.set(s.root(), &Key::Str(b"new"), &In::Obj(d))
        })
    }),
    operation(
        "an attribute",
        |s| {
            write(s, |w| {
                let o = w.new_object("module:Class")?;
                w.set(o, &Key::Str(b"x"), &In::Int(1))?;
                w.set(s.root(), &Key::Str(b"o"), &In::Obj(o))
            })
        },
        |s| {
            let o = child(s, "o")?;
            write(s, |w| {
                w.set(o, &Key::Str(b"x"), &In::str("changed, in a segment of its own"))?;
                w.set(o, &Key::Str(b"y"), &In::Int(2))
            })
        },
    ),
    operation(
        "release a subtree",
        |s| {
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
        |s| write(s, |w| w.remove(s.root(), &Key::Str(b"top")).map(|_| ())),
    ),
    operation("a transaction", some_values, |s| {
        three_changes(s).and_then(|()| s.commit())
    }),
    operation("a rollback", some_values, |s| {
        three_changes(s).and_then(|()| s.rollback())
    }),
    operation("a block that is undone in a transaction", some_values, |s| {
        some_undone(s).and_then(|()| s.commit())
    }),
    operation("a rollback after a block was undone", some_values, |s| {
        some_undone(s).and_then(|()| s.rollback())
    }),
    operation("lock and unlock", some_values, |s| {
        let whole = LockTarget {
            obj: s.root(),
            key: None,
        };
        let entry = LockTarget {
            obj: s.root(),
            key: Some(Key::Str(b"a")),
        };
        s.lock(Actor::Thread, entry, LockMode::Exclusive, &mut Wait::default())?;
        s.lock(Actor::Thread, whole, LockMode::Shared, &mut Wait::default())?;
        s.unlock(Actor::Thread, entry)?;
        s.unlock(Actor::Thread, whole).map(drop)
    }),
    operation("grant leases and end them", some_values, |s| {
        hold_leases(s)?;
        end_leases(s);
        s.stop_holding_leases();
        Ok(())
    }),
    operation("change what is leased", some_values, |s| {
        set(s, s.root(), "a", In::Int(2))
    })
    .after(hold_leases),
    operation("lock a container twice and unlock it", some_values, |s| {
        let whole = LockTarget {
            obj: s.root(),
            key: None,
        };
        s.lock(Actor::Thread, whole, LockMode::Shared, &mut Wait::default())?;
        s.lock(Actor::Thread, whole, LockMode::Exclusive, &mut Wait::default())?;
        s.unlock(Actor::Thread, whole)?;
        s.unlock(Actor::Thread, whole).map(drop)
    }),
    operation("a wait for a lock that times out", some_values, |s| {
        let (one, other) = (Actor::Flock(1, 0), Actor::Thread);
        s.lock(one, entry_b(s), LockMode::Shared, &mut Wait::default())?;
        s.lock(other, entry_b(s), LockMode::Shared, &mut Wait::default())?;
        // Queue behind the other, and leave again.
        let soon = &mut Wait::at_most(Duration::from_millis(2));
        let waited = s.lock(one, entry_b(s), LockMode::Exclusive, soon);
        assert!(matches!(waited, Err(Error::Timeout { .. })), "{waited:?}");
        s.unlock_all(other)?;
        s.unlock_all(one)
    }),
    operation(
        "collect a cycle",
        |s| {
            write(s, |w| {
                let (a, b) = (w.new_dict()?, w.new_dict()?);
                w.set(a, &Key::Str(b"b"), &In::Obj(b))?;
                w.set(b, &Key::Str(b"a"), &In::Obj(a))?;
                w.set(s.root(), &Key::Str(b"a"), &In::Obj(a))
            })?;
            write(s, |w| w.remove(s.root(), &Key::Str(b"a")).map(|_| ()))
        },
        |s| s.gc().map(|_| ()),
    ),
    operation("read everything", used_for_a_while, |s| {
        State::of(s);
        Ok(())
    }),
    operation(
        "pin and unpin",
        |s| a_list_of(s, 10),
        |s| {
            let l = child(s, "l")?;
            s.read(&mut Wait::default(), |r| r.pin(l))?;
            write(s, |w| w.remove(s.root(), &Key::Str(b"l")).map(|_| ()))?;
            write(s, |w| w.insert(l, 0, &In::Int(-1)))?;
            s.unpin(l);
            s.gc().map(|_| ())
        },
    ),
    operation(
        "an entry begins to wait beside a list",
        |s| a_list_of(s, 3),
        |s| {
            let l = child(s, "l")?;
            write(s, |w| {
                let dict = w.make_waiting(l)?;
                w.set(dict, &Key::Int(7), &In::Int(7))
            })
        },
    ),
    operation(
        "a waiting entry joins its list, and that is logged",
        |s| {
            a_list_of(s, 3)?;
            let l = child(s, "l")?;
            write(s, |w| {
                w.log_splices(true)?;
                let dict = w.make_waiting(l)?;
                w.set(dict, &Key::Int(3), &In::Int(3))
            })
        },
        |s| {
            let l = child(s, "l")?;
            write(s, |w| {
                let dict = w.make_waiting(l)?;
                w.rename(dict, &Step::Key(Value::Int(3)), l, &Step::Index(3))?;
                w.drop_waiting(l)
            })
        },
    ),
    operation(
        "rename over another",
        |s| a_dict_of(s, 20).and_then(|()| a_list_of(s, 20)),
        |s| {
            let step = |k: &str| {
                Step::Key(Value::Str {
                    bytes: k.as_bytes().into(),
                    no_newline: false,
                })
            };
            let d = child(s, "d")?;
            write(s, |w| w.rename(s.root(), &step("l"), d, &step("key 3")))
        },
    ),
    operation(
        "turn a dict into an object",
        |s| a_dict_of(s, 12),
        |s| {
            let d = child(s, "d")?;
            write(s, |w| w.convert(d, Kind::Object, "module:Class"))
        },
    ),
    operation(
        "clear",
        |s| a_dict_of(s, 600),
        |s| {
            let d = child(s, "d")?;
            write(s, |w| w.clear(d))
        },
    ),
    operation(
        "give pages back on a full disk",
        |s| {
            set(s, s.root(), "big", In::Bytes(&[3; 40_000]))?;
            used_for_a_while(s)?;
            write(s, |w| w.remove(s.root(), &Key::Str(b"big")).map(|_| ()))?;
            s.sync()?;
            s.sync()
        },
        Store::release_free_pages,
    ),
    operation("a checkpoint", used_for_a_while, Store::sync),
    operation("change what a view shows", used_for_a_while, |s| {
        set(
            s,
            s.root(),
            "a",
            In::str("changed beside a view of the moment before"),
        )
    })
    .after(hold_a_view),
    operation("a transaction beside a view", some_values, |s| {
        three_changes(s).and_then(|()| s.rollback())
    })
    .after(hold_a_view),
    operation("take a view and end it", some_values, |s| {
        s.frozen(&mut Wait::default())?.close()
    }),
    operation(
        "a checkpoint that keeps pages for a view",
        used_for_a_while,
        |s| s.sync(),
    )
    .after(|s| hold_a_view(s).and_then(|()| keep_pages(s))),
    operation(
        "a checkpoint that frees what a view has kept",
        used_for_a_while,
        Store::sync,
    )
    .after(|s| {
        let view = s.frozen(&mut Wait::default())?;
        keep_pages(s)?;
        view.close()
    }),
    operation("take a snapshot", used_for_a_while, |s| {
        s.snapshot("a snapshot").map(|_| ())
    }),
    operation("take one more snapshot", with_snapshots, |s| {
        s.snapshot("three").map(|_| ())
    }),
    operation("drop a snapshot", with_snapshots, |s| s.drop_snapshot("one")),
    operation("drop the newest snapshot", with_snapshots, |s| {
        s.drop_snapshot("two")
    }),
    operation("recover a process that died in a transaction", some_values, |s| {
        set(s, s.root(), "a", In::Int(2))
    })
    .after(|s| let_one_die(s, "in a transaction")),
    operation(
        "recover a process that died in a read section",
        some_values,
        |s| set(s, s.root(), "a", In::Int(2)),
    )
    .after(|s| let_one_die(s, "in a read section")),
    operation("take the lock of a dead process", some_values, |s| {
        lock_b(s)?;
        s.unlock(Actor::Thread, entry_b(s)).map(drop)
    })
    .after(|s| let_one_die(s, "with a lock")),
    operation("recover a process at a checkpoint", some_values, Store::sync)
        .after(|s| let_one_die(s, "with a lock")),
    operation("finish another's checkpoint", used_for_a_while, Store::sync)
        .after(|s| let_one_die(s, "in a checkpoint")),
    Case::new("a thread ends", Marked::Thread, some_values).does(|s| set(s, s.root(), "a", In::Int(2))),
    Case::new("a thread ends in a transaction", Marked::Thread, some_values)
        .does(|s| lock_b(s).and_then(|()| three_changes(s))),
    Case::new("fork", Marked::Fork, some_values),
    Case::new("fork with a lock held", Marked::Fork, some_values).after(lock_b),
    Case::new("fork in a transaction", Marked::Fork, some_values)
        .after(three_changes)
        .does(Store::commit),
    Case::new("a forked child's first operation", Marked::Forked, some_values).does(first_operation),
    Case::new("a forked child registers itself", Marked::Forked, some_values)
        .after(let_no_slot_be_taken)
        .does(first_operation),
    Case::new(
        "a forked child registers itself, its parent has a lock",
        Marked::Forked,
        some_values,
    )
    .after(|s| lock_b(s).and_then(|()| let_no_slot_be_taken(s)))
    .does(first_operation),
    Case::new("open", Marked::Open, used_for_a_while),
    Case::new("close", Marked::Close, used_for_a_while),
];

/// Change the store's file by an unknown call: for the test that this is noticed.
pub const SMUGGLER: Case = operation("a change by an unknown call", some_values, |s| {
    let file = std::fs::OpenOptions::new().append(true).open(s.path());
    let written = file.and_then(|mut f| f.write_vectored(&[IoSlice::new(b"smuggled")]));
    assert_eq!(written.expect("write"), 8);
    Ok(())
});
