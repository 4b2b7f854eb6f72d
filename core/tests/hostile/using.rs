//! The use of a damaged store: read all of it, change it in some places, and run every operation on the store as a
//! whole.

use super::cases::{Files, Truth, clear};
use super::shapes::mutate::Rng;
use persist_core::check::{check, salvage};
use persist_core::store::{Actor, In, Key, Kind, Obj, Options, Reader, Result, Step, Store, Value, Wait};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

/// Read everything reachable, up to a number of entries. Returns all containers found, and whether all could be read.
pub(super) fn read_all(
    store: &Store,
    most: u64,
    mut f: impl FnMut(Obj, Vec<(Step, Value)>),
) -> (Vec<Obj>, bool) {
    let wait = &mut Wait::at_most(Duration::from_secs(30));
    let mut met = HashMap::from([(store.root().id, ())]);
    let mut all = vec![store.root()];
    let (mut i, mut left, mut whole) = (0, most, true);
    while let Some(&obj) = all.get(i) {
        i += 1;
        let mut entries = Vec::new();
        let kind = store.read(wait, |r| {
            r.len(obj)?;
            r.refs(obj)?;
            r.class(obj)?;
            r.mtime(obj)?;
            let _ = r.home(obj);
            r.kind(obj)
        });
        let mut cursor = 0;
        while let Ok(kind) = kind {
            let part = store.read(wait, |r| part(r, obj, kind, cursor));
            let Ok((part, next)) = part else {
                whole = false;
                break;
            };
            left = left.saturating_sub(part.len() as u64);
            if part.is_empty() || left == 0 {
                break;
            }
            cursor = next;
            for (_, value) in &part {
                match value {
                    Value::Obj(child) if met.insert(child.id, ()).is_none() => all.push(*child),
                    Value::Large(large) => {
                        let mut piece = vec![0; 100_000];
                        let mut at = 0;
                        while let Ok(n @ 1..) = store.read(wait, |r| r.large_read(large, at, &mut piece)) {
                            at += n as u64;
                            left = left.saturating_sub(n as u64 / 8);
                            if left == 0 {
                                break;
                            }
                        }
                        whole &= at == large.len;
                    }
                    _ => {}
                }
            }
            entries.extend(part);
        }
        whole &= kind.is_ok();
        if left == 0 {
            return (all, false);
        }
        f(obj, entries);
    }
    (all, whole)
}

type Part = (Vec<(Step, Value)>, u64);

fn part(r: &Reader<'_>, obj: Obj, kind: Kind, cursor: u64) -> Result<Part> {
    if kind == Kind::List {
        let mut items = Vec::new();
        r.items(obj, cursor, 1000, &mut items)?;
        let next = cursor + items.len() as u64;
        let steps = items.into_iter().enumerate();
        return Ok((
            steps.map(|(i, v)| (Step::Index(cursor + i as u64), v)).collect(),
            next,
        ));
    }
    let mut entries = Vec::new();
    let mut at = cursor;
    while entries.len() < 500 {
        let Some(e) = r.next(obj, at)? else { break };
        assert!(e.cursor > at, "a cursor that does not move on");
        at = e.cursor;
        if let Value::Str { bytes, .. } = &e.key {
            let _ = r.get(obj, &Key::Str(bytes));
        }
        entries.push((Step::Key(e.key), e.value));
    }
    Ok((entries, at))
}

