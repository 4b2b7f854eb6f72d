//! Leases for the mount: what its kernel may keep, and what it must give up. The protocol: `page::sync::leases`.

use super::{Key, Obj, Reader, Result, Store};
use crate::object::key;
use crate::page::Pager;
use crate::page::sync::leases::{LEASE, WANTED};
use crate::page::touching;
use crate::raw::process;
use std::time::Duration;

/// The shortest time that a lease is used for again without a new stamp.
const FRESH: Duration = Duration::from_millis(600);

/// The number of a bucket of entries that one lease covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseBucket(u16);

/// The number of buckets.
pub const LEASE_BUCKETS: usize = crate::page::LEASE_BUCKETS;

impl LeaseBucket {
    /// Return it as an index below `LEASE_BUCKETS`.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A lease that this opening holds.
#[derive(Clone, Copy, Debug)]
pub struct HeldLease {
    /// What it covers.
    pub bucket: LeaseBucket,
    /// A change waits for it.
    pub wanted: bool,
    /// It has expired.
    pub expired: bool,
    word: u64,
}

/// Return the time by which leases expire, in nanoseconds.
#[must_use]
pub fn lease_clock() -> u64 {
    process::monotonic_now()
}

fn expiry() -> u64 {
    lease_clock() + LEASE.as_nanos() as u64
}

impl Reader<'_> {
    /// Grant a lease of a bucket. What is read in this section after it may be kept until the time that is returned,
    /// or until the lease is wanted. None: nothing may be kept.
    #[doc(hidden)]
    #[must_use]
    pub fn lease(&self, bucket: LeaseBucket) -> Option<u64> {
        let now = lease_clock();
        self.grant_lease(
            bucket.0,
            now + LEASE.as_nanos() as u64,
            now + FRESH.as_nanos() as u64,
        )
    }
}

impl Store {
    /// Become a holder of leases. False: there are as many as there can be, or this opening cannot change the store.
    ///
    /// # Errors
    /// `Error::Closed`.
    #[doc(hidden)]
    pub fn hold_leases(&self) -> Result<bool> {
        self.pager().claim_leases()
    }

    /// Stop being a holder of leases: the kernel keeps nothing any more.
    #[doc(hidden)]
    pub fn stop_holding_leases(&self) {
        self.pager().release_leases();
    }

    /// Return whether no other process has the store open.
    #[doc(hidden)]
    #[must_use]
    pub fn is_only_process(&self) -> bool {
        self.pager().is_only_process()
    }

    /// Return the bucket of a container, or of one of its entries.
    #[doc(hidden)]
    #[must_use]
    pub fn lease_bucket(&self, obj: Obj, key: Option<&Key<'_>>) -> LeaseBucket {
        let hash = key.map(|key| key::hash(self.pager().seed(), key));
        LeaseBucket(Pager::lease_bucket(obj.id, hash))
    }

    /// Run a change of this opening and return the buckets of its own leases that the change touches. Leases of
    /// single entries are not called for: the caller makes its kernel forget what the change has made wrong.
    #[doc(hidden)]
    pub fn touching<R>(&self, change: impl FnOnce() -> R) -> (R, Vec<LeaseBucket>) {
        let (result, touched) = touching(change);
        (result, touched.into_iter().map(LeaseBucket).collect())
    }

    /// Return the number of calls for leases so far.
    #[doc(hidden)]
    #[must_use]
    pub fn lease_calls(&self) -> u32 {
        self.pager().lease_calls()
    }

    /// Sleep until there are more than `seen` calls for leases, for `at_most`. Return their number.
    #[doc(hidden)]
    pub fn await_lease_call(&self, seen: u32, at_most: Duration) -> u32 {
        self.pager().await_lease_call(seen, at_most)
    }

    /// Return the leases that this opening holds.
    #[doc(hidden)]
    #[must_use]
    pub fn held_leases(&self) -> Vec<HeldLease> {
        let now = lease_clock();
        let held = |(bucket, word)| HeldLease {
            bucket: LeaseBucket(bucket),
            wanted: word & WANTED != 0,
            expired: word <= now,
            word,
        };
        self.pager().own_leases().into_iter().map(held).collect()
    }

    /// End a lease: the kernel keeps nothing of its bucket any more. False: it has changed since.
    #[doc(hidden)]
    pub fn end_lease(&self, lease: &HeldLease) -> bool {
        self.pager().end_lease(lease.bucket.0, lease.word)
    }

    /// Return whether a change waits for a lease of this opening.
    #[doc(hidden)]
    #[must_use]
    pub fn is_lease_wanted(&self, bucket: LeaseBucket) -> bool {
        self.pager().own_lease(bucket.0) & WANTED != 0
    }

    /// Call for the leases of this opening that are wanted, as a change does.
    #[doc(hidden)]
    pub fn call_for_leases(&self) {
        self.pager().call_for_leases();
    }

    /// Let changes of a bucket wait until its lease is ended, whether or not it was granted.
    #[doc(hidden)]
    pub fn hold_back(&self, bucket: LeaseBucket) {
        self.pager().hold_back_lease(bucket.0, expiry());
    }
}
