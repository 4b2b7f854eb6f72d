//! In-place updates with and without their undo record.

use super::{finish, forever};
use persist_core::ids::Addr;
use persist_core::page::access::PagesMut;
use persist_core::store::door::{Member, Word};
use persist_core::store::{Actor, In, Key, Options, Result, Store};
use serde_json::json;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

/// Stores in one section.
const STORES: usize = 4096;
/// Pages that the scattered stores go to: 64 MiB.
const PAGES: usize = 16384;
/// Sections, or values set, in one round.
const OPERATIONS: usize = 50_000;

/// Return the nanoseconds of one of `n` operations.
fn each(n: usize, f: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    f()?;
    Ok(begin.elapsed().as_nanos() as f64 / n as f64)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

pub(super) fn run(dir: &Path, rounds: usize) -> Result<()> {
    let options = Options::default();
    let store = Store::open(dir.join("undo.store"), &options)?;
    let root = store.root();
    let key = Key::Str(b"x");
    store.write(Actor::Thread, &mut forever(), |w| w.set(root, &key, &In::Int(0)))?;
    // Pages that nothing refers to.
    let mut pages: Vec<Addr> = Vec::with_capacity(PAGES);
    while pages.len() < PAGES {
        store.write(Actor::Thread, &mut forever(), |w| {
            for _ in 0..256 {
                pages.push(w.alloc_page()?.addr());
            }
            Ok(())
        })?;
    }
    let hot = vec![pages[0]; STORES];
    let scattered: Vec<Addr> = (0..PAGES)
        .map(|i| pages[i * 7919 % PAGES] + (i * 264 % 4096 / 8 * 8) as u64)
        .collect();
    // One section with many stores, to measure the cost of a store. `touch` is the same store without its
    // record.
    let stores = |at: &[Addr], undo: bool| {
        each(at.len(), || {
            store.write(Actor::Thread, &mut forever(), |w| {
                for (i, a) in at.iter().enumerate() {
                    if undo {
                        w.set_value(*a, i as u64)?;
                    } else {
                        w.set_time(*a, i as u64)?;
                    }
                }
                Ok(())
            })
        })
    };
    // Many sections with one store each, and a value set by its key, as users set it.
    let sections = |undo: bool| {
        each(OPERATIONS, || {
            for i in 0..OPERATIONS as u64 {
                store.write(Actor::Thread, &mut forever(), |w| {
                    if undo {
                        w.set_value(pages[0], i)
                    } else {
                        w.set_time(pages[0], i)
                    }
                })?;
            }
            Ok(())
        })
    };
    let values = |undo: bool| {
        each(OPERATIONS, || {
            for i in 0..OPERATIONS as i64 {
                let small = Word::small(&In::Int(i));
                if !undo && store.fast_set(root, Member::Key(key), small) {
                    continue;
                }
                store.write(Actor::Thread, &mut forever(), |w| {
                    w.set(root, &key, &In::Int(black_box(i)))
                })?;
            }
            Ok(())
        })
    };
    let mut took: [[Vec<f64>; 2]; 4] = Default::default();
    for _ in 0..=rounds {
        for undo in [false, true] {
            let i = usize::from(undo);
            took[0][i].push(stores(&hot, undo)?);
            took[1][i].push(stores(&scattered, undo)?);
            took[2][i].push(sections(undo)?);
            took[3][i].push(values(undo)?);
        }
    }
    store.close()?;
    let names = [
        "store, hot",
        "store, over 64 MiB",
        "section of one store",
        "value by key",
    ];
    let mut figures = serde_json::Map::new();
    for (name, pair) in names.into_iter().zip(took) {
        // The first round is a warm-up.
        let [without, with] = pair.map(|all| median(all[1..].to_vec()));
        figures.insert(name.to_owned(), json!({ "without": without, "with": with }));
    }
    finish(&figures.into())
}
