//! The protocols between threads and processes, model-checked (loom): every interleaving, and every value
//! that a weakly ordered load may see, of two or three threads.
//!
//! `latch`, `gate` and the log's `group` are the engine's own files, compiled against the model's atomics. What stands
//! around them (burial, the live page table, the flip of the epoch) is written down here as the
//! engine does it, with the file it mirrors named.
//!
//! Each model is also run with a part of its protocol taken out, and must then fail: so the model is known
//! to look where the danger is.
//!
//! Times do not exist in a model: a sleeper that nobody wakes is a deadlock, though the engine's would
//! look again after 20 ms.

use loom::cell::UnsafeCell;
use loom::thread;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

#[rustfmt::skip]
#[path = "../src/page/gate.rs"]
#[allow(dead_code)]
mod gate;
#[rustfmt::skip]
#[path = "../src/page/waiters.rs"]
mod waiters;
#[rustfmt::skip]
#[path = "../src/page/latch.rs"]
#[allow(dead_code)]
mod latch;

#[rustfmt::skip]
#[path = "../src/page/redo/group.rs"]
#[allow(dead_code)]
mod group;

/// `group` names the sleepers by their place in the engine.
mod page {
    pub(crate) use crate::waiters;
}

/// Stands in for the engine's `raw`.
mod raw {
    /// The model's atomics with the engine's names.
    pub(crate) mod sync {
        use crate::{Without, without};
        use loom::sync::atomic::fence as model_fence;
        use std::sync::Arc;
        pub(crate) use std::sync::atomic::Ordering;

        /// The model's own atomics take SeqCst for AcqRel, but know SeqCst fences: each sequentially
        /// consistent access is one with fences.
        macro_rules! atomic {
            ($name:ident, $int:ty) => {
                #[derive(Clone, Debug)]
                pub(crate) struct $name(Arc<loom::sync::atomic::$name>);

                #[allow(dead_code)] // Each of the two has a use for its part.
                impl $name {
                    pub(crate) fn new(value: $int) -> $name {
                        $name(Arc::new(loom::sync::atomic::$name::new(value)))
                    }

                    pub(crate) fn load(&self, order: Ordering) -> $int {
                        if strong(order) {
                            model_fence(Ordering::SeqCst);
                        }
                        self.0.load(if order == Ordering::SeqCst {
                            Ordering::Acquire
                        } else {
                            order
                        })
                    }

                    pub(crate) fn store(&self, value: $int, order: Ordering) {
                        self.0.store(
                            value,
                            if order == Ordering::SeqCst {
                                Ordering::Release
                            } else {
                                order
                            },
                        );
                        if strong(order) {
                            model_fence(Ordering::SeqCst);
                        }
                    }

                    pub(crate) fn compare_exchange(
                        &self,
                        old: $int,
                        new: $int,
                        ok: Ordering,
                        err: Ordering,
                    ) -> Result<$int, $int> {
                        self.around(ok, |w| {
                            w.compare_exchange(old, new, weaker(ok), weaker_load(err))
                        })
                    }

                    pub(crate) fn fetch_add(&self, n: $int, order: Ordering) -> $int {
                        self.around(order, |w| w.fetch_add(n, weaker(order)))
                    }

                    pub(crate) fn fetch_update(
                        &self,
                        ok: Ordering,
                        err: Ordering,
                        f: impl FnMut($int) -> Option<$int>,
                    ) -> Result<$int, $int> {
                        self.around(ok, |w| w.fetch_update(weaker(ok), weaker_load(err), f))
                    }

                    fn around<R>(
                        &self,
                        order: Ordering,
                        f: impl FnOnce(&loom::sync::atomic::$name) -> R,
                    ) -> R {
                        if strong(order) {
                            model_fence(Ordering::SeqCst);
                        }
                        let done = f(&self.0);
                        if strong(order) {
                            model_fence(Ordering::SeqCst);
                        }
                        done
                    }
                }
            };
        }

        atomic!(AtomicU64, u64);
        atomic!(AtomicU32, u32);

        fn strong(order: Ordering) -> bool {
            order == Ordering::SeqCst && !without(Without::Fences)
        }

        fn weaker(order: Ordering) -> Ordering {
            if order == Ordering::SeqCst {
                Ordering::AcqRel
            } else {
                order
            }
        }

