//! The filesystem of the mounted store, which a remount takes away from all requests for the moment in which it closes
//! and opens the store.
//!
//! 1. A request holds an `Arc` of the filesystem while it runs. The filesystem is changed only when no request holds
//!    one, so a request sees one opening of the store from its beginning to its end.
//! 2. While it is taken away, a request waits if it may; otherwise it runs again on a thread that may.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::tree::filesystem::Fs;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a change waits for the end of the requests that run.
const REQUESTS_END: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The filesystem of the mounted store.
pub(crate) struct Live {
    fs: Mutex<Option<Arc<Fs>>>,
    back: Condvar,
}

impl Live {
    /// The filesystem of an open store.
    pub(crate) fn new(fs: Fs) -> Live {
        Live {
            fs: Mutex::new(Some(Arc::new(fs))),
            back: Condvar::new(),
        }
    }

    /// The filesystem, for a request.
    pub(crate) fn enter(&self, ctx: &Ctx) -> FsResult<Arc<Fs>> {
        match &*lock(&self.fs) {
            Some(fs) => return Ok(fs.clone()),
            None if !ctx.may_wait => return Err(FsError::Blocked),
            None => {}
        }
        Ok(self.now())
    }

    /// The filesystem. Waits while it is taken away, which ends by itself.
    pub(crate) fn now(&self) -> Arc<Fs> {
        let mut fs = lock(&self.fs);
        loop {
            match &*fs {
                Some(fs) => return fs.clone(),
                None => fs = self.back.wait(fs).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Whether it is there, and needs no maintenance. A change stirs the store after it has taken the filesystem away
    /// (`Fs::reopen`).
    pub(crate) fn is_resting(&self) -> bool {
        lock(&self.fs).as_ref().is_some_and(|fs| !fs.awaits_items())
    }

    /// Run `f` on the filesystem while no request uses it. EBUSY if requests that wait do not end.
    pub(crate) fn change(&self, f: impl FnOnce(&mut Fs) -> FsResult<()>) -> FsResult<()> {
        let taken = lock(&self.fs).take();
        let mut taken = Taken {
            live: self,
            fs: taken,
        };
        let deadline = Instant::now() + REQUESTS_END;
        loop {
            match taken.fs.as_mut().map(Arc::get_mut) {
                Some(Some(fs)) => return f(fs),
                // Another change has it.
                None => return errno(libc::EBUSY),
                Some(None) if Instant::now() >= deadline => return errno(libc::EBUSY),
                Some(None) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }
}

/// The filesystem while it is taken away. It comes back however the change ends.
struct Taken<'a> {
    live: &'a Live,
    fs: Option<Arc<Fs>>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(fs) = self.fs.take() {
            *lock(&self.live.fs) = Some(fs);
            self.live.back.notify_all();
        }
    }
}
