//! Locks held through this mount, and the byte ranges for which programs requested them.

use crate::fs::context::lock;
use crate::fs::text::keys::OwnedKey;
use persist_core::store::{Actor, LockMode, LockTarget, Obj, Store, Wait};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

/// A locked byte range; both ends are included.
pub(crate) type Range = (u64, u64);

/// The locks of one owner on one file.
pub(crate) struct Held {
    pub(crate) obj: Obj,
    pub(crate) key: Option<OwnedKey>,
    pub(crate) ranges: Vec<(Range, LockMode)>,
    pub(crate) handles: HashSet<u64>,
}

/// All locks held through this mount, by inode and owner.
#[derive(Default)]
pub(crate) struct Locks {
    pub(crate) held: Mutex<HashMap<(u64, u64), Held>>,
}

/// The ranges after one range was locked in a mode, or unlocked.
pub(crate) fn changed(
    ranges: &[(Range, LockMode)],
    (start, end): Range,
    mode: Option<LockMode>,
) -> Vec<(Range, LockMode)> {
    let mut out = Vec::with_capacity(ranges.len() + 2);
    for ((s, e), m) in ranges {
        if *e < start || *s > end {
            out.push(((*s, *e), *m));
            continue;
        }
        if *s < start {
            out.push(((*s, start - 1), *m));
        }
        if *e > end {
            out.push(((end + 1, *e), *m));
        }
    }
    out.extend(mode.map(|m| ((start, end), m)));
    out
}

/// The strongest mode of the ranges.
pub(crate) fn strongest(ranges: &[(Range, LockMode)]) -> Option<LockMode> {
    let exclusive = ranges.iter().any(|(_, m)| *m == LockMode::Exclusive);
    ranges.first().map(|_| {
        if exclusive {
            LockMode::Exclusive
        } else {
            LockMode::Shared
        }
    })
}

/// The target in the lock manager's type.
pub(crate) fn target<'a>(obj: Obj, key: Option<&'a OwnedKey>) -> LockTarget<'a> {
    LockTarget {
        obj,
        key: key.map(OwnedKey::as_key),
    }
}

impl Locks {
    fn drop_lock(&self, store: &Store, id: (u64, u64)) {
        let Some(held) = lock(&self.held).remove(&id) else {
            return;
        };
        let result = store.set_lock(
            Actor::Flock(id.1, 0),
            target(held.obj, held.key.as_ref()),
            None,
            &mut Wait::default(),
        );
        if let Err(e) = result
            && !matches!(e, persist_core::Error::Gone(_))
        {
            log::warn!("unlocking: {e}");
        }
    }

    /// Record that an owner closed a descriptor of a file.
    pub(crate) fn flush(&self, store: &Store, ino: u64, owner: u64) {
        self.drop_lock(store, (ino, owner));
    }

    /// Record that an open file ended.
    pub(crate) fn release(&self, store: &Store, fh: u64) {
        let ids: Vec<_> = lock(&self.held)
            .iter()
            .filter(|(_, h)| h.handles.contains(&fh))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.drop_lock(store, id);
        }
    }

    /// Release all locks at the end of the mount.
    pub(crate) fn release_all(&self, store: &Store) {
        let ids: Vec<_> = lock(&self.held).keys().copied().collect();
        for id in ids {
            self.drop_lock(store, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LockMode::{Exclusive, Shared};

    #[test]
    fn ranges() {
        let all = (0, u64::MAX);
        let one = changed(&[], all, Some(Shared));
        assert_eq!(strongest(&one), Some(Shared));
        let two = changed(&one, (10, 19), Some(Exclusive));
        assert_eq!(strongest(&two), Some(Exclusive));
        assert_eq!(two.len(), 3);
        let three = changed(&two, (10, 19), None);
        assert_eq!(strongest(&three), Some(Shared));
        assert!(changed(&three, all, None).is_empty());
        assert_eq!(strongest(&changed(&one, all, Some(Exclusive))), Some(Exclusive));
        assert_eq!(strongest(&[]), None);
    }
}
