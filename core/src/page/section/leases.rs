//! Leases in sections: how a holder grants them, and how a change makes the holders give them up. The protocol:
//! `sync::leases`.
//!
//! 1. A change looks at its leases before it stores anything (`WriteSection::changing`). Outside a transaction it
//!    then leaves the section with `Error::Leased`, waits and runs again, as for a lock. So the holder's requests,
//!    which need sections, do not keep it from giving the leases up.
//! 2. A change that was sent back several times, a change in a transaction, and a change that cannot run again wait
//!    with the gate raised: nothing is granted there. The wait is bounded by `LEASE`.
//! 3. An operation that lets readers in looks again afterwards: they may have been granted leases.
//! 4. A holder's own change does not wait for its own leases: it calls the holder, which gives them up. The kernel that
//!    sent the change knows what the change does to the entry itself. So a change of single entries may leave the
//!    leases as they are, if the holder wants to know which (`touching`).
//! 5. A section of the committed state grants nothing: its reader is beside a change that has already looked.
//! 6. A thread that waits for one lease notes since when it has seen each lease, of all holders. A lease that the
//!    change meets next, when it runs again, has that time behind it: dead holders delay a change by `LEASE` together.
//! 7. A change in place notes that its entry is not leased (`Unleased`), and does not look again until the next grant:
//!    beside a mount that is not in use, such a change compares some words.

use crate::error::{Error, Result};
use crate::ids::{Addr, ObjectId};
use crate::page::pager::Pager;
use crate::page::section::read::{Protection, ReadSection};
use crate::page::section::write::WriteSection;
use crate::page::shared::layout::{LEASE_BUCKETS, LEASE_HOLDERS};
use crate::page::shared::regions::leases::bucket;
use crate::page::shared::users::threads::owner_word;
use crate::page::sync::leases::{LEASE, WANTED};
use crate::page::sync::wait::{Wait, WaitLoop};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a change sleeps between two looks at what it waits for.
const SLICE: Duration = Duration::from_millis(20);

thread_local! {
    /// The leases that the change of this thread waits for (`Error::Leased`).
    static AWAITED: RefCell<Vec<Awaited>> = const { RefCell::new(Vec::new()) };
    /// The leases of this opening that the change of this thread touches, inside `touching`.
    static TOUCHED: RefCell<Option<Vec<u16>>> = const { RefCell::new(None) };
    /// Since when this thread has seen the leases of an opening.
    static OBSERVED: RefCell<Option<Observed>> = const { RefCell::new(None) };
}

/// Run a change and return the buckets of the opening's own leases that it touches, and leaves as they are.
pub(crate) fn touching<R>(change: impl FnOnce() -> R) -> (R, Vec<u16>) {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            TOUCHED.replace(None);
        }
    }
    TOUCHED.replace(Some(Vec::new()));
    let end = End;
    let result = change();
    let touched = TOUCHED.take().unwrap_or_default();
    drop(end);
    (result, touched)
}

/// Note that a change touches an own lease. False: nothing notes that.
fn note_touched(bucket: u16) -> bool {
    TOUCHED.with_borrow_mut(|touched| {
        let Some(touched) = touched else { return false };
        if !touched.contains(&bucket) {
            touched.push(bucket);
        }
        true
    })
}

/// A lease that is waited for, and the word that was seen.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    holder: usize,
    bucket: u16,
    seen: u64,
}

/// Since when a thread has seen each lease of an opening with the stamp that it has now. A stamp is a time of expiry,
/// and a holder that uses a lease again leaves its stamp: what was seen before the last look still counts.
struct Observed {
    opening: (usize, u64),
    leases: HashMap<(usize, u16), (u64, Instant)>,
}

impl ReadSection<'_> {
    /// Grant a lease of a bucket (`Pager::lease_bucket`) in this section, or use it again if its stamp is at least
    /// `fresh`. Return its stamp; None: nothing may be kept.
    #[must_use]
    pub(crate) fn grant_lease(&self, bucket: u16, stamp: u64, fresh: u64) -> Option<u64> {
        let holder = self.pager().holder_of_leases()?;
        if !self.keeps_writers_out() {
            return None;
        }
        self.pager().shm().lease(holder, bucket).grant(stamp, fresh)
    }

    /// Return whether another process may keep an entry, whose value is at an address. Only for a section of the
    /// writer.
    #[inline]
    pub(crate) fn may_be_leased(&self, id: ObjectId, at: Addr, key: impl FnOnce() -> Option<u64>) -> bool {
        let pager = self.pager();
        if !pager.shm().has_leases() {
            return false;
        }
        // The number of grants is read before the words.
        let note = [at.0, pager.structure_now(), pager.shm().lease_grants()];
        !pager.unleased().has(note) && self.is_leased(id, note, key)
    }

    #[inline(never)]
    fn is_leased(&self, id: ObjectId, note: [u64; 3], key: impl FnOnce() -> Option<u64>) -> bool {
        let (pager, buckets) = (self.pager(), [bucket(id.0, None), bucket(id.0, key())]);
        let held = |holder| buckets.iter().any(|b| pager.shm().lease(holder, *b).value() != 0);
        let leased = (0..LEASE_HOLDERS).any(held);
        if !leased {
            pager.unleased().note(note);
        }
        leased
    }

    fn keeps_writers_out(&self) -> bool {
        self.protection() == Protection::Mark && !self.shows_committed()
    }
}

