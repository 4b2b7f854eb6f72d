//! The snapshot catalogue: the checkpoints that are kept by name. It is a chain of physical pages that the meta page
//! names. A checkpoint that changes the catalogue writes the whole chain to new pages.
//!
//! A page of the chain:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 4 | physical page of the next one (0: this is the last) |
//! | 4 | 4 | records in this page |
//! | 8 | 8 | xxh3 of the next page |
//! | 16 | | the records, one after the other |
//!
//! A record:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | checkpoint number |
//! | 8 | 4 | physical page of its page table's root |
//! | 12 | 4 | height of its page table |
//! | 16 | 8 | checksum of the root page |
//! | 24 | 8 | logical pages |
//! | 32 | 8 | next object id |
//! | 40 | 8 | when it was taken, nanoseconds since 1970 |
//! | 48 | 2 | n |
//! | 50 | n | the name, UTF-8 |
//!
//! 1. Records are in the order of their checkpoints; no two have the same checkpoint or name.
//! 2. A page of the chain is written once, before the flush that precedes its meta page (I1, I4). It belongs to no
//!    snapshot's tree: once replaced, it is free two checkpoints later.

use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::page::format::meta::{Link, MAX_CHAIN, Meta};
use crate::page::format::page_table::{Entry, MAX_HEIGHT, Tree, covers};
use crate::page::shared::layout::MAX_PAGES;
use std::fs::File;
use std::os::unix::fs::FileExt;
use xxhash_rust::xxh3::xxh3_64;

/// Largest number of snapshots of a store.
pub const MAX_SNAPSHOTS: usize = 4096;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 255;
const HEAD: usize = 16;
const RECORD: usize = 50;
/// The chain has room for the largest number of snapshots with names of the greatest length.
const _: () = assert!(MAX_CHAIN as usize == MAX_SNAPSHOTS.div_ceil((PAGE_SIZE - HEAD) / (RECORD + MAX_NAME)));

/// A checkpoint that is kept by name.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// The number of the checkpoint.
    pub checkpoint: u64,
    /// The time it was taken, in nanoseconds since 1970.
    pub time: u64,
    /// Number of logical pages, including free ones.
    pub pages: u64,
    pub(crate) tree: Tree,
    pub(crate) next_id: u64,
}

/// Return an error if a snapshot may not have this name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME {
        "it is longer than 255 bytes"
    } else if name == "." || name == ".." {
        "it has a meaning of its own in a directory"
    } else if name.chars().any(|c| c == '/' || c.is_control()) {
        "it holds a slash or a control character"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "{name:?} cannot be a snapshot's name: {why}"
    )))
}

fn bad(what: &'static str, page: u32) -> Error {
    Error::Corrupt {
        what,
        at: u64::from(page) * PAGE_SIZE as u64,
    }
}

/// Read a catalogue.
pub(crate) fn read(file: &File, link: Link) -> Result<Vec<Snapshot>> {
    let mut all: Vec<Snapshot> = Vec::new();
    let (mut page, mut sum) = (link.page, link.sum);
    let mut left = link.pages.min(MAX_CHAIN);
    while page != 0 {
        if left == 0 || page < 2 || u64::from(page) >= MAX_PAGES {
            return Err(bad("the chain of the snapshot catalogue (file offset)", page));
        }
        left -= 1;
        let mut bytes = [0u8; PAGE_SIZE];
        let offset = u64::from(page) * PAGE_SIZE as u64;
        file.read_exact_at(&mut bytes, offset)
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    bad("a page of the snapshot catalogue beyond the file (offset)", page)
                }
                _ => Error::io("cannot read the snapshot catalogue", e),
            })?;
        if xxh3_64(&bytes) != sum {
            return Err(bad(
                "a page of the snapshot catalogue does not match its checksum (file offset)",
                page,
            ));
        }
        let word = |at: usize| {
            let mut b = [0; 8];
            b.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(b)
        };
        let mut at = HEAD;
        for _ in 0..word(0) >> 32 {
            let fits = |len: usize| at + len <= PAGE_SIZE;
            let len = if fits(RECORD) {
                usize::from(bytes[at + 48]) | usize::from(bytes[at + 49]) << 8
            } else {
                usize::MAX / 2
            };
            let name = Some(len)
                .filter(|len| fits(RECORD + len))
                .and_then(|len| std::str::from_utf8(&bytes[at + RECORD..at + RECORD + len]).ok());
            let snapshot = name.map(|name| Snapshot {
                name: name.to_owned(),
                checkpoint: word(at),
                time: word(at + 40),
                pages: word(at + 24),
                tree: Tree {
                    root: Entry {
                        physical: word(at + 8) as u32,
                        birth: word(at) as u32,
                        sum: word(at + 16),
                    },
                    height: (word(at + 8) >> 32) as u32,
                },
                next_id: word(at + 32),
            });
            let before = all.last().map_or(0, |s| s.checkpoint);
            match snapshot.filter(|s| is_possible(s, before)) {
                Some(snapshot) if all.len() < MAX_SNAPSHOTS => all.push(snapshot),
                _ => {
                    return Err(bad(
                        "a record of the snapshot catalogue holds impossible numbers (file offset)",
                        page,
                    ));
                }
            }
            at += RECORD + len;
        }
        page = word(0) as u32;
        sum = word(8);
    }
    Ok(all)
}

