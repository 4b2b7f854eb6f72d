//! The state of a process's helper thread in one store. `pager::helper_thread` starts and ends it, `helper` states what
//! it does.

use crate::raw::{futex, process};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// This process's helper of one store.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    /// The fork generation of the process that has checked whether it needs a helper; 0: none has.
    seen_to: AtomicU32,
    shared: Arc<Shared>,
}

/// What the thread keeps for itself, too: it may outlive the opening.
#[derive(Debug, Default)]
pub(in crate::page) struct Shared {
    ending: AtomicBool,
    room: Room,
    state: Mutex<State>,
}

impl Shared {
    /// Return the flag that ends the thread.
    pub(in crate::page) fn ending(&self) -> &AtomicBool {
        &self.ending
    }

    /// Return whether the thread is to end.
    pub(in crate::page) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// The thread has ended: it no longer holds its count of the pager, which `count` drops under the mutex.
    pub(in crate::page) fn release_count(&self, count: impl FnOnce()) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counted = false;
        count();
    }
}

/// Requests of this process for room in the file (`helper::room`), counted. Atomic words, so that a fork needs no lock.
#[derive(Debug, Default)]
pub(in crate::page) struct Room {
    asked: AtomicU32,
    answered: AtomicU32,
}

impl Room {
    /// Ask for room. Return the number of the request.
    pub(in crate::page) fn ask(&self) -> u32 {
        self.asked.fetch_add(1, Ordering::SeqCst).wrapping_add(1)
    }

    /// Return the number of the newest request if it is not answered yet.
    pub(in crate::page) fn wanted(&self) -> Option<u32> {
        let asked = self.asked.load(Ordering::SeqCst);
        (asked != self.answered.load(Ordering::SeqCst)).then_some(asked)
    }

    /// Answer the requests up to this number, whatever came of them.
    pub(in crate::page) fn answer(&self, number: u32) {
        self.answered.store(number, Ordering::SeqCst);
        futex::wake(&self.answered, i32::MAX);
    }

    /// Wait at most this long for an answer. Return whether the request is answered.
    pub(in crate::page) fn await_answer(&self, number: u32, at_most: Duration) -> bool {
        let answered = self.answered.load(Ordering::SeqCst);
        let is_answered = |to: u32| to.wrapping_sub(number) as i32 >= 0;
        if !is_answered(answered) {
            futex::wait(&self.answered, answered, at_most);
        }
        is_answered(self.answered.load(Ordering::SeqCst))
    }
}

/// The thread. A fork holds its mutex.
#[derive(Debug, Default)]
pub(in crate::page) struct State {
    pub(in crate::page) thread: Option<JoinHandle<()>>,
    /// The last attempt to start the thread failed.
    pub(in crate::page) refused: bool,
    /// The thread holds its count of the pager.
    pub(in crate::page) counted: bool,
}

impl State {
    /// In a forked child: forget the thread, which the parent has. Return true if its count of the pager must be
    /// released.
    pub(in crate::page) fn forget(&mut self) -> bool {
        // Not dropped: that would detach a thread that does not exist here.
        std::mem::forget(self.thread.take());
        std::mem::take(&mut self.counted)
    }
}

impl Helper {
    /// Return whether this process has not checked yet whether it needs a helper (one load).
    #[inline(always)]
    pub(crate) fn is_absent(&self) -> bool {
        self.seen_to.load(Ordering::Relaxed) != process::forks()
    }

    /// Note that this process has checked whether it needs a helper.
    pub(in crate::page) fn note_checked(&self) {
        self.seen_to.store(process::forks(), Ordering::Relaxed);
    }

    /// Have the next change check again whether this process needs a helper.
    pub(in crate::page) fn check_again(&self) {
        self.seen_to.store(0, Ordering::Relaxed);
    }

    /// Have the thread end and start none (`ends`), or allow one again.
    pub(in crate::page) fn set_ending(&self, ends: bool) {
        self.shared.ending.store(ends, Ordering::SeqCst);
    }

    /// Return whether the thread is to end.
    pub(in crate::page) fn is_ending(&self) -> bool {
        self.shared.is_ending()
    }

    pub(in crate::page) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(in crate::page) fn room(&self) -> &Room {
        &self.shared.room
    }

    pub(in crate::page) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a forked child: clear the state of the parent's thread.
    pub(in crate::page) fn after_fork(&self) {
        self.set_ending(false);
        if let Some(number) = self.room().wanted() {
            self.room().answer(number);
        }
    }
}
