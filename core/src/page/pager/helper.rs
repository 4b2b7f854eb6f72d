//! The state of a process's helper thread in one store. `helper` states what the thread does.

use crate::raw::process;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// This process's helper of one store.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    /// The fork generation of the process that has checked whether it needs a helper; 0: none has.
    pub(in crate::page) seen_to: AtomicU32,
    pub(in crate::page) shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(in crate::page) struct Shared {
    pub(in crate::page) ending: AtomicBool,
    pub(in crate::page) state: Mutex<State>,
}

/// The thread. A fork holds its mutex.
#[derive(Debug, Default)]
pub(in crate::page) struct State {
    pub(in crate::page) thread: Option<JoinHandle<()>>,
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

    pub(in crate::page) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a forked child: clear the state of the parent's thread.
    pub(in crate::page) fn after_fork(&self) {
        self.shared.ending.store(false, Ordering::SeqCst);
    }
}
