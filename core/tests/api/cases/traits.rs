//! Sections are neither `Send` nor `Sync`; a store is both.
#![forbid(unsafe_code)]
#![allow(unused, unreachable_code)]
use persist_core::store::{Actor, In, Key, Options, Reader, Store, Value, Wait, Writer};

fn sends<T: Send>() {}
fn shares<T: Sync>() {}

fn main() {
    sends::<Reader<'static>>(); //~ E0277
    sends::<Writer<'static>>(); //~ E0277
    shares::<Reader<'static>>(); //~ E0277
    shares::<Writer<'static>>(); //~ E0277
    sends::<Store>();
    shares::<Store>();
}