        fn weaker_load(order: Ordering) -> Ordering {
            if order == Ordering::SeqCst {
                Ordering::Acquire
            } else {
                order
            }
        }

        /// The same memory as the protocol's word.
        #[derive(Clone, Debug)]
        pub(crate) struct FutexWord(pub(crate) AtomicU64);

        impl FutexWord {
            pub(crate) fn load(&self, order: Ordering) -> u32 {
                self.0.load(order) as u32
            }
        }
    }

    /// The kernel's futex: the comparison and falling asleep are one step.
    pub(crate) mod futex {
        use super::sync::{FutexWord, Ordering};
        use crate::{SLEEPERS, Without, without};
        use std::time::Duration;

        pub(crate) fn wait(word: &FutexWord, expected: u32, _at_most: Duration) {
            let bucket = &*SLEEPERS;
            let mut asleep = bucket.0.lock().unwrap();
            if !without(Without::Comparison) && word.load(Ordering::SeqCst) != expected {
                return;
            }
            let mine = asleep.0;
            asleep.0 += 1;
            while asleep.1 <= mine {
                asleep = bucket.1.wait(asleep).unwrap();
            }
        }

        /// The first that fell asleep wake first.
        pub(crate) fn wake(_word: &FutexWord, count: i32) -> i32 {
            let bucket = &*SLEEPERS;
            let mut asleep = bucket.0.lock().unwrap();
            let n = (asleep.0 - asleep.1).min(count);
            asleep.1 += n;
            bucket.1.notify_all();
            n
        }
    }
}

use group::Group;
use raw::sync::{AtomicU32, AtomicU64, FutexWord, Ordering};

/// A part of a protocol that can be taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    /// Sequentially consistent accesses become acquire and release.
    Fences,
    /// A sleeper does not compare before it sleeps.
    Comparison,
    /// Burying without the dead process's byte lock.
    ByteLock,
    /// Burying without looking again at the slot once the byte is held.
    Recheck,
    /// Reading without a section.
    Section,
    /// A flip outside the latch.
    FlipLatch,
    /// Recovery that does not finish a flip.
    FinishFlip,
    /// A leader that says so before it has flushed.
    FlushFirst,
    /// A gap in the log that is noted after the first record behind it is ready.
    HoldFirst,
    /// A leader's word without its generation.
    Generation,
}

/// What is missing in this process (PERSIST_WITHOUT).
static MISSING: LazyLock<String> = LazyLock::new(|| std::env::var("PERSIST_WITHOUT").unwrap_or_default());

fn without(part: Without) -> bool {
    !MISSING.is_empty() && *MISSING == format!("{part:?}")
}

type Sleepers = (loom::sync::Mutex<(i32, i32)>, loom::sync::Condvar);

loom::lazy_static! {
    /// The futex's queue of the model being run: how many ever slept, and how many of those were woken.
    static ref SLEEPERS: Sleepers = (loom::sync::Mutex::new((0, 0)), loom::sync::Condvar::new());
}

/// Runs every interleaving with at most `preemptions` of them forced.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
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

/// The model holds, and fails without each of these: that is tried in processes of their own, since a
/// failing model may abort.
fn holds_only_with(
    test: &str,
    parts: &[Without],
    preemptions: usize,
    model: impl Fn() + Send + Sync + 'static,
) {
    explore(preemptions, model);
    if !MISSING.is_empty() {
        return;
    }
    for part in parts {
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--test-threads=1"])
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
struct LatchWords {
    word: AtomicU64,
    futex: FutexWord,
    waiters: AtomicU32,
}

impl LatchWords {
    fn new(owner: u64) -> LatchWords {
        let word = AtomicU64::new(owner);
        LatchWords {
            futex: FutexWord(word.clone()),
            word,
            waiters: AtomicU32::new(0),
        }
    }

    fn latch(&self) -> latch::Latch<'_> {
        latch::Latch {
            word: &self.word,
            futex: &self.futex,
            waiters: &self.waiters,
            process: 0,
        }
    }

    fn gate(&self) -> gate::Gate<'_> {
        gate::Gate {
            word: &self.word,
            futex: &self.futex,
            waiters: &self.waiters,
        }
    }

    /// As page/section.rs does after spinning.
    fn take(&self, slot: u32) {
        while !self.latch().try_take(slot) {
            self.latch().sleep(Duration::ZERO);
        }
    }
}

