//! The checker: a sound store passes, and every kind of damage is found, named and located.

mod shapes;

use persist_core::check::{Report, check, check_store};
use persist_core::store::{Actor, Error, In, Key, Options, Store, Value, Wait};
use shapes::damage::{Image, PAGE};
use std::path::{Path, PathBuf};

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn checked(path: &Path) -> Report {
    check(path, &mut ()).unwrap()
}

/// A store of a shape as bytes; both checkpoints are identical.
fn image(shape: &str, dir: &Path) -> (PathBuf, Image) {
    let path = dir.join(format!("{shape}.store"));
    shapes::make(shape, &path);
    let mut image = Image::load(&path);
    image.copy_newest_over_previous();
    (path, image)
}

/// Check the changed bytes. Returns the findings.
fn found(path: &Path, image: &Image) -> Vec<String> {
    let _ = std::fs::remove_file(format!("{}-shm", path.display()));
    image.save(path);
    let report = checked(path);
    assert_eq!(report.is_sound(), report.total == 0);
    let line = |f: &persist_core::check::Finding| {
        format!("{}: {} in {}", f.part, f.what, f.path.as_deref().unwrap_or("-"))
    };
    report.findings.iter().map(line).collect()
}

#[track_caller]
fn expect(found: &[String], wanted: &[&str]) {
    for w in wanted {
        assert!(found.iter().any(|f| f.contains(w)), "{w:?} is not in {found:#?}");
    }
}

