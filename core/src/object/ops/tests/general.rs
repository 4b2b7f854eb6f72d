//! Tests of the operations beyond those of the graph: values, errors, the calls to locks and times, rename,
//! conversion.

use crate::error::Error;
use crate::object::graph::check_graph;
use crate::object::graph::testing::GraphMem;
use crate::object::header::Kind;
use crate::object::key;
use crate::object::ops::*;
use crate::object::value::{Entry, In, Key, Step, Value};
use crate::page::access::Pages;

fn k(name: &str) -> Key<'_> {
    Key::Str(name.as_bytes())
}

fn text(s: &str) -> Value {
    Value::Str {
        bytes: s.as_bytes().into(),
        no_newline: false,
    }
}

fn name(s: &str) -> Step {
    Step::Key(text(s))
}

fn list_of(w: &mut GraphMem, at: &str, n: i64) -> Obj {
    let (root, list) = (w.root, new_list(w).unwrap());
    set(w, root, &k(at), &In::Obj(list)).unwrap();
    for i in 0..n {
        insert(w, list, i as u64, &In::Int(i)).unwrap();
    }
    list
}

fn all_items(w: &GraphMem, list: Obj) -> Vec<Value> {
    let mut out = Vec::new();
    items(w, list, 0, usize::MAX, &mut out).unwrap();
    out
}

fn ints(v: &[i64]) -> Vec<Value> {
    v.iter().map(|&i| Value::Int(i)).collect()
}

fn entries_of(w: &GraphMem, d: Obj) -> Vec<(Value, Value)> {
    let (mut out, mut cursor) = (Vec::new(), 0);
    while let Some(Entry {
        cursor: c,
        key,
        value,
    }) = next(w, d, cursor).unwrap()
    {
        cursor = c;
        out.push((key, value));
    }
    let (mut back, mut cursor) = (Vec::new(), u64::MAX);
    while let Some(e) = prev(w, d, cursor).unwrap() {
        cursor = e.cursor;
        back.push((e.key, e.value));
    }
    back.reverse();
    assert_eq!(out, back);
    out
}

#[test]
fn every_kind_of_value_comes_back() {
    let mut w = GraphMem::new();
    let root = w.root;
    let long = "x".repeat(200_000);
    let values = [
        (In::None, Value::None),
        (In::Bool(true), Value::Bool(true)),
        (In::Int(i64::MIN), Value::Int(i64::MIN)),
        (In::Float(-0.5), Value::Float(-0.5)),
        (In::str("short"), text("short")),
        (
            In::str("rather longer than a word"),
            text("rather longer than a word"),
        ),
        (In::Bytes(b"\0\xff"), Value::Bytes(b"\0\xff"[..].into())),
    ];
    for (i, (value, _)) in values.iter().enumerate() {
        set(&mut w, root, &Key::Int(i as i64), value).unwrap();
    }
    set(&mut w, root, &k("long"), &In::str(&long)).unwrap();
    w.end();
    for (i, (_, value)) in values.iter().enumerate() {
        assert_eq!(get(&w, root, &Key::Int(i as i64)).unwrap().as_ref(), Some(value));
    }
    let Some(Value::Large(large)) = get(&w, root, &k("long")).unwrap() else {
        panic!()
    };
    let mut buf = [0; 100];
    assert_eq!(large_read(&w, &large, 199_950, &mut buf).unwrap(), 50);
    assert_eq!(size(&w, root, &name("long")).unwrap(), Some(200_000));
    assert_eq!(size(&w, root, &Step::Key(Value::Int(4))).unwrap(), Some(5));
    assert_eq!(size(&w, root, &Step::Key(Value::Int(0))).unwrap(), None);
    assert!(contains(&w, root, &Key::Float(1.0)).unwrap() && !contains(&w, root, &k("no")).unwrap());
    assert_eq!(len(&w, root).unwrap(), 8);
}