/// Plain bytes that the protocol guards: the model fails when two touch them at once.
struct Bytes(UnsafeCell<u64>);

// SAFETY: accesses are checked by the model; that is what it is for.
unsafe impl Sync for Bytes {}
// SAFETY: as above.
unsafe impl Send for Bytes {}

impl Bytes {
    fn new(value: u64) -> Arc<Bytes> {
        Arc::new(Bytes(UnsafeCell::new(value)))
    }

    fn get(&self) -> u64 {
        // SAFETY: the model stops at a concurrent write.
        self.0.with(|p| unsafe { *p })
    }

    fn set(&self, value: u64) {
        // SAFETY: the model stops at any concurrent access.
        self.0.with_mut(|p| unsafe { *p = value });
    }
}

#[test]
fn the_latch_has_one_owner_and_loses_no_sleeper() {
    holds_only_with(
        "the_latch_has_one_owner_and_loses_no_sleeper",
        &[Without::Fences, Without::Comparison],
        3,
        || {
            let (words, bytes) = (LatchWords::new(0), Bytes::new(0));
            let others: Vec<_> = (0..2)
                .map(|slot| {
                    let (words, bytes) = (words.clone(), bytes.clone());
                    thread::spawn(move || {
                        words.take(slot);
                        bytes.set(bytes.get() + 1);
                        words.latch().release();
                    })
                })
                .collect();
            words.take(2);
            bytes.set(bytes.get() + 1);
            words.latch().release();
            for other in others {
                other.join().unwrap();
            }
            assert_eq!(bytes.get(), 3);
        },
    );
}

#[test]
fn a_reader_and_the_writer_are_never_inside_together() {
    holds_only_with(
        "a_reader_and_the_writer_are_never_inside_together",
        &[Without::Fences, Without::Comparison],
        3,
        || {
            let (words, mark, bytes) = (LatchWords::new(0), AtomicU64::new(0), Bytes::new(0));
            let reader = {
                let (words, mark, bytes) = (words.clone(), mark.clone(), bytes.clone());
                thread::spawn(move || {
                    while words.gate().try_enter(&mark).is_none() {
                        words.gate().sleep(gate::RAISED, Duration::ZERO);
                    }
                    assert_ne!(bytes.get(), 1, "half a change");
                    gate::Gate::leave(&mark);
                })
            };
            let held = LatchWords::new(0);
            held.take(1);
            words.gate().raise();
            while mark.load(Ordering::SeqCst) != 0 {
                thread::yield_now();
            }
            bytes.set(1);
            bytes.set(2);
            // As a write section ends: releasing the latch is the barrier for both words.
            words.gate().lower_quietly(false);
            held.latch().release();
            words.gate().wake_waiters();
            reader.join().unwrap();
        },
    );
}

/// page/slots.rs: `bury`. The process in the slot died with the latch and half a change.
struct Dead {
    state: AtomicU64,
    byte: loom::sync::Mutex<()>,
    latch: LatchWords,
    change: Arc<Bytes>,
    recoveries: AtomicU64,
}

const DEAD_SLOT: u32 = 7;
const DEAD_PROCESS: usize = 3;

/// The latch's word of who died with it.
fn of_the_dead() -> u64 {
    latch::process_bits(DEAD_PROCESS as u16, 1) | (u64::from(DEAD_SLOT) + 1)
}

impl Dead {
    fn bury(&self, mine: u32) {
        let held = if without(Without::ByteLock) {
            None
        } else {
            Some(self.byte.try_lock())
        };
        if matches!(held, Some(Err(_))) {
            return;
        }
        if !without(Without::Recheck) && self.state.load(Ordering::Acquire) == 0 {
            return;
        }
        let latch = self.latch.latch();
        let taken = match latch.owner() {
            Some(dead) if dead.process() == DEAD_PROCESS => latch.take_over(dead, mine),
            _ => latch.try_take(mine),
        };
        if !taken {
            return;
        }
        // Recovery: what is half done is undone, the slot's holdings are dropped, the slot is free.
        self.change.set(0);
        self.recoveries.fetch_add(1, Ordering::Relaxed);
        self.state.store(0, Ordering::Release);
        latch.release();
    }
}

