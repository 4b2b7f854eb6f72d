//! Changes that are done, and their durability (`-o durability=commit`).
//!
//! 1. A request goes on after its change whatever becomes of the wait until it survives a power cut: what the mount
//!    knows of names and inodes follows what is stored.
//! 2. Only its answer says so: `ETIMEDOUT` (the wait ended early), or `EIO` (the disk failed). The change is done. The
//!    next `fsync`, or the next change, covers it.

use crate::fs::context::Ctx;
use crate::kernel::processes;
use persist_core::store::{Store, Wait};
use std::cell::Cell;

thread_local! {
    /// What the request that runs on this thread is answered with, though it is done; 0: nothing.
    static UNKNOWN: Cell<i32> = const { Cell::new(0) };
}

/// Waits until the change just made survives a power cut.
#[cold]
pub(crate) fn wait(store: &Store, ctx: &Ctx) {
    let mut signal = || processes::has_signal(ctx.tid);
    let mut wait = Wait {
        timeout: None,
        interrupted: Some(&mut signal),
    };
    if let Err(e) = store.settle(&mut wait) {
        log::warn!("{e}");
        UNKNOWN.set(e.errno());
    }
}

/// The errno of the request that ran on this thread, if it is done and its durability is not known.
pub(crate) fn take_unknown() -> Option<i32> {
    let errno = UNKNOWN.replace(0);
    (errno != 0).then_some(errno)
}