impl WriteSection<'_> {
    /// Look at the leases of a container and of an entry of it, which are about to change.
    #[inline]
    pub(super) fn look_for_leases(&mut self, id: ObjectId, key: Option<u64>) -> Result<()> {
        let both = [bucket(id.0, None), bucket(id.0, key)];
        self.touched.note(both[0]);
        if key.is_some() {
            self.touched.note(both[1]);
        }
        if !self.read.pager.shm().has_leases() {
            return Ok(());
        }
        self.demand(both.into_iter(), true, self.insists)
    }

    /// Look at all leases: what changes is not one entry.
    pub(super) fn look_for_all_leases(&mut self, can_run_again: bool) -> Result<()> {
        self.touched.note_all();
        if !self.read.pager.shm().has_leases() {
            return Ok(());
        }
        self.demand(0..LEASE_BUCKETS as u16, false, self.insists || !can_run_again)
    }

    /// Look again at the leases of what this section changes: readers were inside.
    pub(super) fn look_again_for_leases(&mut self) -> Result<()> {
        if !self.read.pager.shm().has_leases() {
            return Ok(());
        }
        match self.touched.noted() {
            Some(noted) => {
                let noted = noted.to_vec();
                self.demand(noted.into_iter(), true, self.insists)
            }
            None => self.demand(0..LEASE_BUCKETS as u16, false, self.insists),
        }
    }

    /// Wait for leases in the section, instead of leaving it.
    pub(crate) fn insist(&mut self) {
        self.insists = true;
    }

    /// Ask for leases. `single`: for those of single entries, which may be only noted if they are the opening's own.
    #[cold]
    fn demand(&self, buckets: impl Iterator<Item = u16> + Clone, single: bool, stays: bool) -> Result<()> {
        let pager = self.read.pager;
        let mut awaited = Vec::new();
        for holder in 0..LEASE_HOLDERS {
            let is_own = pager.holder_of_leases() == Some(holder);
            let mut any = false;
            for bucket in buckets.clone() {
                let lease = pager.shm().lease(holder, bucket);
                if is_own && single && (lease.value() == 0 || note_touched(bucket)) {
                    continue;
                }
                let Some(seen) = lease.want() else {
                    continue;
                };
                any = true;
                if !is_own {
                    awaited.push(Awaited { holder, bucket, seen });
                }
            }
            if any {
                pager.shm().call_lease_holder(holder);
            }
        }
        if awaited.is_empty() {
            return Ok(());
        }
        if self.transaction || stays {
            return pager.await_leases(&awaited, None);
        }
        AWAITED.replace(awaited);
        Err(Error::Leased)
    }
}

impl Pager {
    /// Wait, outside sections, for the leases that `Error::Leased` of this thread was about. A caller that may wait at
    /// all waits until they have expired, however short its time limit for locks is: a lease is not a lock.
    pub(crate) fn await_leases_outside(&self, wait: &mut Wait<'_>) -> Result<()> {
        let awaited = AWAITED.take();
        let (given, bound) = (wait.timeout, self.bound().max(3 * LEASE));
        let never = wait.interrupted.is_none() && given.is_some_and(|time| time.is_zero());
        if !never {
            wait.timeout = given.map(|time| time.max(3 * LEASE));
        }
        let result = self.await_leases(&awaited, Some(WaitLoop::new(wait, bound)));
        wait.timeout = given;
        result
    }

    /// Wait until leases are given up, or have expired.
    fn await_leases(&self, awaited: &[Awaited], mut wait_loop: Option<WaitLoop<'_, '_>>) -> Result<()> {
        for a in awaited {
            while self.shm().lease(a.holder, a.bucket).value() == a.seen {
                let slice = match &mut wait_loop {
                    Some(wait_loop) => wait_loop.slice("the cache of a mount to be given up", || {
                        self.describe_lease_holder(a.holder)
                    })?,
                    None => SLICE,
                };
                self.expire_leases();
                self.shm()
                    .sleep_on_lease(a.holder, a.bucket, a.seen, slice.min(SLICE));
            }
        }
        Ok(())
    }

