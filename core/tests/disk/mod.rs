//! The possible content of a file on a disk after a power failure: for the tests that simulate one (`power`,
//! `power_log`).
//!
//! At the end of a flush the disk has the content at the flush's beginning or later. The content is therefore copied
//! when a flush begins, and the copy becomes the base when the flush has ended. Later changes are, independently for
//! each page or 512-byte sector, in one of these states: as in the base, as now, as at any observed moment between, or
//! garbage.
#![allow(dead_code, unreachable_pub)] // Each test uses its part.

pub mod files;
pub mod judges;
pub mod kept;

use crate::common::Rng;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub const PAGE: usize = 4096;
pub const SECTOR: usize = 512;
/// The number of versions of a page that are kept between two flushes.
const VERSIONS: usize = 6;

/// The possible content of a disk.
pub struct Disk {
    path: PathBuf,
    /// The content at the last completed flush.
    base: Vec<u8>,
    /// The content at the beginning of a flush in progress.
    pending: Option<Vec<u8>>,
    /// The content at the last observation.
    now: Vec<u8>,
    /// Contents of pages observed since the base, and since the pending one: (page, content).
    seen: BTreeMap<usize, Vec<Box<[u8]>>>,
    seen_pending: BTreeMap<usize, Vec<Box<[u8]>>>,
    /// Lengths of the file observed since the base.
    lengths: Vec<usize>,
    lengths_pending: Vec<usize>,
}

impl Disk {
    /// A file that is completely on the disk.
    pub fn new(path: &Path) -> Disk {
        let now = std::fs::read(path).unwrap_or_default();
        Disk {
            path: path.to_owned(),
            base: now.clone(),
            pending: None,
            lengths: vec![now.len()],
            lengths_pending: Vec::new(),
            now,
            seen: BTreeMap::new(),
            seen_pending: BTreeMap::new(),
        }
    }

    /// A new file: none of it is certainly on the disk.
    pub fn beginning(path: &Path) -> Disk {
        Disk {
            path: path.to_owned(),
            ..Disk::new(Path::new(""))
        }
    }

    /// Observe the changes.
    pub fn look(&mut self, rng: &mut Rng) {
        let Ok(file) = std::fs::File::open(&self.path) else {
            return;
        };
        let len = file.metadata().unwrap().len() as usize;
        let mut fresh = vec![0; len];
        file.read_exact_at(&mut fresh, 0).unwrap();
        self.now.resize(len, 0);
        for (i, (new, old)) in fresh.chunks(PAGE).zip(self.now.chunks(PAGE)).enumerate() {
            if new != old {
                for seen in [&mut self.seen, &mut self.seen_pending] {
                    let all = seen.entry(i).or_default();
                    if all.len() < VERSIONS {
                        all.push(new.into());
                    } else {
                        all[rng.below(VERSIONS)] = new.into();
                    }
                }
            }
        }
        self.now = fresh;
        self.lengths.push(len);
        self.lengths_pending.push(len);
    }

    pub fn flush_begins(&mut self) {
        self.pending = Some(self.now.clone());
        self.seen_pending.clear();
        self.lengths_pending = vec![self.now.len()];
    }

    pub fn flush_ended(&mut self) {
        if let Some(base) = self.pending.take() {
            self.base = base;
            self.seen = std::mem::take(&mut self.seen_pending);
            self.lengths = std::mem::take(&mut self.lengths_pending);
        }
    }

    /// The content at the last flush, with the newest meta page damaged by another cause than a power failure, and the
    /// number of that page. None while the other meta page is not whole (a new store, or one being overwritten).
    pub fn damaged(&self, rng: &mut Rng) -> Option<(Vec<u8>, u64)> {
        let number = |i: usize| {
            let page = self.base.get(i * PAGE..(i + 1) * PAGE)?;
            let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
            let whole =
                xxhash_rust::xxh3::xxh3_64(&page[..PAGE - 8]) == word(PAGE - 8) && &page[..8] == b"persist1";
            whole.then(|| word(32))
        };
        let (even, odd) = (number(0)?, number(1)?);
        if self.seen.contains_key(&0) || self.seen.contains_key(&1) {
            return None;
        }
        // The rest is as it may be after a power failure.
        let mut image = self.image(rng);
        let at = if even > odd { 0 } else { PAGE };
        image[at + rng.below(8) * SECTOR..][..SECTOR].fill_with(|| rng.next() as u8);
        Some((image, even.max(odd)))
    }

    /// A possible content of the disk if the power fails now.
    pub fn image(&self, rng: &mut Rng) -> Vec<u8> {
        let len = self.lengths[rng.below(self.lengths.len())].max(self.base.len());
        let mut image = self.base.clone();
        image.resize(self.now.len().max(len), 0);
        // How likely new content is (of 8), whether a page is written as a unit, whether sectors are lost.
        let (new, whole) = (rng.below(9), rng.one_in(3));
        let garbage = if rng.one_in(3) { 1 + rng.below(12) } else { 0 };
        for (page, seen) in &self.seen {
            let at = page * PAGE;
            let versions: Vec<&[u8]> = seen
                .iter()
                .map(|v| &**v)
                .chain(self.now.get(at..at + PAGE))
                .collect();
            let base = image[at..at + PAGE].to_vec();
            let pick = |rng: &mut Rng| -> &[u8] {
                match rng.below(8) {
                    n if n >= new => &base,
                    n if n % 2 == 0 => versions[versions.len() - 1],
                    _ => versions[rng.below(versions.len())],
                }
            };
            let one = pick(rng);
            for s in (0..PAGE).step_by(SECTOR) {
                let from = if whole { one } else { pick(rng) };
                let sector = &from[s..s + SECTOR];
                let changed = versions.iter().any(|v| v[s..s + SECTOR] != base[s..s + SECTOR]);
                let to = &mut image[at + s..at + s + SECTOR];
                to.copy_from_slice(sector);
                if changed && garbage > 0 && rng.one_in(garbage) {
                    to.fill_with(|| rng.next() as u8);
                }
            }
        }
        image.truncate(len);
        image
    }
}
