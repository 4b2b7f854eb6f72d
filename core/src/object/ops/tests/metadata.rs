//! Metadata follows its entries, through every operation.

use crate::object::graph::check_graph;
use crate::object::graph::testing::GraphMem;
use crate::object::header::Kind;
use crate::object::ops::metadata::Of;
use crate::object::ops::metadata::metadata;
use crate::object::ops::metadata::set_metadata;
use crate::object::ops::*;
use crate::object::value::{In, Key, Step, Value};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn record(n: u8) -> Vec<u8> {
    // Short ones fit a word; long ones are segments of their own.
    vec![n; if n.is_multiple_of(2) { 3 } else { 40 }]
}

fn of<P: crate::page::access::Pages>(p: &P, obj: Obj, of: Of<'_>) -> Option<Vec<u8>> {
    metadata(p, obj, &of).unwrap()
}

#[test]
fn a_container_has_records_of_its_own() {
    let mut w = GraphMem::new();
    let root = w.root;
    w.end();
    let before = w.segments();
    for kind in [Kind::Dict, Kind::List] {
        let new = match kind {
            Kind::List => new_list(&mut w).unwrap(),
            _ => new_dict(&mut w).unwrap(),
        };
        set(&mut w, root, &Key::Str(b"c"), &In::Obj(new)).unwrap();
        assert_eq!(of(&w, new, Of::Container), None);
        set_metadata(&mut w, new, &Of::Container, Some(b"mode")).unwrap();
        set_metadata(&mut w, new, &Of::Times, Some(&vec![7; 100_000])).unwrap();
        w.end();
        assert_eq!(of(&w, new, Of::Container).as_deref(), Some(&b"mode"[..]));
        assert_eq!(of(&w, new, Of::Times), Some(vec![7; 100_000]));
        // They are not entries.
        assert_eq!(len(&w, new).unwrap(), 0);
        clear(&mut w, new).unwrap();
        assert_eq!(of(&w, new, Of::Container).as_deref(), Some(&b"mode"[..]));
        assert_eq!(of(&w, new, Of::Times), None);
        set_metadata(&mut w, new, &Of::Container, None).unwrap();
        assert_eq!(of(&w, new, Of::Container), None);
        set_metadata(&mut w, new, &Of::Times, Some(b"t")).unwrap();
        w.end();
        check_graph(&w).unwrap();
        // Everything goes with the container.
        remove(&mut w, root, &Key::Str(b"c")).unwrap();
        for _ in 0..8 {
            w.end();
        }
        check_graph(&w).unwrap();
        assert_eq!(w.segments(), before);
    }
}

#[test]
fn keys_of_entries_are_not_those_of_the_container() {
    let mut w = GraphMem::new();
    let root = w.root;
    for (n, key) in [&b""[..], b"t", b"e", b"et"].into_iter().enumerate() {
        set(&mut w, root, &Key::Bytes(key), &In::None).unwrap();
        set_metadata(&mut w, root, &Of::Key(Key::Bytes(key)), Some(&record(n as u8))).unwrap();
    }
    assert_eq!(of(&w, root, Of::Container), None);
    assert_eq!(of(&w, root, Of::Times), None);
    assert_eq!(of(&w, root, Of::Key(Key::Bytes(b"t"))), Some(record(1)));
    assert!(metadata(&w, root, &Of::Index(0)).is_err());
    set_metadata(&mut w, root, &Of::Container, Some(b"own")).unwrap();
    remove(&mut w, root, &Key::Bytes(b"")).unwrap();
    assert_eq!(of(&w, root, Of::Key(Key::Bytes(b""))), None);
    assert_eq!(of(&w, root, Of::Container).as_deref(), Some(&b"own"[..]));
}

