//! Single cases.

use super::collect_all;
use crate::error::Error;
use crate::ids::Obj;
use crate::object::graph::testing::GraphMem;
use crate::object::graph::{check_graph, reap, unpinned};
use crate::object::ops::*;
use crate::object::value::{In, Key, Step, Value};

fn k(name: &str) -> Key<'_> {
    Key::Str(name.as_bytes())
}

fn step(name: &str) -> Step {
    Step::Key(Value::Str {
        bytes: name.as_bytes().into(),
        no_newline: false,
    })
}

fn dict(w: &mut GraphMem, parent: Obj, name: &str) -> Obj {
    let d = new_dict(w).unwrap();
    set(w, parent, &k(name), &In::Obj(d)).unwrap();
    d
}

fn gone(w: &GraphMem, obj: Obj) -> bool {
    matches!(kind(w, obj), Err(Error::Gone(_)))
}

fn count(w: &GraphMem) -> usize {
    check_graph(w).unwrap().containers.len()
}

#[test]
fn an_unreferenced_container_is_freed_at_the_end_of_the_operation() {
    let mut w = GraphMem::new();
    let base = w.segments();
    let d = new_dict(&mut w).unwrap();
    set(
        &mut w,
        d,
        &k("text"),
        &In::str("a text that needs a segment of its own"),
    )
    .unwrap();
    w.end();
    assert!(gone(&w, d));
    assert_eq!(w.segments(), base);
}

#[test]
fn a_pinned_orphan_can_be_attached_again_and_is_freed_with_its_pin() {
    let mut w = GraphMem::new();
    let root = w.root;
    let base = w.segments();
    let d = new_dict(&mut w).unwrap();
    w.pins.insert(d.id);
    w.end();
    w.end();
    assert_eq!(home(&w, d).unwrap(), None);
    set(&mut w, root, &k("d"), &In::Obj(d)).unwrap();
    w.end();
    assert_eq!(home(&w, d).unwrap(), Some((root, step("d"))));
    w.pins.clear();
    unpinned(&mut w, d).unwrap();
    w.end();
    assert_eq!(refs(&w, d).unwrap(), 1);
    w.pins.insert(d.id);
    assert!(remove(&mut w, root, &k("d")).unwrap());
    w.end();
    assert_eq!(
        (kind(&w, d).unwrap(), refs(&w, d).unwrap()),
        (crate::object::header::Kind::Dict, 0)
    );
    w.pins.clear();
    unpinned(&mut w, d).unwrap();
    w.end();
    assert!(gone(&w, d));
    assert_eq!(w.segments(), base);
}

#[test]
fn containers_pinned_by_a_dead_process_are_freed() {
    let mut w = GraphMem::new();
    let base = w.segments();
    let d = new_dict(&mut w).unwrap();
    let e = dict(&mut w, d, "e");
    set(&mut w, e, &k("d"), &In::Obj(d)).unwrap();
    w.pins.insert(e.id);
    w.end();
    assert_eq!(count(&w), 3);
    w.pins.clear();
    for _ in 0..10_000 {
        w.end();
    }
    assert!(gone(&w, d) && gone(&w, e));
    assert_eq!(w.segments(), base);
}

#[test]
fn cycles_are_freed_with_what_only_they_reach() {
    let mut w = GraphMem::new();
    let root = w.root;
    let keep = dict(&mut w, root, "keep");
    w.end();
    let base = w.segments();
    let a = dict(&mut w, root, "a");
    let b = dict(&mut w, a, "b");
    let shared = dict(&mut w, b, "shared");
    set(&mut w, b, &k("a"), &In::Obj(a)).unwrap();
    set(&mut w, b, &k("b"), &In::Obj(b)).unwrap();
    set(&mut w, b, &k("keep"), &In::Obj(keep)).unwrap();
    set(&mut w, keep, &k("shared"), &In::Obj(shared)).unwrap();
    w.end();
    assert_eq!(home(&w, shared).unwrap(), Some((b, step("shared"))));
    assert!(remove(&mut w, root, &k("a")).unwrap());
    w.end();
    w.end();
    assert!(gone(&w, a) && gone(&w, b));
    assert_eq!(home(&w, shared).unwrap(), Some((keep, step("shared"))));
    assert_eq!(refs(&w, keep).unwrap(), 1);
    assert!(remove(&mut w, keep, &k("shared")).unwrap());
    w.end();
    assert_eq!(count(&w), 2);
    remove(&mut w, root, &k("keep")).unwrap();
    dict(&mut w, root, "keep");
    w.end();
    assert_eq!(w.segments(), base);
}

