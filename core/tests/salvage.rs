//! Salvage: a sound store is copied completely, a damaged one with all that can be read.

mod shapes;

use persist_core::check::{Salvaged, check, salvage};
use persist_core::store::{Key, Obj, Options, Step, Store, Value, Wait};
use shapes::damage::{Image, PAGE};
use shapes::same::{assert_same, entries};
use std::path::Path;

fn open(path: &Path) -> Store {
    Store::open(
        path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap()
}

/// Salvage `old`, which must not change, and assert that the new store is sound.
fn salvaged(old: &Path, new: &Path) -> (Store, Salvaged) {
    let before = std::fs::read(old).unwrap();
    let done = salvage(old, new, &mut ()).unwrap();
    assert!(std::fs::read(old).unwrap() == before, "the old file was written");
    let report = check(new, &mut ()).unwrap();
    assert_eq!(report.findings, []);
    (open(new), done)
}

fn under(store: &Store, key: &str) -> Obj {
    let root = store.root();
    match store.read(&mut Wait::default(), |r| r.get(root, &Key::Str(key.as_bytes()))) {
        Ok(Some(Value::Obj(obj))) => obj,
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn a_sound_store_comes_out_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    for shape in shapes::ALL {
        let (old, new) = (
            dir.path().join(format!("{shape}.old")),
            dir.path().join(format!("{shape}.new")),
        );
        shapes::make(shape, &old);
        let (b, done) = salvaged(&old, &new);
        assert_eq!((done.lost, done.found), (0, 0), "{shape}: {:?}", done.losses);
        let a = open(&old);
        assert_same(&a, &b);
        b.close().unwrap();
        a.close().unwrap();
        assert!(salvage(&old, &new, &mut ()).is_err(), "over a file that is there");
    }
}

#[test]
fn a_damaged_newest_meta_page_falls_back_to_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    shapes::make("small", &old);
    let mut image = Image::load(&old);
    let meta = image.meta();
    image.page(meta.page)[200] ^= 1;
    image.save(&old);
    let (store, done) = salvaged(&old, &new);
    assert_eq!((done.checkpoint, done.lost), (meta.checkpoint - 1, 0));
    let after = store.read(&mut Wait::default(), |r| {
        r.contains(store.root(), &Key::Str(b"after"))
    });
    assert!(
        !after.unwrap(),
        "the last change is in the damaged checkpoint only"
    );
}

/// Each page in turn is made unreadable: the rest is right, and everything else is reported as lost.
#[test]
fn any_page_may_be_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    for shape in [
        "scalars",
        "small",
        "large_dict",
        "large_list",
        "cyclic",
        "classes",
        "nested",
    ] {
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        for leftover in ["old", "old-shm", "new", "new-shm"] {
            let _ = std::fs::remove_file(dir.path().join(leftover));
        }
        shapes::make(shape, &old);
        let mut sound = Image::load(&old);
        sound.copy_newest_over_previous();
        let whole = {
            sound.save(&old);
            let _ = std::fs::remove_file(format!("{}-shm", old.display()));
            let (store, done) = salvaged(&old, &new);
            store.close().unwrap();
            done
        };
        let kept = dir.path().join(shape);
        sound.save(&kept);
        let original = open(&kept);
        let mapped = sound.mapped();
        for (logical, physical) in mapped.iter().skip(1).step_by(mapped.len() / 12 + 1) {
            let mut bad = Image {
                bytes: sound.bytes.clone(),
            };
            bad.page(*physical)[8..4000].fill(0xA5);
            bad.save(&old);
            for leftover in [
                old.with_file_name("old-shm"),
                new.clone(),
                new.with_file_name("new-shm"),
            ] {
                let _ = std::fs::remove_file(leftover);
            }
            let (store, done) = salvaged(&old, &new);
            if done.lost == 0 {
                // The page was not needed: it was free, or the index of a dict.
                assert_eq!((done.entries, done.containers), (whole.entries, whole.containers));
                assert_same(&original, &store);
            }
            assert!(
                done.entries <= whole.entries + done.found + 1 + done.containers,
                "{shape}: more than there was"
            );
            // Less than everything is lost, unless the page held the root.
            let root_page = sound.word(64) / PAGE as u64;
            if *logical != root_page {
                assert!(
                    !entries(&store, store.root()).is_empty(),
                    "{shape}: page {logical}"
                );
            }
            store.close().unwrap();
        }
    }
}

