//! Dicts and lists with a class.

use crate::object::graph::check_graph;
use crate::object::graph::testing::GraphMem;
use crate::object::header::Kind;
use crate::object::ops::metadata::{Of, metadata, set_metadata};
use crate::object::ops::*;
use crate::object::value::{In, Key};

fn key(text: &str) -> Key<'_> {
    Key::Str(text.as_bytes())
}

fn new(w: &mut GraphMem, kind: Kind, name: &str) -> Obj {
    let obj = match kind {
        Kind::List => new_list(w).unwrap(),
        _ => new_dict(w).unwrap(),
    };
    let root = w.root;
    set(w, root, &key(name), &In::Obj(obj)).unwrap();
    obj
}

#[test]
fn a_class_stays_with_its_container() {
    let mut w = GraphMem::new();
    let root = w.root;
    let first = new(&mut w, Kind::Dict, "first");
    set_class(&mut w, first, Some("shop:Inventory")).unwrap();
    w.end();
    let before = w.segments();
    for kind in [Kind::Dict, Kind::List] {
        let obj = new(&mut w, kind, "c");
        assert_eq!(class(&w, obj).unwrap(), None);
        assert!(open_handle(&w, obj).unwrap().class.is_none());
        set_class(&mut w, obj, Some("shop:Inventory")).unwrap();
        set_class(&mut w, obj, Some("shop:Inventory")).unwrap();
        assert_eq!(class(&w, obj).unwrap().as_deref(), Some("shop:Inventory"));
        let handle = open_handle(&w, obj).unwrap();
        assert!(class_is(&w, handle.class.unwrap(), "shop:Inventory").unwrap());
        assert_eq!(super::super::kind(&w, obj).unwrap(), kind);
        match kind {
            Kind::List => insert(&mut w, obj, 0, &In::Int(1)).unwrap(),
            _ => set(&mut w, obj, &key("a"), &In::Int(1)).unwrap(),
        }
        assert_eq!(len(&w, obj).unwrap(), 1);
        clear(&mut w, obj).unwrap();
        w.end();
        check_graph(&w).unwrap();
        assert_eq!(class(&w, obj).unwrap().as_deref(), Some("shop:Inventory"));
        set_class(&mut w, obj, None).unwrap();
        assert_eq!(class(&w, obj).unwrap(), None);
        set_class(&mut w, obj, Some("")).unwrap();
        assert_eq!(class(&w, obj).unwrap().as_deref(), Some(""));
        remove(&mut w, root, &key("c")).unwrap();
        for _ in 0..8 {
            w.end();
        }
        check_graph(&w).unwrap();
        // The record of the class "" is new with the first of them.
        assert!(w.segments() <= before + 1, "{} {before}", w.segments());
    }
}

#[test]
fn what_is_beside_the_entries_stays_when_a_class_comes() {
    let mut w = GraphMem::new();
    let root = w.root;
    let obj = new(&mut w, Kind::List, "l");
    for n in 0..40 {
        let other = new_dict(&mut w).unwrap();
        set(&mut w, root, &Key::Int(n), &In::Obj(other)).unwrap();
        set(&mut w, other, &key("l"), &In::Obj(obj)).unwrap();
    }
    set_metadata(&mut w, obj, &Of::Container, Some(b"mode")).unwrap();
    let waits = make_waiting(&mut w, obj).unwrap();
    set_class(&mut w, obj, Some("shop:Line")).unwrap();
    w.end();
    check_graph(&w).unwrap();
    assert_eq!(refs(&w, obj).unwrap(), 41);
    assert_eq!(waiting(&w, obj).unwrap(), Some(waits));
    assert_eq!(
        metadata(&w, obj, &Of::Container).unwrap().as_deref(),
        Some(&b"mode"[..])
    );
    assert_eq!(class(&w, obj).unwrap().as_deref(), Some("shop:Line"));
}

#[test]
fn another_kind_has_no_class() {
    let mut w = GraphMem::new();
    let obj = new(&mut w, Kind::Dict, "c");
    for (from, to) in [
        (Kind::Dict, Kind::List),
        (Kind::List, Kind::Dict),
        (Kind::Dict, Kind::Object),
    ] {
        assert_eq!(kind(&w, obj).unwrap(), from);
        set_class(&mut w, obj, Some("shop:Inventory")).unwrap();
        convert(&mut w, obj, from, "").unwrap();
        assert_eq!(class(&w, obj).unwrap().as_deref(), Some("shop:Inventory"));
        convert(&mut w, obj, to, "").unwrap();
        let expected = (to == Kind::Object).then_some("");
        assert_eq!(class(&w, obj).unwrap().as_deref(), expected);
    }
    assert!(set_class(&mut w, obj, Some("shop:Inventory")).is_err());
    let root = w.root;
    assert!(set_class(&mut w, root, Some("shop:Inventory")).is_err());
}
