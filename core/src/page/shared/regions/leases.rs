//! The leases of the mounts (`sync::leases`): their words, and which process holds them.
//!
//! A holder is a process slot and its generation. Another process may take over a dead holder's place: the leases that
//! it finds there are those of a kernel that may keep them for `LEASE` longer, so they stay until they have expired.

use crate::page::shared::layout::{LEASE_BUCKETS, LEASE_HOLDERS, LEASES};
use crate::page::shared::shm::Shm;
use crate::page::shared::word::Word;
use crate::page::sync::leases::Lease;
use crate::raw::futex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The number of leases of the first holder, in the low half, and of the second one.
const LEASED: Word = Word::at(2944);
/// The number of grants so far, of all holders. In the cache line of `LEASED`.
const LEASE_GRANTS: Word = Word::at(2952);
/// For each holder a number that changes when it is called.
const LEASE_CALL: Word = Word::at(3008); // 2 words
/// For each holder its process slot + 1 | generation << 32; 0: none.
const LEASE_HOLDER: Word = Word::at(3072); // 2 words

/// Return the bucket of a container, or of one of its entries by the hash of its key.
#[inline(always)]
pub(crate) fn bucket(container: u64, key: Option<u64>) -> u16 {
    let key = key.map_or(0, |hash| hash.rotate_left(17) | 1);
    let mixed = (container ^ key.wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u16 & (LEASE_BUCKETS - 1) as u16
}

impl Shm {
    /// Return whether there may be any lease.
    #[inline(always)]
    pub(in crate::page) fn has_leases(&self) -> bool {
        self.word(LEASED).load(Ordering::Relaxed) != 0
    }

    /// Return the number of grants so far.
    #[inline(always)]
    pub(in crate::page) fn lease_grants(&self) -> u64 {
        self.word(LEASE_GRANTS).load(Ordering::Relaxed)
    }

    #[inline]
    pub(in crate::page) fn lease(&self, holder: usize, bucket: u16) -> Lease<'_> {
        Lease {
            word: self.fixed_word(LEASES + 8 * index(holder, bucket)),
            count: self.word(LEASED),
            grants: self.word(LEASE_GRANTS),
            one: 1 << (32 * (holder % LEASE_HOLDERS)),
        }
    }

    /// Sleep until a lease's word is no longer as `seen`, for `at_most`.
    pub(in crate::page) fn sleep_on_lease(&self, holder: usize, bucket: u16, seen: u64, at_most: Duration) {
        futex::wait(self.lease_futex(holder, bucket), seen as u32, at_most);
    }

    /// Wake the changes that sleep on a lease.
    pub(in crate::page) fn wake_lease(&self, holder: usize, bucket: u16) {
        futex::wake(self.lease_futex(holder, bucket), i32::MAX);
    }

    fn lease_futex(&self, holder: usize, bucket: u16) -> &AtomicU32 {
        let words = self.words32(LEASES, 2 * LEASE_HOLDERS * LEASE_BUCKETS);
        &words[2 * index(holder, bucket)]
    }

    /// Call a holder: leases of it are wanted.
    pub(in crate::page) fn call_lease_holder(&self, holder: usize) {
        let call = self.word32(LEASE_CALL.nth(holder));
        call.fetch_add(1, Ordering::SeqCst);
        futex::wake(call, i32::MAX);
    }

    /// Return the number that changes with each call of a holder.
    pub(in crate::page) fn lease_calls(&self, holder: usize) -> u32 {
        self.word32(LEASE_CALL.nth(holder)).load(Ordering::SeqCst)
    }

    /// Sleep until a holder is called again, for `at_most`.
    pub(in crate::page) fn await_lease_call(&self, holder: usize, seen: u32, at_most: Duration) {
        futex::wait(self.word32(LEASE_CALL.nth(holder)), seen, at_most);
    }

    pub(in crate::page) fn lease_holder(&self, holder: usize) -> u64 {
        self.word(LEASE_HOLDER.nth(holder)).load(Ordering::SeqCst)
    }

    /// Replace a holder. Return false if it is another one by now.
    pub(in crate::page) fn set_lease_holder(&self, holder: usize, old: u64, new: u64) -> bool {
        self.word(LEASE_HOLDER.nth(holder))
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Forget all leases and their holders: every process that used the sidecar is dead.
    pub(in crate::page) fn forget_leases(&self) {
        for word in self.words(LEASES, LEASE_HOLDERS * LEASE_BUCKETS) {
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
        self.set(LEASED, 0);
        for holder in 0..LEASE_HOLDERS {
            self.set(LEASE_HOLDER.nth(holder), 0);
        }
    }
}

fn index(holder: usize, bucket: u16) -> usize {
    holder % LEASE_HOLDERS * LEASE_BUCKETS + bucket as usize % LEASE_BUCKETS
}
