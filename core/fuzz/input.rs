//! From an input to a damaged store.
//!
//! The first byte chooses the store; then come words, 12 bytes each:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 2 | which page, modulo the pages there are |
//! | 2 | 2 | which word of it, modulo 512 |
//! | 4 | 8 | the word |

use crate::shapes::damage::{Image, PAGE};
use crate::shapes::{ALL, make};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Most words of an input that are taken.
const MOST: usize = 64;

fn bases() -> &'static [Vec<u8>] {
    static BASES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    BASES.get_or_init(|| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("base");
        std::fs::create_dir_all(&dir).unwrap();
        let base = |shape: &&str| {
            let kept = dir.join(format!("{shape}.store"));
            if !kept.exists() {
                // Under a name of its own first: several targets may begin at once.
                let new = dir.join(format!("{shape}-{}.store", std::process::id()));
                make(shape, &new);
                let _ = std::fs::remove_file(format!("{}-shm", new.display()));
                std::fs::rename(&new, &kept).unwrap();
            }
            std::fs::read(&kept).unwrap()
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
            image.settle();
            image.mapped()
        } else {
            Vec::new()
        };
        for word in words.chunks_exact(12).take(MOST) {
            let short = |at: usize| usize::from(u16::from_le_bytes([word[at], word[at + 1]]));
            let at = short(2) % 512 * 8;
            if mend {
                let (logical, phys) = mapped[short(0) % mapped.len()];
                image.page(phys)[at..at + 8].copy_from_slice(&word[4..]);
                image.mend(logical);
                continue;
            }
            let phys = short(0) % image.pages();
            image.page(phys)[at..at + 8].copy_from_slice(&word[4..]);
            if phys < 2 && at < PAGE - 8 {
                let value = u64::from_le_bytes(word[4..].try_into().unwrap());
                image.set_meta(phys, at, value);
            }
        }
        let store = Store { path: place() };
        store.clear();
        image.save(&store.path);
        Some(store)
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
