//! Running a model: every interleaving of its threads, and again with each part of its protocol removed, when it must
//! fail.

use crate::raw::sync::{AtomicU32, AtomicU64, FutexWord};
use crate::{gate, latch};
use loom::cell::UnsafeCell;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// A part of a protocol that can be removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Without {
    /// Sequentially consistent accesses become acquire and release.
    Fences,
    /// A sleeper does not compare before it sleeps.
    Comparison,
    /// Recovery without the dead process's byte lock.
    ByteLock,
    /// Recovery that does not check the slot again once it holds the byte lock.
    Recheck,
    /// Reading without a section.
    Section,
    /// A lease that is granted after the section.
    LeaseFirst,
    /// A lease that is ended before what it covers is given up.
    GiveUpFirst,
    /// A change that does not look again at what was not leased, however many leases were granted since.
    GrantCount,
    /// A flip outside the latch.
    FlipLatch,
    /// Recovery that does not finish a flip, or a write in progress.
    FinishFlip,
    /// A leader that reports a flush before it has flushed.
    FlushFirst,
    /// A gap in the log that is recorded after the first record behind it is ready.
    HoldFirst,
    /// A leader's word without its generation.
    Generation,
    /// A holder that makes room wakes no waiter.
    Wake,
    /// A dead holder is not recovered.
    Recovery,
    /// A waiter that gives up does not check whether it was granted the lock in between.
    Grant,
    /// A request that would close a cycle waits all the same.
    Cycle,
    /// A sleep that does not end by itself.
    Slice,
    /// A waiter that checks its condition queues again at the end.
    Place,
    /// A change checks for locks before it has the latch.
    ChangeLatch,
    /// A thread's slot counts only after it was entered.
    HighFirst,
    /// The release of another process's right to run checkpoints does not compare.
    Compare,
    /// A step of the checkpoint does not check the owner.
    OwnerLook,
    /// The checkpoint is taken from its owner while the owner writes the meta page.
    WritingLast,
}

/// The removed part in this process (PERSIST_WITHOUT).
pub(crate) static MISSING: LazyLock<String> =
    LazyLock::new(|| std::env::var("PERSIST_WITHOUT").unwrap_or_default());

pub(crate) fn without(part: Without) -> bool {
    !MISSING.is_empty() && *MISSING == format!("{part:?}")
}

pub(crate) type Sleepers = (loom::sync::Mutex<(i32, i32)>, loom::sync::Condvar);

loom::lazy_static! {
    /// The futex queue of the running model: how many threads slept so far, and how many of those were woken.
    pub(crate) static ref SLEEPERS: Sleepers = (loom::sync::Mutex::new((0, 0)), loom::sync::Condvar::new());
}

/// Run every interleaving with at most this many forced preemptions.
pub(crate) fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = runs.clone();
    builder.check(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    println!(
        "{} interleavings",
        runs.load(std::sync::atomic::Ordering::Relaxed)
    );
}

/// Assert that the model holds, and fails without each of these parts. The latter runs in separate processes, since a
/// failing model may abort.
pub(crate) fn holds_only_with(
    test: &str,
    parts: &[Without],
    preemptions: usize,
    model: impl Fn() + Send + Sync + 'static,
) {
    explore(preemptions, model);
    if !MISSING.is_empty() {
        return;
    }
    // Without the name of this crate.
    let inside = test.split_once("::").map_or(test, |(_, rest)| rest);
    for part in parts {
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", inside, "--test-threads=1"])
            .env("PERSIST_WITHOUT", format!("{part:?}"))
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        assert!(
            !done.status.success(),
            "{test}: the model does not notice that {part:?} is missing"
        );
    }
}

/// The words of a latch.
#[derive(Clone)]
pub(crate) struct LatchWords {
    pub(crate) word: AtomicU64,
    pub(crate) futex: FutexWord,
    pub(crate) waiters: AtomicU32,
    pub(crate) turn: AtomicU64,
}

impl LatchWords {
    pub(crate) fn new(owner: u64) -> LatchWords {
        let word = AtomicU64::new(owner);
        LatchWords {
            futex: FutexWord(word.clone()),
            word,
            waiters: AtomicU32::new(0),
            turn: AtomicU64::new(0),
        }
    }

    pub(crate) fn latch(&self) -> latch::Latch<'_> {
        latch::Latch {
            word: &self.word,
            futex: &self.futex,
            waiters: &self.waiters,
            turn: &self.turn,
            process: 0,
        }
    }

    pub(crate) fn gate(&self) -> gate::Gate<'_> {
        gate::Gate {
            word: &self.word,
            futex: &self.futex,
            waiters: &self.waiters,
        }
    }

    /// Like page/section/enter.rs after spinning.
    pub(crate) fn take(&self, slot: u32) {
        while !self.latch().try_take(slot) {
            self.latch().sleep(Duration::ZERO);
        }
    }
}

/// Plain bytes that the protocol guards: the model fails when two threads access them at once.
pub(crate) struct Bytes(UnsafeCell<u64>);

// SAFETY: the model checks all accesses; this is the purpose of the type.
unsafe impl Sync for Bytes {}
// SAFETY: as above.
unsafe impl Send for Bytes {}

impl Bytes {
    pub(crate) fn new(value: u64) -> Arc<Bytes> {
        Arc::new(Bytes(UnsafeCell::new(value)))
    }

    pub(crate) fn get(&self) -> u64 {
        // SAFETY: the model stops at a concurrent write.
        self.0.with(|p| unsafe { *p })
    }

    pub(crate) fn set(&self, value: u64) {
        // SAFETY: the model stops at any concurrent access.
        self.0.with_mut(|p| unsafe { *p = value });
    }
}

/// The slot of the dead thread, where a model has one.
pub(crate) const DEAD_SLOT: u32 = 7;
/// Its process slot.
pub(crate) const DEAD_PROCESS: usize = 3;

/// The latch's word of the process that died with it.
pub(crate) fn of_the_dead() -> u64 {
    latch::process_bits(DEAD_PROCESS as u16, 1) | (u64::from(DEAD_SLOT) + 1)
}

/// A test's name in the test binary.
macro_rules! name {
    ($test:literal) => {
        concat!(module_path!(), "::", $test)
    };
}
pub(crate) use name;