fn is_possible(s: &Snapshot, before: u64) -> bool {
    s.checkpoint > before
        && s.checkpoint < u64::from(u32::MAX >> 1)
        && s.tree.height <= MAX_HEIGHT
        && s.pages <= covers(s.tree.height).min(MAX_PAGES)
        && check_name(&s.name).is_ok()
}

/// Write a catalogue. `write` stores a page and returns its place. It receives the last page first.
pub(crate) fn write(
    all: &[Snapshot],
    mut write: impl FnMut(&[u8; PAGE_SIZE]) -> Result<Entry>,
) -> Result<Link> {
    // The number of records in each page.
    let mut counts = Vec::new();
    let mut used = PAGE_SIZE;
    for s in all {
        let len = RECORD + s.name.len();
        if used + len > PAGE_SIZE {
            counts.push(0);
            used = HEAD;
        }
        used += len;
        if let Some(count) = counts.last_mut() {
            *count += 1;
        }
    }
    let mut link = Link::default();
    let mut end = all.len();
    for count in counts.into_iter().rev() {
        let mut page = [0u8; PAGE_SIZE];
        page[..8].copy_from_slice(&(u64::from(link.page) | (count as u64) << 32).to_le_bytes());
        page[8..16].copy_from_slice(&link.sum.to_le_bytes());
        let mut at = HEAD;
        for s in &all[end - count..end] {
            for (offset, value) in [
                (0, s.checkpoint),
                (
                    8,
                    u64::from(s.tree.root.physical) | u64::from(s.tree.height) << 32,
                ),
                (16, s.tree.root.sum),
                (24, s.pages),
                (32, s.next_id),
                (40, s.time),
            ] {
                page[at + offset..at + offset + 8].copy_from_slice(&value.to_le_bytes());
            }
            page[at + 48..at + RECORD].copy_from_slice(&(s.name.len() as u16).to_le_bytes());
            page[at + RECORD..at + RECORD + s.name.len()].copy_from_slice(s.name.as_bytes());
            at += RECORD + s.name.len();
        }
        end -= count;
        let entry = write(&page)?;
        link = Link {
            page: entry.physical,
            pages: link.pages + 1,
            sum: entry.sum,
        };
    }
    Ok(link)
}

/// Return the pages of a catalogue, as far as they can be read.
pub(crate) fn pages(file: &File, link: Link) -> Vec<u32> {
    let mut all = Vec::new();
    let (mut page, mut sum) = (link.page, link.sum);
    while page >= 2 && all.len() < link.pages.min(MAX_CHAIN) as usize {
        let mut bytes = [0u8; PAGE_SIZE];
        let read = file.read_exact_at(&mut bytes, u64::from(page) * PAGE_SIZE as u64);
        if read.is_err() || xxh3_64(&bytes) != sum {
            break;
        }
        all.push(page);
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[8..16]);
        sum = u64::from_le_bytes(word);
        page = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    all
}

