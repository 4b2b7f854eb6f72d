//! From an input to a damaged store.
//!
//! The first byte chooses the store; then come words, 12 bytes each:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 2 | which page, modulo the pages there are |
//! | 2 | 2 | which word of it, modulo 512 |
//! | 4 | 8 | the word |
//!
//! For the redo log a record stands for the page, and 0xffff for the log's header.

#![allow(dead_code)] // Each target uses its part.

use crate::shapes::damage::{Image, PAGE};
use crate::shapes::{ALL, log, make};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Most words of an input that are taken.
pub const MOST: usize = 64;

/// What is made on the first run and kept, so that an input means the same again. `make` gives the bytes.
pub fn kept<const N: usize>(names: [&str; N], make: impl FnOnce(&Path) -> [Vec<u8>; N]) -> [Vec<u8>; N] {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("base");
    std::fs::create_dir_all(&dir).unwrap();
    if names.iter().any(|name| !dir.join(name).exists()) {
        // Under a name of its own first: several targets may begin at once.
        let new = dir.join(format!("new-{}", std::process::id()));
        std::fs::create_dir_all(&new).unwrap();
        for (name, bytes) in names.iter().zip(make(&new.join("store"))) {
            std::fs::write(new.join(name), bytes).unwrap();
            std::fs::rename(new.join(name), dir.join(name)).unwrap();
        }
        std::fs::remove_dir_all(&new).unwrap();
    }
    names.map(|name| std::fs::read(dir.join(name)).unwrap())
}

fn bases() -> &'static [Vec<u8>] {
    static BASES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    BASES.get_or_init(|| {
        let base = |shape: &&str| {
            let [bytes] = kept([&format!("{shape}.store")], |path| {
                make(shape, path);
                [std::fs::read(path).unwrap()]
            });
            bytes
        };
        // The small ones: an input is a file to be written.
        ALL.iter()
            .map(base)
            .filter(|bytes| bytes.len() < 2 << 20)
            .collect()
    })
}

fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    dir.join(format!("persist-fuzz-{}", std::process::id()))
}

/// A store with the words of an input in its file (`mend`: in its logical pages, with the checksums made right
/// again). Gone with the value.
pub struct Store {
    pub path: PathBuf,
}

impl Store {
    pub fn of(data: &[u8], mend: bool) -> Option<Store> {
        let (&first, words) = data.split_first()?;
        let bases = bases();
        let mut image = Image {
            bytes: bases[usize::from(first) % bases.len()].clone(),
        };
        let mapped = if mend {
            image.copy_newest_over_previous();
            image.mapped()
        } else {
            Vec::new()
        };
        for word in words.chunks_exact(12).take(MOST) {
            let short = |at: usize| usize::from(u16::from_le_bytes([word[at], word[at + 1]]));
            let at = short(2) % 512 * 8;
            if mend {
                let (logical, physical) = mapped[short(0) % mapped.len()];
                image.page(physical)[at..at + 8].copy_from_slice(&word[4..]);
                image.mend(logical);
                continue;
            }
            let physical = short(0) % image.pages();
            image.page(physical)[at..at + 8].copy_from_slice(&word[4..]);
            if physical < 2 && at < PAGE - 8 {
                let value = u64::from_le_bytes(word[4..].try_into().unwrap());
                image.set_meta(physical, at, value);
            }
        }
        let store = Store::place();
        image.save(&store.path);
        Some(store)
    }

    /// A place for a store, without one.
    pub fn place() -> Store {
        let store = Store { path: place() };
        store.clear();
        store
    }

    /// A store with a redo log that has the words of an input in its records. With an odd first byte the
    /// checksums are made right again.
    pub fn logged(data: &[u8]) -> Option<Store> {
        static BASE: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
        let [store, log] = BASE.get_or_init(|| {
            kept(["logged.store", "logged.store-wal"], |path| {
                let made = log::make(path, |_| {});
                [made.store, made.log]
            })
        });
        let (&first, words) = data.split_first()?;
        let image = Image { bytes: store.clone() };
        let records = log::records(&image, log);
        let (last, len) = *records.last()?;
        let mut log = log[..(last + len).next_multiple_of(PAGE)].to_vec();
        for word in words.chunks_exact(12).take(MOST) {
            let short = |at: usize| usize::from(u16::from_le_bytes([word[at], word[at + 1]]));
            let value = u64::from_le_bytes(word[4..].try_into().unwrap());
            match short(0) {
                0xffff => log::set_header(&mut log, short(2) % 63 * 8, value),
                n => {
                    let (at, len) = records[n % records.len()];
                    let at = at + short(2) % (len / 8) * 8;
                    log[at..at + 8].copy_from_slice(&word[4..]);
                }
            }
        }
        if first % 2 == 1 {
            log::mend(&image, &mut log, &records);
        }
        let made = Store::place();
        image.save(&made.path);
        std::fs::write(log::path_of(&made.path), log).unwrap();
        Some(made)
    }

    fn clear(&self) {
        for end in ["", "-shm", "-wal", "-new", "-new-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.path.display()));
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.clear();
    }
}
