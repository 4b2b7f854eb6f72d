//! Snapshots: checkpoints kept by name. Taking one makes a checkpoint and records it in the catalogue; no page is
//! copied. Dropping one makes a checkpoint whose catalogue does not list it. The pages that only it held are then freed
//! in steps (`dropped`).
//!
//! 1. The catalogue changes with a checkpoint: the change is recorded in the sidecar at the flip, made while the
//!    checkpoint is built, and in force at the switch. If the checkpoint's owner dies, all or nothing of it takes
//!    effect.
//! 2. Every snapshot has a checkpoint of its own.
//! 3. A process that has a snapshot open holds a shared lock on a byte of the store file (`claim`). A process that
//!    drops the snapshot locks that byte exclusively until the catalogue that does not list it is in force. A process
//!    that opens a snapshot reads the catalogue after it has locked the byte. If it locks the byte after the dropping
//!    process died and before that checkpoint ends, it can still read the snapshot: pages are freed only while no
//!    process holds the byte.

use crate::error::{Error, Result};
use crate::page::format::catalogue::{self, MAX_SNAPSHOTS, Snapshot, check_name};
use crate::page::format::claim::{BYTE_CLAIM, no_snapshot};
use crate::page::format::meta::Link;
use crate::page::format::page_table::{Entry, Tree};
use crate::page::pager::Pager;
use crate::page::shared::header::next_checkpoint::{BUILDING, WRITING, WRITTEN};
use crate::page::shared::layout::{self, DROPPED_SLOTS};
use crate::page::shared::word::Word;
use crate::raw::failpoint::fail_point;
use crate::raw::files::file;
use crate::raw::files::file::Ofd;
use crate::raw::process;
use std::sync::atomic::Ordering;

const NOTHING: u64 = 0;
const ADD: u64 = 1;
const DROP: u64 = 2;

/// The change that a checkpoint makes to the catalogue.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    Nothing,
    Add(&'a str),
    Drop(&'a Snapshot),
}

/// Number of words of the request in the sidecar. To add: time, length of the name, the name. To drop: checkpoint, root
/// | height << 32, checksum of the root.
const WORDS: usize = 2 + catalogue::MAX_NAME.div_ceil(8);

/// The lock byte of a snapshot that the checkpointer is dropping.
struct Byte<'p>(&'p Pager, u64);

impl<'p> Byte<'p> {
    /// Lock the byte. Return `Error::InUse` while the snapshot is open. It uses the descriptor of this process's mark,
    /// which is open even if this process may no longer open the file.
    fn take(pager: &'p Pager, snapshot: &Snapshot) -> Result<Byte<'p>> {
        let byte = BYTE_CLAIM + snapshot.checkpoint;
        if file::ofd_lock(&pager.registration()?.mark, byte, Ofd::Exclusive)? {
            return Ok(Byte(pager, byte));
        }
        Err(Error::InUse {
            what: format!("the snapshot {:?}", snapshot.name),
            holder: process::lock_holder(&*pager.file().using()?, byte),
        })
    }
}

/// The change that the checkpoint makes to the catalogue: nothing, add, drop.
const CK_REQUEST: Word = Word::at(1088);

impl Drop for Byte<'_> {
    fn drop(&mut self) {
        if let Ok(reg) = self.0.registration() {
            let _ = file::ofd_lock(&reg.mark, self.1, Ofd::None);
        }
    }
}

impl Pager {
    /// At the flip: record the change that the checkpoint makes to the catalogue, and ensure that there is room.
    pub(crate) fn note_request(&self, request: &Request<'_>) -> Result<()> {
        self.take_keep_request();
        let words = self.shm().words(layout::REQUEST, WORDS);
        let kind = match request {
            Request::Nothing => NOTHING,
            Request::Add(name) => {
                self.expect_free(2)?;
                words[0].store(process::coarse_now(), Ordering::Relaxed);
                words[1].store(name.len() as u64, Ordering::Relaxed);
                for (word, bytes) in words[2..].iter().zip(name.as_bytes().chunks(8)) {
                    let mut b = [0; 8];
                    b[..bytes.len()].copy_from_slice(bytes);
                    word.store(u64::from_le_bytes(b), Ordering::Relaxed);
                }
                ADD
            }
            Request::Drop(s) => {
                let tree = u64::from(s.tree.root.physical) | u64::from(s.tree.height) << 32;
                for (word, value) in words.iter().zip([s.checkpoint, tree, s.tree.root.sum]) {
                    word.store(value, Ordering::Relaxed);
                }
                DROP
            }
        };
        self.shm().set(CK_REQUEST, kind);
        Ok(())
    }

