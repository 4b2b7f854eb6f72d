//! A store with a redo log, as after a power failure, and damage of that log.
//!
//! The parts of the log's format used here are its header and records; see `page/format/log_file.rs` and
//! `log_record.rs`.

use super::damage::{Image, PAGE};
use super::mutate::Rng;
use super::{small, text, write};
use persist_core::store::{Durability, In, Key, Options, Store};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const SECTOR: usize = 512;
/// Bytes before a record's ranges.
const HEADER: usize = 40;
const WHOLE: u64 = 1 << 63;
/// Commits after the last checkpoint but one, and after the last.
const COMMITS: usize = 12;

/// The bytes of a store and its log, and of logs that do not belong to it.
pub struct Logged {
    pub store: Vec<u8>,
    pub log: Vec<u8>,
    /// A log of the same store at another time, and a log of another store.
    pub others: Vec<Vec<u8>>,
    /// The number of states passed to `seen` before the last checkpoint.
    pub before: usize,
}

pub fn path_of(store: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", store.display()))
}

/// Create one; `seen` is called with the store after every commit.
pub fn make(path: &Path, mut seen: impl FnMut(&Store)) -> Logged {
    let other = path.with_extension("other");
    let mut others = vec![session(&other, &mut |_| {}).1];
    let store = open(path);
    small(&store);
    write(&store, |w| w.set(store.root(), &Key::Str(b"first"), &In::Int(1)));
    others.push(std::fs::read(path_of(path)).unwrap());
    store.close().unwrap();
    let (bytes, log, before) = session(path, &mut seen);
    Logged {
        store: bytes,
        log,
        others,
        before,
    }
}

fn open(path: &Path) -> Store {
    let options = Options {
        durability: Durability::Commit,
        max_age: None,
        ..Options::default()
    };
    Store::open(path, &options).unwrap()
}

/// Commit, with a checkpoint among the commits. Returns store and log before the close, and the number of states before
/// that checkpoint.
fn session(path: &Path, seen: &mut dyn FnMut(&Store)) -> (Vec<u8>, Vec<u8>, usize) {
    let store = open(path);
    let root = store.root();
    let items = write(&store, |w| {
        let l = w.new_list()?;
        w.set(root, &Key::Str(b"items"), &In::Obj(l))?;
        Ok(l)
    });
    store.sync().unwrap();
    seen(&store);
    let (mut states, mut before) = (1, 0);
    for n in 0..2 * COMMITS {
        if n == COMMITS {
            before = states;
            store.sync().unwrap();
        }
        write(&store, |w| {
            w.set(root, &Key::Str(b"commits"), &In::Int(n as i64))?;
            w.insert(items, n as u64, &In::Int(n as i64))?;
            match n % 4 {
                0 => w.set(root, &Key::Int(n as i64 + 1000), &In::Bytes(&vec![n as u8; 2500])),
                1 => {
                    let d = w.new_dict()?;
                    w.set(d, &Key::Str(b"n"), &In::Int(n as i64))?;
                    w.insert(items, 0, &In::Obj(d))
                }
                2 => w.remove(root, &Key::Int(n as i64)).map(|_| ()),
                _ => w.set(
                    root,
                    &Key::Str(b"text"),
                    &text(format!("the text of {n}").as_bytes()),
                ),
            }
        });
        states += 1;
        seen(&store);
    }
    let files = (
        std::fs::read(path).unwrap(),
        std::fs::read(path_of(path)).unwrap(),
    );
    store.close().unwrap();
    (files.0, files.1, before)
}

fn word(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
}

