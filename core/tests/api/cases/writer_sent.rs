//! A writer that moves to another thread: the latch belongs to the thread that entered.
#![forbid(unsafe_code)]
#![allow(unused, unreachable_code)]
use persist_core::store::{Actor, In, Key, Options, Reader, Store, Value, Wait, Writer};

fn main() {
    let store = Store::open("a.store", &Options::default()).unwrap();
    let root = store.root();
    let _ = store.write(Actor::Thread, &mut Wait::default(), |w| {
        std::thread::scope(|s| {
            s.spawn(|| w.set(root, &Key::Str(b"x"), &In::Int(1))); //~ E0277
            //= w.set(root, &Key::Str(b"x"), &In::Int(1)).unwrap();
        });
        Ok(())
    });
}
