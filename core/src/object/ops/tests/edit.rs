//! Tests of changes in part: beside a vector, for every form that a value can have, and that a str stays text.

use crate::error::Error;
use crate::ids::Obj;
use crate::object::graph::check_graph;
use crate::object::graph::testing::GraphMem;
use crate::object::ops;
use crate::object::ops::edit;
use crate::object::ops::get;
use crate::object::ops::insert;
use crate::object::ops::large_read;
use crate::object::ops::new_list;
use crate::object::ops::set;
use crate::object::value::{EDIT_MAX, Edit, In, Key, Step, Value};
use proptest::prelude::*;

const KEY: Key<'static> = Key::Str(b"file");

fn step() -> Step {
    Step::Key(Value::Str {
        bytes: b"file".as_slice().into(),
        no_newline: false,
    })
}

/// The content of a value, and whether it is a str without a newline (None: bytes).
fn content(w: &GraphMem, value: &Value) -> (Vec<u8>, Option<bool>) {
    match value {
        Value::Bytes(b) => (b.to_vec(), None),
        Value::Str { bytes, no_newline } => (bytes.to_vec(), Some(*no_newline)),
        Value::Large(large) => {
            let mut out = vec![0; large.len as usize];
            assert_eq!(large_read(w, large, 0, &mut out).unwrap(), out.len());
            let flag = match large.kind {
                crate::object::value::LargeKind::Str { no_newline } => Some(no_newline),
                _ => None,
            };
            (out, flag)
        }
        other => panic!("{other:?}"),
    }
}

fn now(w: &GraphMem) -> (Vec<u8>, Option<bool>) {
    content(w, &get(w, w.root, &KEY).unwrap().unwrap())
}

fn applied(mut model: Vec<u8>, change: &Edit<'_>) -> Vec<u8> {
    let (at, n) = (change.offset as usize, change.bytes.len());
    let len = change.len.map_or(model.len().max(at + n), |len| len as usize);
    let most = len.max(at + n).max(model.len());
    model.resize(most, 0);
    model[at..at + n].copy_from_slice(change.bytes);
    model.truncate(len);
    model
}

fn store(w: &mut GraphMem, bytes: &[u8], is_text: bool) {
    let value = match is_text {
        true => In::Str {
            bytes,
            no_newline: false,
        },
        false => In::Bytes(bytes),
    };
    let root = w.root;
    set(w, root, &KEY, &value).unwrap();
    w.commit();
}

/// Lengths around the ends of the forms: in the word, in a segment, in a tree of few and many leaves.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![0..12usize, 3900..4200usize, 0..20_000usize, 8150..8250usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn changes_in_part_equal_those_of_a_vector(
        start in length(),
        is_text in any::<bool>(),
        changes in proptest::collection::vec((length(), length(), proptest::option::of(length())), 1..8),
    ) {
        let mut w = GraphMem::new();
        let mut model = vec![b'a'; start];
        store(&mut w, &model, is_text);
        for (i, (offset, n, len)) in changes.into_iter().enumerate() {
            let bytes = vec![b'b' + i as u8; n];
            let change = Edit { offset: offset as u64, bytes: &bytes, len: len.map(|l| l as u64), no_newline: None };
            let root = w.root;
            let found = edit(&mut w, root, &step(), &change).unwrap();
            w.commit();
            model = applied(model, &change);
            prop_assert_eq!(found, model.len() as u64);
            let (content, flag) = now(&w);
            prop_assert!(content == model, "{} and {}", content.len(), model.len());
            prop_assert_eq!(flag.is_some(), is_text);
            check_graph(&w).unwrap();
        }
    }

    #[test]
    fn a_str_stays_text(
        text in "[aä€𐍈]{2000,2600}",
        at in 0..9000usize,
        bytes in prop_oneof![Just("ä€".as_bytes().to_vec()), proptest::collection::vec(any::<u8>(), 0..5), "[aä€𐍈]{1,3}".prop_map(String::into_bytes)],
        cut in proptest::option::of(0..9000usize),
    ) {
        let mut w = GraphMem::new();
        store(&mut w, text.as_bytes(), true);
        let at = at.min(text.len());
        let len = cut.map(|n| n.max(4200) as u64);
        let change = Edit { offset: at as u64, bytes: &bytes, len, no_newline: Some(true) };
        let wanted = applied(text.as_bytes().to_vec(), &change);
        let root = w.root;
        match edit(&mut w, root, &step(), &change) {
            Ok(_) => {
                w.commit();
                prop_assert!(std::str::from_utf8(&wanted).is_ok() || crate::object::scalar::is_text(&wanted));
                prop_assert_eq!(now(&w), (wanted, Some(true)));
                check_graph(&w).unwrap();
            }
            Err(Error::Invalid { .. }) => {
                w.heap.rollback();
                prop_assert!(!crate::object::scalar::is_text(&wanted));
                prop_assert_eq!(now(&w), (text.into_bytes(), Some(false)));
            }
            Err(e) => panic!("{e:?}"),
        }
    }
}

#[test]
fn only_a_str_or_bytes_has_parts() {
    let mut w = GraphMem::new();
    let root = w.root;
    let change = Edit {
        bytes: b"1",
        ..Edit::default()
    };
    assert!(matches!(edit(&mut w, root, &step(), &change), Err(Error::NoKey)));
    let magnitude = vec![7; 9000];
    let big = In::BigInt {
        negative: false,
        magnitude: &magnitude,
    };
    for value in [In::None, In::Int(5), In::Float(0.5), In::Bool(true), big] {
        set(&mut w, root, &KEY, &value).unwrap();
        let done = edit(&mut w, root, &step(), &change);
        assert!(
            matches!(done, Err(Error::WrongKind { .. })),
            "{value:?}: {done:?}"
        );
    }
    let list: Obj = new_list(&mut w).unwrap();
    set(&mut w, root, &KEY, &In::Obj(list)).unwrap();
    assert!(matches!(
        edit(&mut w, root, &step(), &change),
        Err(Error::WrongKind { .. })
    ));
    assert!(matches!(
        edit(&mut w, list, &Step::Index(0), &change),
        Err(Error::Index { .. })
    ));
    insert(&mut w, list, 0, &In::Bytes(&[0; 9000])).unwrap();
    let tail = Edit {
        offset: 8999,
        bytes: b"xyz",
        ..Edit::default()
    };
    assert_eq!(edit(&mut w, list, &Step::Index(0), &tail).unwrap(), 9002);
    w.commit();
    let mut out = Vec::new();
    ops::items(&w, list, 0, 9, &mut out).unwrap();
    assert!(content(&w, &out[0]).0.ends_with(b"\0xyz"));
    check_graph(&w).unwrap();
}

#[test]
fn one_change_is_bounded() {
    let mut w = GraphMem::new();
    for start in [0, 5, 9000] {
        store(&mut w, &vec![1; start], false);
        let root = w.root;
        for change in [
            Edit {
                len: Some(start as u64 + EDIT_MAX + 1),
                ..Edit::default()
            },
            Edit {
                offset: u64::MAX,
                bytes: b"x",
                ..Edit::default()
            },
            Edit {
                offset: EDIT_MAX + 9001,
                bytes: b"x",
                ..Edit::default()
            },
        ] {
            let done = edit(&mut w, root, &step(), &change);
            assert!(matches!(done, Err(Error::Invalid { .. })), "{change:?}");
            assert_eq!(now(&w).0.len(), start);
        }
    }
}