#[test]
fn records_survive_a_change_of_kind() {
    let mut w = GraphMem::new();
    let root = w.root;
    let dict = new_dict(&mut w).unwrap();
    set(&mut w, root, &Key::Str(b"c"), &In::Obj(dict)).unwrap();
    for n in [2i64, 0, 1] {
        set(&mut w, dict, &Key::Int(n), &In::Int(n)).unwrap();
    }
    set_metadata(&mut w, dict, &Of::Container, Some(b"own")).unwrap();
    set_metadata(&mut w, dict, &Of::Key(Key::Int(2)), Some(&record(2))).unwrap();
    set_metadata(&mut w, dict, &Of::Key(Key::Int(1)), Some(&record(1))).unwrap();
    convert(&mut w, dict, Kind::List, "").unwrap();
    w.end();
    check_graph(&w).unwrap();
    let items: Vec<_> = (0..4).map(|i| of(&w, dict, Of::Index(i))).collect();
    assert_eq!(items, [None, Some(record(1)), Some(record(2)), None]);
    convert(&mut w, dict, Kind::Object, "a:B").unwrap();
    w.end();
    check_graph(&w).unwrap();
    assert_eq!(of(&w, dict, Of::Key(Key::Str(b"2"))), Some(record(2)));
    assert_eq!(of(&w, dict, Of::Container).as_deref(), Some(&b"own"[..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Beside a model: two lists and two dicts whose values tell which record belongs to them.
    #[test]
    fn records_follow_their_entries(ops in proptest::collection::vec((0u8..10, 0usize..4, 0u64..6, 0u64..6), 1..60)) {
        let mut w = GraphMem::new();
        let root = w.root;
        let lists = [new_list(&mut w).unwrap(), new_list(&mut w).unwrap()];
        let made = [lists[0], lists[1], new_dict(&mut w).unwrap(), new_dict(&mut w).unwrap()];
        for (n, obj) in made.iter().enumerate() {
            set(&mut w, root, &Key::Int(n as i64), &In::Obj(*obj)).unwrap();
        }
        let mut records: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
        let mut fresh = 0i64;
        for (what, which, a, b) in ops {
            let (obj, is_list) = (made[which], which < 2);
            let n = len(&w, obj).unwrap();
            fresh += 1;
            match (what, is_list) {
                (0..=2, true) => insert(&mut w, obj, a.min(n), &In::Int(fresh)).unwrap(),
                (0..=2, false) => {
                    // A replaced value keeps the record of its entry.
                    let key = Key::Int(a as i64);
                    if let Some(Value::Int(old)) = get(&w, obj, &key).unwrap()
                        && let Some(kept) = records.get(&old).cloned()
                    {
                        records.insert(fresh, kept);
                    }
                    set(&mut w, obj, &key, &In::Int(fresh)).unwrap();
                }
                (3, true) => remove_items(&mut w, obj, a.min(n), a + b).unwrap(),
                (3, false) => { remove(&mut w, obj, &Key::Int(a as i64)).unwrap(); }
                (4, _) if b == 0 => clear(&mut w, obj).unwrap(),
                (5..=7, true) if a < n => {
                    let Some(Value::Int(value)) = crate::object::ops::item(&w, obj, a).unwrap() else {
                        panic!("ints only")
                    };
                    set_metadata(&mut w, obj, &Of::Index(a), Some(&record(fresh as u8))).unwrap();
                    records.insert(value, record(fresh as u8));
                }
                (5..=7, false) => {
                    if let Some(Value::Int(value)) = get(&w, obj, &Key::Int(a as i64)).unwrap() {
                        let new = (b > 0).then(|| record(fresh as u8));
                        set_metadata(&mut w, obj, &Of::Key(Key::Int(a as i64)), new.as_deref()).unwrap();
                        match new {
                            Some(new) => records.insert(value, new),
                            None => records.remove(&value),
                        };
                    }
                }
                (8, _) => {
                    let other = made[b as usize % 4];
                    let step = |list: bool, at: u64| match list {
                        true => Step::Index(at),
                        false => Step::Key(Value::Int(at as i64)),
                    };
                    let to = step(b % 4 < 2, a.min(len(&w, other).unwrap()));
                    let _ = rename(&mut w, obj, &step(is_list, a), other, &to);
                }
                _ => {}
            }
            w.end();
            for (which, obj) in made.iter().enumerate() {
                let n = len(&w, *obj).unwrap();
                for i in 0..n.max(8) {
                    let (value, found) = if which < 2 {
                        (crate::object::ops::item(&w, *obj, i).unwrap_or(None), of(&w, *obj, Of::Index(i)))
                    } else {
                        let key = Key::Int(i as i64);
                        (get(&w, *obj, &key).unwrap(), of(&w, *obj, Of::Key(key)))
                    };
                    let expected = match value {
                        Some(Value::Int(value)) => records.get(&value).cloned(),
                        _ => None,
                    };
                    prop_assert_eq!(found, expected);
                }
            }
            check_graph(&w).unwrap();
        }
    }
}
