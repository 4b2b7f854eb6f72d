//! Metadata of entries that the store does not hold: times and modes that tools set, the type that an empty file will
//! get, and which files are new. It is lost at the end of the mount.
//!
//! 1. A remembered time belongs to a content (its fingerprint). When the content changes, through Python or the mount,
//!    the time is that of the change.
//! 2. Its size is bounded: beyond `MAX` entries, old entries are dropped.

use super::inodes::{Place, Slot};
use crate::fs::text::keys::OwnedKey;
use crate::fs::text::scalars::Ty;
use persist_core::store::ObjectId;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};
use xxhash_rust::xxh3::xxh3_64;

/// The maximal number of entries.
const MAX: usize = 1 << 20;
/// The maximal number of files whose time of change is known.
const MAX_SEEN: usize = 1 << 17;
/// How long a file counts as new, for taking over the type of a replaced file.
const FRESH: Duration = Duration::from_secs(60);
/// How long the type of a file that an editor moved away is kept for the file that it creates in its place.
const MOVED: Duration = Duration::from_secs(10);

/// A hash of a content, to detect changes. (Fast, but not resistant to a program that constructs two contents with the
/// same hash: they would share a time of change.)
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The subject of remembered metadata.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Mark {
    /// An entry of a container.
    Entry(ObjectId, Slot),
    /// A container.
    Dir(ObjectId),
}

impl Mark {
    /// The mark of a place, if metadata is kept for such places.
    pub(crate) fn of(place: &Place) -> Option<Mark> {
        Some(match place {
            Place::Dir(obj) => Mark::Dir(obj.id),
            Place::File(s) | Place::Link(s) => Mark::Entry(s.parent.id, s.slot.clone()),
            _ => return None,
        })
    }
}

/// The remembered metadata of one mark.
#[derive(Clone, Default, Debug)]
pub(crate) struct Remembered {
    /// Permission bits.
    pub(crate) mode: Option<u16>,
    /// Owner.
    pub(crate) uid: Option<u32>,
    /// Group.
    pub(crate) gid: Option<u32>,
    /// Time of change, and the fingerprint of the content that it belongs to.
    pub(crate) mtime: Option<(SystemTime, u64)>,
    /// Time of access.
    pub(crate) atime: Option<SystemTime>,
    /// The type that the file gets at its first write.
    pub(crate) want: Option<Ty>,
    /// When the file was created with the default type.
    pub(crate) fresh: Option<Instant>,
    /// The key that it gets under its final name.
    pub(crate) key: Option<OwnedKey>,
}

/// The table of metadata.
#[derive(Default)]
pub(crate) struct Metadata {
    memos: HashMap<Mark, Remembered>,
    moved: HashMap<Mark, (Ty, Instant)>,
    seen: HashMap<Mark, (SystemTime, u64)>,
}

impl Metadata {
    /// The metadata of a mark, if there is any.
    pub(crate) fn get(&self, mark: &Mark) -> Option<&Remembered> {
        if self.memos.is_empty() {
            None
        } else {
            self.memos.get(mark)
        }
    }

    /// The metadata of a mark, for changing it.
    pub(crate) fn at(&mut self, mark: Mark) -> &mut Remembered {
        if self.memos.len() >= MAX {
            // Half of the entries are dropped at once. This is rare, and cheaper than keeping an order of age.
            let mut keep = false;
            self.memos.retain(|_, m| {
                keep = !keep;
                keep || m.want.is_some() || m.key.is_some()
            });
        }
        self.memos.entry(mark).or_default()
    }

    /// The time of change of a file with this content, given the time of its container: that of the container when the
    /// content was first seen. Later changes of its neighbours do not count.
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

    /// True if this new file has the default type.
    pub(crate) fn is_fresh(&self, mark: &Mark) -> bool {
        self.get(mark)
            .and_then(|m| m.fresh)
            .is_some_and(|t| t.elapsed() < FRESH)
    }

    /// Record that an entry was deleted.
    pub(crate) fn deleted(&mut self, mark: &Mark) {
        self.memos.remove(mark);
        self.seen.remove(mark);
    }

    /// Record that an entry was moved.
    pub(crate) fn renamed(&mut self, from: &Mark, to: Mark) {
        self.memos.remove(&to);
        match self.seen.remove(from) {
            Some(time) => self.seen.insert(to.clone(), time),
            None => self.seen.remove(&to),
        };
        if let Some(memo) = self.memos.remove(from) {
            self.memos.insert(to, memo);
        }
    }

    /// Record that a scalar of that type was moved away from here.
    pub(crate) fn moved_away(&mut self, mark: Mark, ty: Ty) {
        if self.moved.len() > 4096 {
            self.moved.retain(|_, (_, when)| when.elapsed() < MOVED);
        }
        self.moved.insert(mark, (ty, Instant::now()));
    }

    /// The type of the scalar that was moved away from here a moment ago.
    pub(crate) fn was_here(&mut self, mark: &Mark) -> Option<Ty> {
        self.moved
            .remove(mark)
            .filter(|(_, when)| when.elapsed() < MOVED)
            .map(|(ty, _)| ty)
    }

    /// Forget the items of a list that was converted.
    pub(crate) fn forget_items(&mut self, list: ObjectId) {
        self.memos
            .retain(|mark, _| !matches!(mark, Mark::Entry(id, Slot::Item(_)) if *id == list));
    }
}
