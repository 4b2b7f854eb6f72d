//! Looking at the files before they are used: is this a store, which checkpoint is its newest, is that its
//! sidecar? Nothing here writes.

use super::meta::{Bad, Meta};
use super::open::FIRST_PAGES;
use super::runner;
use super::shm::{self, Shm, at};
use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::raw::file;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(super) fn refused(path: &Path, why: impl Into<String>) -> Error {
    Error::Refused {
        path: path.to_owned(),
        why: why.into(),
    }
}

pub(super) fn open_error(path: &Path, e: std::io::Error) -> Error {
    let todo = match e.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => format!("; {}", remedy(&e)),
        _ => String::new(),
    };
    Error::io(format!("cannot open {}{todo}", path.display()), e)
}

/// What helps against an error of opening.
pub(super) fn remedy(e: &std::io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            "close other files, or raise the limit of open files (ulimit -n)"
        }
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            "open the store once as the user that owns that file, or get permission to read and write it"
        }
        Some(libc::ELOOP | libc::EISDIR | libc::ENXIO) => "put the regular file back that was there",
        _ => "see to what the error says, and open the store again",
    }
}

/// This process may not write there.
pub(super) fn is_forbidden(e: &std::io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM))
}

/// A new file, or one whose creation was cut short: nothing but zeros, and no longer than a fresh
/// store; the first meta page may be there in part. Anything else is not ours to overwrite.
pub(super) fn is_blank(file: &File, path: &Path) -> Result<bool> {
    let len = file.metadata().map_err(|e| open_error(path, e))?.len();
    if len > FIRST_PAGES * PAGE_SIZE as u64 {
        return Ok(false);
    }
    let mut page = [0u8; PAGE_SIZE];
    for i in 0..len.div_ceil(PAGE_SIZE as u64) {
        page.fill(0);
        let n = read_up_to(file, &mut page, i * PAGE_SIZE as u64).map_err(|e| open_error(path, e))?;
        let torn = i == 1
            && len == FIRST_PAGES * PAGE_SIZE as u64
            && matches!(Meta::decode(&page), Err(Bad::Magic | Bad::Checksum));
        if !torn && page[..n].iter().any(|b| *b != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_up_to(file: &File, buf: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match file.read_at(&mut buf[n..], at + n as u64) {
            Ok(0) => break,
            Ok(k) => n += k,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

/// The valid meta page with the higher number, and its checksum.
pub(super) fn newest_meta(file: &File, path: &Path) -> Result<(Meta, u64)> {
    let mut best: Option<(Meta, u64)> = None;
    let mut why = "the file is too short".to_owned();
    for i in 0..2u64 {
        let mut page = [0u8; PAGE_SIZE];
        if read_up_to(file, &mut page, i * PAGE_SIZE as u64).map_err(|e| open_error(path, e))? < PAGE_SIZE {
            continue;
        }
        match Meta::decode(&page) {
            Ok(m) if m.checkpoint % 2 != i => why = format!("meta page {i} is in the wrong place"),
            Ok(m) => {
                if best.is_none_or(|(b, _)| m.checkpoint > b.checkpoint) {
                    best = Some((m, Meta::sum(&page)));
                }
            }
            Err(Bad::Blank) => {}
            Err(Bad::Magic) => why = "its beginning is not a persist store's".to_owned(),
            Err(Bad::Checksum) => why = "both meta pages are damaged; restore a backup".to_owned(),
            Err(other) => {
                if let Some(why) = other.refuses() {
                    return Err(refused(path, why));
                }
            }
        }
    }
    let Some((meta, sum)) = best else {
        return Err(Error::NotAStore {
            path: path.to_owned(),
            why,
        });
    };
    if !meta.is_possible() {
        return Err(Error::NotAStore {
            path: path.to_owned(),
            why: "its meta page holds impossible numbers".to_owned(),
        });
    }
    Ok((meta, sum))
}

/// Whether a sidecar is of this layout and of this store.
pub(super) fn belongs(shm: &Shm, file: &File, meta: &Meta) -> Result<bool> {
    let id = file::identity(file).map_err(|e| Error::io("fstat", e))?;
    Ok(shm.get(at::MAGIC) == shm::MAGIC
        && shm.get(at::LAYOUT) == shm::LAYOUT
        && shm.get(at::READY) == 1
        && shm.get(at::DEV) == id.dev
        && shm.get(at::INO) == id.ino
        && shm.get(at::UUID) == meta.uuid[0]
        && shm.get(at::UUID + 8) == meta.uuid[1])
}

/// The file's newest checkpoint is the one that the sidecar builds on, or the one that it was
/// writing.
pub(super) fn is_current(head: &Header, meta: &Meta, meta_sum: u64) -> bool {
    if head.get(at::META_SUM) == meta_sum {
        return true;
    }
    matches!(
        head.get(at::CK_PHASE),
        runner::WRITING | runner::WRITTEN | runner::SWITCHING
    ) && head.get(at::CK_EPOCH) == meta.checkpoint
        && head.get(shm::META_IMAGE + PAGE_SIZE - 8) == meta_sum
}

/// The beginning of a sidecar's file: header words and the image of a meta page.
pub(super) struct Header(Box<[u8; HEADER]>);

const HEADER: usize = shm::META_IMAGE + PAGE_SIZE;

impl Header {
    /// A word.
    pub(super) fn get(&self, at: usize) -> u64 {
        let mut b = [0; 8];
        b.copy_from_slice(&self.0[at..at + 8]);
        u64::from_le_bytes(b)
    }
}

/// What the beginning of a file says of the sidecar that it is.
pub(super) enum Named {
    Whole(Header),
    /// Why it cannot be told what it is.
    Not(&'static str),
}

/// Reads the beginning of a sidecar. Maps nothing.
pub(super) fn header(side: &File) -> std::io::Result<Named> {
    let mut head = Header(Box::new([0; HEADER]));
    if read_up_to(side, &mut head.0[..], 0)? < HEADER {
        return Ok(Named::Not("was cut short"));
    }
    if head.0[..at::EPOCH].iter().all(|b| *b == 0) {
        return Ok(Named::Not("is blank"));
    }
    if head.get(at::MAGIC) != shm::MAGIC {
        return Ok(Named::Not("is not a sidecar of persist, or is damaged"));
    }
    let sum = super::seal::signature(&head.0[..]);
    // Layouts before the first with a signature have none.
    let unsigned = head.get(at::LAYOUT) as u32 <= shm::LAST_UNSIGNED && head.get(at::IDENTITY) == 0;
    if head.get(at::IDENTITY) != sum && !unsigned || head.get(at::READY) != 1 {
        return Ok(Named::Not("is damaged (header)"));
    }
    Ok(Named::Whole(head))
}
