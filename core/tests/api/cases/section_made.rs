//! A section that was not entered.
#![forbid(unsafe_code)]
#![allow(unused, unreachable_code)]
use persist_core::store::{Actor, In, Key, Options, Reader, Store, Value, Wait, Writer};

fn main() {
    let writer: Writer<'static> = Writer::default(); //~ E0599
    let store = Store::open("a.store", &Options::default()).unwrap();
    let copy = store.clone();
}