#[test]
fn an_inline_value_over_another_is_two_stores_and_no_memory() {
    let mut w = GraphMem::new();
    let root = w.root;
    let obj = new_object(&mut w, "m:C").unwrap();
    let list = list_of(&mut w, "list", 10);
    set(&mut w, root, &k("obj"), &In::Obj(obj)).unwrap();
    for target in [root, obj] {
        set(&mut w, target, &k("x"), &In::Int(1)).unwrap();
    }
    w.end();
    let segments = w.segments();
    for target in [root, obj] {
        let before = (w.heap.logged, mtime(&w, target).unwrap());
        set(&mut w, target, &k("x"), &In::Float(2.5)).unwrap();
        end_operation(&mut w, 64).unwrap();
        assert_eq!(w.heap.logged - before.0, 2);
        assert!(mtime(&w, target).unwrap() > before.1);
    }
    let before = w.heap.logged;
    set_item(&mut w, list, 3, &In::Bool(false)).unwrap();
    end_operation(&mut w, 64).unwrap();
    assert_eq!(w.heap.logged - before, 2);
    w.commit();
    assert_eq!(w.segments(), segments);
}

#[test]
fn changes_are_announced_with_the_entry_concerned() {
    let mut w = GraphMem::new();
    let (root, seed) = (w.root, w.hash_seed());
    let list = list_of(&mut w, "list", 3);
    w.changes.clear();
    set(&mut w, root, &k("a"), &In::None).unwrap();
    rename(&mut w, root, &name("a"), list, &Step::Index(3)).unwrap();
    remove(&mut w, root, &k("b")).unwrap();
    let hash = |s| Some(key::hash(seed, &k(s)));
    assert_eq!(
        w.changes,
        [
            (root.id, hash("a")),
            (root.id, hash("a")),
            (list.id, None),
            (root.id, hash("b"))
        ]
    );
    w.changes.clear();
    insert(&mut w, list, 0, &In::None).unwrap();
    clear(&mut w, root).unwrap();
    set_mtime(&mut w, root, 77).unwrap();
    assert_eq!(w.changes, [(list.id, None), (root.id, None), (root.id, None)]);
    assert_eq!(mtime(&w, root).unwrap(), 77);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut w = GraphMem::new();
    let root = w.root;
    let list = list_of(&mut w, "list", 3);
    let obj = new_object(&mut w, "").unwrap();
    w.pins.insert(obj.id);
    w.end();
    let wrong = |r: Result<()>| matches!(r, Err(Error::WrongKind { .. }));
    assert!(wrong(set(&mut w, list, &Key::Int(0), &In::None)));
    assert!(wrong(set(&mut w, obj, &Key::Int(0), &In::None)));
    assert!(wrong(insert(&mut w, root, 0, &In::None)));
    assert!(wrong(get(&w, list, &k("a")).map(|_| ())));
    assert!(wrong(item(&w, root, 0).map(|_| ())));
    assert_eq!(get(&w, obj, &Key::Int(0)).unwrap(), None);
    assert!(matches!(
        set_item(&mut w, list, 3, &In::None),
        Err(Error::Index { index: 3, len: 3 })
    ));
    assert!(matches!(
        insert(&mut w, list, 4, &In::None),
        Err(Error::Index { index: 4, len: 3 })
    ));
    assert!(matches!(
        rename(&mut w, root, &name("x"), list, &Step::Index(0)),
        Err(Error::NoKey)
    ));
    assert!(matches!(
        rename(&mut w, list, &Step::Index(9), root, &name("x")),
        Err(Error::Index { .. })
    ));
    assert!(wrong(rename(
        &mut w,
        root,
        &name("list"),
        obj,
        &Step::Key(Value::Int(1))
    )));
    let stale = Obj {
        id: crate::ids::ObjectId(999),
        ..obj
    };
    assert!(matches!(
        set(&mut w, root, &k("x"), &In::Obj(stale)),
        Err(Error::Gone(_))
    ));
    let nowhere = Obj {
        addr: crate::ids::Addr(1 << 40),
        ..obj
    };
    assert!(matches!(kind(&w, nowhere), Err(Error::Gone(_))));
    w.heap.rollback();
    check_graph(&w).unwrap();
}

