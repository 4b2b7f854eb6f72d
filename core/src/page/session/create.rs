//! Creating a store: its first checkpoint, and its superblock.

use crate::error::{Error, Result};
use crate::ids::{Addr, PAGE_SIZE};
use crate::page::access::Pages;
use crate::page::format::meta::{FIRST_PAGES, Link, Meta, Origin};
use crate::page::pager::Pager;
use crate::page::superblock as sb;
use crate::page::sync::wait::Wait;
use crate::raw::files::file;
use crate::raw::process::{self};
use std::fs::File;
use std::path::Path;

impl Pager {
    /// Create the superblock of a store that has none yet: no process has opened it so far, or the one that did died
    /// before it was done.
    pub(super) fn create_superblock(&self) -> Result<()> {
        if self.read_held(|section| section.has_superblock())? {
            return Ok(());
        }
        self.shm().live().set_logical(0);
        let mut section = self.write(&mut Wait::default())?;
        section.create_superblock()?;
        section.whole()?;
        section.commit();
        Ok(())
    }

    pub(super) fn check_superblock(&self) -> Result<()> {
        if self.shm().live().logical() == 0 {
            return Err(Error::NotAStore {
                path: self.path().to_path_buf(),
                why: "it was never completed; open it for writing once".to_owned(),
            });
        }
        let (magic, next) =
            self.read_held(|section| Ok((section.u64_at(sb::MAGIC)?, section.u64_at(sb::NEXT_PAGE)?)))?;
        if magic != sb::MAGIC_VALUE {
            return Err(Error::corrupt("no superblock in logical page 0", Addr(0)));
        }
        if next > self.shm().live().logical() {
            return Err(Error::corrupt("more pages in use than there are", sb::NEXT_PAGE));
        }
        Ok(())
    }
}

/// Write checkpoint 1: an empty page table. It and the file's name are on disk before anything else is written, so that
/// an interrupted creation can be recognized.
pub(in crate::page) fn create_store(file: &File, path: &Path, flush: bool) -> Result<()> {
    file::in_place(file);
    file::allocate(file, 0, FIRST_PAGES * PAGE_SIZE as u64, "the store file")?;
    let meta = Meta {
        uuid: [process::random_u64(), process::random_u64()],
        checkpoint: 1,
        root: 0,
        height: 0,
        root_sum: 0,
        file_pages: FIRST_PAGES,
        logical: 0,
        next_id: 1,
        seed: process::random_u64(),
        catalogue: Link::default(),
        log: crate::page::format::log_record::Place::default(),
        origin: Origin::default(),
    };
    file::write_meta(file, &meta.encode(), PAGE_SIZE as u64)
        .map_err(|e| Error::io("cannot write the meta page", e))?;
    if !flush {
        return Ok(());
    }
    file::flush(file).map_err(|e| Error::io("cannot flush the new store file", e))?;
    // If the directory cannot be opened or flushed (permissions, some filesystems), do not fail.
    if let Some(dir) = path.parent().and_then(|dir| File::open(dir).ok()) {
        let _ = dir.sync_all();
    }
    Ok(())
}
