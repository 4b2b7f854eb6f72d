//! The content of the store before an operation, code that several operations share, and processes that die beside
//! them.

use super::super::{again, process, sys};
use persist_core::store::{
    Actor, Error, In, Key, LockMode, LockTarget, Obj, Result, Store, Value, Wait, Writer,
};
use std::os::unix::process::ExitStatusExt;

pub(super) fn write(s: &Store, f: impl FnMut(&mut Writer<'_>) -> Result<()>) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::default(), f)
}

pub(super) fn set(s: &Store, o: Obj, k: &str, v: In<'_>) -> Result<()> {
    write(s, |w| w.set(o, &Key::Str(k.as_bytes()), &v))
}

pub(super) fn child(s: &Store, k: &str) -> Result<Obj> {
    match s.read(&mut Wait::default(), |r| r.get(s.root(), &Key::Str(k.as_bytes())))? {
        Some(Value::Obj(o)) => Ok(o),
        _ => Err(Error::NoKey),
    }
}

pub(super) fn nothing(_: &Store) -> Result<()> {
    Ok(())
}

pub(super) fn some_values(s: &Store) -> Result<()> {
    set(s, s.root(), "a", In::Int(1))?;
    set(
        s,
        s.root(),
        "b",
        In::str("a string that takes a segment of its own"),
    )?;
    set(s, s.root(), "c", In::Float(0.5))
}

/// A large value whose pages were written in an epoch that has ended. A change that frees them releases them after its
/// commit.
pub(super) fn many_pieces_in_a_checkpoint(s: &Store) -> Result<()> {
    some_values(s)?;
    set(s, s.root(), "b", In::Bytes(&[7; 20_000]))?;
    s.sync()
}

pub(super) fn a_dict_of(s: &Store, n: i64) -> Result<()> {
    write(s, |w| {
        let d = w.new_dict()?;
        for i in 0..n {
            w.set(d, &Key::Str(format!("key {i}").as_bytes()), &In::Int(i))?;
        }
        w.set(s.root(), &Key::Str(b"d"), &In::Obj(d))
    })
}

pub(super) fn a_list_of(s: &Store, n: i64) -> Result<()> {
    write(s, |w| {
        let l = w.new_list()?;
        for i in 0..n {
            w.insert(l, i as u64, &In::Int(i))?;
        }
        w.set(s.root(), &Key::Str(b"l"), &In::Obj(l))
    })
}

/// A dict whose keys are kept in order.
pub(super) fn a_sorted_dict(s: &Store) -> Result<()> {
    write(s, |w| {
        let d = w.new_dict()?;
        w.set(s.root(), &Key::Str(b"sorted"), &In::Obj(d))?;
        w.set_class(d, Some("SortedDict"))?;
        for i in 0..90 {
            w.set(d, &Key::Str(format!("key {i}").as_bytes()), &In::Int(i))?;
        }
        Ok(())
    })
}

pub(super) fn insert_into_d(s: &Store) -> Result<()> {
    set(
        s,
        child(s, "d")?,
        "one more key",
        In::str("and a value beside it"),
    )
}

/// A store in which a checkpoint has pages to build, and older pages to free.
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

/// Take a view of the moment, which lives as long as the process.
pub(super) fn hold_a_view(s: &Store) -> Result<()> {
    std::mem::forget(s.frozen(&mut Wait::default())?);
    Ok(())
}

/// Change pages of `used_for_a_while` in several epochs, and once more: the next checkpoint frees pages of the first.
/// The content is afterwards as before.
pub(super) fn keep_pages(s: &Store) -> Result<()> {
    let l = child(s, "l")?;
    for round in 0..3 {
        set(s, s.root(), "a", In::Int(10 + round))?;
        set(s, s.root(), "a", In::Int(2))?;
        for i in [0, 600, 1199] {
            write(s, |w| w.set_item(l, i, &In::Int(i as i64)))?;
        }
        if round < 2 {
            s.sync()?;
        }
    }
    Ok(())
}

/// A store with two snapshots that share most of their content, some of which the store no longer has.
pub(super) fn with_snapshots(s: &Store) -> Result<()> {
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

pub(super) fn three_changes(s: &Store) -> Result<()> {
    s.begin(&mut Wait::default())?;
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

/// A change, an inner block that changes the same and more and is undone, one that is kept, a change.
pub(super) fn some_undone(s: &Store) -> Result<()> {
    s.begin(&mut Wait::default())?;
    set(s, s.root(), "a", In::str("changed before the inner block began"))?;
    three_changes(s)?;
    write(s, |w| w.remove(s.root(), &Key::Str(b"c")).map(|_| ()))?;
    s.rollback()?;
    s.begin(&mut Wait::default())?;
    set(s, s.root(), "b", In::Int(3))?;
    s.commit()?;
    set(s, s.root(), "d", In::str("set after the inner block was undone"))
}

pub(super) fn entry_b(s: &Store) -> LockTarget<'static> {
    LockTarget {
        obj: s.root(),
        key: Some(Key::Str(b"b")),
    }
}

/// Become a holder of leases, and lease an entry of the root. (What the survivors change is not leased: they would wait
/// a second after each kill.)
pub(super) fn hold_leases(s: &Store) -> Result<()> {
    assert!(s.hold_leases()?);
    let bucket = s.lease_bucket(s.root(), Some(&Key::Str(b"a")));
    let granted = s.read(&mut Wait::default(), |r| Ok(r.lease(bucket)))?;
    assert!(granted.is_some());
    Ok(())
}

/// End all leases of this opening.
pub(super) fn end_leases(s: &Store) {
    for lease in s.held_leases() {
        assert!(s.end_lease(&lease));
    }
}

pub(super) fn lock_b(s: &Store) -> Result<()> {
    s.lock(
        Actor::Thread,
        entry_b(s),
        LockMode::Exclusive,
        &mut Wait::default(),
    )
    .map(drop)
}

/// The operations of a process that was beside a killed process: no lock, latch or mark blocks them, and the content of
/// the store is the same afterwards.
pub fn use_store(s: &Store) -> Result<()> {
    if s.in_transaction() {
        s.rollback()?;
    }
    let value = |k: &'static str| s.read(&mut Wait::default(), |r| r.get(s.root(), &Key::Str(k.as_bytes())));
    if let Some(Value::Str { bytes, .. }) = value("b")? {
        write(s, |w| {
            let text = std::str::from_utf8(&bytes).expect("text");
            w.set(s.root(), &Key::Str(b"b"), &In::str(text))
        })?;
    }
    set(s, s.root(), "c", In::Float(0.5))?;
    s.sync()
}

type Act = fn(&Store) -> Result<()>;

/// How a process dies beside the one that is killed.
const DEATHS: &[(&str, Act)] = &[
    ("in a transaction", |s| {
        write(s, |w| {
            let d = w.new_dict()?;
            w.set(d, &Key::Int(1), &In::Int(1))
        })?;
        s.read(&mut Wait::default(), |r| r.pin(s.root()))?;
        lock_b(s)?;
        s.begin(&mut Wait::default())?;
        set(s, s.root(), "a", In::Bytes(&[9; 9000]))?;
        set(s, s.root(), "c", In::Int(9))
    }),
    ("in a read section", |s| {
        s.read(&mut Wait::default(), |_| -> Result<()> { process::die() })
    }),
    ("with a lock", lock_b),
    ("in a checkpoint", Store::sync),
];

/// Die in the way that `PERSIST_STEP_DEATH` names.
pub fn die_as_requested(s: &Store) {
    let told = std::env::var("PERSIST_STEP_DEATH").expect("a way to die");
    let (_, death) = DEATHS
        .iter()
        .find(|(name, _)| *name == told)
        .expect("a known way");
    death(s).expect("what comes before a death");
    process::die();
}

/// Another process dies.
pub(super) fn let_one_die(s: &Store, how: &str) -> Result<()> {
    let mut command = again("dying");
    command
        .env("PERSIST_STEP_STORE", s.path())
        .env("PERSIST_STEP_DEATH", how);
    if how == "in a checkpoint" {
        command.env("PERSIST_FAIL", "checkpoint.written=1");
    }
    let died = command.status().expect("run");
    assert_eq!(died.signal(), Some(libc::SIGKILL), "{how}");
    Ok(())
}

/// Prevent the parent from taking a slot for a forked child: the child has to take one itself.
pub(super) fn let_no_slot_be_taken(_: &Store) -> Result<()> {
    sys::allow_one_more_file();
    Ok(())
}

pub(super) fn first_operation(s: &Store) -> Result<()> {
    sys::allow_files();
    set(
        s,
        s.root(),
        "a",
        In::str("set by a child, in a segment of its own"),
    )
}
