//! Windows on files: their bytes as every process sees them, and where they have data.
//!
//! A `Window` shows a file's current bytes. Pages beyond its end must not be touched: callers check `len` first, and no
//! process shortens a file while a window reads it.

use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Where a file has data: ranges of pages.
pub fn data_pages(file: &File) -> Vec<std::ops::Range<u64>> {
    use std::os::fd::AsRawFd;
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        // SAFETY: plain system calls on an open descriptor.
        let (from, to) = unsafe {
            let from = libc::lseek(file.as_raw_fd(), at, libc::SEEK_DATA);
            if from < 0 {
                return out;
            }
            (from, libc::lseek(file.as_raw_fd(), from, libc::SEEK_HOLE))
        };
        out.push(from as u64 / 4096..(to as u64).div_ceil(4096));
        at = to;
    }
}

/// A page's bytes.
pub type Page = [u64; 512];

/// A file's bytes, as every process sees them.
#[derive(Debug)]
pub struct Window {
    map: MmapRaw,
    file: File,
    pages: u64,
}

impl Window {
    /// Map a file of at most `pages` pages.
    pub fn new(file: File, pages: u64) -> Window {
        let map = MmapOptions::new()
            .len(pages as usize * 4096)
            .no_reserve_swap()
            .map_raw_read_only(&file)
            .expect("map");
        Window { map, file, pages }
    }

    /// The file's length.
    pub fn len(&self) -> u64 {
        self.file.metadata().expect("fstat").len()
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The current content of a page. It is not torn: every process that could write it is stopped.
    pub fn page(&self, page: u64) -> &Page {
        assert!(page < self.pages);
        // SAFETY: inside the mapping and (the caller checked) the file; page-aligned; the only process that could write
        // it is stopped or dead, and any bytes are valid words.
        unsafe { &*self.map.as_ptr().add(page as usize * 4096).cast::<Page>() }
    }

    /// Writes a page.
    pub fn write(&self, page: u64, words: &Page) {
        let mut bytes = [0u8; 4096];
        for (b, w) in bytes.chunks_exact_mut(8).zip(words) {
            b.copy_from_slice(&w.to_ne_bytes());
        }
        self.file.write_all_at(&bytes, page * 4096).expect("write");
    }
}
