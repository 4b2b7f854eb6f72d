//! A change by a reader.
#![forbid(unsafe_code)]
#![allow(unused, unreachable_code)]
use persist_core::store::{Actor, In, Key, Options, Reader, Store, Value, Wait, Writer};

fn main() {
    let store = Store::open("a.store", &Options::default()).unwrap();
    let root = store.root();
    let _ = store.read(&mut Wait::default(), |r| {
        r.clear(root)?; //~ E0599
        r.len(root)
    });
}
