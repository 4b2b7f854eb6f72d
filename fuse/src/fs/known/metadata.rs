//! What the mount remembers about entries and the store does not hold: times and modes that tools
//! set, the type an empty file is to get, which files are new. It ends with the mount.
//!
//! 1. A remembered time belongs to a content (its fingerprint): when the content changes, through
//!    either door, the time is that of the change.
//! 2. It is bounded: past `MAX` entries the oldest knowledge goes.

use super::inodes::{Place, Slot};
use crate::fs::text::keys::OwnedKey;
use crate::fs::text::scalars::Ty;
use persist_core::store::ObjectId;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};
use xxhash_rust::xxh3::xxh3_64;

/// Entries remembered at most.
const MAX: usize = 1 << 20;
/// Files whose time of change is known.
const MAX_SEEN: usize = 1 << 17;
/// How long a file counts as new, for taking over the type of the file it replaces.
const FRESH: Duration = Duration::from_secs(60);
/// How long a type waits for the file that an editor creates where it moved one away.
const MOVED: Duration = Duration::from_secs(10);

/// Stands for a content, to tell whether it is still the same. (Fast, and no defence against a program
/// that makes two contents alike: they would share a time of change.)
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// What something is remembered about.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Mark {
    /// An entry of a container.
    Entry(ObjectId, Slot),
    /// A side entry.
    Side(u64),
    /// A container.
    Dir(ObjectId),
}

impl Mark {
    /// The mark of a place, if anything is remembered of such places.
    pub(crate) fn of(place: &Place) -> Option<Mark> {
        Some(match place {
            Place::Dir(obj) => Mark::Dir(obj.id),
            Place::File(s) | Place::Link(s) => Mark::Entry(s.parent.id, s.slot.clone()),
            Place::Side(id) => Mark::Side(*id),
            _ => return None,
        })
    }
}

/// What is remembered.
#[derive(Clone, Default, Debug)]
pub(crate) struct Remembered {
    /// Permission bits.
    pub(crate) mode: Option<u16>,
    /// Owner.
    pub(crate) uid: Option<u32>,
    /// Group.
    pub(crate) gid: Option<u32>,
    /// Time of change, and the fingerprint of the content it belongs to.
    pub(crate) mtime: Option<(SystemTime, u64)>,
    /// Time of access.
    pub(crate) atime: Option<SystemTime>,
    /// The type the file gets when something is written to it.
    pub(crate) want: Option<Ty>,
    /// When the file was created with a type that nobody chose.
    pub(crate) fresh: Option<Instant>,
    /// The key it gets under its final name.
    pub(crate) key: Option<OwnedKey>,
}

/// The memory.
#[derive(Default)]
pub(crate) struct Metadata {
    memos: HashMap<Mark, Remembered>,
    moved: HashMap<Mark, (Ty, Instant)>,
    seen: HashMap<Mark, (SystemTime, u64)>,
}

impl Metadata {
    /// What is remembered, if anything.
    pub(crate) fn get(&self, mark: &Mark) -> Option<&Remembered> {
        if self.memos.is_empty() {
            None
        } else {
            self.memos.get(mark)
        }
    }

    /// What is remembered, to be changed.
    pub(crate) fn at(&mut self, mark: Mark) -> &mut Remembered {
        if self.memos.len() >= MAX {
            // Whole files' worth of memory go at once: rare, and cheaper than an order of age.
            let mut keep = false;
            self.memos.retain(|_, m| {
                keep = !keep;
                keep || m.want.is_some() || m.key.is_some()
            });
        }
        self.memos.entry(mark).or_default()
    }

    /// The time of change of a file with this content, given its container's: that of the container
    /// when the content was first seen. Changes of its neighbours do not count.
    pub(crate) fn changed(&mut self, mark: Mark, print: u64, container: SystemTime) -> SystemTime {
        if let Some((time, of)) = self.seen.get(&mark)
            && *of == print
        {
            return *time;
        }
        if self.seen.len() >= MAX_SEEN {
            self.seen.clear();
        }
        self.seen.insert(mark, (container, print));
        container
    }

    /// True if nobody chose the type of this new file.
    pub(crate) fn is_fresh(&self, mark: &Mark) -> bool {
        self.get(mark)
            .and_then(|m| m.fresh)
            .is_some_and(|t| t.elapsed() < FRESH)
    }

    /// An entry is no more.
    pub(crate) fn deleted(&mut self, mark: &Mark) {
        self.memos.remove(mark);
        self.seen.remove(mark);
    }

    /// An entry has moved; `salt` is what that changes of its fingerprint.
    pub(crate) fn renamed(&mut self, from: &Mark, to: Mark, salt: u64) {
        self.memos.remove(&to);
        match self.seen.remove(from) {
            Some(time) => self.seen.insert(to.clone(), time),
            None => self.seen.remove(&to),
        };
        if let Some(mut memo) = self.memos.remove(from) {
            memo.mtime = memo.mtime.map(|(time, print)| (time, print ^ salt));
            self.memos.insert(to, memo);
        }
    }

    /// A scalar of that type was moved away from here.
    pub(crate) fn moved_away(&mut self, mark: Mark, ty: Ty) {
        if self.moved.len() > 4096 {
            self.moved.retain(|_, (_, when)| when.elapsed() < MOVED);
        }
        self.moved.insert(mark, (ty, Instant::now()));
    }

    /// The type of what was moved away from here just now.
    pub(crate) fn was_here(&mut self, mark: &Mark) -> Option<Ty> {
        self.moved
            .remove(mark)
            .filter(|(_, when)| when.elapsed() < MOVED)
            .map(|(ty, _)| ty)
    }

    /// Forgets the items of a list: their serials mean something else now.
    pub(crate) fn forget_items(&mut self, list: ObjectId) {
        self.memos
            .retain(|mark, _| !matches!(mark, Mark::Entry(id, Slot::Item(_)) if *id == list));
    }
}
