//! Calls of section methods that only the engine may use.
#![forbid(unsafe_code)]
#![allow(unused, unreachable_code)]
use persist_core::store::{Actor, In, Key, Options, Reader, Store, Value, Wait, Writer};

fn main() {
    let store = Store::open("a.store", &Options::default()).unwrap();
    let root = store.root();
    let _ = store.write(Actor::Thread, &mut Wait::default(), |w| {
        w.act_as(Actor::Thread); //~ E0624
        w.removing(); //~ E0624
        w.take_transaction_frees(); //~ E0624
        w.commit_transaction(); //~ E0624
        w.len(root)
    });
    let _ = store.read(&mut Wait::default(), |r| {
        r.pager(); //~ E0624
        r.len(root)
    });
    store.pager(); //~ E0624
}