/// Return the newest checkpoint of a file, and its snapshots. Retry if a writer replaces them during the read.
pub(crate) fn newest(file: &File) -> Result<(Meta, Vec<Snapshot>)> {
    let mut turns = 0;
    loop {
        let metas = [Meta::read(file, 0)?, Meta::read(file, 1)?];
        let newest = metas.into_iter().flatten().max_by_key(|m| m.checkpoint);
        let Some(meta) = newest else {
            return Err(Error::Corrupt {
                what: "both meta pages (file offset)",
                at: 0,
            });
        };
        match read(file, meta.catalogue) {
            Ok(all) => return Ok((meta, all)),
            // Two checkpoints have been made since the meta page was read, so the catalogue's pages were reused.
            Err(Error::Corrupt { .. }) if turns < 100 && moved_on(file, &meta)? => turns += 1,
            Err(e) => return Err(e),
        }
    }
}

fn moved_on(file: &File, than: &Meta) -> Result<bool> {
    let metas = [Meta::read(file, 0)?, Meta::read(file, 1)?];
    Ok(metas
        .into_iter()
        .flatten()
        .any(|m| m.checkpoint > than.checkpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(n: usize, name: usize) -> Vec<Snapshot> {
        (0..n)
            .map(|i| Snapshot {
                name: format!("{i:0name$}"),
                checkpoint: 2 * i as u64 + 1,
                time: i as u64,
                pages: 200,
                tree: Tree {
                    root: Entry {
                        physical: 7,
                        birth: 2 * i as u32 + 1,
                        sum: 3,
                    },
                    height: 1,
                },
                next_id: 5,
            })
            .collect()
    }

    fn written(all: &[Snapshot], file: &File) -> Link {
        let mut next = 2;
        write(all, |page| {
            file.write_all_at(page, next * PAGE_SIZE as u64).unwrap();
            next += 1;
            Ok(Entry {
                physical: next as u32 - 1,
                birth: 1,
                sum: xxh3_64(page),
            })
        })
        .unwrap()
    }

    #[test]
    fn round_trip() {
        for (n, name) in [
            (0, 1),
            (1, 1),
            (1, 255),
            (13, 255),
            (14, 255),
            (4096, 4),
            (4096, 255),
        ] {
            let file = tempfile::tempfile().unwrap();
            let all = some(n, name);
            let link = written(&all, &file);
            assert_eq!(read(&file, link).unwrap(), all, "{n} {name}");
            assert_eq!(pages(&file, link).len(), link.pages as usize);
            assert!(link.pages <= MAX_CHAIN);
        }
    }

    #[test]
    fn damage_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        let link = written(&some(40, 60), &file);
        assert!(link.pages > 1);
        for at in (2 * PAGE_SIZE..(2 + link.pages as usize) * PAGE_SIZE).step_by(211) {
            let mut b = [0];
            file.read_exact_at(&mut b, at as u64).unwrap();
            file.write_all_at(&[b[0] ^ 4], at as u64).unwrap();
            assert!(matches!(read(&file, link), Err(Error::Corrupt { .. })), "{at}");
            file.write_all_at(&b, at as u64).unwrap();
        }
        // The checksums match, but the numbers are invalid.
        for hostile in [
            |s: &mut Snapshot| s.checkpoint = 1,
            |s: &mut Snapshot| s.checkpoint = u64::MAX,
            |s: &mut Snapshot| s.tree.height = 5,
            |s: &mut Snapshot| s.pages = 257,
            |s: &mut Snapshot| s.name = "a/b".into(),
            |s: &mut Snapshot| s.name = String::new(),
        ] {
            let mut all = some(3, 5);
            hostile(&mut all[1]);
            let link = written(&all, &file);
            assert!(matches!(read(&file, link), Err(Error::Corrupt { .. })));
        }
        // A chain that never ends.
        let mut page = [0u8; PAGE_SIZE];
        page[0] = 9;
        file.write_all_at(&page, 9 * PAGE_SIZE as u64).unwrap();
        let link = Link {
            page: 9,
            pages: u32::MAX,
            sum: xxh3_64(&page),
        };
        assert!(matches!(read(&file, link), Err(Error::Corrupt { .. })));
        assert!(pages(&file, link).len() < 2);
    }

    #[test]
    fn names() {
        for good in ["a", "2026-11-22 18:00", "ä", &"x".repeat(255), "...", ".a"] {
            check_name(good).unwrap();
        }
        for wrong in ["", ".", "..", "a/b", "a\0", "a\n", "\u{85}", &"x".repeat(256)] {
            check_name(wrong).unwrap_err();
        }
    }
}