    /// Look at all leases, and end those that this thread has seen for `LEASE`: they have expired. Holders that are
    /// stopped or dead thus delay the changes once.
    fn expire_leases(&self) {
        let now = Instant::now();
        let opening = (
            std::ptr::from_ref(self).addr(),
            owner_word(self.process(), self.generation()),
        );
        OBSERVED.with_borrow_mut(|observed| {
            let before = observed.take().filter(|before| before.opening == opening);
            let mut leases = HashMap::new();
            for (holder, b) in (0..LEASE_HOLDERS).flat_map(|h| (0..LEASE_BUCKETS as u16).map(move |b| (h, b)))
            {
                let word = self.shm().lease(holder, b).value();
                if word == 0 {
                    continue;
                }
                let stamp = word & !WANTED;
                let since = before
                    .as_ref()
                    .and_then(|before| before.leases.get(&(holder, b)))
                    .filter(|(seen, _)| *seen == stamp)
                    .map_or(now, |(_, since)| *since);
                if now.duration_since(since) <= LEASE || !self.end_lease_of(holder, b, word) {
                    leases.insert((holder, b), (stamp, since));
                }
            }
            *observed = Some(Observed { opening, leases });
        });
    }

    fn end_lease_of(&self, holder: usize, bucket: u16, seen: u64) -> bool {
        let ended = self.shm().lease(holder, bucket).end(seen);
        if ended && seen & WANTED != 0 {
            self.shm().wake_lease(holder, bucket);
        }
        ended
    }

    fn describe_lease_holder(&self, holder: usize) -> String {
        let owner = self.shm().lease_holder(holder);
        let process = (owner as u32).wrapping_sub(1) as u16;
        self.describe_process(process, (owner >> 32) as u32)
            .unwrap_or_else(|| "a mount that has ended".to_owned())
    }

    /// Return the bucket of a container, or of an entry of it by the hash of its key.
    pub(crate) fn lease_bucket(id: ObjectId, key: Option<u64>) -> u16 {
        bucket(id.0, key)
    }

    /// Become a holder of leases. Return false if there are as many as there can be, or the opening cannot change the
    /// store.
    pub(crate) fn claim_leases(&self) -> Result<bool> {
        if self.is_read_only() || self.is_frozen() {
            return Ok(false);
        }
        self.slot()?;
        let mine = owner_word(self.process(), self.generation());
        for holder in 0..LEASE_HOLDERS {
            let old = self.shm().lease_holder(holder);
            let is_free = old == 0 || {
                let process = (old as u32).wrapping_sub(1) as u16;
                self.is_dead(process, (old >> 32) as u32)
            };
            if is_free && self.shm().set_lease_holder(holder, old, mine) {
                self.set_holder_of_leases(Some(holder));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Stop being a holder. The kernel keeps nothing any more.
    pub(crate) fn release_leases(&self) {
        let Some(holder) = self.holder_of_leases() else {
            return;
        };
        self.set_holder_of_leases(None);
        for b in 0..LEASE_BUCKETS as u16 {
            let word = self.shm().lease(holder, b).value();
            self.end_lease_of(holder, b, word);
        }
        let mine = owner_word(self.process(), self.generation());
        self.shm().set_lease_holder(holder, mine, 0);
    }

    /// Sleep until a change wants leases of this holder, if none has since there were `seen` calls, for `at_most`.
    /// Return the number of calls. Inside a section it returns at once.
    pub(crate) fn await_lease_call(&self, seen: u32, at_most: Duration) -> u32 {
        if self.outside_sections().is_err() {
            return self.lease_calls();
        }
        let Some(holder) = self.holder_of_leases() else {
            // It may become one.
            std::thread::sleep(at_most.min(SLICE));
            return seen;
        };
        self.shm().await_lease_call(holder, seen, at_most);
        self.shm().lease_calls(holder)
    }

    /// Return the number of calls of this holder so far.
    pub(crate) fn lease_calls(&self) -> u32 {
        self.holder_of_leases().map_or(0, |h| self.shm().lease_calls(h))
    }

    /// Return this holder's leases as bucket and word.
    pub(crate) fn own_leases(&self) -> Vec<(u16, u64)> {
        let Some(holder) = self.holder_of_leases().filter(|_| self.shm().has_leases()) else {
            return Vec::new();
        };
        (0..LEASE_BUCKETS as u16)
            .map(|b| (b, self.shm().lease(holder, b).value()))
            .filter(|(_, word)| *word != 0)
            .collect()
    }

    /// Return the word of a lease of this holder; 0: there is none.
    pub(crate) fn own_lease(&self, bucket: u16) -> u64 {
        let holder = self.holder_of_leases();
        holder.map_or(0, |h| self.shm().lease(h, bucket).value())
    }

    /// Call this holder: leases are wanted.
    pub(crate) fn call_for_leases(&self) {
        if let Some(holder) = self.holder_of_leases() {
            self.shm().call_lease_holder(holder);
        }
    }

    /// End a lease of this holder whose word was seen: its kernel keeps nothing of the bucket.
    pub(crate) fn end_lease(&self, bucket: u16, seen: u64) -> bool {
        let holder = self.holder_of_leases();
        holder.is_some_and(|holder| self.end_lease_of(holder, bucket, seen))
    }

    /// Make changes wait for a bucket until this holder has given it up.
    pub(crate) fn hold_back_lease(&self, bucket: u16, stamp: u64) {
        if let Some(holder) = self.holder_of_leases() {
            self.shm().lease(holder, bucket).hold_back(stamp);
        }
    }
}
