//! Two entries exchange their values and their records of metadata.

use crate::error::Error;
use crate::object::graph::check_graph;
use crate::object::graph::testing::GraphMem;
use crate::object::ops::metadata::Of;
use crate::object::ops::metadata::metadata;
use crate::object::ops::metadata::set_metadata;
use crate::object::ops::*;
use crate::object::value::{In, Key, Step, Value};

fn step(key: &Key<'_>) -> Step {
    match key {
        Key::Str(bytes) => Step::Key(Value::Str {
            bytes: (*bytes).into(),
            no_newline: false,
        }),
        _ => Step::Key(Value::None),
    }
}

const F: Key<'static> = Key::Str(b"f");

#[test]
fn values_and_records_change_places() {
    let values = [
        In::None,
        In::Int(5),
        In::Bytes(b"a"),
        In::Bytes(&[7; 3000]),
        In::Bytes(&[8; 100_000]),
        In::Link(b"t"),
    ];
    for (n, one) in values.iter().enumerate() {
        for two in &values[n..] {
            let mut w = GraphMem::new();
            let root = w.root;
            let (list, dict) = (new_list(&mut w).unwrap(), new_dict(&mut w).unwrap());
            set(&mut w, root, &Key::Str(b"list"), &In::Obj(list)).unwrap();
            set(&mut w, root, &Key::Str(b"dict"), &In::Obj(dict)).unwrap();
            insert(&mut w, list, 0, &In::Int(1)).unwrap();
            insert(&mut w, list, 1, one).unwrap();
            set(&mut w, dict, &Key::None, two).unwrap();
            set(&mut w, dict, &F, &In::Int(9)).unwrap();
            set_metadata(&mut w, list, &Of::Index(1), Some(b"one")).unwrap();
            let (a, b) = (item(&w, list, 1).unwrap(), get(&w, dict, &Key::None).unwrap());
            exchange(&mut w, list, &Step::Index(1), dict, &step(&Key::None)).unwrap();
            w.end();
            check_graph(&w).unwrap();
            assert_eq!(
                (get(&w, dict, &Key::None).unwrap(), item(&w, list, 1).unwrap()),
                (a, b)
            );
            let record = metadata(&w, dict, &Of::Key(Key::None)).unwrap();
            assert_eq!(record.as_deref(), Some(&b"one"[..]));
            assert_eq!(metadata(&w, list, &Of::Index(1)).unwrap(), None);
            exchange(&mut w, dict, &step(&F), dict, &step(&Key::None)).unwrap();
            w.end();
            check_graph(&w).unwrap();
            let record = metadata(&w, dict, &Of::Key(F)).unwrap();
            assert_eq!(record.as_deref(), Some(&b"one"[..]));
            assert_eq!(get(&w, dict, &Key::None).unwrap(), Some(Value::Int(9)));
            remove(&mut w, root, &Key::Str(b"list")).unwrap();
            remove(&mut w, root, &Key::Str(b"dict")).unwrap();
            for _ in 0..200 {
                w.end();
            }
            check_graph(&w).unwrap();
        }
    }
}

#[test]
fn containers_and_missing_entries_are_refused() {
    let mut w = GraphMem::new();
    let root = w.root;
    let list = new_list(&mut w).unwrap();
    set(&mut w, root, &Key::Str(b"list"), &In::Obj(list)).unwrap();
    set(&mut w, root, &F, &In::Int(9)).unwrap();
    let to = step(&Key::Str(b"list"));
    let refused = exchange(&mut w, root, &step(&F), root, &to);
    assert!(matches!(refused, Err(Error::WrongKind { .. })));
    let refused = exchange(&mut w, root, &step(&F), list, &Step::Index(0));
    assert!(matches!(refused, Err(Error::Index { .. })));
    let refused = exchange(&mut w, root, &step(&F), root, &step(&Key::Str(b"none")));
    assert!(matches!(refused, Err(Error::NoKey)));
    exchange(&mut w, root, &step(&F), root, &step(&F)).unwrap();
    w.end();
    check_graph(&w).unwrap();
    assert_eq!(get(&w, root, &F).unwrap(), Some(Value::Int(9)));
}
