//! Hostile and damaged backups: bytes changed at random, and streams with valid checksums and invalid
//! content. A restore gives the right store, or none.

use super::format::{HEADER, Head, Header};
use super::{Input, Options, Restoring, backup, restore};
use crate::error::Error;
use crate::ids::PAGE_SIZE;
use crate::page::format::meta::{FOR_SNAPSHOTS, LAST_CHECKPOINT, Meta, Origin};
use crate::page::shared::layout::MAX_PAGES;
use crate::store::{Actor, In, Key, Options as OpenOptions, Store, Value, Wait};
use proptest::prelude::*;
use std::path::Path;
use std::sync::OnceLock;
use xxhash_rust::xxh3::xxh3_64;

struct Streams {
    full: Vec<u8>,
    since: Vec<u8>,
}

fn set(store: &Store, key: &str, value: &In<'_>) {
    let key = Key::Str(key.as_bytes());
    store
        .write(Actor::Thread, &mut Wait::default(), |w| {
            w.set(store.root(), &key, value)
        })
        .unwrap();
}

/// Return a full backup in which `n` is 0, and an incremental one that leads to `n` = 1.
fn streams() -> &'static Streams {
    static STREAMS: OnceLock<Streams> = OnceLock::new();
    STREAMS.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let store = Store::open(&path, &OpenOptions::default()).unwrap();
        let mut both = [Vec::new(), Vec::new()];
        for (n, stream) in both.iter_mut().enumerate() {
            set(&store, "n", &In::Int(n as i64));
            for i in 0..8 {
                set(&store, &format!("k{i}"), &In::Bytes(&vec![n as u8; 700 * i]));
            }
            let options = Options {
                since: (n == 1).then(|| "0".to_owned()),
                keep: Some(n.to_string()),
                ..Options::default()
            };
            backup(&path, stream, &options, &mut ()).unwrap();
        }
        store.close().unwrap();
        let [full, since] = both;
        Streams { full, since }
    })
}

fn n_of(path: &Path) -> Option<Value> {
    let store = Store::open(path, &OpenOptions::default()).unwrap();
    store.check().unwrap();
    let n = n_in(&store);
    store.close().unwrap();
    n
}

fn n_in(store: &Store) -> Option<Value> {
    store
        .read(&mut Wait::default(), |r| r.get(store.root(), &Key::Str(b"n")))
        .unwrap()
}

/// Restore from streams. Return `n` if that succeeded.
fn outcome(streams: &[&[u8]], check: bool) -> Result<Option<Value>, Error> {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("b");
    let inputs = streams.iter().map(|s| Input::stream("it", *s)).collect();
    let options = Restoring {
        check,
        ..Restoring::default()
    };
    let done = restore(inputs, &to, &options, &mut ());
    assert_eq!(to.exists(), done.is_ok());
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        usize::from(done.is_ok())
    );
    done.map(|_| if check { n_of(&to) } else { None })
}

