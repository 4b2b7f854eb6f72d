//! The log's file, `FILE-wal` beside the store: a header, then a ring of records (`log_record`).
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | magic `persistw` |
//! | 8 | 4 | version |
//! | 12 | 4 | zero |
//! | 16 | 16 | uuid of the store |
//! | 32 | 8 | generation: names this log; the meta page that needs it has the same |
//! | 40 | 8 | bytes of the ring |
//! | 48 | 456 | zero |
//! | 504 | 8 | xxh3 of bytes 0..504 |
//! | 512 | 3584 | zero |
//! | 4096 | .. | the ring; position p of the log is at offset p modulo its size |
//!
//! 1. The header is written once, and is on disk before a meta page names the log.
//! 2. The file grows in steps of zeros that are written, not only allocated. So a flush of a record finds its block
//!    allocated and writes only data.
//! 3. A file that is older than a meta page's reference to it is refused: see `Found`.

use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::page::format::log_record::SECTOR;
use crate::raw::files::file;
use crate::raw::files::held;
use crate::raw::files::held::Descriptor;
use crate::raw::files::held::Held;
use crate::raw::files::side_files;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"persistw";
const VERSION: u32 = 1;
const HEADER: u64 = PAGE_SIZE as u64;
const SUM: usize = SECTOR as usize - 8;
/// Bytes of the ring. Small in tests, so that it wraps around.
pub(crate) const RING: u64 = if cfg!(feature = "testing") {
    128 << 10
} else {
    8 << 20
};
/// Number of bytes by which the file grows.
const STEP: u64 = if cfg!(feature = "testing") {
    16 << 10
} else {
    1 << 20
};
/// The largest ring that is accepted. It bounds the size of a forged log, and its effect on a store.
const RING_MOST: u64 = 8 << 20;

/// An open log.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: Held,
    pub(crate) generation: u64,
    /// Bytes of the ring.
    pub(crate) ring: u64,
}

/// What was found beside a store.
#[derive(Debug)]
pub(crate) enum Found {
    /// The log of this generation.
    Log(LogFile),
    /// No file.
    Missing,
    /// An empty file. The program never leaves one, so a user made it to have the log discarded.
    Emptied,
    /// Any other file; its description.
    Foreign(&'static str),
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut b = [0; 8];
    b.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(b)
}

impl LogFile {
    /// Look for the log of this store and generation.
    pub(crate) fn find(
        path: &Path,
        store: &impl Descriptor,
        uuid: [u64; 2],
        generation: u64,
    ) -> Result<Found> {
        let failed = |e| Error::io(format!("cannot read the log {}", path.display()), e);
        let file = match side_files::open(path, &*held::ours(store, "cannot look for the log")?) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(Found::Missing),
            Err(Ok(why)) => {
                return Err(Error::Refused {
                    path: path.to_owned(),
                    why: format!("it {why}: find out what it is, and remove it"),
                });
            }
            Err(Err(e)) => return Err(failed(e)),
        };
        let meta = file.metadata().map_err(failed)?;
        if meta.len() == 0 {
            return Ok(Found::Emptied);
        }
        let mut head = [0u8; SECTOR as usize];
        if meta.len() < HEADER {
            return Ok(Found::Foreign("is cut short"));
        }
        file.read_exact_at(&mut head, 0).map_err(failed)?;
        let ring = u64_at(&head, 40);
        Ok(if &head[..8] != MAGIC {
            Found::Foreign("is not a log of a persist store")
        } else if u64_at(&head, 8) != u64::from(VERSION) {
            Found::Foreign("has another format version")
        } else if u64_at(&head, SUM) != xxh3_64(&head[..SUM]) {
            Found::Foreign("is damaged")
        } else if [u64_at(&head, 16), u64_at(&head, 24)] != uuid {
            Found::Foreign("belongs to another store")
        } else if u64_at(&head, 32) != generation {
            Found::Foreign("belongs to another time of this store")
        } else if ring == 0 || ring > RING_MOST || !ring.is_multiple_of(SECTOR) {
            Found::Foreign("has an impossible size")
        } else {
            Found::Log(LogFile {
                file: Held::new(file),
                generation,
                ring,
            })
        })
    }

