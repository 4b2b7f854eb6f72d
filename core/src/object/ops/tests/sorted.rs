//! Sorted dicts beside a model.

use crate::object::builtin::SORTED;
use crate::object::graph::check_graph;
use crate::object::graph::testing::GraphMem;
use crate::object::header::Kind;
use crate::object::key::order;
use crate::object::ops::*;
use crate::object::value::{In, Key, Step, Value};
use proptest::prelude::*;
use std::cmp::Ordering;
use std::collections::BTreeMap;

fn sorted(w: &mut GraphMem, name: &str) -> Obj {
    let (root, obj) = (w.root, new_dict(w).unwrap());
    set(w, root, &Key::Str(name.as_bytes()), &In::Obj(obj)).unwrap();
    set_class(w, obj, Some(SORTED)).unwrap();
    obj
}

fn keys(w: &GraphMem, obj: Obj) -> Vec<Value> {
    let mut out = Vec::new();
    sorted_keys(w, obj, 0, 10_000, &mut out).unwrap();
    out
}

#[derive(Clone, Debug)]
enum Op {
    Set(i64),
    SetFloat(i64),
    Remove(i64),
    Rename(i64, i64),
    Clear,
    Plain,
    Sorted,
}

fn op() -> impl Strategy<Value = Op> {
    let key = -20i64..20;
    prop_oneof![
        8 => key.clone().prop_map(Op::Set),
        2 => key.clone().prop_map(Op::SetFloat),
        6 => key.clone().prop_map(Op::Remove),
        3 => (key.clone(), key).prop_map(|(a, b)| Op::Rename(a, b)),
        1 => Just(Op::Clear),
        1 => Just(Op::Plain),
        1 => Just(Op::Sorted),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn order_and_entries_agree(ops in prop::collection::vec(op(), 1..80)) {
        let mut w = GraphMem::new();
        w.end();
        let obj = sorted(&mut w, "d");
        let mut model = BTreeMap::new();
        let mut is_sorted = true;
        for (n, op) in ops.into_iter().enumerate() {
            let value = n as i64;
            match op {
                Op::Set(k) => {
                    set(&mut w, obj, &Key::Int(k), &In::Int(value)).unwrap();
                    model.insert(k, value);
                }
                Op::SetFloat(k) => {
                    set(&mut w, obj, &Key::Float(k as f64), &In::Int(value)).unwrap();
                    model.insert(k, value);
                }
                Op::Remove(k) => {
                    prop_assert_eq!(remove(&mut w, obj, &Key::Float(k as f64)).unwrap(), model.remove(&k).is_some());
                }
                Op::Rename(a, b) => {
                    let (from, to) = (Step::Key(Value::Int(a)), Step::Key(Value::Int(b)));
                    let done = rename(&mut w, obj, &from, obj, &to);
                    prop_assert_eq!(done.is_ok(), model.contains_key(&a));
                    if let Some(value) = model.remove(&a) {
                        model.insert(b, value);
                    }
                }
                Op::Clear => {
                    clear(&mut w, obj).unwrap();
                    model.clear();
                }
                Op::Plain => {
                    set_class(&mut w, obj, None).unwrap();
                    is_sorted = false;
                }
                Op::Sorted => {
                    set_class(&mut w, obj, Some(SORTED)).unwrap();
                    is_sorted = true;
                }
            }
            w.end();
            check_graph(&w).unwrap();
            verify_sorted(&w, obj.addr).unwrap();
            if is_sorted {
                let found: Vec<_> = keys(&w, obj).iter().map(|k| match k {
                    Value::Int(n) => *n,
                    Value::Float(x) => *x as i64,
                    other => panic!("{other:?}"),
                }).collect();
                prop_assert_eq!(found, model.keys().copied().collect::<Vec<_>>());
                for k in -21..21 {
                    let position = |after| sorted_position(&w, obj, &Key::Int(k), after).unwrap();
                    prop_assert_eq!(position(false), model.range(..k).count() as u64);
                    prop_assert_eq!(position(true), model.range(..=k).count() as u64);
                }
            }
            prop_assert_eq!(len(&w, obj).unwrap(), model.len() as u64);
        }
    }
}

#[test]
fn everything_goes_with_it() {
    let mut w = GraphMem::new();
    let root = w.root;
    let first = sorted(&mut w, "first");
    set(&mut w, first, &Key::Int(1), &In::None).unwrap();
    w.end();
    let before = w.segments();
    for kind in [Kind::Dict, Kind::List, Kind::Object] {
        let obj = sorted(&mut w, "d");
        for n in 0..600 {
            set(&mut w, obj, &Key::Str(format!("{n:0100}").as_bytes()), &In::None).unwrap();
        }
        clear(&mut w, obj).unwrap();
        for n in 0..20 {
            set(&mut w, obj, &Key::Str(format!("{n}").as_bytes()), &In::None).unwrap();
        }
        if kind != Kind::Dict {
            convert(&mut w, obj, kind, "").unwrap();
            assert!(sorted_position(&w, obj, &Key::Int(1), false).is_err());
        }
        remove(&mut w, root, &Key::Str(b"d")).unwrap();
        for _ in 0..40 {
            w.end();
        }
        check_graph(&w).unwrap();
        assert!(w.segments() <= before + 30, "{} {before}", w.segments());
    }
}

#[test]
fn keys_without_an_order_are_refused() {
    let mut w = GraphMem::new();
    let obj = sorted(&mut w, "d");
    for key in [Key::None, Key::Float(f64::NAN)] {
        assert!(set(&mut w, obj, &key, &In::None).is_err());
    }
    set(&mut w, obj, &Key::Str(b"a"), &In::None).unwrap();
    for key in [Key::None, Key::Int(1), Key::Bytes(b"a"), Key::Float(0.5)] {
        assert!(sorted_position(&w, obj, &key, false).is_err());
    }
    let plain = new_dict(&mut w).unwrap();
    set(&mut w, plain, &Key::Str(b"a"), &In::None).unwrap();
    set(&mut w, plain, &Key::Int(1), &In::None).unwrap();
    assert!(set_class(&mut w, plain, Some(SORTED)).is_err());
}

#[test]
fn numbers_are_compared_exactly() {
    let big = |negative, magnitude: &'static [u8]| Key::BigInt { negative, magnitude };
    // Ascending.
    let all = [
        Key::Float(f64::NEG_INFINITY),
        Key::Float(-1e300),
        big(true, &[0, 0, 0, 0, 0, 0, 0, 0, 2]),
        big(true, &[1, 0, 0, 0, 0, 0, 0, 0, 1]),
        Key::Float(-18_446_744_073_709_551_616.0),
        Key::Int(i64::MIN),
        Key::Float(-1.5),
        Key::Int(-1),
        Key::Float(-0.5),
        Key::Bool(false),
        Key::Float(0.5),
        Key::Bool(true),
        Key::Float(1.5),
        Key::Int((1 << 53) + 1),
        Key::Float(9_007_199_254_740_994.0),
        Key::Int(i64::MAX),
        Key::Float(9_223_372_036_854_775_808.0),
        big(false, &[0, 0, 0, 0, 0, 0, 0, 0, 1]),
        big(false, &[1, 0, 0, 0, 0, 0, 0, 0, 1]),
        Key::Float(1e300),
        Key::Float(f64::INFINITY),
    ];
    for (i, a) in all.iter().enumerate() {
        for (j, b) in all.iter().enumerate() {
            assert_eq!(order(a, b), Some(i.cmp(&j)), "{a:?} {b:?}");
        }
    }
    assert_eq!(order(&Key::Float(-0.0), &Key::Bool(false)), Some(Ordering::Equal));
    assert_eq!(order(&Key::Float(2.0), &Key::Int(2)), Some(Ordering::Equal));
    assert_eq!(order(&Key::Float(f64::NAN), &Key::Int(2)), None);
    assert_eq!(
        order(&Key::Str("\u{e9}".as_bytes()), &Key::Str(b"z")),
        Some(Ordering::Greater)
    );
    assert_eq!(order(&Key::Str(b""), &Key::Str(b"z")), Some(Ordering::Less));
}