#[derive(Clone, Debug)]
enum Mutation {
    Flip { at: usize, bit: u8 },
    Word { at: usize, value: u64 },
    Cut { at: usize },
    Remove { at: usize, len: usize },
    Repeat { at: usize, len: usize },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = || {
        prop_oneof![
            any::<prop::sample::Index>().prop_map(|i| i.index(1 << 20)),
            0..300usize
        ]
    };
    prop_oneof![
        4 => (at(), 0..8u8).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        2 => (at(), prop_oneof![Just(0), Just(u64::MAX), Just(1 << 63), any::<u64>()])
            .prop_map(|(at, value)| Mutation::Word { at: at & !7, value }),
        1 => at().prop_map(|at| Mutation::Cut { at }),
        1 => (at(), 1..9000usize).prop_map(|(at, len)| Mutation::Remove { at, len }),
        1 => (at(), 1..9000usize).prop_map(|(at, len)| Mutation::Repeat { at, len }),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let len = bytes.len();
    match *mutation {
        Mutation::Flip { at, bit } => bytes[at % len] ^= 1 << bit,
        Mutation::Word { at, value } => {
            let at = at % (len - 8);
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        Mutation::Cut { at } => bytes.truncate(at % len),
        Mutation::Remove { at, len: n } => {
            let at = at % len;
            bytes.drain(at..(at + n).min(len));
        }
        Mutation::Repeat { at, len: n } => {
            let at = at % len;
            let again = bytes[at..(at + n).min(len)].to_vec();
            bytes.splice(at..at, again);
        }
    }
}

/// Recompute the checksums of the meta pages.
fn seal(bytes: &mut [u8]) {
    for page in bytes.chunks_exact_mut(PAGE_SIZE).take(2) {
        let sum = xxh3_64(&page[..PAGE_SIZE - 8]);
        page[PAGE_SIZE - 8..].copy_from_slice(&sum.to_le_bytes());
    }
}

#[derive(Clone, Debug)]
enum Record {
    Page { page: u64, fill: u8, bad: bool },
    Gone { page: u64 },
}

fn record() -> impl Strategy<Value = Record> {
    let page =
        || prop_oneof![8 => 0..40u64, 1 => 200..300u64, 1 => Just(MAX_PAGES - 1), 1 => Just(u64::MAX >> 2)];
    prop_oneof![
        4 => (page(), any::<u8>(), prop::bool::weighted(0.02))
            .prop_map(|(page, fill, bad)| Record::Page { page, fill, bad }),
        1 => page().prop_map(|page| Record::Gone { page }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_full_backup_is_refused_or_restored_rightly(
        mutations in prop::collection::vec(mutation(), 1..4),
        sealed in any::<bool>(),
    ) {
        let mut bytes = streams().full.clone();
        for m in &mutations {
            if !bytes.is_empty() && bytes.len() > 8 {
                mutate(&mut bytes, m);
            }
        }
        if sealed {
            seal(&mut bytes);
        }
        // A meta page that was changed and sealed may contain anything, but the pages that it refers to are
        // verified.
        if let Ok(n) = outcome(&[&bytes], true) {
            prop_assert_eq!(n, Some(Value::Int(0)));
        }
        let _ = outcome(&[&bytes, &streams().since], false);
    }

    #[test]
    fn a_damaged_incremental_backup_is_refused(mutations in prop::collection::vec(mutation(), 1..4)) {
        let good = &streams().since;
        let mut bytes = good.clone();
        for m in &mutations {
            if bytes.len() > 8 {
                mutate(&mut bytes, m);
            }
        }
        let done = outcome(&[&streams().full, &bytes], true);
        if &bytes == good {
            prop_assert_eq!(done.unwrap(), Some(Value::Int(1)));
        } else {
            prop_assert!(matches!(done, Err(Error::BadBackup { .. })), "{:?}", done);
        }
    }

    #[test]
    fn a_forged_incremental_backup_ends_with_an_error(
        records in prop::collection::vec(record(), 0..12),
        sorted in prop::bool::weighted(0.8),
        logical in prop_oneof![4 => Just(200u64), 1 => Just(MAX_PAGES), 1 => any::<u64>()],
        height in prop_oneof![4 => 1..3u32, 1 => any::<u32>()],
        counts in prop_oneof![8 => Just(None), 1 => (any::<u64>(), any::<u64>()).prop_map(Some)],
    ) {
        let mut records = records;
        let page = |r: &Record| match r { Record::Page { page, .. } | Record::Gone { page } => *page };
        if sorted {
            records.sort_by_key(page);
            records.dedup_by_key(|r| page(r));
        }
        let real = Header::decode(streams().since[..HEADER].try_into().unwrap()).unwrap();
        let pages = records.iter().filter(|r| matches!(r, Record::Page { .. })).count() as u64;
        let (pages, gone) = counts.unwrap_or((pages, records.len() as u64 - pages));
        let header = Header { logical, height, pages, gone, ..real };
        let encoded = header.encode();
        let mut bytes = encoded.to_vec();
        let mut digest = Header::digest(&encoded);
        for r in &records {
            let content = |fill: u8| [fill; PAGE_SIZE];
            let head = match *r {
                Record::Page { page, fill, bad } => Head::Page { page, sum: xxh3_64(&content(fill)) ^ u64::from(bad) },
                Record::Gone { page } => Head::Gone { page },
            }.encode();
            digest.update(&head);
            bytes.extend_from_slice(&head);
            if let Record::Page { fill, .. } = r {
                bytes.extend_from_slice(&content(*fill));
            }
        }
        bytes.extend_from_slice(&Head::End { digest: digest.digest() }.encode());
        // Pages of one repeated byte are not a store: the checker reports it, unless it was disabled, or
        // nothing refers to the page.
        let _ = outcome(&[&streams().full, &bytes], false);
        let in_use = records.iter().any(|r| matches!(r, Record::Page { page: 0..4, .. }));
        if let Ok(n) = outcome(&[&streams().full, &bytes], true) {
            prop_assert!(!in_use && n == Some(Value::Int(0)));
        }
    }
}

/// Meta pages that announce more than follows, and ones with invalid content.
#[test]
fn announced_lengths_allocate_nothing() {
    let Streams { full, since } = streams();
    let meta = Meta::decode(full[..PAGE_SIZE].try_into().unwrap()).unwrap();
    let changes: [fn(&mut Meta); 8] = [
        |m| m.file_pages = MAX_PAGES,
        |m| m.file_pages = u64::MAX,
        |m| m.file_pages = 0,
        |m| m.logical = 1,
        |m| m.root = 2,
        |m| m.root = 0,
        |m| m.root_sum ^= 1,
        |m| m.height = 4,
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut meta = meta;
        change(&mut meta);
        let mut bytes = full.clone();
        for at in 0..2 {
            let checkpoint = 2 - at as u64;
            let page = Meta { checkpoint, ..meta }.encode();
            bytes[at * PAGE_SIZE..(at + 1) * PAGE_SIZE].copy_from_slice(&page);
        }
        let e = outcome(&[&bytes], true).unwrap_err();
        assert!(
            matches!(e, Error::BadBackup { .. } | Error::Corrupt { .. }),
            "{i}: {e:?}"
        );
        let _ = outcome(&[&bytes, since], false);
    }
    // The page is younger than its checkpoint, so it would be written in place.
    let mut bytes = full.clone();
    let leaf = (meta.root as usize) * PAGE_SIZE;
    bytes[leaf + 4..leaf + 8].copy_from_slice(&9u32.to_le_bytes());
    let sum = xxh3_64(&bytes[leaf..leaf + PAGE_SIZE]);
    for at in 0..2 {
        let page = Meta {
            checkpoint: 2 - at as u64,
            root_sum: sum,
            ..meta
        }
        .encode();
        bytes[at * PAGE_SIZE..(at + 1) * PAGE_SIZE].copy_from_slice(&page);
    }
    assert_eq!(meta.height, 1, "the root is a leaf");
    let e = outcome(&[&bytes], false).unwrap_err();
    assert!(e.to_string().contains("younger than its checkpoint"), "{e}");
    // One of the two meta pages is enough.
    for at in 0..2 {
        let mut bytes = full.clone();
        bytes[at * PAGE_SIZE..(at + 1) * PAGE_SIZE].fill(0xa5);
        assert_eq!(
            outcome(&[&bytes, since], true).unwrap(),
            Some(Value::Int(1)),
            "{at}"
        );
    }
}

#[test]
fn a_state_has_one_name_whatever_file_it_is_in() {
    let meta = Meta {
        uuid: [1, 2],
        checkpoint: 7,
        ..Meta::default()
    };
    let own = Origin {
        uuid: [1, 2],
        checkpoint: 7,
        time: 0,
    };
    assert_eq!(meta.state(), own);
    let origin = Origin {
        uuid: [3, 4],
        checkpoint: 5,
        time: 6,
    };
    assert_eq!(Meta { origin, ..meta }.state(), origin);
}

/// Checkpoints have 31-bit numbers. At the last number the store returns an error, no durable change is lost,
/// and a backup restarts the numbers.
#[test]
fn a_store_whose_checkpoints_have_run_out_of_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let (path, again) = (dir.path().join("a"), dir.path().join("b"));
    let store = Store::open(&path, &OpenOptions::default()).unwrap();
    set(&store, "n", &In::Int(-1));
    store.close().unwrap();
    // Set the number as if that many checkpoints had been made.
    let mut bytes = std::fs::read(&path).unwrap();
    let pages: &mut [u8; 2 * PAGE_SIZE] = (&mut bytes[..2 * PAGE_SIZE]).try_into().unwrap();
    let [a, b] = pages.as_chunks_mut::<PAGE_SIZE>().0 else {
        panic!("two pages")
    };
    let metas = [Meta::decode(a).unwrap(), Meta::decode(b).unwrap()];
    let newest = *metas.iter().max_by_key(|m| m.checkpoint).unwrap();
    let first = LAST_CHECKPOINT - FOR_SNAPSHOTS - 5;
    for checkpoint in [first, first - 1] {
        let meta = Meta { checkpoint, ..newest };
        let page = if checkpoint % 2 == 0 { &mut *a } else { &mut *b };
        *page = meta.encode();
    }
    std::fs::remove_file(dir.path().join("a-shm")).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let mut synced = Some(Value::Int(-1));
    for _ in 0..2 {
        let store = Store::open(&path, &OpenOptions::default()).unwrap();
        let refused = (0..100)
            .find_map(|n| {
                set(&store, "n", &In::Int(n));
                match store.sync() {
                    Ok(()) => synced = Some(Value::Int(n)),
                    Err(e) => return Some(e),
                }
                None
            })
            .unwrap();
        assert!(matches!(refused, Error::Refused { .. }), "{refused}");
        assert!(refused.to_string().contains("backup"), "{refused}");
        // Copy the file as a power cut would leave it.
        std::fs::copy(&path, &again).unwrap();
        assert_eq!(n_of(&again), synced);
        std::fs::remove_file(&again).unwrap();
        assert!(store.close().is_err());
    }
    let mut stream = Vec::new();
    backup(&path, &mut stream, &Options::default(), &mut ()).unwrap();
    let before = n_in(&Store::open(&path, &OpenOptions::default()).unwrap());
    restore(
        vec![Input::stream("it", &*stream)],
        &again,
        &Restoring::default(),
        &mut (),
    )
    .unwrap();
    assert_eq!(n_of(&again), before);
    let store = Store::open(&again, &OpenOptions::default()).unwrap();
    set(&store, "n", &In::Int(7));
    store.sync().unwrap();
    store.close().unwrap();
}
