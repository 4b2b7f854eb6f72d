//! The containers that are followed, and the events of their changes.
//!
//! 1. What this process has changed is noted in the mirror, without an event: the kernel has made it.
//! 2. A record of a change says what came or went. What an entry is now is read from the store, which may be in a later
//!    state: more records will come then.

use super::lists::{self, Fate, Splice};
use super::mirror::{Difference, MOST, Mirror};
use super::pending::{Event, Pending, What};
use crate::fs::context::Ctx;
use crate::fs::error::FsResult;
use crate::fs::known::inodes::Slot;
use crate::fs::requests::entries::watched::Sort;
use crate::fs::text::keys::OwnedKey;
use crate::fs::tree::filesystem::Fs;
use persist_core::store::door::Change;
use persist_core::store::{Obj, ObjectId};
use std::collections::{HashMap, HashSet};

/// The most files of which MODIFY is reported because their changes are missing.
const FEW: usize = 4096;
/// How often the events of a list wait for more of the feed.
const ROUNDS: u32 = 5;

/// A container that is followed.
pub(super) struct Followed {
    pub(super) obj: Obj,
    /// All its entries are of interest.
    pub(super) all: bool,
    /// These are.
    pub(super) some: HashSet<Slot>,
    mirror: Mirror,
    /// Of a list: the names of its items, and changes whose events were not noted yet.
    names: Option<Vec<u64>>,
    splices: Vec<Splice>,
    tries: u32,
}

impl Followed {
    /// A container, to be read.
    pub(super) fn new(obj: Obj, all: bool, some: HashSet<Slot>) -> Followed {
        Followed {
            obj,
            all,
            some,
            mirror: Mirror::default(),
            names: None,
            splices: Vec::new(),
            tries: 0,
        }
    }

    /// Read the present entries.
    pub(super) fn read(&mut self, fs: &Fs) -> FsResult<()> {
        (self.splices, self.tries) = (Vec::new(), 0);
        let most = if self.all { MOST } else { 0 };
        let entries = gone_is_none(fs.entries_of(&own_ctx(), self.obj, most).map(Some))?;
        self.mirror = entries.map_or_else(Mirror::default, Mirror::new);
        self.names = gone_is_none(fs.all_names(&own_ctx(), self.obj, MOST))?;
        Ok(())
    }
}

/// The containers that are followed, and the events that wait for their replay.
#[derive(Default)]
pub(super) struct Events {
    pub(super) followed: HashMap<ObjectId, Followed>,
    pub(super) pending: Pending,
}

impl Events {
    /// Note the events of a change.
    pub(super) fn take(&mut self, fs: &Fs, change: &Change, own: bool) -> FsResult<()> {
        let id = change.container();
        match change {
            Change::Entry {
                key, existed, exists, ..
            } => match OwnedKey::from_value(key) {
                Some(key) => self.entry_changed(fs, id, &Slot::Key(key), (*existed, *exists), own),
                None => self.compare(fs, id),
            },
            Change::Items {
                at, removed, added, ..
            } => {
                if let Some(followed) = self.followed.get_mut(&id) {
                    followed.splices.push(Splice {
                        at: *at,
                        removed: *removed,
                        added: *added,
                        own,
                    });
                }
                Ok(())
            }
            Change::Any { .. } if own => match self.followed.get_mut(&id) {
                // Of its own changes the kernel knows.
                Some(followed) => followed.read(fs),
                None => Ok(()),
            },
            Change::Any { .. } => self.compare(fs, id),
            Change::Metadata { .. } => match self.followed.get(&id) {
                Some(followed) if followed.all && !own => {
                    let container = followed.obj;
                    self.push(fs, container, None)
                }
                _ => Ok(()),
            },
        }
    }

    fn entry_changed(
        &mut self,
        fs: &Fs,
        id: ObjectId,
        slot: &Slot,
        (existed, exists): (bool, bool),
        own: bool,
    ) -> FsResult<()> {
        let Some(followed) = self.followed.get_mut(&id) else {
            return Ok(());
        };
        if !followed.all && !followed.some.contains(slot) {
            return Ok(());
        }
        let container = followed.obj;
        let before = followed.mirror.get(slot).unwrap_or(Sort::File);
        let now = match exists {
            true => gone_is_none(fs.sort_at(&own_ctx(), container, slot))?,
            false => None,
        };
        let events: &[What] = match (existed, exists) {
            (true, true) => match (before, now.unwrap_or(before)) {
                (Sort::File, Sort::File) => &[What::Modified],
                (Sort::Dir(before), Sort::Dir(now)) if before == now => &[],
                (before, now) => &[What::Removed(before), What::Created(now)],
            },
            (false, true) => &[What::Created(now.unwrap_or(Sort::File))],
            (true, false) => &[What::Removed(before)],
            (false, false) => &[],
        };
        match events.last() {
            Some(What::Created(sort)) => followed.mirror.set(slot, *sort),
            Some(What::Removed(_)) => followed.mirror.remove(slot),
            _ => {}
        }
        if own {
            return Ok(());
        }
        for what in events {
            self.push(fs, container, Some((slot.clone(), *what)))?;
        }
        Ok(())
    }

