//! Removed files that are still open.
//!
//! 1. When a command removes or replaces a file that is open, the entry moves, with its metadata, into a dict that
//!    nothing refers to, in the same operation. The inode means that entry from then on: all open files keep one
//!    content, one mode and one size, and no other door sees it.
//! 2. A pin of the inode keeps the dict. It is freed when the kernel forgets the inode, which is after the last close,
//!    or after the death of the process.
//! 3. The file has no type any more: its value is bytes, so that every write is stored in place. (A large str stays
//!    one.)
//! 4. A program may have looked up a file that is then removed or replaced while it is not open, and open it
//!    afterwards. The error is ESTALE, after which the kernel looks up the path again, once; for a while from then on
//!    all removed files are kept. An open waits while the inode is `closing`: from the decision whether it is open
//!    until that is recorded.
//! 5. An entry that Python removes is gone at once, also for commands that have it open.

use super::filesystem::Fs;
use crate::fs::context::lock;
use crate::fs::error::FsResult;
use crate::fs::known::inodes::{Inodes, Place, Slot, Spot};
use crate::fs::known::list_names::Renamed;
use crate::fs::known::metadata::Mark;
use crate::fs::text::keys::OwnedKey;
use persist_core::store::{In, Key, Obj, Step, Value, Writer};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

/// The key of the entry in its dict.
const KEY: Key<'static> = Key::None;

/// The entry of a removed file.
pub(crate) fn spot_in(dict: Obj) -> Spot {
    Spot {
        parent: dict,
        slot: Slot::Key(OwnedKey::None),
    }
}

/// The file that an operation removes or replaces, and the entries that it moves. The write section may run several
/// times: its body is given to `run`.
pub(crate) struct Removal<'a> {
    fs: &'a Fs,
    /// The inode of the file that is removed. Its opens wait until the operation has ended.
    closing: Option<u64>,
    /// The inodes of entries that are moved. Their opens wait too.
    leaving: Vec<u64>,
    /// Where the entry was, and the pinned dict in which it is.
    moved: Option<(Spot, Obj)>,
    /// Other open inodes of a list item: it was found under names that it had before. Each has a pin.
    others: Vec<u64>,
    /// The places that other entries get.
    arriving: Vec<Spot>,
}

impl Fs {
    /// Wait while an operation under way keeps lookups or opens out (`is_kept_out`), for at most this long.
    pub(crate) fn await_admission<'a>(
        &self,
        mut nodes: MutexGuard<'a, Inodes>,
        at_most: Duration,
        is_kept_out: impl Fn(&Inodes) -> bool,
    ) -> MutexGuard<'a, Inodes> {
        nodes.awaited += 1;
        let waited = self
            .admission
            .wait_timeout_while(nodes, at_most, |nodes| is_kept_out(nodes));
        let mut nodes = waited.unwrap_or_else(PoisonError::into_inner).0;
        nodes.awaited -= 1;
        nodes
    }
}