#[test]
fn a_dead_owner_is_buried_once_and_before_anyone_else_has_the_latch() {
    holds_only_with(
        "a_dead_owner_is_buried_once_and_before_anyone_else_has_the_latch",
        &[Without::ByteLock, Without::Recheck],
        3,
        || {
            let dead = Arc::new(Dead {
                state: AtomicU64::new(1),
                byte: loom::sync::Mutex::new(()),
                latch: LatchWords::new(of_the_dead()),
                change: Bytes::new(1),
                recoveries: AtomicU64::new(0),
            });
            let threads: Vec<_> = (0..2)
                .map(|mine| {
                    let dead = dead.clone();
                    thread::spawn(move || {
                        // Both have seen that nobody holds the byte.
                        dead.bury(mine);
                        if dead.latch.latch().try_take(mine) {
                            assert_eq!(dead.change.get(), 0, "half a change of the dead");
                            dead.latch.latch().release();
                        }
                    })
                })
                .collect();
            for t in threads {
                t.join().unwrap();
            }
            assert_eq!(dead.recoveries.load(Ordering::SeqCst), 1, "recoveries");
            assert_eq!(dead.state.load(Ordering::SeqCst), 0);
        },
    );
}

/// The live page table's entry of one page (page/table.rs `fill`, page/cow.rs `copy_to`), behind the gate.
#[test]
fn nobody_sees_the_old_page_after_the_swing() {
    const OLD: u64 = 5;
    const NEW: u64 = 6;
    holds_only_with(
        "nobody_sees_the_old_page_after_the_swing",
        &[Without::Section, Without::Fences],
        2,
        || {
            let words = LatchWords::new(0);
            let entry = AtomicU64::new(0);
            let swung = Bytes::new(0);
            let marks: Vec<AtomicU64> = (0..2).map(|_| AtomicU64::new(0)).collect();
            let readers: Vec<_> = (0..2)
                .map(|i| {
                    let (words, entry, swung) = (words.clone(), entry.clone(), swung.clone());
                    let mark = marks[i].clone();
                    thread::spawn(move || {
                        let section = !without(Without::Section);
                        if section && words.gate().try_enter(&mark).is_none() {
                            // Comes back later: of no interest here.
                            return;
                        }
                        let mut found = entry.load(Ordering::Acquire);
                        if found == 0 {
                            // The durable tree says the old page, as long as nobody wrote.
                            found = fill(&entry, OLD);
                        }
                        if swung.get() == 1 {
                            assert_eq!(found, NEW, "the old page after the swing");
                        }
                        if section {
                            gate::Gate::leave(&mark);
                        }
                    })
                })
                .collect();
            // A writer fills what it needs, too, and then swings.
            words.gate().raise();
            for mark in &marks {
                while mark.load(Ordering::SeqCst) != 0 {
                    thread::yield_now();
                }
            }
            if entry.load(Ordering::Acquire) == 0 {
                fill(&entry, OLD);
            }
            entry.store(NEW, Ordering::Release);
            swung.set(1);
            words.gate().lower(false);
            for r in readers {
                r.join().unwrap();
            }
            assert_eq!(entry.load(Ordering::SeqCst), NEW);
        },
    );
}

fn fill(entry: &AtomicU64, durable: u64) -> u64 {
    match entry.compare_exchange(0, durable, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => durable,
        Err(theirs) => theirs,
    }
}

/// page/checkpoint.rs: `flip` and `finish_flip`, against a writer's choice between copying a page and writing
/// it in place (page/cow.rs `writable`). One page; its birth epoch stands for its live entry.
struct Flip {
    latch: LatchWords,
    epoch: AtomicU64,
    phase: AtomicU64,
    ck_epoch: AtomicU64,
    birth: AtomicU64,
    /// Content of the page of epoch 1: frozen once epoch 1 has ended.
    first: Arc<Bytes>,
}

const BUILDING: u64 = 1;

impl Flip {
    /// `dies`: after that many of its stores, with the latch.
    fn flip(&self, slot: u32, dies: usize) {
        if !without(Without::FlipLatch) {
            self.latch.take(slot);
        }
        let epoch = self.epoch.load(Ordering::Acquire);
        let steps: [&dyn Fn(); 3] = [
            &|| self.ck_epoch.store(epoch, Ordering::Release),
            &|| self.phase.store(BUILDING, Ordering::Release),
            &|| self.epoch.store(epoch + 1, Ordering::Release),
        ];
        for step in &steps[..dies] {
            step();
        }
        if dies == steps.len() && !without(Without::FlipLatch) {
            self.latch.latch().release();
        }
    }

