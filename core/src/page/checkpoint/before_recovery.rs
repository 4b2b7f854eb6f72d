//! The checkpoint before an inherited session. It is the state to return to if the changes left by dead processes turn
//! out to be damaged.
//!
//! A session that continues from the sidecar of dead processes trusts pages that no flush has covered. If the disk has
//! lost some of them (it was rolled back below the filesystem), the next checkpoint makes the damage durable.
//!
//! 1. The takeover of an unsealed sidecar with changes records the newest checkpoint in `KEEP`. The next checkpoint
//!    lists it in its catalogue as a snapshot (`snapshot`), so the rules of snapshots keep its pages (`dropped`).
//! 2. The flip copies the word (to `CK_KEEP`), and the switch clears both. A checkpoint that the dead session had
//!    begun lists only what it had begun with; the checkpoint after it then lists the kept one. Until then the
//!    checkpoints of both meta pages are complete (I1).
//! 3. One checkpoint is kept at a time: the older one, because later ones may already be damaged.
//! 4. It is dropped by a clean close after the whole store was verified (`store::close`), or by the user.
//! 5. On a full disk, or with a full catalogue, no checkpoint is kept, and a warning is logged. The new checkpoint
//!    itself is not refused.

use crate::error::{Error, Result};
use crate::page::format::catalogue::{self, MAX_SNAPSHOTS, Snapshot};
use crate::page::format::meta::{Link, Meta};
use crate::page::format::page_table::{Entry, Tree};
use crate::page::pager::Pager;
use crate::page::shared::word::Word;
use crate::raw::process;

/// The checkpoint that the next one lists as a snapshot (0: none), and the time of the takeover that asked for it.
const KEEP: Word = Word::at(1120);
const KEEP_TIME: Word = Word::at(1128);
/// The part of `KEEP` that the current checkpoint took at its flip.
const CK_KEEP: Word = Word::at(1136);

/// Prefix of the name of a kept checkpoint; its number follows.
const NAME: &str = "before-recovery-";

fn name_of(checkpoint: u64) -> String {
    format!("{NAME}{checkpoint}")
}

/// Return whether a snapshot is a kept checkpoint.
fn is_kept(snapshot: &Snapshot) -> bool {
    snapshot.name == name_of(snapshot.checkpoint)
}

impl Pager {
    /// At a takeover: record the checkpoint from which the dead session continued, if the session `changed` something.
    pub(in crate::page) fn request_keep(&self, meta: &Meta, changed: bool) {
        // A store without a page has no state to return to.
        let keep = if changed && meta.logical > 0 {
            meta.checkpoint
        } else {
            0
        };
        self.shm().set(KEEP, keep);
        self.shm().set(KEEP_TIME, process::coarse_now());
        self.shm().set(CK_KEEP, 0);
    }

    /// At a flip: have the checkpoint list the one that is to be kept, if there is room.
    pub(in crate::page) fn take_keep_request(&self) {
        let keep = self.shm().get(KEEP);
        if keep != 0
            && let Err(e) = self.expect_free(2)
        {
            log::warn!(
                "{}: checkpoint {keep}, which dead processes went on from, is not kept: {e}",
                self.path().display()
            );
            self.shm().set(KEEP, 0);
        }
        self.shm().set(CK_KEEP, self.shm().get(KEEP));
    }

    /// Return whether the current checkpoint is to list an older one.
    pub(in crate::page) fn is_to_keep(&self) -> bool {
        self.shm().get(CK_KEEP) != 0
    }

    /// At the switch: the kept checkpoint is listed.
    pub(in crate::page) fn has_kept_it(&self) {
        if self.is_to_keep() {
            self.shm().set(KEEP, 0);
            self.shm().set(CK_KEEP, 0);
        }
    }

    /// While a checkpoint is built: add the one that is to be kept to its catalogue. Return whether that changed the
    /// catalogue.
    pub(in crate::page) fn keep_in(&self, all: &mut Vec<Snapshot>) -> Result<bool> {
        let keep = self.shm().get(CK_KEEP);
        // No page of the last two checkpoints was freed.
        if keep == 0
            || keep + 1 < self.shm().last_checkpoint().number()
            || all.iter().any(|s| s.checkpoint >= keep || is_kept(s))
        {
            return Ok(false);
        }
        if all.len() + 1 >= MAX_SNAPSHOTS {
            log::warn!(
                "{}: checkpoint {keep}, which dead processes went on from, is not kept: there are {} snapshots",
                self.path().display(),
                all.len()
            );
            return Ok(false);
        }
        let Some(meta) = Meta::read(&*self.file().using()?, keep % 2)?.filter(|m| m.checkpoint == keep)
        else {
            return Ok(false);
        };
        all.push(Snapshot {
            name: name_of(keep),
            checkpoint: keep,
            time: self.shm().get(KEEP_TIME),
            pages: meta.logical,
            tree: Tree {
                root: Entry {
                    physical: meta.root,
                    birth: keep as u32,
                    sum: meta.root_sum,
                },
                height: meta.height,
            },
            next_id: meta.next_id,
        });
        Ok(true)
    }

    /// Return the kept checkpoint, if there is one.
    pub(crate) fn kept(&self) -> Result<Option<Snapshot>> {
        let link = self.catalogue_link();
        if link == Link::default() {
            return Ok(None);
        }
        Ok(catalogue::read(&*self.file().using()?, link)?
            .into_iter()
            .find(is_kept))
    }

    /// Return whether this session has, or is to have, a kept checkpoint.
    pub(crate) fn has_kept(&self) -> bool {
        !self.is_read_only() && (self.shm().get(KEEP) != 0 || matches!(self.kept(), Ok(Some(_))))
    }

    /// Drop the kept checkpoint: the store was verified.
    pub(crate) fn drop_kept(&self) -> Result<()> {
        self.with_checkpoint(|pager| {
            pager.step(|pager, _| {
                pager.shm().set(KEEP, 0);
                Ok(())
            })
        })?;
        match self.kept()? {
            Some(kept) => match self.drop_snapshot(&kept.name) {
                // It is being read: the next clean close drops it.
                Err(Error::InUse { .. }) => Ok(()),
                done => done,
            },
            None => Ok(()),
        }
    }

    /// Return an error of damage, with the kept checkpoint to return to, if there is one.
    #[cold]
    pub(crate) fn with_kept_checkpoint(&self, error: Error) -> Error {
        match error {
            Error::Corrupt { what, at } => match self.kept_checkpoint_name() {
                Some(kept) => Error::Damaged {
                    what,
                    at,
                    path: self.path().to_path_buf(),
                    kept,
                },
                None => Error::Corrupt { what, at },
            },
            e => e,
        }
    }

    /// Return the name of the kept checkpoint, or of the one that the next checkpoint lists.
    pub(crate) fn kept_checkpoint_name(&self) -> Option<String> {
        match self.shm().get(KEEP) {
            0 => self.kept().ok().flatten().map(|s| s.name),
            soon => Some(name_of(soon)),
        }
    }
}
