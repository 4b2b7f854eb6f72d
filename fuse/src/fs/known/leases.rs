//! What the kernel keeps of this mount, and giving it up: the holder's side of the engine's leases.
//!
//! 1. A reply may be kept by the kernel (a time to live above 0) only if a lease covers it that was granted in the
//!    section that read it (`Held`). The time to live ends before the lease does.
//! 2. A request counts itself in the bucket before it takes the lease, and until its reply is written and recorded.
//!    A lease that is wanted is ended only when no request is counted and the kernel was told to forget what is
//!    recorded. So a reply under way is never forgotten too early.
//! 3. A reply that was written later than planned (the daemon was stopped) is recorded as expired in the kernel's
//!    favour: the kernel is told at once (`Held::replied`). Between the writing of such a reply and this look there is
//!    a moment of some microseconds.
//! 4. Entries are forgotten by one thread (`serve`) that answers no request: the kernel takes the lock of the directory
//!    for it, which a request under way may hold. Attributes are forgotten without a lock, by any thread.
//! 5. A change that comes through the mount does not wait for the mount's own leases. Before its reply the attributes
//!    that it touches are forgotten (`forget_touched`); what it does to its own entries the kernel knows, so the lease
//!    stays. The change waits for replies under way, which may bring the earlier entry or attributes that no record
//!    names yet. It waits until they are written, or bring nothing that may be kept: no longer than a lease lives. A
//!    request that comes during this is not leased, so the wait has an end beside any number of readers. The change
//!    waits after the inode table has followed it (`Unforgotten`): requests with leases may wait for the table. A
//!    lease is given up after a change of more than single entries. A renamed entry keeps the
//!    kernel's time to live under its new name: changes of that name wait until the kernel has forgotten it
//!    (`Held::moving`). A change of attributes brings those of its inode with its answer (`answering`).
//! 6. A bucket that is wanted often is not leased for a while.
//! 7. Without leases the thread sleeps until the next one, however long (`asleep`): a mount that is not in use does not
//!    wake. A request that has taken a lease looks for that after its reply.
//! 8. The kernel extends the life of a name when the thread that asked runs with the reply, without a look at what it
//!    has learned since. So a name is forgotten after each thread that got such a reply lately has run
//!    (`await_stored`).
//! 9. If the kernel refuses to forget something, the lease stays until that has expired, and nothing more is leased.
//!
//! Each bucket has a mutex, which is a leaf: under it only attributes are forgotten, which does not wait.

use super::forgetting::{Kept, Kernel};
use crate::fs::context::{UNLIMITED, lock};
use crate::kernel::processes::{self, Doing};
use persist_core::store::Store;
use persist_core::store::door::{HeldLease, LEASE_BUCKETS, LeaseBucket, lease_clock};
use records::Entries;
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

mod held;
mod records;

pub(crate) use held::Held;

/// The time between the end of what the kernel keeps and the end of the lease: for the reply's way to the kernel, and
/// for the kernel's clock, which counts in ticks.
const MARGIN: u64 = 100_000_000;
/// The part of it that is for the kernel's clock.
const TICKS: u64 = 20_000_000;
/// How often expired leases are looked for.
const SWEEP: Duration = Duration::from_millis(500);
/// How long a bucket that was wanted is not leased: at first, and at most.
const QUIET: (u64, u64) = (1_000_000, 1_000_000_000);
/// The longest wait of a change for the replies under way that read what it has changed. Those that are later come with
/// a time to live of 0, since their leases have expired.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// A thread that got a reply longer ago than this has run with it.
const LATELY: u64 = 100_000_000;
/// After how long a thread of which nothing is known has: it may have ended.
const UNKNOWN_STORED: u64 = 20_000_000;
/// The most time for which a thread runs before it has stored a reply.
const STORING: u64 = 50_000;
/// The most threads that are remembered of a bucket.
const CALLERS: usize = 16;

thread_local! {
    /// The inode whose attributes the answer to this thread's request brings; 0: none (`Leases::answering`).
    static ANSWERED: Cell<u64> = const { Cell::new(0) };
}

/// The buckets that cover a reply.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Covered {
    /// The entry: which inode the name means, or that there is none.
    pub(crate) entry: Option<LeaseBucket>,
    /// The attributes.
    pub(crate) attributes: Option<LeaseBucket>,
}

