//! A change of a container's bytes while they are borrowed: `bytes` and `replace` of a section are not visible.
#![forbid(unsafe_code)]
#![allow(unused, unreachable_code)]
use persist_core::store::{Actor, In, Key, Options, Reader, Store, Value, Wait, Writer};

fn main() {
    let store = Store::open("a.store", &Options::default()).unwrap();
    let root = store.root();
    let _ = store.write(Actor::Thread, &mut Wait::default(), |w| {
        let bytes = w.bytes(root.addr, 8)?; //~ E0599
        w.replace(root.addr, 0, root.addr); //~ E0599
        w.init(root.addr, 8)?; //~ E0599
        w.set_u64(root.addr, 8)?; //~ E0599
        w.len(root)
    });
}