    /// Note the events of lists whose items were changed. What cannot be finished now, since the feed has more, waits.
    pub(super) fn finish_lists(&mut self, fs: &Fs, has_more: bool) -> FsResult<()> {
        let waiting = self.followed.iter().filter(|(_, f)| !f.splices.is_empty());
        let lists: Vec<ObjectId> = waiting.map(|(id, _)| *id).collect();
        for id in lists {
            let Some(followed) = self.followed.get_mut(&id) else {
                continue;
            };
            let (Some(before), true) = (&followed.names, followed.tries < ROUNDS) else {
                self.compare(fs, id)?;
                continue;
            };
            let Some(after) = gone_is_none(fs.all_names(&own_ctx(), followed.obj, MOST))? else {
                followed.splices.clear();
                continue;
            };
            let fates = match has_more {
                true => None,
                false => lists::fates(before, &followed.splices, &after),
            };
            let Some(fates) = fates else {
                followed.tries += 1;
                continue;
            };
            followed.names = Some(after);
            followed.splices.clear();
            followed.tries = 0;
            for (name, fate) in fates {
                let change = match fate {
                    Fate::Went => (true, false),
                    Fate::Came => (false, true),
                    Fate::Changed => (true, true),
                };
                self.entry_changed(fs, id, &Slot::Item(name), change, false)?;
            }
        }
        Ok(())
    }

    /// Changes are missing: compare every container with what it was.
    pub(super) fn compare_all(&mut self, fs: &Fs) -> FsResult<()> {
        let all: Vec<ObjectId> = self.followed.keys().copied().collect();
        all.into_iter().try_for_each(|id| self.compare(fs, id))
    }

    /// Compare a container with what it was: anything may have changed.
    fn compare(&mut self, fs: &Fs, id: ObjectId) -> FsResult<()> {
        let Some(followed) = self.followed.get_mut(&id) else {
            return Ok(());
        };
        let container = followed.obj;
        if !followed.all {
            for slot in followed.some.clone() {
                let exists = gone_is_none(fs.sort_at(&own_ctx(), container, &slot))?.is_some();
                self.entry_changed(fs, id, &slot, (true, exists), false)?;
            }
            return match self.followed.get_mut(&id) {
                Some(followed) => followed.read(fs),
                None => Ok(()),
            };
        }
        let before = std::mem::take(&mut followed.mirror);
        followed.read(fs)?;
        let differences = before.differences(&followed.mirror);
        let stayed = |all: &Vec<(Slot, Difference)>| {
            let files = all.iter().filter(|d| d.1 == Difference::Stayed(Sort::File));
            files.count()
        };
        let few = differences.as_ref().is_some_and(|all| stayed(all) <= FEW);
        if !few {
            self.push(fs, container, None)?;
        }
        for (slot, difference) in differences.unwrap_or_default() {
            let what = match difference {
                Difference::Came(sort) => What::Created(sort),
                Difference::Went(sort) => What::Removed(sort),
                Difference::Stayed(Sort::File) if few => What::Modified,
                Difference::Stayed(_) => continue,
            };
            self.push(fs, container, Some((slot, what)))?;
        }
        Ok(())
    }

    fn push(&mut self, fs: &Fs, container: Obj, entry: Option<(Slot, What)>) -> FsResult<()> {
        if self.pending.push(Event { container, entry }) {
            return Ok(());
        }
        // Too many events wait. Those of attributes are few, and let programs look again.
        let all: Vec<Obj> = self.followed.values().filter(|f| f.all).map(|f| f.obj).collect();
        for container in all {
            let entry = None;
            self.pending.push(Event { container, entry });
        }
        for followed in self.followed.values_mut() {
            followed.read(fs)?;
        }
        Ok(())
    }
}

/// The context of what the mount does by itself.
pub(super) fn own_ctx() -> Ctx {
    Ctx::own(true)
}

/// What was removed does not exist.
pub(super) fn gone_is_none<T>(found: FsResult<Option<T>>) -> FsResult<Option<T>> {
    match found {
        Err(e) if e.is_gone() || e.errno() == libc::ENOENT => Ok(None),
        found => found,
    }
}
