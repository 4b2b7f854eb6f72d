//! Starting and ending this process's helper thread. `helper` states what it does.

use crate::page::pager::Pager;
use crate::page::pager::state::helper::Shared;
use crate::raw::process;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of the thread's stack.
const STACK: usize = 512 << 10;

thread_local! {
    static HELPING: Cell<bool> = const { Cell::new(false) };
}

/// Releases the thread's count of the pager, however the thread ends.
struct Count {
    pager: Option<Arc<Pager>>,
    shared: Arc<Shared>,
}

impl Drop for Count {
    fn drop(&mut self) {
        let pager = self.pager.take();
        self.shared.release_count(|| drop(pager));
    }
}

/// Return whether the calling thread is a helper.
pub(in crate::page) fn is_helper() -> bool {
    HELPING.get()
}

impl Pager {
    /// Request a checkpoint now, without making it.
    #[cold]
    pub(crate) fn demand_checkpoint(&self) {
        self.shm.request_checkpoint();
        self.start_helper(true);
    }

    /// Return the oldest epoch that has changes and is not durable.
    pub(in crate::page) fn undurable_epoch(&self) -> Option<u64> {
        let (phase, under_way) = (
            self.shm.next_checkpoint().phase(),
            self.shm.next_checkpoint().epoch(),
        );
        if phase != 0 && self.shm.last_checkpoint().number() < under_way {
            return Some(under_way);
        }
        let epoch = self.shm.live().epoch();
        (self.shm.list_len(epoch as usize % 3) != 0).then_some(epoch)
    }

    /// Return the shortest `max_age` that a present process asked for.
    pub(in crate::page) fn max_age(&self) -> Option<Duration> {
        match self.shm.shortest_max_age() {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }

    /// Start this process's helper if it has none and one is `needed`, or if a present process requires the bound.
    #[cold]
    pub(crate) fn start_helper(&self, needed: bool) {
        if self.read_only || self.frozen.is_some() {
            return;
        }
        let helper = &self.helper;
        let mut state = helper.state();
        if helper.is_ending() || self.openness.is_closed() {
            return;
        }
        helper.note_checked();
        if state.thread.is_some() || !(needed || self.max_age().is_some()) {
            return;
        }
        let Some(pager) = self.me.upgrade() else {
            return;
        };
        let shared = helper.shared().clone();
        state.counted = true;
        let started = process::spawn_unsignalled("persist-helper", STACK, move || {
            let count = Count {
                pager: Some(pager),
                shared,
            };
            HELPING.set(true);
            if let Some(pager) = &count.pager {
                (pager.above.help)(pager, count.shared.ending());
            }
        });
        match started {
            Ok(thread) => {
                state.thread = Some(thread);
                state.refused = false;
                self.note_helps(true);
            }
            Err(e) => {
                state.counted = false;
                // The next change tries again.
                helper.check_again();
                if !std::mem::replace(&mut state.refused, true) {
                    log::warn!(
                        "{}: cannot start the thread that makes checkpoints: {e}; until it can, each change makes one \
                         itself",
                        self.path.display()
                    );
                }
            }
        }
    }

    /// End this process's helper and wait for its end. Until `resume_helper` none is started.
    pub(in crate::page) fn stop_helper(&self) {
        self.helper.set_ending(true);
        if self.helper.is_absent() {
            return;
        }
        let thread = self.helper.state().thread.take();
        if let Some(thread) = thread {
            self.shm.call_helpers();
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
            self.note_helps(false);
        }
    }

    /// Allow helpers again: the store stays open.
    pub(in crate::page) fn resume_helper(&self) {
        self.helper.set_ending(false);
        self.helper.check_again();
        if self.undurable_epoch().is_some() {
            self.start_helper(false);
        }
    }

    fn note_helps(&self, helps: bool) {
        self.shm.set_has_helper(self.process(), helps);
    }

    /// Return whether the calling thread is a helper that must end: its waits end then.
    pub(crate) fn helper_ends(&self) -> bool {
        HELPING.get() && self.helper.is_ending()
    }
}
