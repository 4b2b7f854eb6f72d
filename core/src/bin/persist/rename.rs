//! `persist rename-class`: gives the objects of a class another class name.
//!
//! 1. The graph is walked from the root in small sections, and each object is changed in an operation of its own: other
//!    processes continue. What they move or store in between is found by another walk, until nothing is left. An
//!    interrupted run is completed by the next one.

use super::{Failure, read};
use persist_core::store::{Actor, Error, Kind, Obj, ObjectId, Options, Result, Store, Value, Wait};
use std::collections::HashSet;
use std::io::Write;

/// Entries that are read in one section.
const CHUNK: usize = 256;
/// Walks after which a store that others keep filling is left as it is.
const MOST_WALKS: usize = 16;

/// Run `persist rename-class`.
pub(super) fn rename_class(
    store: &Store,
    old: &str,
    new: &str,
    out: &mut impl Write,
) -> std::result::Result<(), Failure> {
    for name in [old, new] {
        let is_name = name
            .split_once(':')
            .is_some_and(|(module, class)| !module.is_empty() && !class.is_empty());
        if !is_name {
            return Err(Error::invalid("the name of a class is MODULE:CLASS").into());
        }
    }
    let mut renamed = 0;
    if old != new {
        for _ in 0..MOST_WALKS {
            match walk(store, old, new)? {
                0 => break,
                n => renamed += n,
            }
        }
    }
    store.close()?;
    writeln!(out, "{renamed} objects renamed")?;
    Ok(())
}

/// Walk the graph once, and return how many objects were renamed.
fn walk(store: &Store, old: &str, new: &str) -> Result<u64> {
    let (mut seen, mut left) = (HashSet::<ObjectId>::new(), vec![store.root()]);
    let mut renamed = 0;
    while let Some(obj) = left.pop() {
        if !seen.insert(obj.id) {
            continue;
        }
        match visit(store, obj, old, new, &mut left) {
            Ok(did) => renamed += u64::from(did),
            // Another process has removed it.
            Err(Error::Gone(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(renamed)
}

fn visit(store: &Store, obj: Obj, old: &str, new: &str, left: &mut Vec<Obj>) -> Result<bool> {
    let is_of_class = |class: Option<String>| class.is_some_and(|class| class == old);
    let mut did = false;
    if is_of_class(read(store, |r| r.class(obj))?) {
        let mut wait = Wait::at_most(Options::default().lock_timeout);
        store.write(Actor::Thread, &mut wait, |w| {
            did = is_of_class(w.class(obj)?);
            if did {
                w.convert(obj, Kind::Object, new)
            } else {
                Ok(())
            }
        })?;
    }
    let mut cursor = 0;
    loop {
        let (mut found, mut next) = (Vec::new(), cursor);
        read(store, |r| {
            found.clear();
            next = cursor;
            if r.kind(obj)? == Kind::List {
                r.items(obj, cursor, CHUNK, &mut found)?;
                next = cursor + found.len() as u64;
                return Ok(());
            }
            for _ in 0..CHUNK {
                let Some(entry) = r.next(obj, next)? else {
                    break;
                };
                next = entry.cursor;
                found.push(entry.value);
            }
            Ok(())
        })?;
        left.extend(found.into_iter().filter_map(|value| match value {
            Value::Obj(obj) => Some(obj),
            _ => None,
        }));
        if next == cursor {
            return Ok(did);
        }
        cursor = next;
    }
}