#[test]
fn rename_moves_between_all_kinds() {
    let mut w = GraphMem::new();
    let root = w.root;
    let list = list_of(&mut w, "list", 5);
    rename(&mut w, list, &Step::Index(0), list, &Step::Index(3)).unwrap();
    assert_eq!(all_items(&w, list), ints(&[1, 2, 0, 4]));
    rename(&mut w, list, &Step::Index(3), list, &Step::Index(0)).unwrap();
    assert_eq!(all_items(&w, list), ints(&[4, 2, 0]));
    rename(&mut w, list, &Step::Index(0), list, &Step::Index(3)).unwrap();
    assert_eq!(all_items(&w, list), ints(&[2, 0, 4]));
    rename(&mut w, list, &Step::Index(1), list, &Step::Index(1)).unwrap();
    rename(&mut w, list, &Step::Index(1), root, &name("zero")).unwrap();
    assert_eq!(all_items(&w, list), ints(&[2, 4]));
    assert_eq!(get(&w, root, &k("zero")).unwrap(), Some(Value::Int(0)));
    set(&mut w, root, &k("s"), &In::str("a text in a segment")).unwrap();
    set(&mut w, root, &k("t"), &In::str("another text in a segment")).unwrap();
    rename(&mut w, root, &name("s"), root, &name("t")).unwrap();
    rename(&mut w, root, &name("t"), root, &name("t")).unwrap();
    rename(&mut w, root, &name("t"), list, &Step::Index(1)).unwrap();
    assert_eq!(all_items(&w, list), [Value::Int(2), text("a text in a segment")]);
    // Rename onto itself through another reference, and over its own parent.
    set(&mut w, root, &k("l2"), &In::Obj(list)).unwrap();
    rename(&mut w, root, &name("list"), root, &name("l2")).unwrap();
    assert_eq!(refs(&w, list).unwrap(), 1);
    let inner = new_dict(&mut w).unwrap();
    insert(&mut w, list, 0, &In::Obj(inner)).unwrap();
    rename(&mut w, list, &Step::Index(0), root, &name("l2")).unwrap();
    w.end();
    assert!(matches!(kind(&w, list), Err(Error::Gone(_))));
    assert_eq!(home(&w, inner).unwrap(), Some((root, name("l2"))));
    let report = check_graph(&w).unwrap();
    assert_eq!(report.containers.len(), 2);
}

#[test]
fn convert_keeps_identity_order_and_homes() {
    let mut w = GraphMem::new();
    let root = w.root;
    let list = list_of(&mut w, "x", 0);
    let child = new_dict(&mut w).unwrap();
    for i in 0..3000 {
        insert(&mut w, list, i, &In::Int(i as i64)).unwrap();
    }
    insert(&mut w, list, 1500, &In::Obj(child)).unwrap();
    w.end();
    let before = all_items(&w, list);
    convert(&mut w, list, Kind::Dict, "").unwrap();
    assert_eq!(
        home(&w, child).unwrap(),
        Some((list, Step::Key(Value::Int(1500))))
    );
    assert!(
        entries_of(&w, list)
            .into_iter()
            .eq((0..).map(Value::Int).zip(before.iter().cloned()))
    );
    convert(&mut w, list, Kind::List, "").unwrap();
    assert_eq!(all_items(&w, list), before);
    assert_eq!(home(&w, child).unwrap(), Some((list, Step::Index(1500))));
    convert(&mut w, list, Kind::Object, "m:C").unwrap();
    assert_eq!(class(&w, list).unwrap().as_deref(), Some("m:C"));
    assert_eq!(home(&w, child).unwrap(), Some((list, name("1500"))));
    convert(&mut w, list, Kind::Object, "m:D").unwrap();
    assert_eq!(class(&w, list).unwrap().as_deref(), Some("m:D"));
    convert(&mut w, list, Kind::List, "").unwrap();
    assert_eq!(all_items(&w, list), before);
    w.end();
    check_graph(&w).unwrap();
    let d = new_dict(&mut w).unwrap();
    set(&mut w, root, &k("d"), &In::Obj(d)).unwrap();
    for (key, n) in [("2", 2), ("0", 0), ("1", 1)] {
        set(&mut w, d, &k(key), &In::Int(n)).unwrap();
    }
    w.end();
    for bad in ["01", "3x", "7", "-1", ""] {
        set(&mut w, d, &k(bad), &In::None).unwrap();
        assert!(matches!(
            convert(&mut w, d, Kind::List, ""),
            Err(Error::Invalid { .. })
        ));
        w.heap.rollback();
    }
    convert(&mut w, d, Kind::Object, "").unwrap();
    assert_eq!(class(&w, d).unwrap().as_deref(), Some(""));
    convert(&mut w, d, Kind::Dict, "").unwrap();
    assert_eq!((class(&w, d).unwrap(), len(&w, d).unwrap()), (None, 3));
    convert(&mut w, d, Kind::List, "").unwrap();
    assert_eq!(all_items(&w, d), ints(&[0, 1, 2]));
    w.end();
    check_graph(&w).unwrap();
    remove(&mut w, root, &k("x")).unwrap();
    remove(&mut w, root, &k("d")).unwrap();
    for _ in 0..200 {
        w.end();
    }
    assert_eq!(check_graph(&w).unwrap().containers, [root.addr]);
}

