//! Waiting for the durability of completed changes (`-o durability=commit`).
//!
//! 1. After its change, a request completes regardless of the result of the wait: the mount's state of names and inodes
//!    matches the stored state.
//! 2. Only the answer reports the result: `ETIMEDOUT` (the wait ended early), or `EIO` (the disk failed). The change is
//!    done. The next `fsync`, or the next change, makes it durable.

use crate::fs::context::Ctx;
use crate::kernel::processes;
use persist_core::store::{Store, Wait};
use std::cell::Cell;

thread_local! {
    /// The errno for the request on this thread whose change is done but may not be durable; 0: none.
    static UNKNOWN: Cell<i32> = const { Cell::new(0) };
}

/// Wait until the last change survives a power failure. A request that may not wait, because others wait for its
/// thread, does not wait for room in the file.
#[cold]
pub(crate) fn wait(store: &Store, ctx: &Ctx) {
    if !ctx.may_wait {
        store.skip_room();
    }
    let mut signal = || processes::has_signal(ctx.tid);
    let mut wait = Wait {
        timeout: None,
        interrupted: Some(&mut signal),
    };
    if let Err(e) = store.await_durability(&mut wait) {
        log::warn!("{}", e.in_store(store.path()));
        UNKNOWN.set(e.errno());
    }
}

/// Return the errno of the request on this thread whose change is done but may not be durable: it will be answered.
pub(crate) fn unknown() -> Option<i32> {
    let errno = UNKNOWN.get();
    (errno != 0).then_some(errno)
}

/// Take the errno of the request on this thread whose change is done but may not be durable.
pub(crate) fn take_unknown() -> Option<i32> {
    let errno = UNKNOWN.replace(0);
    (errno != 0).then_some(errno)
}