    pub(crate) fn forget_request(&self) {
        self.shm().set(CK_REQUEST, NOTHING);
    }

    fn requested_name(&self) -> String {
        let words = self.shm().words(layout::REQUEST, WORDS);
        let len = (words[1].load(Ordering::Relaxed) as usize).min(catalogue::MAX_NAME);
        let bytes: Vec<u8> = words[2..]
            .iter()
            .flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes())
            .take(len)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Return the catalogue of the checkpoint being made: the last one's, or one with the request applied.
    pub(crate) fn build_catalogue(&self, epoch: u64, tree: Tree, logical: u64) -> Result<Link> {
        let old = self.catalogue_link();
        Ok(self.changed_catalogue(old, epoch, tree, logical)?.unwrap_or(old))
    }

    fn changed_catalogue(&self, old: Link, epoch: u64, tree: Tree, logical: u64) -> Result<Option<Link>> {
        let request = self.shm().get(CK_REQUEST);
        if request == NOTHING && !self.is_to_keep() {
            return Ok(None);
        }
        let Ok(mut all) = catalogue::read(&*self.file().using()?, old) else {
            // The catalogue was damaged after the request. The checkpoint continues without it, and the requester
            // checks the result.
            self.step(|pager, _| {
                pager.forget_request();
                Ok(())
            })?;
            return Ok(None);
        };
        let kept = self.keep_in(&mut all)?;
        if request == NOTHING && !kept {
            return Ok(None);
        }
        let number = self.shm().words(layout::REQUEST, WORDS)[0].load(Ordering::Relaxed);
        if request == ADD {
            all.push(Snapshot {
                name: self.requested_name(),
                checkpoint: epoch,
                time: number,
                pages: logical,
                tree,
                next_id: self.shm().next_checkpoint().next_id(),
            });
        } else if request == DROP {
            all.retain(|s| s.checkpoint != number);
        }
        // No snapshot holds its pages, so they are freed as if they had belonged to this epoch.
        let list = epoch as usize % 3;
        let pages = catalogue::pages(&*self.file().using()?, old);
        self.step(|pager, _| {
            pages.iter().try_for_each(|page| {
                let replaced = u64::from(*page) | epoch << 32;
                pager.shm().list_push(
                    list,
                    [crate::page::shared::regions::free_pages::NODE_OLD, 0, replaced],
                )
            })
        })?;
        let link = catalogue::write(&all, |page| self.write_node(epoch as u32, page))?;
        fail_point!("snapshot.catalogue");
        Ok(Some(link))
    }

    /// Run the part of the switch that concerns snapshots. It can be repeated.
    pub(crate) fn switch_catalogue(&self) {
        if self.shm().get(CK_REQUEST) == DROP {
            let words = self.shm().words(layout::REQUEST, WORDS);
            let [number, tree, sum] = [0, 1, 2].map(|i: usize| words[i].load(Ordering::Relaxed));
            let tree = Tree {
                root: Entry {
                    physical: tree as u32,
                    birth: number as u32,
                    sum,
                },
                height: (tree >> 32) as u32,
            };
            self.add_dropped(number, tree, self.shm().next_checkpoint().epoch());
            fail_point!("snapshot.dropping");
            self.shm().set(CK_REQUEST, NOTHING);
        }
        self.has_kept_it();
        let catalogue = self.shm().next_checkpoint().catalogue();
        self.shm().last_checkpoint().set_catalogue(catalogue);
    }

    /// Return whether any process has a snapshot open.
    pub(crate) fn is_claimed(&self, checkpoint: u64) -> Result<bool> {
        file::ofd_is_held(
            &self.registration()?.mark,
            BYTE_CLAIM + checkpoint,
            Ofd::Exclusive,
        )
    }

