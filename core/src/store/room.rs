//! Room for the next large change: the wait that keeps the file within its bound (`page::helper::room`).
//!
//! The thread that made a large change asks at its end, and waits in `await_durability`: with the latch
//! released, and in Python without the interpreter. Other threads of the process do not wait.

use super::debt::used;
use super::{Result, Store, Wait};
use crate::page::access::Pages;
use crate::page::superblock as sb;
use std::cell::Cell;
use std::sync::atomic::Ordering;

thread_local! {
    /// The store for which this thread has asked for room (the address of its state), and the number of the request.
    static ASKED: Cell<Option<(usize, u32)>> = const { Cell::new(None) };
}

impl Store {
    fn place(&self) -> usize {
        std::sync::Arc::as_ptr(&self.inner) as usize
    }

    /// Ask for room if another change that allocates `pages` pages would need it.
    #[cold]
    pub(super) fn look_for_room(&self, pages: u64) {
        let crowded: Result<bool> = self.read(&mut Wait::default(), |r| {
            let (used, free) = (used(r)?, r.u64_at(sb::FREE_PAGES)?);
            Ok(self.pager().is_crowded(used, free, pages))
        });
        if matches!(crowded, Ok(true))
            && let Some(number) = self.pager().ask_for_room()
        {
            let earlier = ASKED.replace(Some((self.place(), number)));
            if earlier.is_none_or(|(store, _)| store != self.place()) {
                self.inner.debt.asked_for_room.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Return whether any thread of this process has asked for room and has not waited yet (one load).
    #[inline]
    pub(super) fn has_asked_for_room(&self) -> bool {
        self.inner.debt.asked_for_room.load(Ordering::Relaxed) != 0
    }

    /// Take the number of this thread's request.
    fn take_request(&self) -> Option<u32> {
        let (store, number) = ASKED.get()?;
        if store != self.place() {
            return None;
        }
        ASKED.set(None);
        self.inner.debt.asked_for_room.fetch_sub(1, Ordering::Relaxed);
        Some(number)
    }

    /// Wait for the room that this thread has asked for, as long as the wait allows. Without it the file grows.
    pub(super) fn wait_for_room(&self, wait: &mut Wait<'_>) {
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