#[test]
fn slices_of_a_list_are_removed() {
    let mut w = GraphMem::new();
    let list = list_of(&mut w, "x", 10);
    remove_items(&mut w, list, 2, 5).unwrap();
    remove_items(&mut w, list, 5, 100).unwrap();
    remove_items(&mut w, list, 3, 3).unwrap();
    assert_eq!(all_items(&w, list), ints(&[0, 1, 5, 6, 7]));
    remove_items(&mut w, list, 0, 5).unwrap();
    assert_eq!(len(&w, list).unwrap(), 0);
    assert!(remove_items(&mut w, list, 1, 2).is_err());
    for i in 0..3 {
        insert(&mut w, list, i, &In::Int(7)).unwrap();
    }
    w.end();
    assert_eq!(all_items(&w, list), ints(&[7, 7, 7]));
}

#[test]
fn a_new_container_takes_few_stores() {
    let mut w = GraphMem::new();
    let root = w.root;
    set(&mut w, root, &k("a"), &In::None).unwrap();
    set(&mut w, root, &k("b"), &In::None).unwrap();
    w.end();
    for at in ["a", "b"] {
        let before = w.heap.logged;
        let d = new_dict(&mut w).unwrap();
        set(&mut w, root, &k(at), &In::Obj(d)).unwrap();
        end_operation(&mut w, 64).unwrap();
        assert!(w.heap.logged - before <= 10);
        w.commit();
    }
}

#[test]
fn entries_wait_beside_a_list() {
    let mut w = GraphMem::new();
    let (root, list) = (w.root, list_of(&mut w, "l", 2));
    w.end();
    let before = w.segments();
    assert_eq!(waiting(&w, list).unwrap(), None);
    let dict = make_waiting(&mut w, list).unwrap();
    assert_eq!(make_waiting(&mut w, list).unwrap(), dict);
    assert_eq!(list_of_waiting(&w, dict).unwrap(), Some(list));
    assert_eq!(list_of_waiting(&w, root).unwrap(), None);
    let inner = new_dict(&mut w).unwrap();
    set(&mut w, dict, &Key::Int(7), &In::Obj(inner)).unwrap();
    // Further references to the list are kept beside the annex.
    for n in 0..40 {
        let other = new_dict(&mut w).unwrap();
        set(&mut w, root, &Key::Int(n), &In::Obj(other)).unwrap();
        set(&mut w, other, &k("l"), &In::Obj(list)).unwrap();
    }
    w.end();
    check_graph(&w).unwrap();
    assert_eq!(len(&w, list).unwrap(), 2);
    assert_eq!(all_items(&w, list), ints(&[0, 1]));
    assert!(drop_waiting(&mut w, list).is_err());
    assert!(convert(&mut w, list, Kind::Dict, "").is_err());
    // A directory that waits cannot take the list in: homes form no cycle.
    set(&mut w, inner, &k("up"), &In::Obj(list)).unwrap();
    remove(&mut w, root, &k("l")).unwrap();
    w.end();
    check_graph(&w).unwrap();
    assert_eq!(home(&w, inner).unwrap(), Some((dict, Step::Key(Value::Int(7)))));
    remove(&mut w, inner, &k("up")).unwrap();
    set(&mut w, root, &k("l"), &In::Obj(list)).unwrap();
    // The waiting entry joins the list, and remains the same directory.
    let (from, to) = (Step::Key(Value::Int(7)), Step::Index(2));
    rename(&mut w, dict, &from, list, &to).unwrap();
    assert!(is_home(&w, inner, list, &to).unwrap());
    drop_waiting(&mut w, list).unwrap();
    remove_items(&mut w, list, 2, 3).unwrap();
    for n in 0..40 {
        remove(&mut w, root, &Key::Int(n)).unwrap();
    }
    for _ in 0..20 {
        w.end();
    }
    check_graph(&w).unwrap();
    // The annex stays with the list.
    assert_eq!(w.segments(), before + 1);
    assert_eq!(waiting(&w, list).unwrap(), None);
    remove(&mut w, root, &k("l")).unwrap();
    w.end();
    check_graph(&w).unwrap();
    assert!(w.segments() < before);
}

