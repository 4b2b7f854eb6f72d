//! What a process keeps of its helper thread in one store. What the thread does: `helper`.

use crate::raw::process;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// This process's helper of one store.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    /// The fork generation of the process that has looked after a helper; 0: none has.
    pub(in crate::page) seen_to: AtomicU32,
    pub(in crate::page) shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(in crate::page) struct Shared {
    pub(in crate::page) ending: AtomicBool,
    pub(in crate::page) state: Mutex<State>,
}

/// The thread. Its own mutex is held by a fork.
#[derive(Debug, Default)]
pub(in crate::page) struct State {
    pub(in crate::page) thread: Option<JoinHandle<()>>,
    /// The thread has its count of the pager.
    pub(in crate::page) counted: bool,
}

impl State {
    /// In a forked child: the thread is the parent's. True if its count of the pager is to be taken off.
    pub(in crate::page) fn forget(&mut self) -> bool {
        // Not dropped: that would detach a thread that is not there.
        std::mem::forget(self.thread.take());
        std::mem::take(&mut self.counted)
    }
}

impl Helper {
    /// Whether this process has not looked yet whether it needs a helper (one load).
    #[inline(always)]
    pub(crate) fn is_absent(&self) -> bool {
        self.seen_to.load(Ordering::Relaxed) != process::forks()
    }

    pub(in crate::page) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a forked child: nothing of the parent's thread is here.
    pub(in crate::page) fn after_fork(&self) {
        self.shared.ending.store(false, Ordering::SeqCst);
    }
}
