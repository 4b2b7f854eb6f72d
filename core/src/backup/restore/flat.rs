//! The places of the pages of a store under construction.

use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::page::format::page_table::{Entry, FANOUT};
use crate::raw::files::place::NewFile;
use crate::raw::files::place::write_error;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const PAGE: u64 = PAGE_SIZE as u64;

/// The place of each logical page, by its number: 16 bytes each, in the format of a page table entry, so that
/// a block of this file has the format of a leaf. Takes disk space only for existing pages.
pub(super) struct Flat {
    file: NewFile,
    pub(super) block: Box<[u8; PAGE_SIZE]>,
    number: u64,
    dirty: bool,
}

impl Flat {
    pub(super) fn new(beside: &Path) -> Result<Flat> {
        Ok(Flat {
            file: NewFile::new(beside)?,
            block: Box::new([0; PAGE_SIZE]),
            number: 0,
            dirty: false,
        })
    }

    pub(super) fn load(&mut self, number: u64) -> Result<()> {
        if self.number == number {
            return Ok(());
        }
        if self.dirty {
            let at = self.number * PAGE;
            let written = self.file.file().write_all_at(self.block.as_slice(), at);
            written.map_err(|e| write_error("a temporary file beside the restored store", e))?;
        }
        (self.number, self.dirty) = (number, false);
        self.block.fill(0);
        let mut n = 0;
        while n < PAGE_SIZE {
            match self
                .file
                .file()
                .read_at(&mut self.block[n..], number * PAGE + n as u64)
            {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("cannot read a temporary file", e)),
            }
        }
        Ok(())
    }

    pub(super) fn get(&mut self, page: u64) -> Result<Entry> {
        self.load(page / FANOUT)?;
        Ok(Entry::read(&self.block, (page % FANOUT) as usize))
    }

    pub(super) fn set(&mut self, page: u64, entry: Entry) -> Result<()> {
        self.load(page / FANOUT)?;
        entry.write(&mut self.block, (page % FANOUT) as usize);
        self.dirty = true;
        Ok(())
    }
}