    /// The recovery of whoever takes over from a flipper that died.
    fn recover(&self) {
        let epoch = self.epoch.load(Ordering::Acquire);
        if !without(Without::FinishFlip)
            && self.phase.load(Ordering::Acquire) == BUILDING
            && self.ck_epoch.load(Ordering::Acquire) == epoch
        {
            self.epoch.store(epoch + 1, Ordering::Release);
        }
    }

    /// Writes to the page, in the latch: in place in its own epoch, else to a copy.
    fn write(&self) {
        let epoch = self.epoch.load(Ordering::Acquire);
        if self.birth.load(Ordering::Relaxed) == epoch {
            self.first.set(self.first.get() + 1);
        } else {
            self.birth.store(epoch, Ordering::Relaxed);
        }
    }

    /// The checkpointer reads the page of the ended epoch, without the latch.
    fn build(&self) {
        if self.phase.load(Ordering::Acquire) == BUILDING {
            let sum = self.first.get();
            assert_eq!(sum, self.first.get());
        }
    }
}

fn flip() -> Arc<Flip> {
    Arc::new(Flip {
        latch: LatchWords::new(0),
        epoch: AtomicU64::new(1),
        phase: AtomicU64::new(0),
        ck_epoch: AtomicU64::new(0),
        birth: AtomicU64::new(1),
        first: Bytes::new(0),
    })
}

#[test]
fn an_ended_epoch_is_not_written() {
    holds_only_with("an_ended_epoch_is_not_written", &[Without::FlipLatch], 3, || {
        let f = flip();
        let writer = {
            let f = f.clone();
            thread::spawn(move || {
                f.latch.take(1);
                f.write();
                f.latch.latch().release();
            })
        };
        f.flip(2, 3);
        f.build();
        writer.join().unwrap();
    });
}

/// A flipper that died after `dies` of its stores; somebody takes the latch over, recovers and goes on
/// writing, another runs the checkpoint.
fn died_in_flip(dies: usize) {
    let f = flip();
    f.flip(DEAD_SLOT, dies);
    let dead = f.latch.latch().owner().expect("the dead has it");
    assert!(f.latch.latch().take_over(dead, 1));
    f.recover();
    let checkpointer = {
        let f = f.clone();
        thread::spawn(move || f.build())
    };
    f.write();
    f.latch.latch().release();
    checkpointer.join().unwrap();
}

#[test]
fn a_flip_that_has_hardly_begun_is_as_if_it_had_not() {
    explore(3, || died_in_flip(0));
    explore(3, || died_in_flip(1));
}

#[test]
fn a_flip_whose_owner_died_before_the_epoch_is_finished() {
    holds_only_with(
        "a_flip_whose_owner_died_before_the_epoch_is_finished",
        &[Without::FinishFlip],
        3,
        || died_in_flip(2),
    );
}

/// page/redo: the words of group commit, the ring's records (of length 1) and what the disk has.
struct Log {
    latch: LatchWords,
    leader: LatchWords,
    ready: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
    hold: AtomicU64,
    ring: Vec<Arc<Bytes>>,
    /// One leader at a time.
    file: Arc<Bytes>,
    disk: AtomicU64,
    /// A checkpoint is durable.
    checkpoint: AtomicU64,
}

impl Log {
    fn new(records: usize, leader: u64) -> Arc<Log> {
        Arc::new(Log {
            latch: LatchWords::new(0),
            leader: LatchWords::new(leader),
            ready: AtomicU64::new(0),
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            hold: AtomicU64::new(0),
            ring: (0..records).map(|_| Bytes::new(0)).collect(),
            file: Bytes::new(0),
            disk: AtomicU64::new(0),
            checkpoint: AtomicU64::new(0),
        })
    }

