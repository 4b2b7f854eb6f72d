//! Reading and changing: the logical pages hold anything, and no checksum tells.
#![no_main]

#[path = "../input.rs"]
mod input;
#[path = "../../tests/shapes/mod.rs"]
mod shapes;

use libfuzzer_sys::fuzz_target;
use persist_core::store::{Actor, In, Key, Kind, Options, Store, Value, Wait};
use std::collections::HashSet;

/// Entries that are read at most: a damaged store can hold more than its file has room for.
const MOST: usize = 200_000;

fuzz_target!(|data: &[u8]| {
    let Some(file) = input::Store::of(data, true) else {
        return;
    };
    let Ok(store) = Store::open(&file.path, &Options::default()) else {
        return;
    };
    let wait = &mut Wait::default();
    let (mut met, mut all, mut i, mut left) = (HashSet::from([store.root().id]), vec![store.root()], 0, MOST);
    while let Some(&obj) = all.get(i) {
        i += 1;
        let mut cursor = 0;
        loop {
            let part = store.read(wait, |r| {
                let (mut values, mut at) = (Vec::new(), cursor);
                let _ = (r.home(obj), r.class(obj), r.len(obj));
                if r.kind(obj)? == Kind::List {
                    r.items(obj, cursor, 500, &mut values)?;
                    at += values.len() as u64;
                } else {
                    while let Some(e) = r.next(obj, at)?.filter(|_| values.len() < 500) {
                        at = e.cursor;
                        values.push(e.value);
                    }
                }
                Ok((values, at))
            });
            let Ok((values, at)) = part else { break };
            left = left.saturating_sub(values.len());
            if values.is_empty() || left == 0 {
                break;
            }
            cursor = at;
            for value in values {
                if let Value::Obj(child) = value
                    && met.insert(child.id)
                {
                    all.push(child);
                }
            }
        }
        let _ = store.write(Actor::Thread, wait, |w| match w.kind(obj)? {
            Kind::List => w.insert(obj, w.len(obj)?, &In::str("a text that needs a segment")),
            _ => w.set(obj, &Key::Str(b"a key that needs a segment"), &In::Obj(obj)),
        });
        if i % 3 == 0 {
            let _ = store.write(Actor::Thread, wait, |w| w.clear(obj));
        }
    }
    let _ = store.gc();
    let _ = store.sync();
    let _ = store.close();
});
