//! The leases of one request: taking them in its sections, and recording after its reply what the kernel keeps.

use super::records::record_attributes;
use super::{Leases, MARGIN, QUIET, State, TICKS};
use crate::fs::context::lock;
use crate::fs::known::forgetting::Kept;
use persist_core::store::Reader;
use persist_core::store::door::{LeaseBucket, lease_clock};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

/// The stamp of a lease that a request takes.
#[derive(Clone, Copy)]
enum Stamp {
    New,
    Refused,
    Of(u64),
}

/// The leases of one request.
pub(crate) struct Held {
    leases: Option<Arc<Leases>>,
    /// The thread of the request; 0: not known.
    thread: u32,
    /// The buckets in which the request is counted, sorted, and the stamps of their leases.
    taken: Vec<(u16, LeaseBucket, Stamp)>,
    /// Entries that get a name: the directory's inode, and the name.
    moving: Vec<(LeaseBucket, u64, Box<[u8]>)>,
}

impl Held {
    pub(crate) fn new(leases: &Arc<Leases>, thread: u32) -> Held {
        Held {
            leases: leases.are_on().then(|| leases.clone()),
            thread,
            taken: Vec::new(),
            moving: Vec::new(),
        }
    }

    /// No leases: nothing is kept.
    pub(crate) fn none() -> Held {
        Held {
            leases: None,
            thread: 0,
            taken: Vec::new(),
            moving: Vec::new(),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.leases.is_some()
    }

    /// Return how many things the kernel was told to forget so far.
    pub(crate) fn forgotten(&self) -> u64 {
        let forgotten = |leases: &Arc<Leases>| leases.forgotten.load(Ordering::Relaxed);
        self.leases.as_ref().map_or(0, forgotten)
    }

    /// Return whether the kernel may keep entries.
    pub(crate) fn keeps_entries(&self) -> bool {
        let entries = |leases: &Arc<Leases>| leases.entries.load(Ordering::Relaxed);
        self.leases.as_ref().is_some_and(entries)
    }

    /// Take the lease of a bucket in the section that reads what it covers.
    pub(crate) fn take(&mut self, r: &Reader<'_>, bucket: LeaseBucket) -> Option<LeaseBucket> {
        let leases = self.leases.as_ref().filter(|leases| leases.may_keep())?;
        let index = bucket.index() as u16;
        let at = match self.taken.binary_search_by_key(&index, |t| t.0) {
            Ok(at) => at,
            Err(at) => {
                let mut state = lock(&leases.bucket(bucket).state);
                let is_quiet = state.quiet_until != 0 && lease_clock() < state.quiet_until;
                if is_quiet || state.awaiting > 0 {
                    return None;
                }
                state.under_way += 1;
                drop(state);
                self.taken.insert(at, (index, bucket, Stamp::New));
                at
            }
        };
        let taken = self.taken.get_mut(at)?;
        // A listing takes a lease in several sections: the oldest grant counts, and a refusal.
        taken.2 = match (taken.2, r.lease(bucket)) {
            (Stamp::Refused, _) | (_, None) => Stamp::Refused,
            (Stamp::New, Some(stamp)) => Stamp::Of(stamp),
            (Stamp::Of(old), Some(stamp)) => Stamp::Of(old.min(stamp)),
        };
        matches!(taken.2, Stamp::Of(_)).then_some(bucket)
    }

    /// An entry is about to get the name in a directory, in this section of a change: changes of the name wait until
    /// the kernel has forgotten it.
    pub(crate) fn moving(&mut self, bucket: LeaseBucket, parent: u64, name: &[u8]) {
        let Some(leases) = &self.leases else { return };
        let is_known = |(_, of, known): &(_, u64, Box<[u8]>)| *of == parent && **known == *name;
        if !self.moving.iter().any(is_known) {
            lock(&leases.bucket(bucket).state).moving += 1;
            self.moving.push((bucket, parent, name.into()));
        }
        leases.store.hold_back(bucket);
    }

    /// How long the kernel may keep what a bucket covers.
    pub(crate) fn ttl(&self, bucket: Option<LeaseBucket>) -> Duration {
        self.ttl_at(lease_clock(), bucket)
    }

    /// The same, for a reply that is written soon after `now` (`lease_clock`).
    pub(crate) fn ttl_at(&self, now: u64, bucket: Option<LeaseBucket>) -> Duration {
        let stamp = bucket.and_then(|bucket| self.stamp(bucket)).unwrap_or(0);
        Duration::from_nanos(stamp.saturating_sub(now).saturating_sub(MARGIN))
    }

    fn stamp(&self, bucket: LeaseBucket) -> Option<u64> {
        let at = self
            .taken
            .binary_search_by_key(&(bucket.index() as u16), |t| t.0)
            .ok()?;
        match self.taken.get(at)?.2 {
            Stamp::Of(stamp) => Some(stamp),
            Stamp::New | Stamp::Refused => None,
        }
    }

    /// The reply is written: record what the kernel keeps, with the times to live that it was given.
    pub(crate) fn replied<'a>(
        self,
        all: impl IntoIterator<Item = (Option<LeaseBucket>, Duration, Kept<'a>)>,
    ) {
        let Some(leases) = self.leases.clone() else { return };
        let now = lease_clock();
        for (bucket, ttl, what) in all {
            let Some(bucket) = bucket.filter(|_| !ttl.is_zero()) else {
                continue;
            };
            let end = now + ttl.as_nanos() as u64 + TICKS;
            let mut state = lock(&leases.bucket(bucket).state);
            if end > self.stamp(bucket).unwrap_or(0) {
                self.replied_late(&leases, bucket, state, (end, what));
                continue;
            }
            match what {
                Kept::Attributes(ino) => record_attributes(&mut state.attributes, now, end, ino),
                Kept::Entry(parent, name) => {
                    state.kept.record(now, end, parent, name);
                    state.note_caller(self.thread, now);
                }
            }
        }
    }

    /// A reply was written too late: the kernel may keep what it brought for longer than the lease lives.
    fn replied_late(
        &self,
        leases: &Arc<Leases>,
        bucket: LeaseBucket,
        mut state: MutexGuard<'_, State>,
        (end, what): (u64, Kept<'_>),
    ) {
        let (parent, name) = match what {
            Kept::Entry(parent, name) => (parent, name),
            Kept::Attributes(ino) => {
                if !leases.forget(what) {
                    state.attributes.push((end, ino));
                    leases.store.hold_back(bucket);
                    leases.store.call_for_leases();
                }
                return;
            }
        };
        leases.store.hold_back(bucket);
        state.moving += 1;
        drop(state);
        drop(Held {
            leases: Some(leases.clone()),
            thread: 0,
            taken: Vec::new(),
            moving: vec![(bucket, parent, name.into())],
        });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(leases) = &self.leases else { return };
        let wakes = !self.taken.is_empty() && leases.asleep.load(Ordering::SeqCst);
        let mut call = !self.moving.is_empty() || wakes && leases.asleep.swap(false, Ordering::SeqCst);
        let until = lease_clock() + 2 * QUIET.1;
        for (bucket, parent, name) in self.moving.drain(..) {
            let mut state = lock(&leases.bucket(bucket).state);
            state.moving -= 1;
            state.kept.push(until, parent, &name);
        }
        for (_, bucket, _) in &self.taken {
            let mut state = lock(&leases.bucket(*bucket).state);
            state.under_way -= 1;
            if state.under_way == 0 {
                // A call of the kernel, so only where a change waits.
                if state.awaiting > 0 {
                    leases.bucket(*bucket).replied.notify_all();
                }
                call |= leases.store.is_lease_wanted(*bucket);
            }
        }
        if call {
            leases.store.call_for_leases();
        }
    }
}
