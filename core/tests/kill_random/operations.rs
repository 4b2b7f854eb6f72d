//! The operations of writers: they derive from a writer's number and their own number, on a store and on its model.

use super::random::Rng;
use persist_core::store::{Actor, In, Key, LockMode, LockTarget, Obj, Result, Store, Value, Wait, Writer};
use std::collections::BTreeMap;

const KEYS: u64 = 40;

/// Random choices, of one operation or of the kills.
pub(super) struct Draw(Rng);

impl Draw {
    pub(super) fn new(seed: u64) -> Draw {
        Draw(Rng(seed))
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0.next() % n
    }
}

/// One change.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Int(u64, i64),
    Text(u64, usize),
    Remove(u64),
    Append(i64),
    Insert(u64, i64),
    Pop(u64),
    Child(u64, i64),
}

/// One operation.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Single(Change),
    Locked(Change),
    Together(Vec<Change>),
    Undone(Vec<Change>),
    /// The changes in the middle are in a block that is undone.
    Partly([Vec<Change>; 3]),
}

fn change(d: &mut Draw, n: i64) -> Change {
    let key = d.below(KEYS);
    match d.below(10) {
        0..=2 => Change::Int(key, n),
        3 | 4 => Change::Text(key, [3, 40, 300, 3000, 9000][d.below(5) as usize]),
        5 => Change::Remove(key),
        6 => Change::Append(n),
        7 => Change::Insert(d.below(1 << 20), n),
        8 => Change::Pop(d.below(1 << 20)),
        _ => Change::Child(key, n),
    }
}

pub(super) fn operation(writer: usize, n: u64) -> Operation {
    let mut d = Draw::new(Rng(writer as u64).next() ^ n);
    let kind = d.below(10);
    let several = 2 + d.below(6);
    let mut some = |count| (0..count).map(|_| change(&mut d, n as i64)).collect::<Vec<_>>();
    match kind {
        0..=2 => Operation::Single(some(1).remove(0)),
        3 => Operation::Locked(some(1).remove(0)),
        4 => Operation::Undone(some(several)),
        5 => Operation::Partly([some(several), some(several), some(1)]),
        _ => Operation::Together(some(several)),
    }
}

/// The expected content of a writer's part of the store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Model {
    pub(super) values: BTreeMap<u64, String>,
    pub(super) list: Vec<i64>,
}

fn text(key: u64, len: usize) -> String {
    format!("{key:03}").chars().cycle().take(len).collect()
}

impl Model {
    pub(super) fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Single(c) | Operation::Locked(c) => self.change(c),
            Operation::Together(all) => all.iter().for_each(|c| self.change(c)),
            Operation::Partly([before, _, after]) => before.iter().chain(after).for_each(|c| self.change(c)),
            Operation::Undone(_) => {}
        }
    }

    fn change(&mut self, change: &Change) {
        match *change {
            Change::Int(k, n) => drop(self.values.insert(k, format!("{n}"))),
            Change::Text(k, len) => drop(self.values.insert(k, text(k, len))),
            Change::Remove(k) => drop(self.values.remove(&k)),
            Change::Append(n) => self.list.push(n),
            Change::Insert(at, n) => self.list.insert((at % (self.list.len() as u64 + 1)) as usize, n),
            Change::Pop(at) => {
                if !self.list.is_empty() {
                    self.list.remove((at % self.list.len() as u64) as usize);
                }
            }
            Change::Child(k, n) => drop(self.values.insert(k, format!("child {n}"))),
        }
    }

    /// Read the content of the store.
    pub(super) fn read(store: &Store, part: Obj) -> Model {
        let read = store.read(&mut Wait::default(), |r| {
            let mut model = Model::default();
            for k in 0..KEYS {
                let value = match r.get(part, &Key::Int(k as i64))? {
                    None => continue,
                    Some(Value::Int(n)) => format!("{n}"),
                    Some(Value::Str { bytes, .. }) => String::from_utf8_lossy(&bytes).into_owned(),
                    Some(Value::Obj(child)) => match r.get(child, &Key::Str(b"n"))? {
                        Some(Value::Int(n)) => format!("child {n}"),
                        other => format!("half a child: {other:?}"),
                    },
                    Some(other) => format!("{other:?}"),
                };
                model.values.insert(k, value);
            }
            let mut items = Vec::new();
            r.items(
                the_list(r.get(part, &Key::Str(b"list"))?),
                0,
                usize::MAX,
                &mut items,
            )?;
            model.list = items
                .into_iter()
                .map(|v| if let Value::Int(n) = v { n } else { i64::MIN })
                .collect();
            Ok(model)
        });
        read.expect("read a writer's part")
    }
}

pub(super) fn the_list(value: Option<Value>) -> Obj {
    match value {
        Some(Value::Obj(list)) => list,
        other => panic!("no list: {other:?}"),
    }
}

/// Make a change in the store.
fn make(w: &mut Writer<'_>, part: Obj, change: &Change) -> Result<()> {
    let list = the_list(w.get(part, &Key::Str(b"list"))?);
    let len = w.len(list)?;
    match *change {
        Change::Int(k, n) => w.set(part, &Key::Int(k as i64), &In::Int(n)),
        Change::Text(k, len) => w.set(part, &Key::Int(k as i64), &In::str(&text(k, len))),
        Change::Remove(k) => w.remove(part, &Key::Int(k as i64)).map(|_| ()),
        Change::Append(n) => w.insert(list, len, &In::Int(n)),
        Change::Insert(at, n) => w.insert(list, at % (len + 1), &In::Int(n)),
        Change::Pop(_) if len == 0 => Ok(()),
        Change::Pop(at) => w.remove_items(list, at % len, at % len + 1),
        Change::Child(k, n) => {
            let child = w.new_object("module:Child")?;
            w.set(child, &Key::Str(b"n"), &In::Int(n))?;
            let inner = w.new_list()?;
            w.insert(inner, 0, &In::str("something in a list in a child"))?;
            w.set(child, &Key::Str(b"inner"), &In::Obj(inner))?;
            w.set(part, &Key::Int(k as i64), &In::Obj(child))
        }
    }
}

pub(super) fn run(store: &Store, part: Obj, operation: &Operation) -> Result<()> {
    let single = |c: &Change| store.write(Actor::Thread, &mut Wait::default(), |w| make(w, part, c));
    match operation {
        Operation::Single(c) => single(c),
        Operation::Locked(c) => {
            let target = LockTarget {
                obj: store.root(),
                key: Some(Key::Str(b"shared")),
            };
            store.lock(Actor::Thread, target, LockMode::Exclusive, &mut Wait::default())?;
            single(c)?;
            store.unlock(Actor::Thread, target).map(drop)
        }
        Operation::Together(all) => {
            store.begin(&mut Wait::default())?;
            all.iter().try_for_each(single)?;
            store.commit()
        }
        Operation::Partly([before, undone, after]) => {
            store.begin(&mut Wait::default())?;
            before.iter().try_for_each(single)?;
            store.begin(&mut Wait::default())?;
            undone.iter().try_for_each(single)?;
            store.rollback()?;
            after.iter().try_for_each(single)?;
            store.commit()
        }
        Operation::Undone(all) => {
            store.begin(&mut Wait::default())?;
            all.iter().try_for_each(single)?;
            store.rollback()
        }
    }
}