    /// Create a log, and replace any file of its name. No meta page needs that file.
    pub(crate) fn create(
        path: &Path,
        store: &impl Descriptor,
        uuid: [u64; 2],
        generation: u64,
    ) -> Result<LogFile> {
        let failed = |e: io::Error| match e.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Error::NoSpace {
                what: "the redo log",
                source: e,
            },
            _ => Error::io(format!("cannot make the log {}", path.display()), e),
        };
        let store = store.ours().map_err(failed)?;
        // Create a new file instead of truncating. A process that has the old file open (and is about to check the
        // generation) must not find the new log's bytes in it.
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let new = side_files::new(path, &store).map_err(failed)?;
        file::in_place(new.file());
        let file = new.file().try_clone().map_err(failed)?;
        let mut head = [0u8; PAGE_SIZE];
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        head[16..24].copy_from_slice(&uuid[0].to_le_bytes());
        head[24..32].copy_from_slice(&uuid[1].to_le_bytes());
        head[32..40].copy_from_slice(&generation.to_le_bytes());
        head[40..48].copy_from_slice(&RING.to_le_bytes());
        let sum = xxh3_64(&head[..SUM]);
        head[SUM..SUM + 8].copy_from_slice(&sum.to_le_bytes());
        let log = LogFile {
            file: Held::new(file),
            generation,
            ring: RING,
        };
        let made = file::write_log(&log.file, &head, 0)
            .and_then(|()| log.extend(STEP))
            .and_then(|()| file::flush_log(&log.file))
            .and_then(|()| new.link(path));
        made.map_err(failed)?;
        // If the directory cannot be opened or flushed (permissions, some filesystems), do not fail.
        if let Some(dir) = path.parent().and_then(|dir| File::open(dir).ok()) {
            let _ = dir.sync_all();
        }
        Ok(log)
    }

    /// Return whether the descriptor still refers to the file that was opened.
    pub(crate) fn is_ours(&self) -> bool {
        self.file.ours().is_ok()
    }

    /// Make the file long enough for `bytes` of the ring (2).
    fn extend(&self, bytes: u64) -> io::Result<()> {
        let want = HEADER + bytes.next_multiple_of(STEP).min(self.ring);
        let mut at = self.file.ours()?.metadata()?.len().max(HEADER);
        if at >= want {
            return Ok(());
        }
        let zeros = [0u8; PAGE_SIZE];
        while at < want {
            let n = (want - at).min(zeros.len() as u64) as usize;
            file::write_log(&self.file, &zeros[..n], at)?;
            at += n as u64;
        }
        Ok(())
    }

    /// Write bytes of the log from position `at` without flushing, in pieces of at most a page. A kernel that keeps
    /// larger pieces together would write all of such a piece for a few bytes changed in it later.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = at % self.ring;
            let in_page = PAGE_SIZE - offset as usize % PAGE_SIZE;
            let n = rest.len().min(in_page).min((self.ring - offset) as usize);
            self.extend(offset + n as u64)?;
            file::write_log(&self.file, &rest[..n], HEADER + offset)?;
            (at, rest) = (at + n as u64, &rest[n..]);
        }
        Ok(())
    }

    /// Make the written bytes survive a power failure.
    pub(crate) fn flush(&self) -> io::Result<()> {
        file::flush_log(&self.file)
    }

    /// Read bytes of the log from position `at`. Return false if the file is too short.
    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<bool> {
        let offset = at % self.ring;
        let first = bytes.len().min((self.ring - offset) as usize);
        let (one, two) = bytes.split_at_mut(first);
        for (part, offset) in [(one, offset), (two, 0)] {
            let read = self.file.ours();
            match read.and_then(|file| file.read_exact_at(part, HEADER + offset)) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &Path, uuid: [u64; 2], generation: u64) -> String {
        let store = File::open(path.with_file_name("a")).unwrap();
        match LogFile::find(path, &store, uuid, generation).unwrap() {
            Found::Log(_) => "log".to_owned(),
            Found::Foreign(what) => what.to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_log_is_known_by_store_and_generation() {
        let dir = tempfile::tempdir().unwrap();
        let (path, store) = (
            dir.path().join("a-wal"),
            File::create(dir.path().join("a")).unwrap(),
        );
        assert_eq!(found(&path, [1, 2], 3), "Missing");
        LogFile::create(&path, &store, [1, 2], 3).unwrap();
        assert_eq!(found(&path, [1, 2], 3), "log");
        assert_eq!(found(&path, [1, 3], 3), "belongs to another store");
        assert_eq!(found(&path, [1, 2], 4), "belongs to another time of this store");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..SECTOR as usize {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert_ne!(found(&path, [1, 2], 3), "log", "byte {at}");
        }
        std::fs::write(&path, &whole[..4095]).unwrap();
        assert_eq!(found(&path, [1, 2], 3), "is cut short");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(found(&path, [1, 2], 3), "Emptied");
    }

    #[test]
    fn bytes_go_round_the_ring_and_the_file_grows_as_they_do() {
        let dir = tempfile::tempdir().unwrap();
        let (path, store) = (dir.path().join("a-wal"), tempfile::tempfile().unwrap());
        let log = LogFile::create(&path, &store, [1, 2], 3).unwrap();
        let bytes: Vec<u8> = (0..9000u32).map(|i| i as u8).collect();
        let mut back = vec![0; bytes.len()];
        assert!(
            !log.read(STEP - 100, &mut back).unwrap(),
            "the file is not so long yet"
        );
        for at in [0, STEP - 100, RING - 4500, 5 * RING + 512, 7 * RING - 1] {
            log.write(at, &bytes).unwrap();
            assert!(log.read(at, &mut back).unwrap());
            assert_eq!(back, bytes, "{at}");
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), HEADER + RING);
    }
}