#[derive(Default)]
struct Bucket {
    state: Mutex<State>,
    /// No request is under way any more.
    replied: Condvar,
}

#[derive(Default)]
struct State {
    /// Requests that may take the lease, or have taken it and not replied yet.
    under_way: u32,
    /// Changes that wait for the replies under way.
    awaiting: u32,
    /// Renames under way.
    moving: u32,
    /// The entries that the kernel keeps, and until when.
    kept: Entries,
    /// The threads that got them last (0: not known), and when.
    callers: Vec<(u32, u64)>,
    /// The inodes whose attributes it keeps, and until when. They are many in the bucket of a list, and are forgotten
    /// at every change of it: each once.
    attributes: Vec<(u64, u64)>,
    /// The lease is not taken until this time.
    quiet_until: u64,
    quiet: u64,
}

impl State {
    /// Note that a thread got a reply with an entry.
    fn note_caller(&mut self, thread: u32, now: u64) {
        if let Some(known) = self.callers.iter_mut().find(|known| known.0 == thread) {
            known.1 = now;
            return;
        }
        if self.callers.len() >= CALLERS {
            let oldest = (0..self.callers.len()).min_by_key(|at| self.callers[*at].1);
            self.callers.swap_remove(oldest.unwrap_or_default());
        }
        self.callers.push((thread, now));
    }
}

/// A change of this mount, of which replies under way may bring what was before it. The kernel forgets that when this
/// is dropped, which waits for them: before the reply to the change, and after the inode table has followed it.
#[must_use]
pub(crate) struct Unforgotten<'a> {
    leases: &'a Leases,
    /// The number of calls for leases before the change.
    calls: u32,
    /// The buckets that it touches, whose leases were not called for.
    touched: Vec<LeaseBucket>,
}

impl Drop for Unforgotten<'_> {
    fn drop(&mut self) {
        self.leases.forget_touched(self.calls, &self.touched);
    }
}

