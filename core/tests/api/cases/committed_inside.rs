//! A commit inside the closure, which then fails: the operation would be both committed and failed.
#![forbid(unsafe_code)]
#![allow(unused, unreachable_code)]
use persist_core::store::{Actor, In, Key, Options, Reader, Store, Value, Wait, Writer};

fn main() {
    let store = Store::open("a.store", &Options::default()).unwrap();
    let root = store.root();
    let _ = store.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(root, &Key::Str(b"x"), &In::Int(1))?;
        w.commit(); //~ E0624
        w.len(root)
    });
}