    /// Return the snapshots, oldest first.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        self.slot()?;
        // A dead process's checkpoint that can only be completed: its change to the catalogue already counts.
        if !self.is_read_only()
            && matches!(self.shm().next_checkpoint().phase(), WRITING | WRITTEN)
            && self.shm().get(CK_REQUEST) != NOTHING
            && self.depth() == 0
        {
            self.with_checkpoint(|_| Ok(()))?;
        }
        catalogue::newest(&*self.file().using()?).map(|found| found.1)
    }

    /// Run `f` as the checkpointer with no checkpoint in progress. Errors are worded for snapshots.
    fn as_checkpointer<R>(&self, f: impl FnOnce(&Pager, Vec<Snapshot>) -> Result<R>) -> Result<R> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        if self.depth() > 0 {
            return Err(Error::invalid(
                "snapshots are taken and dropped outside transactions: commit it first",
            ));
        }
        self.recover_dead_processes(None)?;
        self.with_checkpoint(|pager| {
            let all = catalogue::read(&*pager.file().using()?, pager.catalogue_link())?;
            f(pager, all)
        })
    }

    /// Make a checkpoint that applies a request.
    fn checkpoint_with(&self, request: &Request<'_>) -> Result<()> {
        self.dirty_epoch()?;
        self.flip(request)?;
        fail_point!("snapshot.flipped");
        let done = self.resume_checkpoint();
        if done.is_err() && self.shm().next_checkpoint().phase() == BUILDING {
            // A later checkpoint is built without this request.
            self.forget_request();
        }
        done
    }

    /// Keep the current state under a name. This makes a checkpoint.
    pub fn take_snapshot(&self, name: &str) -> Result<Snapshot> {
        check_name(name)?;
        self.as_checkpointer(|pager, all| {
            if all.iter().any(|s| s.name == name) {
                return Err(Error::SnapshotExists {
                    name: name.to_owned(),
                });
            }
            if all.len() >= MAX_SNAPSHOTS {
                return Err(Error::TooMany {
                    what: "snapshots",
                    limit: MAX_SNAPSHOTS,
                });
            }
            pager.checkpoint_with(&Request::Add(name))?;
            // Read the catalogue back, to report what is stored.
            catalogue::read(&*pager.file().using()?, pager.catalogue_link())?
                .into_iter()
                .find(|s| s.name == name)
                .ok_or_else(|| no_snapshot(name))
        })
    }

    /// Delete a snapshot. Return `Error::InUse` while any process has it open. The pages that only it held are freed
    /// now as far as possible, and otherwise by later checkpoints.
    pub fn drop_snapshot(&self, name: &str) -> Result<()> {
        self.as_checkpointer(|pager, all| {
            let Some(found) = all.iter().find(|s| s.name == name) else {
                return Err(no_snapshot(name));
            };
            let mut turns = 0;
            while pager.shm().dropped().len() >= DROPPED_SLOTS - 2 {
                if pager.shm().space().unknown_below() != 0 {
                    // Nothing is freed before the free map is complete.
                    pager.rebuild_some()?;
                    continue;
                }
                if pager.free_some_dropped()? {
                    continue;
                }
                // The checkpoint before the last may still hold the last of them.
                turns += 1;
                if turns < 3 {
                    pager.checkpoint_with(&Request::Nothing)?;
                } else {
                    return Err(Error::TooMany {
                        what: "dropped snapshots that are still open in a process",
                        limit: DROPPED_SLOTS - 2,
                    });
                }
            }
            let _byte = Byte::take(pager, found)?;
            pager.checkpoint_with(&Request::Drop(found))?;
            let left = catalogue::read(&*pager.file().using()?, pager.catalogue_link())?;
            if left.iter().any(|s| s.checkpoint == found.checkpoint) {
                return Err(Error::invalid("the snapshot could not be dropped: try again"));
            }
            Ok(())
        })?;
        fail_point!("snapshot.dropped");
        // The snapshot is deleted. Its space is freed now if this succeeds, otherwise by later checkpoints.
        if self.checkpoint_always().is_ok() {
            let _ = self.free_dropped();
        }
        Ok(())
    }

    /// Free the pages that only dropped snapshots held, in steps between which other processes may make checkpoints.
    pub fn free_dropped(&self) -> Result<()> {
        while self.with_checkpoint(Pager::free_some_dropped)? {}
        Ok(())
    }
}
