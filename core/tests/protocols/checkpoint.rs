//! Checkpoints: the flip of the epoch, and the process that runs them.

use crate::model::{Bytes, DEAD_SLOT, LatchWords, Without, explore, holds_only_with, name, without};
use crate::raw::sync::{AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;

/// page/checkpoint/phases.rs: `flip` and `finish_flip`, against a writer's choice between copying a page and writing
/// it in place (page/pages/cow.rs `writable`). One page; its birth epoch stands for its live entry.
struct Flip {
    latch: LatchWords,
    epoch: AtomicU64,
    phase: AtomicU64,
    ck_epoch: AtomicU64,
    birth: AtomicU64,
    /// The content of the page in epoch 1, which is frozen once epoch 1 has ended.
    first: Arc<Bytes>,
}

const BUILDING: u64 = 1;

impl Flip {
    /// Flip. With `dies`: die after that many of its stores, while holding the latch.
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

    /// The recovery by a process that takes over from a flipper that died.
    fn recover(&self) {
        let epoch = self.epoch.load(Ordering::Acquire);
        if !without(Without::FinishFlip)
            && self.phase.load(Ordering::Acquire) == BUILDING
            && self.ck_epoch.load(Ordering::Acquire) == epoch
        {
            self.epoch.store(epoch + 1, Ordering::Release);
        }
    }

    /// Write to the page under the latch: in place in its own epoch, otherwise to a copy.
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
    holds_only_with(
        name!("an_ended_epoch_is_not_written"),
        &[Without::FlipLatch],
        3,
        || {
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
        },
    );
}

/// A flipper died after `dies` of its stores. One process takes over the latch, recovers and continues to write;
/// another runs the checkpoint.
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
        name!("a_flip_whose_owner_died_before_the_epoch_is_finished"),
        &[Without::FinishFlip],
        3,
        || died_in_flip(2),
    );
}

const IDLE: u64 = 0;
const WRITING: u64 = 2;

/// page/checkpoint/phases.rs: `take_checkpoint`, `resume_for_dead_owner`, `leave_checkpoint`. A process is dead, and
/// may have been running a checkpoint.
struct Runners {
    owner: AtomicU64,
    phase: AtomicU64,
    /// The dead process's slot and byte lock.
    state: AtomicU64,
    byte: loom::sync::Mutex<()>,
    /// The meta page, which has one writer at a time.
    meta: Arc<Bytes>,
    finished: AtomicU64,
}

impl Runners {
    fn new(owner: u64, phase: u64) -> Arc<Runners> {
        Arc::new(Runners {
            owner: AtomicU64::new(owner),
            phase: AtomicU64::new(phase),
            state: AtomicU64::new(1),
            byte: loom::sync::Mutex::new(()),
            meta: Bytes::new(0),
            finished: AtomicU64::new(0),
        })
    }

