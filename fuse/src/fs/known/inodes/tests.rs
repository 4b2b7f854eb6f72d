//! Tests of the inode table.

use super::*;
use persist_core::store::ObjectId;
use persist_core::store::door::Addr;
use proptest::prelude::*;
use std::collections::HashSet;

fn obj(id: u64) -> Obj {
    Obj {
        addr: Addr(id * 64),
        id: ObjectId(id),
    }
}

fn file(id: u64, key: &str) -> Place {
    Place::File(Spot {
        parent: obj(id),
        slot: Slot::Key(OwnedKey::Str(key.as_bytes().to_vec())),
    })
}

proptest! {
    /// The same as with a list of the numbers of all places.
    #[test]
    fn numbers_are_those_of_a_full_list(acts: Vec<(u8, u8, u8)>) {
        let root = obj(1);
        let (mut nodes, mut list) = (Inodes::default(), HashMap::new());
        let place = |n: u8| file(1, &format!("{}", n % 6));
        for (act, a, b) in acts {
            let (a, b) = (a % 6, b % 6);
            match act % 4 {
                0 | 1 => {
                    let (number, _) = nodes.hold(root, place(a), None);
                    prop_assert_eq!(*list.entry(a).or_insert(number), number);
                }
                2 => {
                    nodes.deleted(&place(a));
                    list.remove(&a);
                }
                _ if a != b => {
                    nodes.moved(&place(a), &place(b));
                    if let Some(number) = list.remove(&a) {
                        list.insert(b, number);
                    }
                }
                _ => {
                    if let Some(number) = list.remove(&a) {
                        nodes.forget(number, u64::MAX);
                    }
                }
            }
            for n in 0..6 {
                let held = nodes.held(&identity(&place(n)).unwrap());
                prop_assert_eq!(held, list.get(&n).copied());
            }
        }
    }
}

#[test]
fn numbers_stay() {
    let root = obj(1);
    let mut nodes = Inodes::default();
    let (a, _) = nodes.hold(root, file(1, "a"), None);
    assert_eq!(nodes.hold(root, file(1, "a"), None), (a, None));
    assert!(nodes.forget(a, 2).is_none());
    assert!(nodes.place(root, a).is_none());
    assert_eq!(nodes.hold(root, file(1, "a"), None).0, a);
    assert!(matches!(nodes.place(root, ROOT), Some(Place::Dir(o)) if o == root));
}

#[test]
fn a_deleted_file_keeps_its_number_from_its_successor() {
    let root = obj(1);
    let mut nodes = Inodes::default();
    let (a, _) = nodes.hold(root, file(1, "a"), None);
    nodes.deleted(&file(1, "a"));
    assert!(matches!(nodes.place(root, a), Some(Place::Deleted)));
    let (again, _) = nodes.hold(root, file(1, "a"), None);
    assert_ne!(a, again);
}

#[test]
fn a_removed_file_keeps_its_number_and_a_pin() {
    let root = obj(1);
    let mut nodes = Inodes::default();
    let (a, _) = nodes.hold(root, file(1, "a"), None);
    assert_eq!(nodes.close(&file(1, "a")), Some(a));
    assert!(!nodes.remains(a, nodes.moves(a)));
    nodes.set_closing(a, false);
    assert!(nodes.remains(a, nodes.moves(a)) && !nodes.is_removed(a));
    assert_eq!(nodes.removed(&file(1, "a"), file(9, "kept"), obj(9)), None);
    nodes.deleted(&file(1, "a"));
    assert!(nodes.is_removed(a));
    assert!(matches!(nodes.place(root, a), Some(Place::File(spot)) if spot.parent == obj(9)));
    assert_ne!(nodes.hold(root, file(1, "a"), None).0, a);
    assert_eq!(nodes.forget(a, 1), Some(obj(9)));
    assert_eq!(
        nodes.removed(&file(1, "b"), file(9, "kept"), obj(9)),
        Some(obj(9))
    );
}

