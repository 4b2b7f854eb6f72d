//! A counter that any number of processes may raise at once: `cargo run --example counter -- FILE`.
//!
//! While the lock is held, no other thread or process, and no mount, can change `root['x']`. A single write is atomic
//! without a lock; a lock is for work that takes several writes.

use persist_core::store::{
    Actor, Error, In, Key, LockMode, LockTarget, Options, Result, Store, Value, Wait, Writer,
};

const X: Key<'static> = Key::Str(b"x");

fn main() {
    let path = std::env::args_os()
        .nth(1)
        .unwrap_or_else(|| "persist.store".into());
    let counted = Store::open(path, &Options::default()).and_then(|store| {
        let counted = count(&store);
        store.close().and(counted)
    });
    match counted {
        Ok(n) => println!("{n}"),
        Err(e) => {
            eprintln!("counter: {e}");
            std::process::exit(1);
        }
    }
}

/// Raises `root['x']` by one under an exclusive lock on that entry; gives the new value.
fn count(store: &Store) -> Result<i64> {
    let target = LockTarget {
        obj: store.root(),
        key: Some(X),
    };
    store.lock(Actor::Thread, target, LockMode::Exclusive, &mut Wait::default())?;
    let counted = store.write(Actor::Thread, &mut Wait::default(), |w| raise(w, store));
    // Given back after an error too; the lock of a process that dies is given back for it.
    store.unlock(Actor::Thread, target).and(counted)
}

fn raise(w: &mut Writer<'_>, store: &Store) -> Result<i64> {
    let n = match w.get(store.root(), &X)? {
        None => 0,
        Some(Value::Int(n)) => n,
        Some(_) => {
            return Err(Error::WrongKind {
                what: "root['x'] is not an int",
            });
        }
    };
    let n = n.checked_add(1).ok_or(Error::WrongKind {
        what: "root['x'] is at its largest",
    })?;
    w.set(store.root(), &X, &In::Int(n))?;
    Ok(n)
}
