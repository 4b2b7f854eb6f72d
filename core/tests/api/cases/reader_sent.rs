//! A reader that moves to another thread: the gate's mark belongs to the thread that entered.
#![forbid(unsafe_code)]
#![allow(unused, unreachable_code)]
use persist_core::store::{Actor, In, Key, Options, Reader, Store, Value, Wait, Writer};

fn needs_send<T: Send>(_: T) {}

fn main() {
    let store = Store::open("a.store", &Options::default()).unwrap();
    let root = store.root();
    let _ = store.read(&mut Wait::default(), |r| {
        std::thread::scope(|s| {
            s.spawn(|| r.len(root)); //~ E0277
            //= r.len(root);
        });
        r.len(root)
    });
}