#[test]
fn inodes_go_along() {
    let root = obj(1);
    let mut nodes = Inodes::default();
    let (a, _) = nodes.hold(root, file(1, "a"), None);
    let (b, _) = nodes.hold(root, file(1, "b"), None);
    nodes.moved(&file(1, "a"), &file(1, "b"));
    assert_eq!(nodes.number(root, &file(1, "b")), a);
    assert!(matches!(nodes.place(root, b), Some(Place::Deleted)));
    let (c, _) = nodes.hold(root, file(1, "c"), None);
    let (x, y, none) = (file(1, "b"), file(1, "c"), file(1, "none"));
    nodes.exchanged([(&x, &y), (&y, &x), (&none, &x), (&none, &y)]);
    assert_eq!(nodes.number(root, &file(1, "b")), c);
    assert_eq!(nodes.number(root, &file(1, "c")), a);
}

#[test]
fn views_have_numbers_of_their_own() {
    let root = obj(1);
    let mut all = HashSet::new();
    for view in [0, 1, 7, MAX_VIEWS] {
        let mut nodes = Inodes::new(view);
        assert!(matches!(nodes.place(root, root_of(view)), Some(Place::Dir(o)) if o == root));
        for place in [
            Place::Dir(root),
            Place::Dir(obj(5)),
            Place::Dir(obj((1 << 48) - 1)),
            Place::Lock(obj(5)),
            Place::Control(Control::Stat),
            file(1, "a"),
            file(5, "a"),
        ] {
            let (number, _) = nodes.hold(root, place.clone(), None);
            assert_eq!(view_of(number), view, "{place:?}");
            assert!(all.insert(number), "{place:?}");
        }
    }
}

#[test]
fn one_pin_a_directory() {
    let root = obj(1);
    let mut nodes = Inodes::default();
    let dir = Place::Dir(obj(5));
    let (number, spare) = nodes.hold(root, dir.clone(), Some(obj(5)));
    assert_eq!(spare, None);
    assert_eq!(
        nodes.hold(root, dir.clone(), Some(obj(5))),
        (number, Some(obj(5)))
    );
    assert_eq!(nodes.forget(number, 2), Some(obj(5)));
}

/// Names whose hashes are the same, of a file in a directory with this id. In XXH3 each 16 bytes of a text count as the
/// product of their halves, each mixed with a constant and the seed. The first half of these makes the product 0.
fn names_of_one_hash(n: usize) -> (u64, Vec<String>) {
    const SECRET: u64 = u64::from_le_bytes([0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe]);
    let first = *b"hostile ";
    let seed = u64::from_le_bytes(first).wrapping_sub(SECRET);
    let names = (0..n).map(|i| format!("hostile {i:08}{}", "x".repeat(16)));
    (seed >> 1, names.collect())
}

#[test]
fn names_of_one_hash_get_numbers_far_from_each_other() {
    const N: usize = 1000;
    let (id, names) = names_of_one_hash(N);
    let (mut nodes, root) = (Inodes::new(3), obj(1));
    let file = |name: &str| {
        Place::File(Spot {
            parent: Obj {
                addr: Addr(64),
                id: ObjectId(id),
            },
            slot: Slot::Key(OwnedKey::Str(name.as_bytes().to_vec())),
        })
    };
    let first = nodes.number(root, &file(&names[0]));
    assert!(names.iter().all(|name| nodes.number(root, &file(name)) == first));
    let numbers: Vec<u64> = names
        .iter()
        .map(|name| nodes.hold(root, file(name), None).0)
        .collect();
    let near = numbers
        .iter()
        .filter(|number| **number >= first && **number < first + N as u64);
    assert!(near.count() as u64 <= NEAR);
    assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), N);
    for (name, number) in names.iter().zip(numbers) {
        assert_eq!(view_of(number), 3);
        assert!(number & FILE_BIT != 0 && number & CONTROL_BIT == 0);
        assert_eq!(nodes.held(&identity(&file(name)).unwrap()), Some(number));
        assert!(nodes.forget(number, 1).is_none());
    }
    assert!(nodes.is_empty() && nodes.others.is_empty());
}
