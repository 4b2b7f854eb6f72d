//! A value that was built elsewhere takes the place of an entry's value.

use crate::error::Error;
use crate::object::graph::check_graph;
use crate::object::graph::testing::GraphMem;
use crate::object::ops::metadata::Of;
use crate::object::ops::metadata::metadata;
use crate::object::ops::metadata::set_metadata;
use crate::object::ops::*;
use crate::object::value::{Edit, In, Key, LargeKind, Step, Value};

const DRAFT: Key<'static> = Key::Str(b"draft");

fn step(key: &Key<'_>) -> Step {
    let Key::Str(bytes) = key else { panic!("a str") };
    Step::Key(Value::Str {
        bytes: (*bytes).into(),
        no_newline: false,
    })
}

/// A pinned dict without a home that holds bytes of this length.
fn draft(w: &mut GraphMem, len: usize) -> Obj {
    let dict = new_dict(w).unwrap();
    w.pins.insert(dict.id);
    set(w, dict, &DRAFT, &In::Bytes(b"a")).unwrap();
    w.end();
    for at in (0..len).step_by(5000) {
        let bytes = vec![b'a'; 5000.min(len - at)];
        let change = Edit {
            offset: at as u64,
            bytes: &bytes,
            ..Edit::default()
        };
        edit(w, dict, &step(&DRAFT), &change).unwrap();
    }
    w.end();
    dict
}

fn give_up(w: &mut GraphMem, dict: Obj) {
    w.pins.remove(&dict.id);
    graph::unpinned(w, dict).unwrap();
    for _ in 0..200 {
        w.end();
    }
}

#[test]
fn an_entry_takes_over_a_value() {
    let text = LargeKind::Str { no_newline: true };
    let mut w = GraphMem::new();
    let root = w.root;
    let list = new_list(&mut w).unwrap();
    set(&mut w, root, &Key::Str(b"list"), &In::Obj(list)).unwrap();
    insert(&mut w, list, 0, &In::None).unwrap();
    for old in [
        In::None,
        In::Bytes(&[1; 100]),
        In::Bytes(&[1; 100_000]),
        In::Obj(list),
    ] {
        set(&mut w, root, &Key::Str(b"f"), &old).unwrap();
        set_metadata(&mut w, root, &Of::Key(Key::Str(b"f")), Some(b"mode")).unwrap();
        let dict = draft(&mut w, 123_456);
        adopt(&mut w, dict, &DRAFT, root, &step(&Key::Str(b"f")), text).unwrap();
        w.end();
        check_graph(&w).unwrap();
        let Some(Value::Large(large)) = get(&w, root, &Key::Str(b"f")).unwrap() else {
            panic!("a large value")
        };
        assert_eq!((large.len, large.kind), (123_456, text));
        let mut content = vec![0; 123_456];
        assert_eq!(large_read(&w, &large, 0, &mut content).unwrap(), 123_456);
        assert!(content.iter().all(|byte| *byte == b'a'));
        let of = Of::Key(Key::Str(b"f"));
        assert_eq!(metadata(&w, root, &of).unwrap().as_deref(), Some(&b"mode"[..]));
        assert_eq!(len(&w, dict).unwrap(), 0);
        let again = adopt(&mut w, dict, &DRAFT, root, &step(&Key::Str(b"f")), text);
        assert!(matches!(again, Err(Error::NoKey)));
        give_up(&mut w, dict);
    }
    let dict = draft(&mut w, 123_456);
    adopt(&mut w, dict, &DRAFT, list, &Step::Index(0), LargeKind::Bytes).unwrap();
    give_up(&mut w, dict);
    assert!(matches!(item(&w, list, 0).unwrap(), Some(Value::Large(large)) if large.len == 123_456));
    check_graph(&w).unwrap();
}

#[test]
fn what_is_given_up_is_freed() {
    let mut w = GraphMem::new();
    w.end();
    let before = w.segments();
    let dict = draft(&mut w, 1_000_000);
    check_graph(&w).unwrap();
    give_up(&mut w, dict);
    check_graph(&w).unwrap();
    assert_eq!(w.segments(), before);
}

#[test]
fn only_a_large_value_moves_and_only_to_an_entry() {
    let mut w = GraphMem::new();
    let root = w.root;
    let dict = draft(&mut w, 100);
    let to = step(&Key::Str(b"f"));
    let missing = adopt(&mut w, dict, &DRAFT, root, &to, LargeKind::Bytes);
    assert!(matches!(missing, Err(Error::NoKey)));
    set(&mut w, root, &Key::Str(b"f"), &In::None).unwrap();
    let small = adopt(&mut w, dict, &DRAFT, root, &to, LargeKind::Bytes);
    assert!(matches!(small, Err(Error::WrongKind { .. })));
    let index = adopt(&mut w, dict, &DRAFT, root, &Step::Index(0), LargeKind::Bytes);
    assert!(matches!(index, Err(Error::WrongKind { .. })));
}
