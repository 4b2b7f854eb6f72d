//! Every operation that takes space on the disk, with every number of pages left for it, from none to enough. It fails
//! with ENOSPC and changes nothing, or it succeeds; and it can be repeated when there is space again.

use super::common::{Model, Rng, step, time};
use super::{Disk, give_back, open, set};
use persist_core::backup::{self, Input, Restoring, backup_to, restore};
use persist_core::store::{Actor, Durability, Error, In, Key, Options, Result, Store, Wait};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// An operation that takes space. `open`: the store is open when the disk is filled.
struct Case {
    name: &'static str,
    open: bool,
    act: fn(&Path, &mut Option<Store>) -> Result<()>,
    /// In the short form, the step between two numbers of pages.
    stride: usize,
}

fn opened(slot: &mut Option<Store>) -> &Store {
    slot.as_ref().expect("the case has it open")
}

fn beside(path: &Path, name: &str) -> PathBuf {
    path.with_file_name(name)
}

fn in_transaction(s: &Store, act: impl FnOnce() -> Result<()>) -> Result<()> {
    s.begin(&mut Wait::default())?;
    match act() {
        Ok(()) => s.commit(),
        Err(e) => {
            s.rollback().unwrap();
            Err(e)
        }
    }
}

const CASES: &[Case] = &[
    Case {
        name: "a new store and its sidecar",
        open: false,
        stride: 90,
        act: |path, slot| {
            let store = Store::open(
                beside(path, "new"),
                &Options {
                    max_age: None,
                    ..Options::default()
                },
            )?;
            set(&store, "x", In::Int(1))?;
            store.check().unwrap();
            store.close()?;
            *slot = Some(Store::open(
                path,
                &Options {
                    max_age: None,
                    ..Options::default()
                },
            )?);
            Ok(())
        },
    },
    Case {
        name: "a sidecar",
        open: false,
        stride: 40,
        act: |path, slot| {
            *slot = Some(Store::open(
                path,
                &Options {
                    max_age: None,
                    ..Options::default()
                },
            )?);
            Ok(())
        },
    },
    Case {
        name: "durable commits, and their log",
        open: false,
        stride: 200,
        act: |path, slot| {
            let durable = Options {
                durability: Durability::Commit,
                max_age: None,
                ..Options::default()
            };
            let store = slot.insert(Store::open(path, &durable)?);
            set(store, "a", In::Bytes(&[7; 100_000]))
        },
    },
    Case {
        name: "large values: pages, their tables, the free map",
        open: true,
        stride: 90,
        act: |_, slot| set(opened(slot), "a", In::Bytes(&vec![7; 6_000_000])),
    },
    Case {
        name: "many entries in one transaction",
        open: true,
        stride: 60,
        act: |_, slot| {
            let store = opened(slot);
            in_transaction(store, || {
                (0..8000).try_for_each(|i| set(store, &format!("entry {i}"), In::Int(i)))
            })
        },
    },
    Case {
        name: "many changes in place: the undo log",
        open: true,
        stride: 10,
        act: |_, slot| {
            let store = opened(slot);
            in_transaction(store, || {
                for n in 0..6 {
                    for i in 0..600 {
                        set(store, &format!("old {i}"), In::Bytes(&[n; 40]))?;
                    }
                }
                Ok(())
            })
        },
    },
    Case {
        name: "pins",
        open: true,
        stride: 1,
        act: |_, slot| {
            let store = opened(slot);
            let dicts = store.write(Actor::Thread, &mut Wait::default(), |w| {
                let all = (0..300).map(|_| w.new_dict()).collect::<Result<Vec<_>>>()?;
                for (i, d) in all.iter().enumerate() {
                    w.set(store.root(), &Key::Int(i as i64), &In::Obj(*d))?;
                }
                Ok(all)
            })?;
            for d in dicts {
                store.read(&mut Wait::default(), |r| r.pin(d))?;
            }
            Ok(())
        },
    },
    Case {
        name: "a checkpoint",
        open: true,
        stride: 1,
        act: |_, slot| {
            for i in 0..40 {
                set(opened(slot), &format!("old {}", i * 15), In::Int(i))?;
            }
            opened(slot).sync()
        },
    },
    Case {
        name: "a snapshot",
        open: true,
        stride: 1,
        act: |_, slot| {
            // The snapshot still exists if dropping it found no space before.
            if opened(slot).snapshots().unwrap().is_empty()
                && let Err(e) = opened(slot).snapshot("s")
            {
                assert_eq!(opened(slot).snapshots().unwrap(), []);
                return Err(e);
            }
            opened(slot).drop_snapshot("s")
        },
    },
    Case {
        name: "compacting",
        open: true,
        stride: 9,
        act: |path, slot| {
            let done = slot.take().unwrap().compact(&mut |_| ());
            makes_only(path, done, None)
        },
    },
    Case {
        name: "a backup",
        open: true,
        stride: 9,
        act: |path, _| {
            let done = backup_to(path, &beside(path, "copy"), &backup::Options::default(), &mut ());
            makes_only(path, done, Some("copy"))
        },
    },
    Case {
        name: "restoring",
        open: false,
        stride: 12,
        act: |path, _| {
            // The backup is complete and beside the store when the disk is filled (`prepare`).
            let input = Input::file(beside(path, "backup"));
            let done = restore(
                vec![input],
                &beside(path, "restored"),
                &Restoring::default(),
                &mut (),
            );
            makes_only(path, done, Some("restored"))
        },
    },
];