    fn group(&self) -> Group<'_> {
        Group {
            leader: &self.leader.word,
            futex: &self.leader.futex,
            waiters: &self.leader.waiters,
            ready: &self.ready,
            written: &self.written,
            durable: &self.durable,
            hold: &self.hold,
        }
    }

    /// Under the latch: a record in the ring, which counts from then on. Its end.
    fn append(&self) -> u64 {
        let at = self.ready.load(Ordering::Relaxed);
        self.ring[at as usize].set(at + 1);
        self.ready.store(at + 1, Ordering::Release);
        at + 1
    }

    fn commit(&self, slot: u32) -> u64 {
        self.latch.take(slot);
        let end = self.append();
        self.latch.latch().release();
        end
    }

    /// page/redo/mod.rs: `lead`.
    fn lead(&self) {
        let group = self.group();
        let (from, to) = group.due();
        if without(Without::FlushFirst) {
            group.flushed(to);
        }
        for at in from..to {
            assert_eq!(
                self.ring[at as usize].get(),
                at + 1,
                "a record that is not complete"
            );
        }
        self.file.set(to);
        self.disk.store(to, Ordering::Relaxed);
        if !without(Without::FlushFirst) {
            group.flushed(to);
        }
        group.step_down();
    }

    /// page/redo/mod.rs: `flush_log`.
    fn wait(&self, end: u64, me: u64) {
        let group = self.group();
        while !group.is_durable(end) {
            let leader = group.leader();
            let takes = match leader {
                0 => group.try_lead(me),
                DEAD_LEADER => group.take_over(leader, me),
                _ => false,
            };
            if takes {
                self.lead();
            } else {
                group.sleep(Duration::ZERO);
            }
        }
        assert!(
            self.disk.load(Ordering::Relaxed) >= end,
            "reported durable and not on the disk"
        );
    }
}

const DEAD_LEADER: u64 = 7 | 1 << 32;

#[test]
fn who_waits_for_the_log_finds_its_record_on_the_disk() {
    holds_only_with(
        "who_waits_for_the_log_finds_its_record_on_the_disk",
        &[Without::Fences, Without::Comparison, Without::FlushFirst],
        3,
        || {
            let log = Log::new(2, 0);
            let other = {
                let log = log.clone();
                thread::spawn(move || {
                    let end = log.commit(1);
                    log.wait(end, 1);
                })
            };
            let end = log.commit(2);
            log.wait(end, 2);
            other.join().unwrap();
            assert_eq!(log.group().leader(), 0);
        },
    );
}

/// The leader died. One takes the lead over; meanwhile the dead's slot is given to a living process, which leads
/// too: a word that somebody has seen before must not be taken for it.
#[test]
fn a_dead_leader_is_replaced_by_one() {
    holds_only_with(
        "a_dead_leader_is_replaced_by_one",
        &[Without::Generation],
        3,
        || {
            let log = Log::new(2, DEAD_LEADER);
            let other = {
                let log = log.clone();
                thread::spawn(move || {
                    let end = log.commit(1);
                    log.wait(end, 1);
                    // The next thread of this process has the slot of the dead.
                    let end = log.commit(6);
                    let again = if without(Without::Generation) { 1 } else { 2 };
                    log.wait(end, 7 | again << 32);
                })
            };
            let group = log.group();
            let leader = group.leader();
            if leader == DEAD_LEADER && group.take_over(leader, 2) {
                log.lead();
            }
            other.join().unwrap();
        },
    );
}

/// page/redo/mod.rs: `finish_log_flip` and `switch_log`. A change is not in the log; the flip of the checkpoint that
/// has it turns the log on again. A record after it counts only when that checkpoint is durable.
#[test]
fn a_record_behind_a_gap_counts_with_its_checkpoint() {
    holds_only_with(
        "a_record_behind_a_gap_counts_with_its_checkpoint",
        &[Without::HoldFirst],
        3,
        || {
            let log = Log::new(1, 0);
            let other = {
                let log = log.clone();
                thread::spawn(move || {
                    let group = log.group();
                    if group.try_lead(1) {
                        log.lead();
                    }
                    if group.is_durable(1) {
                        assert_eq!(log.checkpoint.load(Ordering::Relaxed), 1, "behind a gap");
                    }
                })
            };
            log.latch.take(2);
            let begin = log.ready.load(Ordering::Relaxed);
            if !without(Without::HoldFirst) {
                log.hold.store(begin + 1, Ordering::Release);
            }
            log.append();
            if without(Without::HoldFirst) {
                log.hold.store(begin + 1, Ordering::Release);
            }
            log.latch.latch().release();
            log.checkpoint.store(1, Ordering::Relaxed);
            log.group().raise(begin);
            log.hold.store(0, Ordering::Release);
            other.join().unwrap();
        },
    );
}