    fn leave(&self, slot: u32) {
        if without(Without::Compare) {
            self.owner.store(0, Ordering::SeqCst);
            return;
        }
        let mine = u64::from(slot) + 1;
        let _ = self
            .owner
            .compare_exchange(mine, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn recover(&self) {
        let Ok(_byte) = self.byte.try_lock() else {
            return;
        };
        if self.state.load(Ordering::Acquire) != 0 {
            self.leave(DEAD_SLOT);
            self.state.store(0, Ordering::Release);
        }
    }

    fn checkpoint(&self, slot: u32) {
        let mine = u64::from(slot) + 1;
        self.recover();
        while self
            .owner
            .compare_exchange(0, mine, Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
        {
            self.recover();
            thread::yield_now();
        }
        // A write of the meta page that the dead process began can only be finished.
        let writing = self.phase.load(Ordering::Acquire) == WRITING;
        if writing && !without(Without::FinishFlip) {
            self.meta.set(self.meta.get() + 1);
            self.finished.fetch_add(1, Ordering::SeqCst);
            self.phase.store(IDLE, Ordering::Release);
        }
        self.phase.store(WRITING, Ordering::Release);
        self.meta.set(self.meta.get() + 1);
        self.phase.store(IDLE, Ordering::Release);
        self.leave(slot);
    }
}

/// Two processes want a checkpoint at once, and find a dead process, which may have been running one.
#[test]
fn one_runs_a_checkpoint_and_finishes_what_the_dead_began() {
    holds_only_with(
        name!("one_runs_a_checkpoint_and_finishes_what_the_dead_began"),
        &[Without::Compare, Without::FinishFlip],
        3,
        || {
            for (owner, phase) in [(u64::from(DEAD_SLOT) + 1, WRITING), (0, IDLE)] {
                let r = Runners::new(owner, phase);
                let other = {
                    let r = r.clone();
                    thread::spawn(move || r.checkpoint(1))
                };
                r.checkpoint(2);
                other.join().unwrap();
                let left = u64::from(phase == WRITING);
                assert_eq!(r.finished.load(Ordering::SeqCst), left, "what the dead began");
                assert_eq!(r.meta.get(), 2 + left);
                assert_eq!(r.owner.load(Ordering::SeqCst), 0);
            }
        },
    );
}

/// page/checkpoint/owner.rs: `take_over` and `step`. An owner may be stopped anywhere, and continue after another
/// process has taken over its checkpoint. In a model, any thread may stop while others run, so one process that takes
/// over is enough.
struct Fenced {
    latch: LatchWords,
    owner: AtomicU64,
    phase: AtomicU64,
    /// A word of the sidecar that a step changes: behind the latch.
    tree: Arc<Bytes>,
    /// The meta page, which is written outside the latch.
    meta: Arc<Bytes>,
}

impl Fenced {
    /// False if another process has taken over the checkpoint.
    fn step(&self, slot: u32, f: impl FnOnce()) -> bool {
        self.latch.take(slot);
        let mine = without(Without::OwnerLook) || self.owner.load(Ordering::SeqCst) == u64::from(slot) + 1;
        if mine {
            f();
        }
        self.latch.latch().release();
        mine
    }

    fn take_over(&self, slot: u32) -> bool {
        let owner = self.owner.load(Ordering::SeqCst);
        self.latch.take(slot);
        let may = without(Without::WritingLast) || self.phase.load(Ordering::Acquire) != WRITING;
        let taken = may
            && owner != 0
            && self
                .owner
                .compare_exchange(owner, u64::from(slot) + 1, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        self.latch.latch().release();
        taken
    }

    /// page/checkpoint/phases.rs: `resume_checkpoint`, from `BUILDING`.
    fn resume_checkpoint(&self, slot: u32) {
        let build = || {
            self.tree.set(self.tree.get() + 1);
            self.phase.store(WRITING, Ordering::Release);
        };
        let written = || {
            assert_eq!(self.phase.load(Ordering::Acquire), WRITING);
            self.phase.store(IDLE, Ordering::Release);
        };
        let phase = self.phase.load(Ordering::Acquire);
        if phase == BUILDING && !self.step(slot, build) {
            return;
        }
        // `write_meta` checks first, too: the phase may have been set by another process.
        if phase != IDLE && self.step(slot, || {}) {
            self.meta.set(self.meta.get() + 1);
            self.step(slot, written);
        }
    }
}

#[test]
fn an_owner_that_resumes_after_its_checkpoint_was_taken_over_changes_nothing() {
    holds_only_with(
        name!("an_owner_that_resumes_after_its_checkpoint_was_taken_over_changes_nothing"),
        &[Without::OwnerLook, Without::WritingLast],
        3,
        || {
            let f = Arc::new(Fenced {
                latch: LatchWords::new(0),
                owner: AtomicU64::new(2),
                phase: AtomicU64::new(BUILDING),
                tree: Bytes::new(0),
                meta: Bytes::new(0),
            });
            let stopped = {
                let f = f.clone();
                thread::spawn(move || f.resume_checkpoint(1))
            };
            if f.take_over(2) {
                f.resume_checkpoint(2);
            }
            stopped.join().unwrap();
            assert_eq!(f.phase.load(Ordering::SeqCst), IDLE);
            assert_eq!((f.tree.get(), f.meta.get()), (1, 1), "built and written once");
        },
    );
}