/// Assert that a success has created this file, and that a failure has created none.
fn makes_only<T>(path: &Path, done: Result<T>, made: Option<&str>) -> Result<()> {
    let known = [
        "a.store",
        "a.store-shm",
        "a.store-wal",
        "a.store-lock",
        "filler",
        "backup",
    ];
    let all = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let new: Vec<String> = all
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| !known.contains(&name.as_str()))
        .collect();
    assert!(new.iter().eq(made.filter(|_| done.is_ok())), "{new:?}");
    done.map(drop)
}

fn text(path: &Path, slot: &mut Option<Store>) -> String {
    let store = slot.get_or_insert_with(|| open(path));
    store.check().unwrap();
    Model::read(store).unwrap().text()
}

/// Run one case with this many pages left. Returns what found no space, if the case failed.
fn try_with(disk: &Disk, case: &Case, base: &[u8], pages: u64) -> Option<&'static str> {
    let path = disk.path();
    let what = format!("{}, {pages} pages left", case.name);
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        give_back(&entry.unwrap().path());
    }
    std::fs::write(&path, base).unwrap();
    if case.name == "restoring" {
        std::fs::write(beside(&path, "backup"), base).unwrap();
    }
    let mut slot = case.open.then(|| open(&path));
    let before = slot.is_some().then(|| text(&path, &mut slot));
    disk.leave(pages);
    let lacked = match (case.act)(&path, &mut slot) {
        Ok(()) => None,
        Err(e @ Error::NoSpace { .. }) => {
            assert_eq!(e.errno(), libc::ENOSPC, "{what}: {e}");
            let Error::NoSpace { what: lacked, .. } = e else {
                unreachable!()
            };
            if let Some(before) = &before {
                // If a case takes several operations, only the one that failed is undone.
                let whole = case.name == "a checkpoint" || *before == text(&path, &mut slot);
                assert!(whole, "{what}: it was not undone");
            }
            Some(lacked)
        }
        Err(e) => panic!("{what}: {e}"),
    };
    disk.relieve();
    if lacked.is_some() {
        (case.act)(&path, &mut slot).unwrap_or_else(|e| panic!("{what}: with space again: {e}"));
    }
    // The store continues to work, and opens again.
    let after = text(&path, &mut slot);
    set(slot.as_ref().unwrap(), "afterwards", In::Int(1))
        .unwrap_or_else(|e| panic!("{what}: afterwards: {e}"));
    slot.take()
        .unwrap()
        .close()
        .unwrap_or_else(|e| panic!("{what}: closing: {e}"));
    std::fs::remove_file(beside(&path, "a.store-shm")).unwrap();
    let now = text(&path, &mut slot);
    assert!(now.len() > after.len(), "{what}");
    lacked
}

#[test]
fn every_place_that_takes_space_may_find_none() {
    let Some(disk) = Disk::new(40 * 1024) else { return };
    let torture = std::env::var_os("PERSIST_TORTURE").is_some_and(|v| v != "0");
    // With a limit of time, numbers of pages are drawn at random after the short form.
    let every = torture && std::env::var_os("PERSIST_TORTURE_SECONDS").is_none();
    // Some hundred KiB, with a history.
    let path = disk.path();
    let store = open(&path);
    let mut model = Model::read(&store).unwrap();
    let mut rng = Rng(1);
    for _ in 0..60 {
        step(&store, &mut model, &mut rng, 200_000).unwrap();
    }
    for i in 0..600 {
        set(&store, &format!("old {i}"), In::Bytes(&[1; 40])).unwrap();
    }
    store.close().unwrap();
    drop(store);
    let base = std::fs::read(&path).unwrap();
    let (mut runs, mut lacking) = (0, BTreeSet::new());
    let mut enough = Vec::new();
    for case in CASES {
        let (mut pages, mut good, mut failed) = (0, 0, 0);
        // Several successes in a row mean that there is enough space.
        while good < 3 {
            match try_with(&disk, case, &base, pages) {
                Some(lacked) => {
                    lacking.insert(lacked);
                    (good, failed) = (0, failed + 1);
                }
                None => good += 1,
            }
            runs += 1;
            pages += 1 + if every { 0 } else { rng.below(case.stride) as u64 };
        }
        println!("{}: enough at {pages} pages, {failed} refusals", case.name);
        enough.push(pages as usize);
    }
    let seed = if torture { std::process::id().into() } else { 1 };
    println!("seed {seed}");
    let (mut rng, begun) = (Rng(seed), Instant::now());
    while torture && !every && begun.elapsed() < time(0) {
        let i = rng.below(CASES.len());
        lacking.extend(try_with(&disk, &CASES[i], &base, rng.below(enough[i]) as u64));
        runs += 1;
    }
    println!("{runs} runs, each with another number of pages left; lacking: {lacking:?}");
    for place in [
        "the store file",
        "the sidecar",
        "the undo log",
        "the dirty list",
        "the free map",
        "the compacted store",
        "the backup",
        "the restored store",
    ] {
        // The short form does not reach every place.
        let met = lacking.contains(place) || (!every && place == "the free map");
        assert!(met, "{place} always found space");
    }
}
