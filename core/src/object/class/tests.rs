//! Attributes against a list of pairs as the model.

use super::*;
use crate::heap::testing::HeapMem;
use crate::heap::{is_heap_page, page_segments};
use crate::ids::PageNo;
use crate::object::entries;
use proptest::prelude::*;
use std::collections::HashSet;

const LIMIT: u64 = 1 << 20;

fn new_object(w: &mut HeapMem, class: &str) -> Addr {
    let rec = record(w, class).unwrap();
    let h = heap::alloc(w, header::SIZE).unwrap();
    let b = w.init(h, header::SIZE).unwrap();
    b.fill(0);
    b[0] = Kind::Object as u8;
    put(b, header::CLASS_OR_LEN as usize, rec.0);
    h
}

fn allocated(w: &HeapMem) -> HashSet<Addr> {
    (1..w.u64_at(sb::NEXT_PAGE).unwrap())
        .filter(|&n| is_heap_page(w, PageNo(n)))
        .flat_map(|n| page_segments(w, PageNo(n)).unwrap())
        .filter(|s| s.allocated)
        .map(|s| s.addr)
        .collect()
}

fn attr_name(n: u64) -> String {
    match n % 5 {
        0 => format!("a{n}"),
        4 if n == 4 => "x".repeat(300),
        _ => format!("attribute_{n}"),
    }
}

fn shared(w: &HeapMem, h: Addr) -> bool {
    w.u8_at(h + 1).unwrap() & header::UNSHARED == 0
}

/// An object's address, its kind and class, its attributes.
type Object = (Addr, Kind, String, Vec<(String, u64)>);

/// Objects of a few classes and their expected content.
struct World {
    w: HeapMem,
    objects: Vec<Object>,
    saved: Vec<Object>,
    next: u64,
}

impl World {
    fn new(n: usize) -> World {
        let mut w = HeapMem::new();
        let mut objects = Vec::new();
        for i in 0..n {
            let class = ["m:A", "", "module.with.a.long.name:Class"][i % 3];
            objects.push((
                new_object(&mut w, class),
                Kind::Object,
                class.to_string(),
                Vec::new(),
            ));
        }
        w.commit().unwrap();
        World {
            w,
            saved: objects.clone(),
            objects,
            next: 1,
        }
    }

    fn set(&mut self, o: usize, n: u64) {
        let (h, _, _, model) = &mut self.objects[o];
        let name = attr_name(n);
        let old = entries::set(
            &mut self.w,
            *h,
            &Key::Str(name.as_bytes()),
            Word::int(self.next as i64).unwrap(),
        );
        let was = model.iter_mut().find(|e| e.0 == name);
        assert_eq!(old.unwrap(), was.as_ref().and_then(|e| Word::int(e.1 as i64)));
        match was {
            Some(e) => e.1 = self.next,
            None => model.push((name, self.next)),
        }
        self.next += 1;
    }

    fn remove(&mut self, o: usize, n: u64) {
        let (h, _, _, model) = &mut self.objects[o];
        let name = attr_name(n);
        let old = entries::remove(&mut self.w, *h, &Key::Str(name.as_bytes())).unwrap();
        let at = model.iter().position(|e| e.0 == name);
        assert_eq!(old, at.and_then(|i| Word::int(model.remove(i).1 as i64)));
    }