#[test]
fn a_list_is_freed_with_what_waits_beside_it() {
    let mut w = GraphMem::new();
    let root = w.root;
    set(&mut w, root, &k("l"), &In::None).unwrap();
    w.end();
    let before = w.segments();
    let list = list_of(&mut w, "l", 3);
    let dict = make_waiting(&mut w, list).unwrap();
    let inner = new_list(&mut w).unwrap();
    set(&mut w, dict, &k(".x.swp"), &In::Obj(inner)).unwrap();
    set(
        &mut w,
        dict,
        &Key::Int(9),
        &In::Str {
            bytes: b"a longer string",
            no_newline: false,
        },
    )
    .unwrap();
    clear(&mut w, list).unwrap();
    w.end();
    assert_eq!(waiting(&w, list).unwrap(), Some(dict));
    check_graph(&w).unwrap();
    set(&mut w, root, &k("l"), &In::None).unwrap();
    for _ in 0..20 {
        w.end();
    }
    check_graph(&w).unwrap();
    assert_eq!(w.segments(), before);
    assert!(waiting(&w, list).is_err());
}

#[test]
fn the_entries_that_refer_to_a_container_are_found() {
    let mut w = GraphMem::new();
    let root = w.root;
    let child = new_dict(&mut w).unwrap();
    set(&mut w, root, &k("home"), &In::Obj(child)).unwrap();
    assert_eq!(referrers(&w, child, 10).unwrap(), []);
    let list = list_of(&mut w, "list", 5);
    set_item(&mut w, list, 3, &In::Obj(child)).unwrap();
    set(&mut w, root, &k("again"), &In::Obj(child)).unwrap();
    let object = new_object(&mut w, "a:B").unwrap();
    set(&mut w, root, &k("object"), &In::Obj(object)).unwrap();
    set(&mut w, object, &k("attr"), &In::Obj(child)).unwrap();
    set(&mut w, object, &k("link"), &In::Link(b"../home")).unwrap();
    let mut parents = referrers(&w, child, 10).unwrap();
    parents.sort_unstable_by_key(|o| o.id.0);
    let mut expected = vec![root, list, object];
    expected.sort_unstable_by_key(|o| o.id.0);
    assert_eq!(parents, expected);
    assert_eq!(referrers(&w, child, 2).unwrap().len(), 2);
    for max in 1..8 {
        for (parent, steps) in [
            (root, vec![name("home"), name("again")]),
            (list, vec![Step::Index(3)]),
            (object, vec![name("attr")]),
        ] {
            let (mut cursor, mut out) = (0, Vec::new());
            while references(&w, parent, child, &mut cursor, max, &mut out).unwrap() {}
            assert_eq!(out, steps);
        }
    }
}
