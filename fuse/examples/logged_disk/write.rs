//! A writer: operations on one dict of a store, recorded in the disk's log when they are complete.
//!
//! The seed and N determine what operation number N does, and `act` in `scripts/lib/torture_real_work.py` does the same
//! to plain values: the number of complete operations determines the content of the dict. A single operation is marked
//! `op NAME N 0`. One of a transaction that counts `order` at the root is marked with the number it got, so that the
//! operations of all writers have one order.

use super::Failure;
use super::random::Rng;
use persist_core::store::{Actor, Durability, In, Key, Obj, Options, Result, Store, Value, Wait, Writer};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

const TEXTS: [usize; 5] = [0, 7, 200, 5000, 30_000];

/// The random choices of operation `n`. `scripts/lib/torture_real_work.py` draws the same.
struct Choices(Rng);

impl Choices {
    fn of(seed: u64, n: u64) -> Choices {
        Choices(Rng(seed.wrapping_mul(1_000_003).wrapping_add(n)))
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0.next() % n
    }
}

fn str(text: &[u8]) -> In<'_> {
    In::Str {
        bytes: text,
        no_newline: false,
    }
}

/// The container at a key.
fn part(w: &Writer<'_>, of: Obj, key: &str) -> Result<Obj> {
    match w.get(of, &Key::Str(key.as_bytes()))? {
        Some(Value::Obj(o)) => Ok(o),
        other => panic!("{key} is {other:?}"),
    }
}

fn int(w: &Writer<'_>, of: Obj, key: &str) -> Result<i64> {
    match w.get(of, &Key::Str(key.as_bytes()))? {
        Some(Value::Int(i)) => Ok(i),
        other => panic!("{key} is {other:?}"),
    }
}

fn set(w: &mut Writer<'_>, of: Obj, key: &str, value: &In<'_>) -> Result<()> {
    w.set(of, &Key::Str(key.as_bytes()), value)
}

/// Operation `n`.
fn act(w: &mut Writer<'_>, node: Obj, seed: u64, n: u64) -> Result<()> {
    let mut rng = Choices::of(seed, n);
    let count = In::Int(n as i64);
    match rng.below(8) {
        0 => set(w, node, "count", &count),
        1 => {
            let dict = part(w, node, "dict")?;
            set(w, dict, &format!("k{}", rng.below(50)), &count)
        }
        2 => {
            let dict = part(w, node, "dict")?;
            w.remove(dict, &Key::Str(format!("k{}", rng.below(50)).as_bytes()))
                .map(drop)
        }
        3 => {
            let list = part(w, node, "list")?;
            let len = w.len(list)?;
            w.insert(list, len, &count)
        }
        4 => {
            let list = part(w, node, "list")?;
            let len = w.len(list)?;
            if len > 30 {
                let at = rng.below(len);
                w.remove_items(list, at, at + 1)
            } else {
                w.insert(list, 0, &count)
            }
        }
        5 => {
            let text = vec![b'a' + (n % 26) as u8; TEXTS[rng.below(5) as usize]];
            set(w, node, "text", &str(&text))
        }
        6 => {
            let tree = w.new_dict()?;
            for i in 0..rng.below(10) {
                let list = w.new_list()?;
                for j in 0..i {
                    w.insert(list, j, &In::Int(j as i64))?;
                }
                set(w, tree, &format!("t{i}"), &In::Obj(list))?;
            }
            set(w, node, "tree", &In::Obj(tree))
        }
        _ => {
            let x = rng.below(50) as i64;
            let (a, b, list) = (int(w, node, "a")?, int(w, node, "b")?, part(w, node, "list")?);
            set(w, node, "a", &In::Int(a - x))?;
            set(w, node, "b", &In::Int(b + x))?;
            let len = w.len(list)?;
            w.insert(list, len, &In::Int(x))
        }
    }
}

fn write<R>(store: &Store, mut f: impl FnMut(&mut Writer<'_>) -> Result<R>) -> Result<R> {
    store.write(Actor::Thread, &mut Wait::default(), |w| f(w))
}

/// Several operations in one transaction, the last of which counts `order`; the number it got.
fn together(store: &Store, node: Obj, seed: u64, n: u64) -> Result<i64> {
    store.begin(&mut Wait::default())?;
    let done = write(store, |w| act(w, node, seed, n)).and_then(|()| {
        write(store, |w| {
            let order = part(w, store.root(), "order")?;
            let next = int(w, order, "n")? + 1;
            set(w, order, "n", &In::Int(next)).map(|()| next)
        })
    });
    match done {
        Ok(next) => store.commit().map(|()| next),
        Err(e) => store.rollback().and(Err(e)),
    }
}

/// Operations at least, whatever time they take.
const LEAST: u64 = 60;

/// Writes to a store for so long.
pub(crate) fn run(
    store: &str,
    name: &str,
    seed: &str,
    durability: &str,
    seconds: &str,
    mark: &str,
) -> std::result::Result<(), Failure> {
    let durability = match durability {
        "commit" => Durability::Commit,
        "checkpoint" => Durability::Checkpoint,
        "none" => Durability::None,
        other => return Err(format!("no durability: {other}").into()),
    };
    let (seed, end) = (
        seed.parse()?,
        Instant::now() + Duration::from_secs_f64(seconds.parse()?),
    );
    let mut mark = OpenOptions::new().write(true).open(mark)?;
    let tell = |mark: &mut File, what: String| mark.write_all(what.as_bytes());
    let options = Options {
        durability,
        create: false,
        ..Options::default()
    };
    let store = Store::open(store, &options)?;
    let node = write(&store, |w| part(w, store.root(), name))?;
    let mut n = 0;
    while n < LEAST || Instant::now() < end {
        let order = if n % 3 == 0 {
            write(&store, |w| act(w, node, seed, n)).map(|()| 0)?
        } else {
            together(&store, node, seed, n)?
        };
        tell(&mut mark, format!("op {name} {n} {order}"))?;
        n += 1;
        if Choices::of(!seed, n).below(40) == 0 {
            tell(&mut mark, format!("sync begins {name}"))?;
            store.sync()?;
            tell(
                &mut mark,
                format!("sync ended {name} {}", store.stat()?.checkpoint),
            )?;
        }
    }
    store.close()?;
    Ok(())
}
