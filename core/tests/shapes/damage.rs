//! A store's file as editable pages. The checksums above a changed page are made valid again, so that the layers above
//! the page manager meet the damage.

use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

pub const PAGE: usize = 4096;

/// The bytes of a file.
pub struct Image {
    pub bytes: Vec<u8>,
}

/// The content of the newest meta page.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    pub page: usize,
    pub checkpoint: u64,
    pub root: u32,
    pub height: u32,
    pub logical: u64,
}

fn u64_in(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
}

fn put(b: &mut [u8], at: usize, value: u64) {
    b[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

impl Image {
    pub fn load(path: &Path) -> Image {
        Image {
            bytes: std::fs::read(path).unwrap(),
        }
    }

    pub fn save(&self, path: &Path) {
        std::fs::write(path, &self.bytes).unwrap();
    }

    pub fn pages(&self) -> usize {
        self.bytes.len() / PAGE
    }

    pub fn page(&mut self, physical: usize) -> &mut [u8] {
        &mut self.bytes[physical * PAGE..(physical + 1) * PAGE]
    }

    pub fn meta(&self) -> Meta {
        let number = |i: usize| u64_in(&self.bytes, i * PAGE + 32);
        let page = usize::from(number(1) > number(0));
        let word = u64_in(&self.bytes, page * PAGE + 40);
        Meta {
            page,
            checkpoint: number(page),
            root: word as u32,
            height: (word >> 32) as u32,
            logical: u64_in(&self.bytes, page * PAGE + 64),
        }
    }

    /// Change a word of a meta page and make its checksum valid.
    pub fn set_meta(&mut self, page: usize, at: usize, value: u64) {
        let b = self.page(page);
        put(b, at, value);
        let sum = xxh3_64(&b[..PAGE - 8]);
        put(b, PAGE - 8, sum);
    }

    /// Copy the newest checkpoint over the one before, so that changes of one's pages do not appear as damage of the
    /// other's.
    pub fn copy_newest_over_previous(&mut self) {
        let meta = self.meta();
        let newest = self.page(meta.page).to_vec();
        let other = 1 - meta.page;
        self.page(other).copy_from_slice(&newest);
        self.set_meta(other, 32, meta.checkpoint - 1);
    }

    /// The physical pages on the path to a logical page, the root first, and the place in each that names the next one.
    /// None if the file has no such page.
    pub fn way(&self, logical: u64) -> Option<Vec<(usize, usize)>> {
        let meta = self.meta();
        let (mut physical, mut level) = (meta.root as usize, meta.height);
        let mut way = Vec::new();
        while level > 0 && physical != 0 {
            level -= 1;
            if level >= 4 || physical >= self.pages() {
                return None;
            }
            let entry = (logical >> (8 * level) & 0xff) as usize * 16;
            way.push((physical, entry));
            physical = u64_in(&self.bytes, physical * PAGE + entry) as u32 as usize;
        }
        way.push((physical, 0));
        (physical != 0 && physical < self.pages()).then_some(way)
    }

    /// All logical pages and their physical pages.
    pub fn mapped(&self) -> Vec<(u64, usize)> {
        (0..self.meta().logical.min(1 << 20))
            .filter_map(|l| self.way(l).map(|way| (l, way[way.len() - 1].0)))
            .collect()
    }

    /// Physical pages of the page table, the root first.
    pub fn nodes(&self) -> Vec<usize> {
        let mut nodes: Vec<usize> = Vec::new();
        for (logical, _) in self.mapped() {
            let way = self.way(logical).unwrap_or_default();
            for &(physical, _) in &way[..way.len() - 1] {
                if !nodes.contains(&physical) {
                    nodes.push(physical);
                }
            }
        }
        nodes
    }

    /// Make the checksums of a logical page and of everything above it valid.
    pub fn mend(&mut self, logical: u64) {
        let Some(way) = self.way(logical) else { return };
        for pair in way.windows(2).rev() {
            let ((parent, entry), (child, _)) = (pair[0], pair[1]);
            let sum = xxh3_64(self.page(child));
            put(self.page(parent), entry + 8, sum);
        }
        self.mend_root();
    }

    /// Make the checksum of the page table's root valid, in both meta pages if they share it.
    pub fn mend_root(&mut self) {
        let meta = self.meta();
        if meta.root as usize >= self.pages() {
            return;
        }
        let sum = xxh3_64(self.page(meta.root as usize));
        for page in 0..2 {
            if u64_in(&self.bytes, page * PAGE + 40) as u32 == meta.root {
                self.set_meta(page, 48, sum);
            }
        }
    }

    /// Change a logical page so that the lower layers do not detect it.
    pub fn edit(&mut self, logical: u64, f: impl FnOnce(&mut [u8])) {
        let way = self.way(logical).expect("a page that is there");
        f(self.page(way[way.len() - 1].0));
        self.mend(logical);
    }

    /// The word at a logical address.
    pub fn word(&self, addr: u64) -> u64 {
        let way = self.way(addr / PAGE as u64).expect("a page that is there");
        u64_in(
            &self.bytes,
            way[way.len() - 1].0 * PAGE + (addr % PAGE as u64) as usize,
        )
    }

    /// Change the word at a logical address so that the lower layers do not detect it.
    pub fn set_word(&mut self, addr: u64, value: u64) {
        self.edit(addr / PAGE as u64, |b| {
            put(b, (addr % PAGE as u64) as usize, value)
        });
    }
}