impl<'a> Removal<'a> {
    /// The removal of at most one file.
    pub(crate) fn new(fs: &'a Fs) -> Removal<'a> {
        Removal {
            fs,
            closing: None,
            leaving: Vec::new(),
            moved: None,
            others: Vec::new(),
            arriving: Vec::new(),
        }
    }

    /// Run the body of the section. What it has done is taken back if it fails, or runs again.
    pub(crate) fn run<R>(&mut self, body: impl FnOnce(&mut Self) -> FsResult<R>) -> FsResult<R> {
        self.take_back();
        let done = body(self);
        if done.is_err() {
            self.take_back();
        }
        done
    }

    fn take_back(&mut self) {
        let others = std::mem::take(&mut self.others);
        if let Some((_, dict)) = self.moved.take() {
            self.fs.store.unpin(dict);
            others.iter().for_each(|_| self.fs.store.unpin(dict));
        }
        self.admit();
    }

    fn admit(&mut self) {
        if self.closing.is_none() && self.leaving.is_empty() && self.arriving.is_empty() {
            return;
        }
        let mut nodes = lock(&self.fs.inodes);
        for ino in self.closing.take().into_iter().chain(self.leaving.drain(..)) {
            nodes.set_closing(ino, false);
        }
        self.arriving.drain(..).for_each(|spot| nodes.arrived(&spot));
        if nodes.awaited > 0 {
            self.fs.admission.notify_all();
        }
    }

    /// An entry gets this place. Lookups of it wait until its inode has followed, which it has when `self` is dropped.
    pub(crate) fn arrives(&mut self, spot: &Spot) {
        lock(&self.fs.inodes).arriving(spot);
        self.arriving.push(spot.clone());
    }

    /// An entry leaves this place. Opens of its inode wait until the inode has followed: they would find there what
    /// comes after it.
    pub(crate) fn leaves(&mut self, spot: &Spot) {
        self.leaving
            .extend(lock(&self.fs.inodes).close(&Place::File(spot.clone())));
    }

    /// Return the inode of a file, if the kernel knows it. Opens of it wait until the operation has ended.
    fn close(&mut self, spot: &Spot, value: &Value) -> Option<u64> {
        if matches!(value, Value::Obj(_) | Value::Link(_)) {
            return None;
        }
        self.closing = lock(&self.fs.inodes).close(&Place::File(spot.clone()));
        self.closing
    }

    /// True if the file is open, or would be kept anyway.
    fn is_kept(&self, ino: Option<u64>) -> bool {
        ino.is_some_and(|ino| self.fs.open_files.has(ino) || self.fs.moving.keeps_all())
    }

    /// The open inodes of a list item that was found under other names.
    fn other_inodes(&self, w: &Writer<'_>, spot: &Spot) -> FsResult<Vec<u64>> {
        let Slot::Item(name) = spot.slot else {
            return Ok(Vec::new());
        };
        let list = spot.parent;
        if !self.fs.names(w, list, |l| l.were_renumbered())? {
            return Ok(Vec::new());
        }
        let item = self.fs.item(w, list, name)?;
        let mut others = Vec::new();
        for ino in self.fs.open_files.numbers() {
            let place = lock(&self.fs.inodes).place(self.fs.root, ino);
            if let Some(Place::File(Spot {
                parent,
                slot: Slot::Item(then),
            })) = place
                && parent == list
                && then != name
                && self.fs.item(w, list, then)? == item
            {
                others.push(ino);
            }
        }
        Ok(others)
    }

    /// Make the dict of a removed file.
    fn dict(&mut self, w: &mut Writer<'_>, spot: &Spot, others: &[u64]) -> FsResult<Obj> {
        let dict = w.new_dict()?;
        w.pin(dict)?;
        self.moved = Some((spot.clone(), dict));
        for ino in others {
            w.pin(dict)?;
            self.others.push(*ino);
        }
        Ok(dict)
    }

    /// Remove an entry.
    pub(crate) fn remove(
        &mut self,
        w: &mut Writer<'_>,
        spot: &Spot,
        value: &Value,
        renamed: &mut Vec<Renamed>,
    ) -> FsResult<()> {
        let ino = self.close(spot, value);
        let others = self.other_inodes(w, spot)?;
        if !self.is_kept(ino) && others.is_empty() {
            return self.fs.remove_at(w, spot, renamed);
        }
        let dict = self.dict(w, spot, &others)?;
        self.fs.move_out(w, spot, &spot_in(dict), renamed)?;
        self.as_bytes(w, dict, value)
    }

    /// An entry is about to be replaced: move its value away, and leave None in its place.
    pub(crate) fn replace(&mut self, w: &mut Writer<'_>, spot: &Spot, value: &Value) -> FsResult<()> {
        let ino = self.close(spot, value);
        let others = self.other_inodes(w, spot)?;
        if !self.is_kept(ino) && others.is_empty() {
            return Ok(());
        }
        let dict = self.dict(w, spot, &others)?;
        self.fs.guard_beside(w, spot.parent, false)?;
        w.set(dict, &KEY, &In::None)?;
        let step = self.fs.step(w, spot)?;
        w.exchange(spot.parent, &step, dict, &Step::Key(Value::None))?;
        self.as_bytes(w, dict, value)
    }

    /// The value becomes bytes.
    fn as_bytes(&self, w: &mut Writer<'_>, dict: Obj, value: &Value) -> FsResult<()> {
        if !matches!(value, Value::Bytes(_) | Value::Large(_)) {
            let content = self.fs.whole(w, value)?;
            w.set(dict, &KEY, &In::Bytes(&content))?;
        }
        Ok(())
    }

    /// The operation has happened: the inode means the entry where it is now.
    pub(crate) fn finish(&mut self) {
        let Some((from, dict)) = self.moved.take() else {
            // Another inode may get the number.
            if let Some(ino) = self.closing {
                lock(&self.fs.inodes).deleted_number(ino);
            }
            return;
        };
        let to = spot_in(dict);
        let place = Place::File(from.clone());
        let there = Place::File(to.clone());
        let mut spare = Vec::new();
        let mut nodes = lock(&self.fs.inodes);
        for ino in &self.others {
            spare.extend(nodes.removed_number(*ino, there.clone(), dict));
        }
        spare.extend(nodes.removed(&place, there.clone(), dict));
        drop(nodes);
        spare.into_iter().for_each(|dict| self.fs.store.unpin(dict));
        for ino in self.others.drain(..) {
            self.fs.locks_follow(ino);
        }
        self.fs.locks_follow(self.fs.number(&there));
        let from = Mark::Entry(from.parent.id, from.slot);
        lock(&self.fs.metadata).removed(&from, &to);
    }
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        self.take_back();
    }
}

impl Fs {
    /// True if an inode is that of a removed file that is still open.
    pub(crate) fn is_removed(&self, ino: u64, spot: &Spot) -> bool {
        matches!(spot.slot, Slot::Key(OwnedKey::None)) && lock(&self.inodes).is_removed(ino)
    }

    /// Forget what is known of a removed file whose inode the kernel forgets.
    pub(crate) fn forget_removed(&self, dict: Obj) {
        let spot = spot_in(dict);
        lock(&self.metadata).deleted(&Mark::Entry(dict.id, spot.slot));
        lock(&self.directories).forget(dict.id);
    }
}
