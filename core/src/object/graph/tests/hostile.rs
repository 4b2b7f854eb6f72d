//! Damaged stores give errors, never a panic or an endless walk.

use crate::ids::{Addr, Obj};
use crate::object::graph::testing::GraphMem;
use crate::object::graph::{Collection, check_graph};
use crate::object::header::{HINT, HOME};
use crate::object::ops::*;
use crate::object::value::{In, Key, Step, Value};
use crate::page::access::PagesMut;
use proptest::prelude::*;

fn build(w: &mut GraphMem) -> Vec<Obj> {
    let root = w.root;
    let mut all = vec![root];
    for i in 0..12 {
        let obj = match i % 3 {
            0 => new_dict(w).unwrap(),
            1 => new_list(w).unwrap(),
            _ => new_object(w, "m:C").unwrap(),
        };
        set(w, root, &Key::Int(i), &In::Obj(obj)).unwrap();
        all.push(obj);
    }
    for i in 1..all.len() {
        for j in 1..=5 {
            let child = In::Obj(all[(i * j + 1) % all.len()]);
            let name = format!("name {j}");
            match kind(w, all[i]).unwrap() {
                crate::object::header::Kind::List => insert(w, all[i], 0, &child).unwrap(),
                _ => set(w, all[i], &Key::Str(name.as_bytes()), &child).unwrap(),
            }
        }
    }
    w.end();
    all
}

fn use_all(w: &mut GraphMem, all: &[Obj]) {
    let root = w.root;
    let _ = check_graph(w);
    for &obj in all {
        let _ = (home(w, obj), len(w, obj), class(w, obj), refs(w, obj));
        let _ = is_home(w, obj, root, &Step::Key(Value::Int(3)));
        let mut out = Vec::new();
        let _ = items(w, obj, 0, 100, &mut out);
        let mut cursor = 0;
        for _ in 0..100 {
            match next(w, obj, cursor) {
                Ok(Some(e)) => cursor = e.cursor,
                _ => break,
            }
        }
    }
    // Each step is an operation that is rolled back if it fails.
    let end = |w: &mut GraphMem, ok: bool| {
        if !ok || end_operation(w, 64).is_err() || crate::heap::apply_frees(w).is_err() {
            w.heap.rollback();
        } else {
            w.heap.mem.commit();
        }
    };
    for (i, &obj) in all.iter().enumerate() {
        let ok = set(w, obj, &Key::Str(b"name 1"), &In::Obj(all[i / 2])).is_ok();
        end(w, ok);
        let ok = remove(w, root, &Key::Int(i as i64)).is_ok();
        end(w, ok);
        let ok = rename(w, obj, &Step::Index(0), root, &Step::Key(Value::Int(50))).is_ok();
        end(w, ok);
        let ok = clear(w, obj).is_ok();
        end(w, ok);
        let ok = convert(w, obj, crate::object::header::Kind::List, "").is_ok();
        end(w, ok);
    }
    let mut c = Collection::default();
    for _ in 0..100 {
        let ok = c.step(w, 100).is_ok();
        end(w, ok);
    }
}

#[test]
fn a_cycle_of_homes_ends_every_walk() {
    let mut w = GraphMem::new();
    let all = build(&mut w);
    for i in 1..all.len() {
        let to = all[i % (all.len() - 1) + 1].addr;
        w.set_u64(all[i].addr + HOME, to.0).unwrap();
        w.set_u64(all[i].addr + HINT, 0).unwrap();
    }
    w.heap.mem.commit();
    assert!(check_graph(&w).is_err());
    use_all(&mut w, &all);
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn any_damage_is_an_error(
        damage in prop::collection::vec((any::<u32>(), any::<u64>(), any::<u32>(), 0u8..5), 1..8),
    ) {
        let mut w = GraphMem::new();
        let all = build(&mut w);
        w.heap.mem.check_init = false;
        let segments = w.left();
        for (at, random, other, how) in damage {
            let (segment, size, _) = segments[at as usize % segments.len()];
            let word = segment + (random >> 32) % (size as u64 / 8) * 8;
            let (target, ..) = segments[other as usize % segments.len()];
            let value = match how {
                0 => random,
                1 => target.0,
                2 => 5 << 48 | target.0,
                3 => 0,
                _ => crate::page::access::Pages::u64_at(&w, word).unwrap() ^ 1 << (random % 64),
            };
            w.set_u64(word, value).unwrap();
        }
        w.heap.mem.commit();
        use_all(&mut w, &all);
        let _ = Addr::NULL;
    }
}