#[test]
fn a_damaged_dict_yields_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    shapes::make("large_dict", &old);
    let store = open(&old);
    let large = under(&store, "large");
    let before = entries(&store, large);
    store.close().unwrap();
    let mut sound = Image::load(&old);
    sound.copy_newest_over_previous();
    let body = sound.word(large.addr.0 + 40);
    let log = sound.word(body + 16) & ((1 << 48) - 1);
    let damaged = |at: u64| {
        let mut bad = Image {
            bytes: sound.bytes.clone(),
        };
        let physical = bad.way(at / PAGE as u64).unwrap().pop().unwrap().0;
        bad.page(physical)[..4000].fill(0x5A);
        bad.save(&old);
        for name in ["old-shm", "new", "new-shm"] {
            let _ = std::fs::remove_file(dir.path().join(name));
        }
        salvaged(&old, &new)
    };
    // A leaf of the log: its entries are lost, 251 at most.
    let leaf = (0..126)
        .map(|i| sound.word(log + i * 8))
        .filter(|&p| p != 0)
        .nth(20)
        .unwrap();
    let (store, done) = damaged(leaf & ((1 << 48) - 1));
    let left = entries(&store, under(&store, "large"));
    assert!(left.len() < before.len() && left.len() >= before.len() - 251);
    assert!(left.iter().all(|e| before.contains(e)));
    let missing = before.len() - left.len();
    let says = format!("{missing} entries are lost");
    assert!(
        done.losses
            .iter()
            .any(|l| l.path.as_deref() == Some("root['large']") && l.what.starts_with(&says)),
        "{:?}",
        done.losses
    );
    store.close().unwrap();
    // The node above all leaves: the index still refers to them.
    let (store, _) = damaged(log);
    let left = entries(&store, under(&store, "large"));
    assert!(left.iter().all(|e| before.contains(e)));
    assert!(
        left.len() > before.len() - 400,
        "{} of {}",
        left.len(),
        before.len()
    );
    store.close().unwrap();
}

#[test]
fn a_damaged_list_yields_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    shapes::make("large_list", &old);
    let store = open(&old);
    let items = under(&store, "items");
    let before = entries(&store, items);
    store.close().unwrap();
    let mut sound = Image::load(&old);
    sound.copy_newest_over_previous();
    let node = sound.word(items.addr.0 + 40);
    let (first, second) = (sound.word(node + 16), sound.word(node + 24));
    let leaf = sound.word(node + 2032) & ((1 << 48) - 1);
    let physical = sound.way(leaf / PAGE as u64).unwrap().pop().unwrap().0;
    sound.page(physical)[..4000].fill(0x5A);
    sound.save(&old);
    let _ = std::fs::remove_file(dir.path().join("old-shm"));
    let (store, done) = salvaged(&old, &new);
    let left = entries(&store, under(&store, "items"));
    assert_eq!(left.len() as u64, before.len() as u64 - second);
    let values = |e: &[(Step, Value)]| e.iter().map(|e| e.1.clone()).collect::<Vec<_>>();
    let mut expected = values(&before);
    expected.drain(first as usize..(first + second) as usize);
    assert!(values(&left) == expected);
    let says = format!("items {first} to {} are lost", first + second - 1);
    assert!(
        done.losses
            .iter()
            .any(|l| l.path.as_deref() == Some("root['items']") && l.what.starts_with(&says)),
        "{:?}",
        done.losses
    );
    store.close().unwrap();
}

#[test]
fn what_hangs_below_something_lost_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    shapes::make("small", &old);
    let store = open(&old);
    let root = store.root();
    store.close().unwrap();
    let mut bad = Image::load(&old);
    bad.copy_newest_over_previous();
    // The root's body: all entries of the root are lost, but not the containers that they referred to.
    let body = bad.word(root.addr.0 + 40);
    let physical = bad.way(body / PAGE as u64).unwrap().pop().unwrap().0;
    bad.page(physical)[..4000].fill(0x5A);
    bad.save(&old);
    let _ = std::fs::remove_file(dir.path().join("old-shm"));
    let (store, done) = salvaged(&old, &new);
    assert_eq!(done.found, 40);
    let found = under(&store, "lost+found");
    let mut lengths: Vec<u64> = Vec::new();
    for (_, value) in entries(&store, found) {
        let Value::Obj(d) = value else { panic!("{value:?}") };
        let list = entries(&store, d).remove(0);
        let (Step::Key(Value::Str { bytes, .. }), Value::Obj(list)) = list else {
            panic!("{list:?}")
        };
        assert_eq!(&bytes[..], b"list");
        lengths.push(entries(&store, list).len() as u64);
    }
    lengths.sort_unstable();
    assert_eq!(lengths, (0..40).collect::<Vec<u64>>());
    store.close().unwrap();
}