/// What the kernel keeps of a mount.
pub(crate) struct Leases {
    store: Store,
    buckets: Box<[Bucket]>,
    kernel: OnceLock<Arc<Kernel>>,
    on: AtomicBool,
    /// The kernel did not forget something.
    failed: AtomicBool,
    /// How many things the kernel was told to forget.
    forgotten: AtomicU64,
    /// Entries may be kept, not only attributes.
    entries: AtomicBool,
    /// The thread sleeps, or is about to, until it is called.
    asleep: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Leases {
    pub(crate) fn new(store: Store) -> Leases {
        Leases {
            store,
            buckets: (0..LEASE_BUCKETS).map(|_| Bucket::default()).collect(),
            kernel: OnceLock::new(),
            on: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            forgotten: AtomicU64::new(0),
            entries: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            thread: Mutex::default(),
        }
    }

    /// Begin to lease, if the store can be leased. `kernel` is told what to forget.
    pub(crate) fn start(self: &Arc<Leases>, kernel: Arc<Kernel>) -> io::Result<bool> {
        self.entries.store(kernel.is_monitored(), Ordering::Relaxed);
        if self.kernel.set(kernel).is_err() || !self.store.hold_leases().map_err(io::Error::other)? {
            return Ok(false);
        }
        self.on.store(true, Ordering::SeqCst);
        let leases = self.clone();
        let thread = std::thread::Builder::new().name("leases".into());
        match thread.spawn(move || leases.serve()) {
            Ok(thread) => *lock(&self.thread) = Some(thread),
            Err(e) => {
                self.on.store(false, Ordering::SeqCst);
                self.store.stop_holding_leases();
                return Err(e);
            }
        }
        Ok(true)
    }

    /// The mount has ended, and the kernel keeps nothing. Waits for the end of the thread.
    pub(crate) fn end(&self) {
        let was_on = self.on.swap(false, Ordering::SeqCst);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            self.store.call_for_leases();
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
        if was_on {
            self.store.stop_holding_leases();
        }
    }

    /// Lease another opening of the store. No request runs. This waits until what the kernel keeps has expired, but not
    /// for the thread, which may wait for a request that waits for this.
    pub(crate) fn again(&self, store: &Store) -> Arc<Leases> {
        let next = Arc::new(Leases::new(store.clone()));
        if self.on.swap(false, Ordering::SeqCst) {
            self.store.call_for_leases();
            while self.store.held_leases().iter().any(|lease| !lease.expired) {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.store.stop_holding_leases();
        }
        if let Some(kernel) = self.kernel.get()
            && let Err(e) = next.start(kernel.clone())
        {
            log::error!("the kernel keeps nothing of the mount from now on, which is slower: {e}");
        }
        next
    }

    pub(crate) fn are_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// True if the kernel may keep more.
    fn may_keep(&self) -> bool {
        self.are_on() && !self.failed.load(Ordering::Relaxed)
    }

    /// Give up leases that are wanted, and end those that have expired, until the mount ends.
    pub(crate) fn serve(&self) {
        let mut calls = 0;
        while self.are_on() {
            let seen = self.store.await_lease_call(calls, self.time_to_sweep());
            self.asleep.store(false, Ordering::SeqCst);
            self.check_monitor();
            let held = self.store.held_leases();
            for lease in &held {
                if lease.wanted {
                    self.give_up(lease);
                } else if lease.expired {
                    self.expire(lease);
                }
            }
            calls = seen;
        }
    }

    /// How long the thread may sleep. A request takes a lease before it looks whether the thread is asleep, and the
    /// thread says so before it looks for leases: one of them sees the other.
    fn time_to_sweep(&self) -> Duration {
        self.asleep.store(true, Ordering::SeqCst);
        if self.store.held_leases().is_empty() {
            return UNLIMITED;
        }
        self.asleep.store(false, Ordering::SeqCst);
        SWEEP
    }

    /// The monitor has ended: the thread notices it, also while it sleeps.
    pub(crate) fn notice_monitor(&self) {
        self.store.call_for_leases();
    }

    /// Keep no entries without a monitor. Those that the kernel keeps expire within the second.
    fn check_monitor(&self) {
        let monitored = self.kernel.get().is_some_and(|kernel| kernel.is_monitored());
        if self.entries.swap(monitored, Ordering::Relaxed) && !monitored {
            log::warn!("the process persist-monitor has ended: the kernel keeps no names from now on");
        }
    }

    fn is_eager(&self) -> bool {
        self.kernel.get().is_some_and(|kernel| kernel.is_eager)
    }

    fn bucket(&self, bucket: LeaseBucket) -> &Bucket {
        &self.buckets[bucket.index() % LEASE_BUCKETS]
    }

    /// End a lease that is wanted, unless a reply is under way: then that request calls for it again.
    fn give_up(&self, lease: &HeldLease) {
        let mut bucket = lock(&self.bucket(lease.bucket).state);
        let now = lease_clock();
        if bucket.under_way + bucket.moving > 0 {
            return;
        }
        if !self.is_eager() {
            let again = now < bucket.quiet_until.saturating_add(bucket.quiet.max(10 * QUIET.0));
            bucket.quiet = if again {
                (bucket.quiet * 2).clamp(QUIET.0, QUIET.1)
            } else {
                QUIET.0
            };
            bucket.quiet_until = now + bucket.quiet;
        }
        // Under the mutex, so that `forget_touched` finds them forgotten, or forgets them itself.
        self.forget_kept_attributes(&mut bucket);
        let callers = std::mem::take(&mut bucket.callers);
        let mut kept = std::mem::take(&mut bucket.kept);
        let mut forgotten = bucket.attributes.is_empty();
        drop(bucket);
        if !kept.is_empty() {
            await_stored(&callers, now);
        }
        kept.retain(|until, what| until > now && !self.forget(what));
        if !kept.is_empty() {
            forgotten = false;
            lock(&self.bucket(lease.bucket).state).kept.append(kept);
        }
        if forgotten {
            self.store.end_lease(lease);
        }
    }

    fn expire(&self, lease: &HeldLease) {
        let mut bucket = lock(&self.bucket(lease.bucket).state);
        if bucket.under_way + bucket.moving == 0 && self.store.end_lease(lease) {
            bucket.kept = Entries::default();
            bucket.callers = Vec::new();
            bucket.attributes = Vec::new();
        }
    }

    fn forget_kept_attributes(&self, state: &mut State) {
        if state.attributes.is_empty() {
            return;
        }
        let (now, answered) = (lease_clock(), ANSWERED.get());
        let kept = &mut state.attributes;
        kept.retain(|(until, ino)| {
            *until > now && (*ino == answered || !self.forget(Kept::Attributes(*ino)))
        });
    }

    /// Run a change of attributes whose answer brings all attributes of an inode: the kernel need not forget those that
    /// it keeps, unless the request fails. Only for attributes that no other answer shows by other means, as a read
    /// shows a size.
    pub(crate) fn answering<R, E>(&self, ino: u64, change: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                ANSWERED.set(0);
            }
        }
        ANSWERED.set(ino);
        let end = End;
        let done = change();
        drop(end);
        if self.are_on() && done.is_err() {
            self.forget(Kept::Attributes(ino));
        }
        done
    }

