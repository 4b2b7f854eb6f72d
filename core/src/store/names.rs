//! What messages call the owner of a lock, and its target: the path in the store, as Python writes it
//! (`root['Joe'].age`).
//!
//! 1. A name is for messages only. Where it cannot be read within `PATIENCE`, or the container is gone, the message
//!    keeps the number of the container.
//! 2. Names are made outside sections and without the latch.

use super::{Error, Key, LockTarget, Obj, Store, Wait};
use crate::lock::{Owner, OwnerKind, Target};
use crate::object::path;
use crate::page::Pager;
use std::time::Duration;

/// How long the reading of a name may wait. Beside a busy writer the committed state is read after 20 ms.
const PATIENCE: Duration = Duration::from_millis(100);

/// The owner of a lock.
pub(super) fn describe(pager: &Pager, o: &Owner) -> String {
    let what = match o.kind {
        OwnerKind::Thread if o.id >> 16 != 0 => "a task",
        OwnerKind::Thread => "a thread",
        OwnerKind::Flock => "an open file (flock) on the mount",
        OwnerKind::Posix => "a process (fcntl) on the mount",
        OwnerKind::Command => "a command on the mount",
    };
    match pager.describe_process(o.slot, o.generation) {
        Some(process) => format!("{what} of {process}"),
        None => format!("{what} of a process that has ended"),
    }
}

impl Store {
    /// The path of what is to be locked, for messages: `root['Joe'].age`. None if it cannot be read in a moment.
    #[must_use]
    pub fn path_of(&self, target: LockTarget<'_>) -> Option<String> {
        self.name_of(&self.target(&target), target.obj, target.key.as_ref())
    }

    /// The path of a target. `key` is its key where that is known; else an entry is looked for by the key's hash.
    #[cold]
    pub(super) fn name_of(&self, target: &Target, obj: Obj, key: Option<&Key<'_>>) -> Option<String> {
        self.read(&mut Wait::at_most(PATIENCE), |r| {
            r.kind(obj)?;
            Ok(match (key, target.key) {
                (Some(key), _) => path::of_key(r, obj.addr, key),
                (None, Some(hash)) => path::of_hash(r, obj.addr, hash),
                (None, None) => path::of(r, obj.addr),
            })
        })
        .ok()
        .flatten()
    }

    /// The error with the path of the target in place of its number.
    #[cold]
    pub(super) fn with_name(&self, mut e: Error, target: &Target, obj: Obj, key: Option<&Key<'_>>) -> Error {
        if let Error::Timeout { what, .. } | Error::Deadlock { what, .. } | Error::NotLocked { what } = &mut e
            // Of several stores the file is named, too.
            && let Some(rest) = what.strip_prefix(&target.to_string())
            && (rest.is_empty() || rest.starts_with(" of "))
            && let Some(name) = self.name_of(target, obj, key)
        {
            *what = name + rest;
        }
        e
    }
}
