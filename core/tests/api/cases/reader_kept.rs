//! A section that outlives its closure.
#![forbid(unsafe_code)]
#![allow(unused, unreachable_code)]
use persist_core::store::{Actor, In, Key, Options, Reader, Store, Value, Wait, Writer};

fn main() {
    let store = Store::open("a.store", &Options::default()).unwrap();
    let root = store.root();
    let mut kept: Option<&Reader<'_>> = None;
    let _ = store.read(&mut Wait::default(), |r| {
        kept = Some(r); //~ E0521
        r.len(root)
    });
    let _ = kept;
}