    /// A change of this mount has happened: let the kernel forget the attributes that it touches, so that no look
    /// brings earlier ones than another door shows. `calls` is the number of calls before the change, `touched` the
    /// buckets whose leases were not called for.
    pub(crate) fn changed(&self, calls: u32, touched: Vec<LeaseBucket>) -> Unforgotten<'_> {
        for bucket in touched.iter().filter(|_| self.are_on()) {
            self.forget_kept_attributes(&mut lock(&self.bucket(*bucket).state));
        }
        Unforgotten {
            leases: self,
            calls,
            touched,
        }
    }

    /// Before the reply to the change: wait for the replies under way, and let the kernel forget what they brought.
    fn forget_touched(&self, calls: u32, touched: &[LeaseBucket]) {
        if !self.are_on() {
            return;
        }
        let end = Instant::now() + UNDER_WAY;
        for touched in touched {
            let bucket = self.bucket(*touched);
            let mut state = lock(&bucket.state);
            if state.under_way > 0 {
                // A reply that is written before the one to this change does no harm: a lookup or a listing that is not
                // of a name that the kernel keeps has the directory's lock, which the change has alone; of a name that
                // it keeps the change replaces the entry; and attributes are forgotten below.
                state = await_replies(bucket, state, end);
            }
            if state.under_way > 0 {
                // When the replies are recorded, the lease is given up.
                self.store.hold_back(*touched);
                self.store.call_for_leases();
            }
            self.forget_kept_attributes(&mut state);
        }
        if self.store.lease_calls() == calls {
            return;
        }
        for lease in self.store.held_leases().iter().filter(|lease| lease.wanted) {
            let bucket = self.bucket(lease.bucket);
            let mut state = lock(&bucket.state);
            if !touched.contains(&lease.bucket) {
                state = await_replies(bucket, state, end);
            }
            self.forget_kept_attributes(&mut state);
        }
    }

    /// Tell the kernel to forget something. Returns whether it has.
    fn forget(&self, what: Kept<'_>) -> bool {
        self.forgotten.fetch_add(1, Ordering::Relaxed);
        let Some(Err(e)) = self.kernel.get().map(|kernel| kernel.forget(what)) else {
            return true;
        };
        if !self.failed.swap(true, Ordering::SeqCst) {
            log::error!(
                "the kernel does not forget what it keeps ({e}): changes by other programs wait until that has {}",
                "expired, and it keeps nothing from now on; mount again to change that"
            );
        }
        false
    }
}

/// Wait until threads have run with the replies that they got lately, for `LATELY` at most.
fn await_stored(callers: &[(u32, u64)], now: u64) {
    for (thread, at) in callers.iter().filter(|(_, at)| at + LATELY > now) {
        let first = match processes::doing(*thread) {
            // It waits for something else: it has run.
            Doing::Waits => continue,
            Doing::Runs(first) => first,
            Doing::Unknown => {
                let left = (at + UNKNOWN_STORED).saturating_sub(lease_clock());
                std::thread::sleep(Duration::from_nanos(left));
                continue;
            }
        };
        let has_run = || match processes::doing(*thread) {
            Doing::Waits | Doing::Unknown => true,
            Doing::Runs(now) => now >= first + STORING,
        };
        while lease_clock() < at + LATELY && !has_run() {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

/// Wait until `end` for the replies under way, which may bring what was before a change. Their requests do not wait.
fn await_replies<'a>(
    bucket: &'a Bucket,
    mut state: MutexGuard<'a, State>,
    end: Instant,
) -> MutexGuard<'a, State> {
    state.awaiting += 1;
    let left = end.saturating_duration_since(Instant::now());
    let waited = bucket
        .replied
        .wait_timeout_while(state, left, |state| state.under_way > 0);
    let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
    state.awaiting -= 1;
    state
}

#[cfg(test)]
mod tests;