/// Run every operation on damaged files.
pub(super) fn run(files: &Files, truths: Option<&[Truth]>, dir: &Path, seed: u64) -> bool {
    let (path, new) = (dir.join("file"), dir.join("salvaged"));
    clear(&new);
    files.save(&path);
    // Twice the possible content of the file, with room for changes.
    let most = files.store.bytes.len() as u64 / 4 + 10_000;
    let noticed = !check(&path, &mut ()).is_ok_and(|report| report.is_sound());
    if let Ok(done) = salvage(&path, &new, &mut ()) {
        let report = check(&new, &mut ()).unwrap();
        assert_eq!(report.findings, [], "what was salvaged ({done:?}) is not sound");
    }
    files.save(&path);
    let options = Options {
        lock_timeout: Duration::from_secs(3),
        ..Options::default()
    };
    let Ok(store) = Store::open(&path, &options) else {
        return noticed;
    };
    let mut read: Truth = HashMap::new();
    let (all, _) = read_all(&store, most, |obj, entries| {
        if truths.is_some() {
            read.insert(obj.id, entries);
        }
    });
    if let Some(truths) = truths {
        // Data with valid checksums is right: the content of one checkpoint or the other. Of a container that could be
        // read in part, that part.
        let is_right = |truth: &Truth| {
            read.iter().all(|(id, entries)| {
                let whole = truth.get(id);
                whole.is_some_and(|whole| {
                    entries.len() <= whole.len() && entries.iter().zip(whole).all(|(a, b)| same(a, b))
                })
            })
        };
        assert!(truths.iter().any(is_right), "wrong data");
    }
    for snapshot in store.snapshots().unwrap_or_default() {
        if let Ok(kept) = store.open_snapshot(&snapshot.name) {
            read_all(&kept, most, |_, _| {});
            let _ = kept.close();
        }
    }
    change(&store, &all, &mut Rng(!seed));
    let _ = store.gc();
    let _ = store.stat();
    let _ = store.sync();
    if let Some(snapshot) = store.snapshots().unwrap_or_default().first() {
        let _ = store.drop_snapshot(&snapshot.name);
    }
    let _ = store.snapshot("another");
    let _ = if seed.is_multiple_of(4) {
        store.compact(&mut |_| {}).map(|_| ())
    } else {
        store.close()
    };
    if let Ok(store) = Store::open(&path, &options) {
        read_all(&store, most, |_, _| {});
        let _ = store.close();
    }
    noticed
}

fn same(a: &(Step, Value), b: &(Step, Value)) -> bool {
    let bits = |v: &Value| match v {
        Value::Float(x) => Some(x.to_bits()),
        _ => None,
    };
    a == b || a.0 == b.0 && bits(&a.1).is_some() && bits(&a.1) == bits(&b.1)
}

/// Change the store in some places.
fn change(store: &Store, all: &[Obj], rng: &mut Rng) {
    for round in 0..40 {
        let (obj, other) = (*rng.pick(all), *rng.pick(all));
        let wait = &mut Wait::at_most(Duration::from_secs(30));
        let what = rng.below(14).min(12);
        let transaction = rng.one_in(5) && store.begin(wait).is_ok();
        let key = format!("key {}", rng.below(50));
        let at = rng.next();
        let _ = store.write(Actor::Thread, wait, |w| {
            let kind = w.kind(obj)?;
            let len = w.len(obj)?;
            let step = if kind == Kind::List {
                Step::Index(at % len.max(1))
            } else {
                match w.next(obj, at % 300)? {
                    Some(e) => Step::Key(e.key),
                    None => Step::Key(Value::Int(1)),
                }
            };
            if kind == Kind::List {
                return match what {
                    0..=2 => w.insert(obj, at % (len + 1), &In::Obj(other)),
                    3..=4 => w.insert(obj, at % (len + 1), &In::Bytes(&[7; 300])),
                    5..=8 => {
                        let from = at % (len + 1);
                        w.remove_items(obj, from, (from + at / 7 % 600).min(len))
                    }
                    9 => w.clear(obj),
                    10 => w.rename(obj, &step, other, &Step::Key(Value::Int(round))),
                    11 => w.convert(obj, Kind::Dict, ""),
                    _ => w.set_item(obj, at % len.max(1), &In::Int(5)),
                };
            }
            match what {
                0..=1 => w.set(obj, &Key::Str(key.as_bytes()), &In::Obj(other)),
                2..=3 => w.set(
                    obj,
                    &Key::Str(key.as_bytes()),
                    &In::str("some text that needs a segment"),
                ),
                4..=7 => match &step {
                    Step::Key(Value::Str { bytes, .. }) => w.remove(obj, &Key::Str(bytes)).map(|_| ()),
                    Step::Key(Value::Int(n)) => w.remove(obj, &Key::Int(*n)).map(|_| ()),
                    _ => Ok(()),
                },
                8 => {
                    let d = w.new_object("a:B")?;
                    w.set(d, &Key::Str(b"x"), &In::Int(1))?;
                    w.set(store.root(), &Key::Str(b"new"), &In::Obj(d))
                }
                9 => w.clear(obj),
                10 => w.rename(obj, &step, other, &Step::Key(Value::Int(round))),
                _ => w.convert(
                    obj,
                    [Kind::Dict, Kind::List, Kind::Object][at as usize % 3],
                    "a:B",
                ),
            }
        });
        if transaction {
            let _ = if rng.one_in(2) {
                store.commit()
            } else {
                store.rollback()
            };
        }
    }
}
