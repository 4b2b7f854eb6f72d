//! Reading the durable page table: verifying pages, finding the root, and filling an entry of the live table on demand.
//! The format and its invariants: `format::page_table`.

use crate::error::{Error, Result};
use crate::ids::{ObjectId, PAGE_SIZE, PhysicalPage};
use crate::page::format::page_table::{Entry, MAX_HEIGHT, Tree, covers};
use crate::page::pager::Pager;
use crate::page::pager::state::frozen::Frozen;
use crate::page::shared::regions::free_pages::ABSENT;

impl Pager {
    /// Return a page of the durable tree, or a data page of the last checkpoint, verified.
    pub(crate) fn verified(&self, entry: Entry, what: &'static str) -> Result<&[u8; PAGE_SIZE]> {
        let at = u64::from(entry.physical) * PAGE_SIZE as u64;
        if entry.physical < 2 || u64::from(entry.physical) >= self.shm().space().file_pages() {
            return Err(Error::Corrupt {
                what: "a page number beyond the file (offset)",
                at,
            });
        }
        // SAFETY: pages of a checkpoint are never written while it can be reached (I1), and the caller is in a section
        // or runs the checkpoint, so it stays reachable.
        let page = unsafe { self.map().page(PhysicalPage(entry.physical)) }?;
        if entry.fits(page) {
            return Ok(page);
        }
        let Some(follow) = self.following() else {
            return Err(Error::Corrupt { what, at });
        };
        self.keep_copy(follow, entry, what)?;
        // SAFETY: as above: the copy is complete, and it is not made again while it matches its checksum.
        unsafe { self.map().page(PhysicalPage(entry.physical)) }
    }

    /// Return the durable root and the height of its tree. Every checkpoint writes a new root.
    pub(crate) fn root(&self) -> (Entry, u32) {
        let last = self.shm().last_checkpoint();
        let [word, sum] = last.root();
        (
            Entry {
                physical: word as u32,
                birth: last.number() as u32,
                sum,
            },
            (word >> 32) as u32,
        )
    }

    /// Return the durable tree's entry of a logical page.
    pub(crate) fn look_up(&self, page: u64) -> Result<Option<Entry>> {
        let (mut entry, mut height) = self.root();
        if height > MAX_HEIGHT {
            return Err(Error::Corrupt {
                what: "the page table is too high (levels)",
                at: u64::from(height),
            });
        }
        if page >= covers(height) {
            return Ok(None);
        }
        while height > 0 && entry.physical != 0 {
            height -= 1;
            let node = self.verified(
                entry,
                "a page of the page table does not match its checksum (file offset)",
            )?;
            entry = Entry::read(node, (page >> (8 * height) & 0xff) as usize);
        }
        // A page with a later birth would count as one of the current epoch, which may be written.
        if u64::from(entry.birth) > self.shm().last_checkpoint().number() {
            return Err(Error::Corrupt {
                what: "a page that is younger than its checkpoint (file offset)",
                at: u64::from(entry.physical) * PAGE_SIZE as u64,
            });
        }
        Ok((entry.physical != 0).then_some(entry))
    }

    /// Fill the live table's entry of a page from the durable tree. Called inside a section; `holds` returns whether
    /// everything loaded so far is consistent.
    ///
    /// The check is made before the entry is stored, and an entry that is right then stays right: an entry of 0 belongs
    /// to a page that was not changed since the sidecar was made, so every checkpoint since has it in the same place.
    #[cold]
    pub(crate) fn fill(&self, page: u64, holds: impl FnOnce() -> bool) -> Result<u64> {
        let word = match self.look_up(page)? {
            Some(e) => {
                self.verified(e, "a page does not match its checksum (file offset)")?;
                e.live()
            }
            None => ABSENT,
        };
        if !holds() {
            return Err(Error::Busy(ObjectId(0)));
        }
        Ok(self.shm().fill_entry(page, word))
    }

    /// Return the page table that the opening shows.
    pub(crate) fn frozen_tree(&self, frozen: &Frozen) -> Tree {
        let (root, height) = self.root();
        frozen.snapshot.as_ref().map_or(Tree { root, height }, |s| s.tree)
    }
}
