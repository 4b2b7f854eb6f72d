//! Opening: the meta pages and page tables hold anything.
#![no_main]

#[path = "../input.rs"]
mod input;
#[path = "../../tests/shapes/mod.rs"]
mod shapes;

use libfuzzer_sys::fuzz_target;
use persist_core::store::{Options, Store, Wait};

fuzz_target!(|data: &[u8]| {
    let Some(file) = input::Store::of(data, false) else {
        return;
    };
    let Ok(store) = Store::open(&file.path, &Options::default()) else {
        return;
    };
    let _ = store.read(&mut Wait::default(), |r| r.next(store.root(), 0));
    let _ = store.snapshots();
    let _ = store.close();
});