#[test]
fn a_pin_inside_a_cycle_keeps_the_cycle() {
    let mut w = GraphMem::new();
    let root = w.root;
    let a = dict(&mut w, root, "a");
    let b = dict(&mut w, a, "b");
    set(&mut w, b, &k("a"), &In::Obj(a)).unwrap();
    w.pins.insert(b.id);
    remove(&mut w, root, &k("a")).unwrap();
    w.end();
    collect_all(&mut w);
    assert!(!gone(&w, a) && !gone(&w, b));
    // It can be attached again as a whole.
    set(&mut w, root, &k("b"), &In::Obj(b)).unwrap();
    w.end();
    assert_eq!(home(&w, a).unwrap(), Some((b, step("a"))));
    assert_eq!(home(&w, b).unwrap(), Some((root, step("b"))));
    remove(&mut w, root, &k("b")).unwrap();
    w.end();
    w.pins.clear();
    unpinned(&mut w, b).unwrap();
    w.end();
    assert!(gone(&w, a) && gone(&w, b));
}

#[test]
fn a_new_cycle_can_be_built_before_it_is_attached() {
    let mut w = GraphMem::new();
    let root = w.root;
    let a = new_list(&mut w).unwrap();
    let b = new_list(&mut w).unwrap();
    insert(&mut w, a, 0, &In::Obj(a)).unwrap();
    insert(&mut w, a, 1, &In::Obj(b)).unwrap();
    insert(&mut w, b, 0, &In::Obj(a)).unwrap();
    set(&mut w, root, &k("a"), &In::Obj(a)).unwrap();
    w.end();
    check_graph(&w).unwrap();
    assert_eq!(home(&w, a).unwrap(), Some((root, step("a"))));
    assert_eq!(home(&w, b).unwrap(), Some((a, Step::Index(1))));
    assert_eq!(refs(&w, a).unwrap(), 3);
    // An object that nothing holds does not leak.
    let c = new_list(&mut w).unwrap();
    insert(&mut w, c, 0, &In::Obj(c)).unwrap();
    w.end();
    assert!(gone(&w, c));
}

#[test]
fn homes_move_with_renames_and_to_what_remains() {
    let mut w = GraphMem::new();
    let root = w.root;
    let (a, b) = (dict(&mut w, root, "a"), dict(&mut w, root, "b"));
    let x = dict(&mut w, a, "x");
    for name in ["y", "z"] {
        set(&mut w, b, &k(name), &In::Obj(x)).unwrap();
    }
    w.end();
    assert!(is_home(&w, x, a, &step("x")).unwrap() && !is_home(&w, x, b, &step("y")).unwrap());
    rename(&mut w, a, &step("x"), root, &step("moved")).unwrap();
    w.end();
    assert_eq!(home(&w, x).unwrap(), Some((root, step("moved"))));
    rename(&mut w, root, &step("moved"), root, &step("again")).unwrap();
    w.end();
    assert_eq!(home(&w, x).unwrap(), Some((root, step("again"))));
    // A rename of another reference does not move the home.
    rename(&mut w, b, &step("y"), a, &step("y")).unwrap();
    w.end();
    assert_eq!(home(&w, x).unwrap(), Some((root, step("again"))));
    remove(&mut w, root, &k("again")).unwrap();
    w.end();
    let (parent, at) = home(&w, x).unwrap().unwrap();
    assert!((parent, &at) == (a, &step("y")) || (parent, &at) == (b, &step("z")));
    assert!(is_home(&w, x, parent, &at).unwrap());
    remove(&mut w, a, &k("y")).unwrap();
    w.end();
    assert_eq!(home(&w, x).unwrap(), Some((b, step("z"))));
    check_graph(&w).unwrap();
}

