//! Sizes at which recursion would overflow the stack and a quadratic algorithm would not finish.

use super::collect_all;
use crate::ids::Obj;
use crate::object::graph::check_graph;
use crate::object::graph::testing::GraphMem;
use crate::object::ops::*;
use crate::object::value::{In, Key};

const N: i64 = 100_000;

fn end_until_empty(w: &mut GraphMem, operations: u64) {
    for _ in 0..operations {
        let more = end_operation(w, 64).unwrap().more;
        w.commit();
        if !more {
            return;
        }
    }
    panic!("not freed after {operations} operations");
}

/// Build lists nested in each other, from the inside or from the outside.
fn nested(w: &mut GraphMem, inside_first: bool) {
    let root = w.root;
    if inside_first {
        let mut inner = new_list(w).unwrap();
        for _ in 0..N {
            let outer = new_list(w).unwrap();
            insert(w, outer, 0, &In::Obj(inner)).unwrap();
            inner = outer;
        }
        set(w, root, &Key::Int(0), &In::Obj(inner)).unwrap();
    } else {
        let mut outer = new_list(w).unwrap();
        set(w, root, &Key::Int(0), &In::Obj(outer)).unwrap();
        for _ in 0..N {
            let inner = new_list(w).unwrap();
            insert(w, outer, 0, &In::Obj(inner)).unwrap();
            outer = inner;
        }
    }
}

#[test]
fn deep_nesting() {
    for inside_first in [false, true] {
        let mut w = GraphMem::new();
        let (root, base) = (w.root, w.segments());
        nested(&mut w, inside_first);
        w.end();
        assert_eq!(check_graph(&w).unwrap().containers.len() as i64, N + 2);
        remove(&mut w, root, &Key::Int(0)).unwrap();
        end_until_empty(&mut w, N as u64 / 10);
        assert_eq!(w.segments(), base);
    }
}

/// Build a doubly linked list of objects with a payload each, in the order a program would.
fn linked(w: &mut GraphMem, n: i64) -> (Obj, Obj) {
    let (next, prev, data) = (Key::Str(b"next"), Key::Str(b"prev"), Key::Str(b"data"));
    let root = w.root;
    let head = new_object(w, "mod:Node").unwrap();
    set(w, root, &Key::Int(0), &In::Obj(head)).unwrap();
    let mut last = head;
    for _ in 0..n {
        let node = new_object(w, "mod:Node").unwrap();
        let payload = new_list(w).unwrap();
        set(w, node, &data, &In::Obj(payload)).unwrap();
        insert(w, payload, 0, &In::Int(1)).unwrap();
        set(w, node, &prev, &In::Obj(last)).unwrap();
        set(w, last, &next, &In::Obj(node)).unwrap();
        last = node;
    }
    w.end();
    (head, last)
}

#[test]
fn a_long_doubly_linked_list() {
    let n = 50_000;
    let mut w = GraphMem::new();
    let root = w.root;
    // The class record stays.
    let (_, _) = linked(&mut w, 1);
    clear(&mut w, root).unwrap();
    collect_all(&mut w);
    let base = w.segments();
    let (head, last) = linked(&mut w, n);
    assert_eq!(check_graph(&w).unwrap().containers.len() as i64, 2 * n + 2);
    // Its end is cut off from the root, but still reachable through a second reference.
    set(&mut w, root, &Key::Int(1), &In::Obj(last)).unwrap();
    remove(&mut w, root, &Key::Int(0)).unwrap();
    w.end();
    assert!(kind(&w, head).is_ok());
    collect_all(&mut w);
    assert!(kind(&w, head).is_ok());
    assert_eq!(check_graph(&w).unwrap().suspects, 0);
    remove(&mut w, root, &Key::Int(1)).unwrap();
    w.end();
    collect_all(&mut w);
    assert!(kind(&w, head).is_err());
    assert_eq!(w.segments(), base);
}

#[test]
fn a_large_cycle_is_collected_without_being_asked_for() {
    let n = 3_000;
    let mut w = GraphMem::new();
    let root = w.root;
    let (head, _) = linked(&mut w, n);
    remove(&mut w, root, &Key::Int(0)).unwrap();
    for _ in 0..20_000 {
        w.end();
    }
    assert!(kind(&w, head).is_err());
    assert_eq!(check_graph(&w).unwrap().containers.len(), 1);
}

#[test]
fn a_child_of_very_many_parents() {
    let n = 30_000;
    let mut w = GraphMem::new();
    let (root, base) = (w.root, w.segments());
    let child = new_dict(&mut w).unwrap();
    let all = new_list(&mut w).unwrap();
    set(&mut w, root, &Key::Int(0), &In::Obj(all)).unwrap();
    for i in 0..n {
        let parent = new_list(&mut w).unwrap();
        insert(&mut w, all, i, &In::Obj(parent)).unwrap();
        insert(&mut w, parent, 0, &In::Obj(child)).unwrap();
        insert(&mut w, parent, 0, &In::Obj(child)).unwrap();
    }
    w.end();
    assert_eq!(refs(&w, child).unwrap(), 2 * n);
    check_graph(&w).unwrap();
    // Remove the home again and again.
    for _ in 0..n / 2 {
        remove_items(&mut w, all, 0, 1).unwrap();
        w.end();
    }
    end_until_empty(&mut w, n);
    assert_eq!(refs(&w, child).unwrap(), n);
    assert!(home(&w, child).unwrap().is_some());
    check_graph(&w).unwrap();
    clear(&mut w, all).unwrap();
    end_until_empty(&mut w, n);
    assert!(kind(&w, child).is_err());
    remove(&mut w, root, &Key::Int(0)).unwrap();
    w.end();
    assert_eq!(w.segments(), base);
}

#[test]
fn emptying_a_large_container_is_quick() {
    let mut w = GraphMem::new();
    let root = w.root;
    let list = new_list(&mut w).unwrap();
    let dict = new_dict(&mut w).unwrap();
    set(&mut w, root, &Key::Int(0), &In::Obj(list)).unwrap();
    set(&mut w, root, &Key::Int(1), &In::Obj(dict)).unwrap();
    w.end();
    let base = w.segments();
    for i in 0..20_000 {
        insert(&mut w, list, i, &In::Obj(dict)).unwrap();
        set(&mut w, dict, &Key::Int(i as i64), &In::str("longer than a word")).unwrap();
    }
    w.commit();
    for obj in [list, dict] {
        let before = w.heap.logged;
        clear(&mut w, obj).unwrap();
        assert!(w.heap.logged - before < 40);
        w.commit();
        assert_eq!(len(&w, obj).unwrap(), 0);
        check_graph(&w).unwrap();
    }
    set(&mut w, dict, &Key::Int(7), &In::Obj(list)).unwrap();
    end_until_empty(&mut w, 2_000);
    assert_eq!(refs(&w, dict).unwrap(), 1);
    clear(&mut w, dict).unwrap();
    w.end();
    check_graph(&w).unwrap();
    assert_eq!(w.segments(), base);
}
