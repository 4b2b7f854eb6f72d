//! Compare two stores for equal graphs: kinds, classes, times, keys in their order, values, shared references, cycles
//! and homes.

use persist_core::store::{Kind, Large, LargeKind, Obj, Reader, Result, Step, Store, Value, Wait};
use std::collections::HashMap;

fn read<R>(store: &Store, f: impl FnMut(&Reader<'_>) -> Result<R>) -> R {
    store.read(&mut Wait::default(), f).unwrap()
}

fn whole(store: &Store, large: &Large) -> (LargeKind, Vec<u8>) {
    let mut bytes = vec![0; large.len as usize];
    let n = read(store, |r| r.large_read(large, 0, &mut bytes));
    assert_eq!(n as u64, large.len);
    (large.kind, bytes)
}

/// The entries of a container: steps and values.
pub fn entries(store: &Store, obj: Obj) -> Vec<(Step, Value)> {
    read(store, |r| {
        let mut entries = Vec::new();
        if r.kind(obj)? == Kind::List {
            let mut items = Vec::new();
            r.items(obj, 0, usize::MAX, &mut items)?;
            entries.extend(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(i, v)| (Step::Index(i as u64), v)),
            );
            return Ok(entries);
        }
        let mut cursor = 0;
        while let Some(e) = r.next(obj, cursor)? {
            cursor = e.cursor;
            entries.push((Step::Key(e.key), e.value));
        }
        Ok(entries)
    })
}

/// Assert that two stores are equal.
#[track_caller]
pub fn assert_same(a: &Store, b: &Store) {
    let mut pairs = HashMap::from([(a.root().id, b.root().id)]);
    let mut waiting = vec![(a.root(), b.root())];
    let mut homes = Vec::new();
    while let Some((x, y)) = waiting.pop() {
        let facts = |s: &Store, o| {
            read(s, |r| {
                Ok((r.kind(o)?, r.class(o)?, r.len(o)?, r.mtime(o)?, r.refs(o)?))
            })
        };
        assert_eq!(facts(a, x), facts(b, y));
        homes.push((x, y));
        let (left, right) = (entries(a, x), entries(b, y));
        assert_eq!(left.len(), right.len());
        for ((i, v), (j, w)) in left.iter().zip(&right) {
            match (i, j) {
                (Step::Key(Value::Large(k)), Step::Key(Value::Large(l))) => {
                    assert_eq!(whole(a, k), whole(b, l))
                }
                _ => assert_eq!(i, j),
            }
            match (v, w) {
                (Value::Obj(v), Value::Obj(w)) => match pairs.get(&v.id) {
                    Some(known) => assert_eq!(*known, w.id, "shared otherwise at {i:?}"),
                    None => {
                        pairs.insert(v.id, w.id);
                        waiting.push((*v, *w));
                    }
                },
                (Value::Large(v), Value::Large(w)) => assert_eq!(whole(a, v), whole(b, w)),
                (Value::Float(v), Value::Float(w)) => assert_eq!(v.to_bits(), w.to_bits()),
                _ => assert_eq!(v, w, "at {i:?}"),
            }
        }
    }
    for (x, y) in homes {
        let home = |s: &Store, o| read(s, |r| r.home(o));
        match (home(a, x), home(b, y)) {
            (None, None) => {}
            (Some((p, i)), Some((q, j))) => assert_eq!((pairs.get(&p.id), &i), (Some(&q.id), &j)),
            (p, q) => panic!("homes {p:?} and {q:?}"),
        }
    }
}