/// The address of the container under a str key of the root.
fn addr(path: &Path, key: &str) -> u64 {
    let store = Store::open(
        path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    let root = store.root();
    let value = store.read(&mut Wait::default(), |r| r.get(root, &Key::Str(key.as_bytes())));
    let Some(Value::Obj(obj)) = value.unwrap() else {
        panic!("no container {key}")
    };
    store.close().unwrap();
    obj.addr.0
}

#[test]
fn sound_stores_are_sound() {
    let dir = dir();
    for shape in shapes::ALL {
        let (path, image) = image(shape, dir.path());
        let report = checked(&path);
        assert_eq!(report.findings, [], "{shape}");
        assert!(report.is_sound() && report.containers > 0 && report.pages > 0);
        assert_eq!(
            found(&path, &image),
            [""; 0],
            "{shape} with both checkpoints alike"
        );
    }
}

/// A power failure while a checkpoint writes its meta page leaves that page torn, and the checkpoint before it opens.
/// The next session for writing writes the page again, even if it changes nothing: two valid meta pages exist again.
#[test]
fn a_torn_meta_page_is_written_again_by_the_next_session() {
    let dir = dir();
    let (path, mut image) = image("small", dir.path());
    let other = 1 - image.meta().page;
    image.page(other)[2048..].fill(0x5a);
    let open = |read_only| {
        let options = Options {
            read_only,
            max_age: None,
            ..Options::default()
        };
        Store::open(&path, &options).unwrap().close().unwrap();
    };
    expect(&found(&path, &image), &[&format!("meta page {other}")]);
    open(true);
    assert_eq!(
        std::fs::read(&path).unwrap(),
        image.bytes,
        "reading changes nothing"
    );
    open(false);
    let report = checked(&path);
    assert!(report.is_sound(), "{:#?}", report.findings);
}

/// A page that the heap took in a transaction that was undone is free, and contains what the heap wrote.
#[test]
fn what_was_undone_leaves_nothing_to_find() {
    let dir = dir();
    let path = dir.path().join("a.store");
    let store = Store::open(
        &path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    let set = |key: &[u8], value: &[u8]| {
        let (root, key, value) = (store.root(), Key::Str(key), In::Bytes(value));
        store.write(Actor::Thread, &mut Wait::default(), |w| w.set(root, &key, &value))
    };
    set(b"large", &[7; 20_000]).unwrap();
    let removed = store.write(Actor::Thread, &mut Wait::default(), |w| {
        w.remove(store.root(), &Key::Str(b"large"))
    });
    assert!(removed.unwrap());
    store.begin(&mut Wait::default()).unwrap();
    set(b"a key of the heap's", b"and a value of the heap's").unwrap();
    store.rollback().unwrap();
    store.close().unwrap();
    let report = checked(&path);
    assert!(report.is_sound(), "{:#?}", report.findings);
}

#[test]
fn a_file_that_is_not_a_store_stays_unchanged() {
    let dir = dir();
    let path = dir.path().join("not.store");
    for bytes in [
        vec![],
        vec![0; 4096],
        vec![0; 96 * 4096],
        b"some text".repeat(2000),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        assert!(check(&path, &mut ()).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_store_in_use_is_checked_as_it_is_now() {
    let dir = dir();
    let path = dir.path().join("a.store");
    shapes::make("cyclic", &path);
    let store = Store::open(
        &path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    let before = checked(&path);
    shapes::nested(&store, 100);
    let after = checked(&path);
    assert!(before.is_sound() && after.is_sound());
    assert_eq!(after.containers, before.containers + 101);
    store.close().unwrap();
}

#[test]
fn snapshots_are_checked_too() {
    let dir = dir();
    let path = dir.path().join("a.store");
    shapes::make("snapshots", &path);
    let store = Store::open(
        &path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    let before = store.snapshots().unwrap();
    // Check the snapshot itself; and the store, which is in use, through a temporary snapshot.
    let kept = store.open_snapshot("number 0").unwrap();
    let report = check_store(&kept, &mut ()).unwrap();
    assert!(report.is_sound() && report.checkpoint == before[0].checkpoint);
    kept.close().unwrap();
    let other = Store::open(
        &path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    assert!(check_store(&other, &mut ()).unwrap().is_sound());
    other.close().unwrap();
    assert_eq!(store.snapshots().unwrap(), before, "nothing is left of the check");
    store.close().unwrap();
    // A page that only a snapshot uses: its root.
    let mut bad = Image::load(&path);
    let newest = bad.meta();
    let catalogue = u64::from_le_bytes(bad.page(newest.page)[88..96].try_into().unwrap()) as u32 as usize;
    let root = u32::from_le_bytes(bad.page(catalogue)[24..28].try_into().unwrap()) as usize;
    bad.page(root)[7] ^= 1;
    let says = format!(
        "a page of the page table that does not match its checksum (checkpoint {}",
        before[0].checkpoint
    );
    expect(&found(&path, &bad), &[&says]);
    bad.page(root)[7] ^= 1;
    bad.page(catalogue)[30] ^= 1;
    expect(
        &found(&path, &bad),
        &["file: a page of the snapshot catalogue does not match its checksum"],
    );
}

#[test]
fn checksums_and_page_tables() {
    let dir = dir();
    let (path, sound) = image("small", dir.path());
    let bytes = || Image {
        bytes: sound.bytes.clone(),
    };
    let (logical, physical) = sound.mapped()[5];

    let mut bad = bytes();
    bad.page(physical)[100] ^= 4;
    expect(
        &found(&path, &bad),
        &[&format!(
            "a page that does not match its checksum (checkpoint {}, page {logical})",
            sound.meta().checkpoint
        )],
    );

    let node = sound.nodes()[0];
    let mut bad = bytes();
    bad.page(node)[100] ^= 4;
    expect(
        &found(&path, &bad),
        &["a page of the page table that does not match its checksum"],
    );

    let mut bad = bytes();
    let entry = bad.way(logical).unwrap()[0].1;
    bad.page(node)[entry..entry + 4].copy_from_slice(&0xFFFF_FFF0u32.to_le_bytes());
    bad.mend_root();
    expect(&found(&path, &bad), &["a page beyond the file"]);

    let mut bad = bytes();
    let first = bad.way(1).unwrap()[0].1;
    let copy = bad.page(node)[first..first + 16].to_vec();
    bad.page(node)[entry..entry + 16].copy_from_slice(&copy);
    bad.mend_root();
    expect(&found(&path, &bad), &["a page of the file that is used twice"]);
}

#[test]
fn meta_pages() {
    let dir = dir();
    let path = dir.path().join("a.store");
    shapes::make("small", &path);
    let sound = Image::load(&path);
    let newest = sound.meta();
    let mut bad = Image {
        bytes: sound.bytes.clone(),
    };
    bad.page(newest.page)[50] ^= 1;
    let report = found(&path, &bad);
    expect(
        &report,
        &[&format!(
            "meta page {}: it does not match its checksum",
            newest.page
        )],
    );
    let mut bad = Image {
        bytes: sound.bytes.clone(),
    };
    bad.page(0)[50] ^= 1;
    bad.page(1)[50] ^= 1;
    let _ = std::fs::remove_file(format!("{}-shm", path.display()));
    bad.save(&path);
    assert!(check(&path, &mut ()).is_err());
}

#[test]
fn headers_counts_and_homes() {
    let dir = dir();
    let path = dir.path().join("cyclic.store");
    shapes::make("cyclic", &path);
    let hub = addr(&path, "hub");
    let mut sound = Image::load(&path);
    sound.copy_newest_over_previous();
    let with = |at: u64, f: &dyn Fn(u64) -> u64| {
        let mut bad = Image {
            bytes: sound.bytes.clone(),
        };
        let old = bad.word(at);
        bad.set_word(at, f(old));
        found(&path, &bad)
    };
    // One reference more than there are.
    expect(
        &with(hub, &|w| w + (1 << 32)),
        &["a reference count of 62 where 61 refer to it in root['hub']"],
    );
    // The home is another container, which does not refer to it.
    let first = with(hub + 16, &|w| w + 64);
    expect(&first, &["references: "]);
    // An id that was never assigned, and an id that another container has.
    expect(
        &with(hub + 8, &|_| 1 << 40),
        &["an id that was never given out: 1099511627776 in root['hub']"],
    );
    expect(
        &with(hub + 8, &|id| id - 1),
        &["an id that another container has too"],
    );
    // Flags that claim a place on a list.
    expect(&with(hub, &|w| w | 1 << 8), &["references: "]);
    // An invalid kind.
    expect(
        &with(hub, &|w| w & !0xff | 9),
        &["objects: no container where one is referred to in root['hub']"],
    );
    // The number of items.
    expect(&with(hub + 56, &|n| n + 1), &["in root['hub']"]);
}

#[test]
fn bodies_and_values() {
    let dir = dir();
    let (path, sound) = image("large_dict", dir.path());
    let large = addr(&path, "large");
    let body = sound.word(large + 40);
    let with = |at: u64, value: u64| {
        let mut bad = Image {
            bytes: sound.bytes.clone(),
        };
        bad.set_word(at, value);
        found(&path, &bad)
    };
    expect(&with(body + 8, 7), &["objects: a dict", "in root['large']"]);
    expect(&with(body + 16, sound.word(body + 24)), &["in root['large']"]);
    expect(&with(large + 40, body + 16), &["in root['large']"]);
    expect(
        &with(body + 24, 0),
        &["a dict entry that its index does not have in root['large']"],
    );

    let (path, sound) = image("large_list", dir.path());
    let items = addr(&path, "items");
    let node = sound.word(items + 40);
    let with = |at: u64, value: u64| {
        let mut bad = Image {
            bytes: sound.bytes.clone(),
        };
        bad.set_word(at, value);
        found(&path, &bad)
    };
    expect(&with(node + 16, sound.word(node + 16) + 1), &["in root['items']"]);
    let twice = with(node + 2024, sound.word(node + 2032));
    expect(&twice, &["a segment that is used twice", "in root['items']"]);
    expect(&with(node + 2024, 8), &["items 0 to ", "in root['items']"]);
}

#[test]
fn strings_and_classes() {
    let dir = dir();
    let (path, sound) = image("long", dir.path());
    let mut bad = Image {
        bytes: sound.bytes.clone(),
    };
    let at = bad.bytes.windows(10).position(|b| b == b"many words").unwrap();
    let (logical, physical) = *sound.mapped().iter().find(|m| m.1 == at / PAGE).unwrap();
    bad.page(physical)[at % PAGE] = 0xFF;
    bad.mend(logical);
    expect(&found(&path, &bad), &["a str that is not valid text"]);

    let (path, sound) = image("classes", dir.path());
    let mut bad = Image {
        bytes: sound.bytes.clone(),
    };
    let at = bad.bytes.windows(4).position(|b| b == b"cLaS").unwrap();
    let (logical, physical) = *sound.mapped().iter().find(|m| m.1 == at / PAGE).unwrap();
    bad.page(physical)[at % PAGE] ^= 1;
    bad.mend(logical);
    expect(&found(&path, &bad), &["classes: no class record"]);
    let person = addr(&path, "object 0");
    let mut bad = Image {
        bytes: sound.bytes.clone(),
    };
    bad.set_word(person + 56, person);
    expect(&found(&path, &bad), &["in root['object 0']"]);
}

#[test]
fn heap_and_free_pages() {
    let dir = dir();
    let (path, sound) = image("freed", dir.path());
    let with = |f: &dyn Fn(&mut Image)| {
        let mut bad = Image {
            bytes: sound.bytes.clone(),
        };
        f(&mut bad);
        found(&path, &bad)
    };
    let heap_page = sound
        .mapped()
        .iter()
        .map(|m| m.0 * PAGE as u64)
        .find(|&at| sound.word(at) as u32 == u32::from_le_bytes(*b"hEaP") && sound.word(at + 32) & 2 != 0)
        .unwrap();
    let map = sound.word(heap_page + 32);
    // A used segment that is free in the bitmap, and a free one that is used.
    expect(
        &with(&|b| b.set_word(heap_page + 32, map & !2)),
        &["a heap segment that is not allocated"],
    );
    let with_room = sound
        .mapped()
        .iter()
        .map(|m| m.0 * PAGE as u64)
        .find(|&at| {
            sound.word(at) == 3 << 32 | u64::from(u32::from_le_bytes(*b"hEaP"))
                && sound.word(at + 32) & 3 == 1
        })
        .map(|at| (at, sound.word(at + 32)));
    if let Some((at, map)) = with_room {
        expect(
            &with(&|b| b.set_word(at + 32, map | 2)),
            &["a segment of 64 bytes that is allocated and belongs to nothing"],
        );
    }
    // Free pages: the count, and a cycle in the list.
    assert!(sound.word(24) > 0, "the shape has free pages");
    expect(
        &with(&|b| b.set_word(24, sound.word(24) + 1)),
        &["counts its free pages wrong"],
    );
    let trunk = sound.word(16) * PAGE as u64;
    expect(
        &with(&|b| b.set_word(trunk, sound.word(16))),
        &["a page that is free twice"],
    );
    expect(&with(&|b| b.set_word(16, 0)), &["heap: "]);
    // The lists of pages with room.
    expect(&with(&|b| b.set_word(256 + 3 * 8, 0)), &["heap: "]);
}

/// Readers of the length would allocate that much memory.
#[test]
fn a_length_beyond_the_store_is_an_error() {
    let dir = dir();
    let (path, sound) = image("large_list", dir.path());
    let items = addr(&path, "items");
    for (len, is_right) in [
        (sound.word(items + 56), true),
        (1 << 20, false),
        (u64::MAX, false),
    ] {
        let mut bad = Image {
            bytes: sound.bytes.clone(),
        };
        bad.set_word(items + 56, len);
        let _ = std::fs::remove_file(format!("{}-shm", path.display()));
        bad.save(&path);
        let store = Store::open(
            &path,
            &Options {
                max_age: None,
                ..Options::default()
            },
        )
        .unwrap();
        let read = store.read(&mut Wait::default(), |r| {
            let Some(Value::Obj(obj)) = r.get(store.root(), &Key::Str(b"items"))? else {
                panic!("no list");
            };
            r.len(obj)
        });
        match read {
            Ok(n) => assert!(is_right && n == len, "{n}"),
            Err(e) => assert!(!is_right && matches!(e, Error::Corrupt { .. }), "{len}: {e}"),
        }
        drop(store);
    }
}
