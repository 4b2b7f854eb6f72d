//! Finding the newest checkpoint of a store file by its meta pages, and checking whether a file is blank. These
//! functions never write.

use crate::error::{Error, Result, open_error, refused};
use crate::ids::PAGE_SIZE;
use crate::page::format::meta::{Bad, FIRST_PAGES, Meta};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Return the error of a file that holds no store.
pub(in crate::page) fn not_a_store(path: &Path, why: impl Into<String>) -> Error {
    Error::NotAStore {
        path: path.to_owned(),
        why: why.into(),
    }
}

/// Return the length of a store's file, which must be a regular file.
pub(in crate::page) fn file_length(file: &File, path: &Path) -> Result<u64> {
    let data = file.metadata().map_err(|e| open_error(path, e))?;
    if !data.is_file() {
        return Err(not_a_store(path, "not a regular file"));
    }
    Ok(data.len())
}

/// Return whether the file is new, or its creation was interrupted: it holds only zeros and is no longer than a fresh
/// store; a part of the first meta page may be present. Any other file must not be overwritten.
pub(in crate::page) fn is_blank(file: &File, path: &Path) -> Result<bool> {
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

pub(in crate::page) fn read_up_to(file: &File, buf: &mut [u8], at: u64) -> std::io::Result<usize> {
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

/// Return the valid meta page with the higher number, and its checksum.
pub(in crate::page) fn newest_meta(file: &File, path: &Path) -> Result<(Meta, u64)> {
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
        return Err(not_a_store(path, why));
    };
    if !meta.is_possible() {
        return Err(not_a_store(path, "its meta page holds impossible numbers"));
    }
    Ok((meta, sum))
}