fn put(b: &mut [u8], at: usize, value: u64) {
    b[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// The records that the newest checkpoint needs: offset and length. Stops at an invalid record.
pub fn records(store: &Image, log: &[u8]) -> Vec<(usize, usize)> {
    let meta = store.meta().page * PAGE;
    let mut at = PAGE + word(&store.bytes, meta + 112) as usize;
    let mut chain = word(&store.bytes, meta + 120);
    let mut all = Vec::new();
    while at + HEADER <= log.len() {
        let len = word(log, at + 24) as u32 as usize;
        if len < HEADER
            || at + len > log.len()
            || xxh3_64_with_seed(&log[at + 8..at + len], chain) != word(log, at)
        {
            break;
        }
        chain = word(log, at);
        all.push((at, len));
        at += len;
    }
    all
}

/// Make the chain of checksums valid again, over these records.
pub fn mend(store: &Image, log: &mut [u8], records: &[(usize, usize)]) {
    let mut chain = word(&store.bytes, store.meta().page * PAGE + 120);
    for &(at, len) in records {
        chain = xxh3_64_with_seed(&log[at + 8..at + len], chain);
        put(log, at, chain);
    }
}

/// Change a word of the log's header and make its checksum valid.
pub fn set_header(log: &mut [u8], at: usize, value: u64) {
    put(log, at, value);
    let sum = xxh3_64(&log[..SECTOR - 8]);
    put(log, SECTOR - 8, sum);
}

/// The first words of a record's ranges.
fn ranges(log: &[u8], (from, len): (usize, usize)) -> Vec<usize> {
    let (mut at, mut all) = (from + HEADER, Vec::new());
    for _ in 0..word(log, from + 24) >> 32 {
        if at + 8 > from + len {
            break;
        }
        all.push(at);
        at += 8 + ((word(log, at) & !WHOLE) >> 48).next_multiple_of(8) as usize;
    }
    all
}

/// Damage a log and leave the checksums unchanged: opening shows one of the earlier states, or fails.
pub fn raw(base: &Logged, rng: &mut Rng) -> Vec<u8> {
    let store = Image {
        bytes: base.store.clone(),
    };
    let mut log = base.log.clone();
    let records = records(&store, &log);
    let end = records.last().map_or(PAGE, |(at, len)| at + len);
    for _ in 0..=rng.below(2) {
        if log.len() < end {
            break;
        }
        let n = rng.below(records.len());
        let (at, len) = records[n];
        match rng.below(11) {
            0 => {
                for _ in 0..=rng.below(20) {
                    let bit = rng.below(end * 8);
                    log[bit / 8] ^= 1 << (bit % 8);
                }
            }
            1 => {
                let bit = (at + rng.below(HEADER)) * 8 + rng.below(8);
                log[bit / 8] ^= 1 << (bit % 8);
            }
            2 => {
                let len = rng.below(end);
                log.truncate(if rng.one_in(2) { len / SECTOR * SECTOR } else { len });
            }
            3 => {
                let (other, its) = *rng.pick(&records);
                let both = len.min(its);
                let (x, y) = (log[at..at + both].to_vec(), log[other..other + both].to_vec());
                log[at..at + both].copy_from_slice(&y);
                log[other..other + both].copy_from_slice(&x);
            }
            4 => {
                // Repeat the record at the place of the next one.
                let record = log[at..at + len].to_vec();
                log.resize(log.len().max(at + 2 * len), 0);
                log[at + len..at + 2 * len].copy_from_slice(&record);
            }
            5 => log[at / SECTOR * SECTOR..][..SECTOR].fill(0),
            6 => log[at..at + len].iter_mut().for_each(|b| *b = rng.next() as u8),
            7 => {
                let absurd = *rng.pick(&[u32::MAX, !7, 0, 8, 40, 1 << 31, 128 << 10]);
                log[at + 24..at + 28].copy_from_slice(&absurd.to_le_bytes());
            }
            8 => log = rng.pick(&base.others).clone(),
            9 => log[at..].fill(0), // As it was at an earlier time.
            _ => {
                let bit = rng.below(SECTOR * 8);
                log[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
    log
}

/// Damage a log and the meta page that names it, and make all checksums valid again.
pub fn deep(base: &Logged, store: &mut Image, rng: &mut Rng) -> Vec<u8> {
    let mut log = base.log.clone();
    let mut records = records(store, &log);
    for _ in 0..=rng.below(3) {
        let n = rng.below(records.len());
        let (at, len) = records[n];
        match rng.below(9) {
            // A range that is longer than its record, crosses pages, or is far away.
            0..=2 => {
                let ranges = ranges(&log, (at, len));
                if ranges.is_empty() {
                    continue;
                }
                let range = *rng.pick(&ranges);
                let old = word(&log, range);
                let new = match rng.below(6) {
                    0 => old ^ WHOLE,
                    1 => old ^ 1 << rng.below(63),
                    2 => old & (0xffff << 48) | rng.next() & ((1 << 48) - 1),
                    3 => old & ((1 << 48) - 1) | rng.next() << 48,
                    4 => old.wrapping_add(*rng.pick(&[8, 4096, 1 << 20, u64::MAX - 4095])),
                    _ => rng.next(),
                };
                put(&mut log, range, new);
            }
            3 | 4 => {
                for _ in 0..=rng.below(4) {
                    let word_at = at + HEADER + rng.below((len - HEADER) / 8) * 8;
                    let other = at + HEADER + rng.below((len - HEADER) / 8) * 8;
                    let new = match rng.below(4) {
                        0 => u64::MAX,
                        1 => rng.next(),
                        2 => word(&log, other),
                        _ => word(&log, word_at) ^ 1 << rng.below(64),
                    };
                    put(&mut log, word_at, new);
                }
            }
            5 => {
                let absurd = *rng.pick(&[0, 1, u64::MAX, 1 << 48, rng_word(n)]);
                match rng.below(3) {
                    0 => put(&mut log, at + 32, absurd),
                    1 => log[at + 28..at + 32].copy_from_slice(&(absurd as u32).to_le_bytes()),
                    _ => log[at + 24..at + 28].copy_from_slice(&(absurd as u32).to_le_bytes()),
                }
            }
            // Swap two records.
            6 => {
                let (other, its) = *rng.pick(&records);
                if its == len {
                    let (x, y) = (log[at..at + len].to_vec(), log[other..other + len].to_vec());
                    log[at + 24..at + len].copy_from_slice(&y[24..]);
                    log[other + 24..other + len].copy_from_slice(&x[24..]);
                }
            }
            7 => {
                let value = *rng.pick(&[0, 512, 1024, 4096, 100, 1 << 28, 1 << 40, u64::MAX - 511]);
                set_header(&mut log, *rng.pick(&[40, 32, 8]), value);
            }
            _ => {
                let value = *rng.pick(&[
                    0,
                    1,
                    u64::MAX,
                    u64::MAX - 511,
                    u64::MAX / 2,
                    1 << 48,
                    512,
                    131_072,
                ]);
                store.set_meta(rng.below(2), *rng.pick(&[96, 112, 112, 120]), value);
            }
        }
    }
    match rng.below(8) {
        0 | 1 => forge(store, &mut log, &mut records, rng),
        2 => move_on(store, &mut log, &records, rng),
        _ => {}
    }
    mend(store, &mut log, &records);
    log
}

/// The same log with positions near the largest value of a word.
fn move_on(store: &mut Image, log: &mut [u8], records: &[(usize, usize)], rng: &mut Rng) {
    let ring = word(log, 40).max(1);
    let by = (u64::MAX / ring - rng.below(3) as u64).wrapping_mul(ring);
    let page = store.meta().page;
    let first = word(&store.bytes, page * PAGE + 112);
    store.set_meta(page, 112, first.wrapping_add(by));
    for &(at, _) in records {
        put(log, at + 8, word(log, at + 8).wrapping_add(by));
    }
}

fn rng_word(n: usize) -> u64 {
    (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// One more record, with pages that are new to the store.
fn forge(store: &Image, log: &mut Vec<u8>, records: &mut Vec<(usize, usize)>, rng: &mut Rng) {
    let Some(&(last, its)) = records.last() else {
        return;
    };
    let (at, pages) = (last + its, 1 + rng.below(500));
    let len = (HEADER + 8 * pages).next_multiple_of(SECTOR);
    log.resize(log.len().max(at + len), 0);
    let header = log[last..last + HEADER].to_vec();
    log[at..at + HEADER].copy_from_slice(&header);
    put(log, at + 8, (at - PAGE) as u64);
    put(log, at + 24, len as u64 | (pages as u64) << 32);
    let first = store.meta().logical + rng.below(3) as u64;
    for i in 0..pages {
        put(
            log,
            at + HEADER + 8 * i,
            ((first + i as u64) * PAGE as u64) | WHOLE,
        );
    }
    records.push((at, len));
}