#[test]
fn below_a_pinned_orphan_another_name_is_shown() {
    let mut w = GraphMem::new();
    let root = w.root;
    let (a, b) = (dict(&mut w, root, "a"), dict(&mut w, root, "b"));
    let c = dict(&mut w, a, "c");
    let d = dict(&mut w, c, "d");
    set(&mut w, b, &k("d"), &In::Obj(d)).unwrap();
    w.pins.insert(a.id);
    remove(&mut w, root, &k("a")).unwrap();
    w.end();
    // `c` is only in the orphan, so that is its home. `d` has a name that leads to it.
    assert_eq!(home(&w, a).unwrap(), None);
    assert_eq!(home(&w, c).unwrap(), Some((a, step("c"))));
    assert_eq!(home(&w, d).unwrap(), Some((b, step("d"))));
    assert!(is_home(&w, d, b, &step("d")).unwrap() && !is_home(&w, d, c, &step("d")).unwrap());
    set(&mut w, root, &k("a"), &In::Obj(a)).unwrap();
    w.end();
    assert_eq!(home(&w, d).unwrap(), Some((c, step("d"))));
}

#[test]
fn a_container_moved_into_its_own_subtree_is_garbage_unless_pinned() {
    for pinned in [false, true] {
        let mut w = GraphMem::new();
        let root = w.root;
        let a = dict(&mut w, root, "a");
        let b = dict(&mut w, a, "b");
        if pinned {
            w.pins.insert(b.id);
        }
        rename(&mut w, root, &step("a"), b, &step("a")).unwrap();
        w.end();
        check_graph(&w).unwrap();
        assert_eq!(gone(&w, a), !pinned);
        assert_eq!(gone(&w, b), !pinned);
    }
}

#[test]
fn a_root_that_holds_itself_is_not_collected() {
    let mut w = GraphMem::new();
    let root = w.root;
    set(&mut w, root, &k("me"), &In::Obj(root)).unwrap();
    let a = dict(&mut w, root, "a");
    set(&mut w, a, &k("up"), &In::Obj(root)).unwrap();
    w.end();
    collect_all(&mut w);
    assert_eq!((refs(&w, root).unwrap(), home(&w, root).unwrap()), (2, None));
    clear(&mut w, root).unwrap();
    w.end();
    collect_all(&mut w);
    assert_eq!((refs(&w, root).unwrap(), count(&w)), (0, 1));
}

#[test]
fn freeing_is_incremental_and_a_half_freed_tree_survives_a_rollback() {
    let mut w = GraphMem::new();
    let root = w.root;
    let base = w.segments();
    let top = dict(&mut w, root, "top");
    for i in 0..50 {
        let d = new_dict(&mut w).unwrap();
        set(&mut w, top, &Key::Int(i), &In::Obj(d)).unwrap();
        for j in 0..50 {
            set(&mut w, d, &Key::Int(j), &In::str("some text that is long")).unwrap();
        }
    }
    w.end();
    let full = w.segments();
    remove(&mut w, root, &k("top")).unwrap();
    reap(&mut w, 300).unwrap();
    w.heap.rollback();
    assert_eq!((w.segments(), len(&w, top).unwrap()), (full, 50));
    check_graph(&w).unwrap();
    remove(&mut w, root, &k("top")).unwrap();
    let mut steps = 0;
    loop {
        let before = w.heap.logged;
        let progress = reap(&mut w, 20).unwrap();
        assert!(
            w.heap.logged - before < 20 * 40,
            "{} stores in one step",
            w.heap.logged - before
        );
        w.commit();
        check_graph(&w).unwrap();
        steps += 1;
        if !progress.more {
            break;
        }
    }
    assert!(steps > 100);
    assert_eq!(w.segments(), base);
}

#[test]
fn a_large_value_is_freed_in_steps() {
    let mut w = GraphMem::new();
    let root = w.root;
    let base = w.segments();
    let big = vec![7u8; 4_000_000];
    set(&mut w, root, &k("big"), &In::Bytes(&big)).unwrap();
    set(&mut w, root, &k("two"), &In::Bytes(&big)).unwrap();
    w.end();
    let Some(Value::Large(large)) = get(&w, root, &k("big")).unwrap() else {
        panic!()
    };
    let full = w.segments();
    remove(&mut w, root, &k("big")).unwrap();
    set(&mut w, root, &k("two"), &In::None).unwrap();
    w.commit();
    assert!(w.segments() > full - 300, "freed at once");
    assert!(matches!(
        large_read(&w, &large, 0, &mut [0; 8]),
        Err(Error::Gone(_))
    ));
    remove(&mut w, root, &k("two")).unwrap();
    for _ in 0..20 {
        w.end();
    }
    assert_eq!(w.segments(), base);
}
