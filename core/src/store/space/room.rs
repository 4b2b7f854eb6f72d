//! Room for the next large change: the wait that keeps the file within its bound (`page::helper::room`).
//!
//! The thread that made a large change asks at its end, and waits in `await_durability`: with the latch
//! released, and in Python without the interpreter. Other threads of the process do not wait.
//!
//! A store counts the requests that are not waited for yet. A request is subtracted when it is dropped: by the wait, by
//! a later request of its thread (also one for another store), or with its thread. So the count returns to 0.

use crate::page::access::Pages;
use crate::page::superblock as sb;
use crate::store::space::debt::used;
use crate::store::{Result, Store, Wait};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a change that is complete looks whether it must ask for room.
const LOOK: Duration = Duration::from_millis(100);

/// A request for room that its thread has not waited for yet.
struct Asked {
    /// The count of the store, which also identifies the store.
    count: Arc<AtomicU32>,
    number: u32,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

thread_local! {
    static ASKED: RefCell<Option<Asked>> = const { RefCell::new(None) };
}

impl Store {
    /// Ask for room if another change that allocates `pages` pages would need it.
    #[cold]
    pub(in crate::store) fn look_for_room(&self, pages: u64) {
        let crowded: Result<bool> = self.read(&mut Wait::at_most(LOOK), |r| {
            let (used, free) = (used(r)?, r.u64_at(sb::FREE_PAGES)?);
            Ok(self.pager().is_crowded(used, free, pages))
        });
        if matches!(crowded, Ok(true))
            && let Some(number) = self.pager().ask_for_room()
        {
            let count = Arc::clone(&self.inner.debt.asked_for_room);
            count.fetch_add(1, Ordering::Relaxed);
            // A thread that is ending keeps no request: its helper makes the room all the same.
            let asked = Asked { count, number };
            drop(ASKED.try_with(|place| place.replace(Some(asked))));
        }
    }

    /// Return whether any thread of this process has asked for room and has not waited yet (one load).
    #[inline]
    pub(in crate::store) fn has_asked_for_room(&self) -> bool {
        self.inner.debt.asked_for_room.load(Ordering::Relaxed) != 0
    }

    /// Take the number of this thread's request.
    fn take_request(&self) -> Option<u32> {
        let is_ours = |asked: &mut Asked| Arc::ptr_eq(&asked.count, &self.inner.debt.asked_for_room);
        let asked = ASKED.try_with(|place| place.borrow_mut().take_if(is_ours));
        asked.ok().flatten().map(|asked| asked.number)
    }

    /// Wait for the room that this thread has asked for, as long as the wait allows. Without it the file grows.
    pub(in crate::store) fn wait_for_room(&self, wait: &mut Wait<'_>) {
        if let Some(number) = self.take_request() {
            self.pager().await_room(number, wait);
        }
    }

    /// Do not wait for room in the file after this thread's last change: the caller has other work to do. The helper
    /// makes the room all the same.
    pub fn skip_room(&self) {
        self.take_request();
    }
}
