//! Leases: what a holder (a mount) has let its kernel keep, and how a change makes it give that up.
//!
//! A lease covers a bucket of entries. Its word is 0, or a stamp that the holder chose, with the bit `WANTED` once a
//! change waits for the lease.
//!
//! 1. A holder grants a lease inside a read section, before it leaves the section. The mark of the section orders the
//!    word before every later change: a writer that has raised the gate and sees no mark sees the word (`gate`, 2). A
//!    section that enters later reads what that writer stored. So a change looks at the words of its buckets after it
//!    has raised the gate, and a word that it does not see covers nothing that was read before the change.
//! 2. A result whose section was revoked is discarded, with the lease that was granted for it. A section that still
//!    finds its mark has granted the lease before the writer revokes the mark: each side has a fence between the two.
//! 3. A change sets `WANTED` in the word that it finds and waits until the word has another value. The holder clears
//!    the word when its kernel keeps nothing of the bucket any more. While the bit is set, the holder grants nothing.
//! 4. What a kernel keeps, it keeps for less than `LEASE` from the grant. So a change waits for `LEASE` at most, by its
//!    own clock and from the moment at which it saw the word. Then the word, if it is unchanged, has expired, and the
//!    change clears it. No time in a word decides anything for another process.
//! 5. `count` is at least the number of words that are not 0: it is raised before a word is set and lowered after one
//!    is cleared. A process that is killed in between leaves it too high, which costs a look and nothing else.
//! 6. `grants` changes with each grant, also of a lease that is used again, in the section of the grant. So a change
//!    that finds the number that an earlier change read before it looked at a word, and found no lease, need not look:
//!    a section that granted the lease since has raised the number before the later change raised the gate. A lease
//!    that is not granted in a section (`hold_back`) raises the number after its word.

use crate::raw::sync::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// The longest time from a grant to the moment at which the kernel keeps nothing of it.
pub(crate) const LEASE: Duration = Duration::from_secs(1);
/// A change waits for the lease.
pub(crate) const WANTED: u64 = 1;

/// The lease of one bucket by one holder.
pub(crate) struct Lease<'a> {
    pub(crate) word: &'a AtomicU64,
    /// The number of leases of all holders.
    pub(crate) count: &'a AtomicU64,
    /// The number of grants so far, of all leases and holders.
    pub(crate) grants: &'a AtomicU64,
    /// What one lease of this holder adds to the count.
    pub(crate) one: u64,
}

impl Lease<'_> {
    /// Return its word: 0, or its stamp and whether a change waits for it.
    pub(crate) fn value(&self) -> u64 {
        self.word.load(Ordering::SeqCst)
    }

    /// Grant the lease, or use it again if its stamp is at least `fresh`. Return its stamp, which is even; None if a
    /// change waits for it. The stamps are the holder's own times of expiry.
    pub(crate) fn grant(&self, stamp: u64, fresh: u64) -> Option<u64> {
        let old = self.word.load(Ordering::Relaxed);
        if old & WANTED != 0 {
            return None;
        }
        self.grants.fetch_add(1, Ordering::SeqCst);
        if old >= fresh {
            fence(Ordering::SeqCst);
            return Some(old);
        }
        let stamp = (stamp & !WANTED).max(2);
        if old == 0 {
            self.count.fetch_add(self.one, Ordering::SeqCst);
        }
        let set = self
            .word
            .compare_exchange(old, stamp, Ordering::SeqCst, Ordering::Relaxed);
        if set.is_err() && old == 0 {
            self.count.fetch_add(self.one.wrapping_neg(), Ordering::SeqCst);
        }
        // Keeps the word before the section's last look at its mark.
        fence(Ordering::SeqCst);
        set.is_ok().then_some(stamp)
    }

    /// Ask for the lease. Return its word; None if there is no lease.
    pub(crate) fn want(&self) -> Option<u64> {
        loop {
            let old = self.word.load(Ordering::Acquire);
            if old == 0 {
                return None;
            }
            let wanted = old | WANTED;
            if old == wanted
                || self
                    .word
                    .compare_exchange(old, wanted, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
            {
                return Some(wanted);
            }
        }
    }

    /// Set the word so that changes wait, whether or not there is a lease: the holder is about to give up what it has
    /// not granted yet.
    pub(crate) fn hold_back(&self, stamp: u64) {
        let stamp = (stamp & !WANTED).max(2);
        loop {
            let old = self.word.load(Ordering::Relaxed);
            if old == 0 {
                self.count.fetch_add(self.one, Ordering::SeqCst);
            }
            let new = stamp.max(old) | WANTED;
            let set = self
                .word
                .compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed);
            if set.is_ok() {
                self.grants.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if old == 0 {
                self.count.fetch_add(self.one.wrapping_neg(), Ordering::SeqCst);
            }
        }
    }

    /// End the lease, if its word is still the one that was seen.
    pub(crate) fn end(&self, seen: u64) -> bool {
        let ended = seen != 0
            && self
                .word
                .compare_exchange(seen, 0, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok();
        if ended {
            self.count.fetch_add(self.one.wrapping_neg(), Ordering::SeqCst);
        }
        ended
    }
}