    fn check(&self, committed: bool) {
        let w = &self.w;
        let mut segments = HashSet::new();
        let mut add = |at: Addr| assert!(segments.insert(at), "{at:?} is used twice");
        let classes = Addr(w.u64_at(sb::CLASSES).unwrap());
        let mut cursor = 0;
        while let Some((next, rec)) = next_record(w, cursor).unwrap() {
            cursor = next;
            verify_record(w, rec, &mut |at, size| {
                assert!(heap::size_of(w, at).unwrap() >= size);
                add(at);
                Ok(())
            })
            .unwrap();
        }
        let whole = |h: Addr, keys: bool, add: &mut dyn FnMut(Addr)| {
            add(h);
            entries::verify(w, h, LIMIT, &mut |at, size| {
                assert!(heap::size_of(w, at).unwrap() >= size);
                add(at);
                Ok(())
            })
            .unwrap();
            let mut cursor = 0;
            while let Some((next, key, _)) = entries::next(w, h, cursor).unwrap().filter(|_| keys) {
                cursor = next;
                scalar::segments(w, key, &mut |at, _| {
                    add(at);
                    Ok(())
                })
                .unwrap();
            }
        };
        whole(classes, true, &mut add);
        for (h, kind, class, model) in &self.objects {
            assert_eq!(header::kind(w, *h).unwrap(), *kind);
            whole(*h, *kind == Kind::Dict || !shared(w, *h), &mut add);
            if *kind == Kind::Object {
                let rec = Addr(w.u64_at(*h + header::CLASS_OR_LEN).unwrap());
                assert_eq!(&name(w, rec).unwrap(), class);
            }
            assert_eq!(entries::len(w, *h).unwrap(), model.len() as u64);
            let mut cursor = 0;
            for (name, value) in model {
                let key = Key::Str(name.as_bytes());
                let value = Word::int(*value as i64);
                assert_eq!(entries::get(w, *h, &key).unwrap(), value);
                let hash = key::hash(w.hash_seed(), &key);
                let (stored, v) = entries::get_key_value(w, *h, &key, hash).unwrap().unwrap();
                assert!(key::eq(w, stored, &key).unwrap());
                let (next, k, v2) = entries::next(w, *h, cursor).unwrap().unwrap();
                assert!(k == stored && Some(v) == value && Some(v2) == value && next > cursor);
                cursor = next;
            }
            assert_eq!(entries::next(w, *h, cursor).unwrap(), None);
            let mut cursor = u64::MAX;
            for (_, value) in model.iter().rev() {
                let (prev, _, v) = entries::prev(w, *h, cursor).unwrap().unwrap();
                assert!(Some(v) == Word::int(*value as i64) && prev < cursor);
                cursor = prev;
            }
            assert_eq!(entries::prev(w, *h, cursor).unwrap(), None);
        }
        if committed {
            assert_eq!(allocated(w), segments, "memory that is lost");
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Set(usize, u64),
    SetMany(usize, u64, u64),
    Remove(usize, u64),
    Drain(usize, usize),
    SetClass(usize, u8),
    ToDict(usize),
    ToObject(usize),
    Commit,
    Rollback,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0usize..5, 0u64..8).prop_map(|(o, n)| Op::Set(o, n)),
        1 => (0usize..5, 0u64..60, 0u64..80).prop_map(|(o, a, n)| Op::SetMany(o, a, n)),
        4 => (0usize..5, 0u64..8).prop_map(|(o, n)| Op::Remove(o, n)),
        1 => (0usize..5, 0usize..50).prop_map(|(o, n)| Op::Drain(o, n)),
        1 => (0usize..5, 0u8..4).prop_map(|(o, c)| Op::SetClass(o, c)),
        1 => (0usize..5).prop_map(Op::ToDict),
        2 => (0usize..5).prop_map(Op::ToObject),
        3 => Just(Op::Commit),
        1 => Just(Op::Rollback),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn like_the_model(ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World::new(5);
        for op in ops {
            match op {
                Op::Set(o, n) => world.set(o, n),
                Op::SetMany(o, a, n) => (a..a + n).for_each(|n| world.set(o, n)),
                Op::Remove(o, n) => world.remove(o, n),
                Op::Drain(o, max) => {
                    let (h, _, _, model) = &mut world.objects[o];
                    let mut out = Vec::new();
                    let done = entries::drain(&mut world.w, *h, max, &mut out).unwrap();
                    let gone: Vec<_> = model.drain(..max.min(model.len())).map(|e| e.1).collect();
                    prop_assert_eq!(out, gone.iter().map(|&v| Word::int(v as i64).unwrap()).collect::<Vec<_>>());
                    prop_assert_eq!(done, model.is_empty());
                }
                Op::SetClass(o, c) => {
                    let (h, kind, class, _) = &mut world.objects[o];
                    if *kind == Kind::Object {
                        *class = format!("module:C{c}");
                        attr::set_class(&mut world.w, *h, class).unwrap();
                    }
                }
                Op::ToDict(o) => {
                    let (h, kind, ..) = &mut world.objects[o];
                    if *kind == Kind::Object {
                        *kind = Kind::Dict;
                        attr::to_dict(&mut world.w, *h).unwrap();
                    }
                }
                Op::ToObject(o) => {
                    let (h, kind, class, _) = &mut world.objects[o];
                    if *kind == Kind::Dict {
                        *kind = Kind::Object;
                        attr::from_dict(&mut world.w, *h, class).unwrap();
                    }
                }
                Op::Commit => {
                    world.w.commit().unwrap();
                    world.saved = world.objects.clone();
                    world.check(true);
                }
                Op::Rollback => {
                    world.w.rollback();
                    world.objects = world.saved.clone();
                    world.check(true);
                }
            }
        }
        world.check(false);
    }
}

#[test]
fn three_attributes_cost_a_header_and_32_bytes() {
    let mut world = World::new(1);
    (1..4).for_each(|n| world.set(0, n));
    let before = allocated(&world.w);
    let h = new_object(&mut world.w, "m:A");
    for n in 1..4 {
        attr::set(&mut world.w, h, &Key::Str(attr_name(n).as_bytes()), Word::TRUE).unwrap();
    }
    world.w.commit().unwrap();
    let sizes: usize = allocated(&world.w)
        .difference(&before)
        .map(|&at| heap::size_of(&world.w, at).unwrap())
        .sum();
    assert_eq!(sizes, 64 + 32);
    let logged = world.w.logged;
    attr::set(&mut world.w, h, &Key::Str(attr_name(2).as_bytes()), Word::NONE).unwrap();
    assert_eq!(world.w.logged, logged + 1);
}

#[test]
fn a_walk_survives_leaving_the_shared_form() {
    let mut world = World::new(1);
    (1..5).for_each(|n| world.set(0, n));
    let h = world.objects[0].0;
    let (first, ..) = attr::next(&world.w, h, 0).unwrap().unwrap();
    let (second, ..) = attr::next(&world.w, h, first).unwrap().unwrap();
    world.remove(0, 1);
    world.set(0, 1);
    assert!(!shared(&world.w, h));
    let mut seen = Vec::new();
    let mut cursor = second;
    while let Some((at, _, v)) = attr::next(&world.w, h, cursor).unwrap() {
        cursor = at;
        seen.push(v.as_int());
    }
    assert_eq!(seen, [3, 4, 5]);
    world.w.commit().unwrap();
    world.check(true);
    (1..5).for_each(|n| world.remove(0, n));
    world.set(0, 2);
    assert!(shared(&world.w, h));
}

#[test]
fn names_are_str_and_children_are_found() {
    let mut world = World::new(1);
    let h = world.objects[0].0;
    assert!(matches!(
        attr::set(&mut world.w, h, &Key::Int(1), Word::TRUE),
        Err(Error::WrongKind { .. })
    ));
    assert_eq!(attr::get(&world.w, h, &Key::Int(1)).unwrap(), None);
    let child = Addr(4096 * 9 + 64);
    let key = Key::Str(b"child_of_mine");
    attr::set(&mut world.w, h, &Key::Str(b"a"), Word::TRUE).unwrap();
    attr::set(&mut world.w, h, &key, Word::container(child)).unwrap();
    let hash = key::hash(world.w.hash_seed(), &key);
    let found = attr::find_child(&world.w, h, hash, child).unwrap().unwrap();
    assert!(key::eq(&world.w, found, &key).unwrap());
    assert_eq!(attr::find_child(&world.w, h, hash ^ 1, child).unwrap(), None);
    assert_eq!(
        attr::scan_child(&world.w, h, child, 0, 9).unwrap(),
        dict::Scan::Found(found)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Any damage gives errors or wrong results, but no panic and no endless loop.
    #[test]
    fn damage_is_survived(
        hits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0u64..80, any::<u64>(), 0u8..4),
            1..6,
        ),
    ) {
        let mut world = World::new(4);
        (0..10).for_each(|n| world.set(0, n));
        (2..6).for_each(|n| world.set(3, n));
        (0..6).rev().for_each(|n| world.set(1, n));
        world.w.commit().unwrap();
        world.w.mem.check_init = false;
        let parts: Vec<Addr> = allocated(&world.w).into_iter().collect();
        for (part, word, value, how) in hits {
            let part = parts[part.index(parts.len())];
            let size = heap::size_of(&world.w, part).unwrap() as u64 / 8;
            let at = part + word % size * 8;
            let old = world.w.u64_at(at).unwrap();
            let value = match how {
                0 => value,
                1 => old ^ 1 << (value % 64),
                2 => parts[value as usize % parts.len()].0,
                _ => old & !0xffff_ffff | value & 0xffff_ffff,
            };
            world.w.mem.set_u64(at, value).unwrap();
        }
        let objects = world.objects.clone();
        let w = &mut world.w;
        for (h, _, class, _) in objects {
            let _ = entries::verify(w, h, LIMIT, &mut |_, _| Ok(()));
            let _ = record(w, &class).and_then(|r| name(w, r));
            for n in 0..12 {
                let name = attr_name(n);
                let key = Key::Str(name.as_bytes());
                let _ = entries::get(w, h, &key);
                let _ = entries::set(w, h, &key, Word::NONE);
                let _ = entries::remove(w, h, &key);
            }
            let mut cursor = 0;
            for _ in 0..200 {
                match entries::next(w, h, cursor) { Ok(Some((at, ..))) => cursor = at, _ => break }
            }
            let _ = entries::find_child(w, h, 5, Addr(4096));
            let _ = attr::set_class(w, h, "other:C");
            let _ = attr::to_dict(w, h);
            let _ = attr::from_dict(w, h, "m:A");
            let _ = entries::drain(w, h, 1000, &mut Vec::new());
        }
        w.rollback();
    }
}
