//! The sections of two stores, swapped: each would commit the changes of the other.
#![forbid(unsafe_code)]
#![allow(unused, unreachable_code)]
use persist_core::store::{Actor, In, Key, Options, Reader, Store, Value, Wait, Writer};

fn main() {
    let a = Store::open("a.store", &Options::default()).unwrap();
    let b = Store::open("b.store", &Options::default()).unwrap();
    let _ = a.write(Actor::Thread, &mut Wait::default(), |wa| {
        b.write(Actor::Thread, &mut Wait::default(), |wb| {
            std::mem::swap(wa, wb); //~ E0521
            Ok(())
        })
    });
}
