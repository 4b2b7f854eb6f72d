//! Operations that move or remove entries: between the moment of the change in the store and that in the inode table,
//! the inode of a moved entry means what is not there any more.
//!
//! 1. A request that finds nothing at its inode's place (ESTALE) runs again until no such operation was under way while
//!    it ran (`steady`).
//! 2. It may also find another entry there: after an exchange, or after a rename over the file. So each section checks
//!    that the files that its request has looked up are where they were (`all_remain`). If not, the request runs again.
//!    The operation marks their inodes in its section (`closing`) until the table is up to date. After its own first
//!    change a request does not check any more: it must not run again.
//!
//! A program that opens a file which was removed since it was looked up gets ESTALE, and the kernel looks up the path
//! again, once. So for a while after that, removed files are kept also if they are not open (`keeps_all`).

use crate::fs::context::lock;
use crate::fs::error::{FsError, FsResult};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest time for which a request runs again: an operation may wait for a lock of another owner.
const LONGEST: Duration = Duration::from_secs(10);
/// How long all removed files are kept.
const KEPT: Duration = Duration::from_secs(5);
/// How long a request waits for the end of an operation that may have finished its moves.
const PAUSE: Duration = Duration::from_millis(20);

thread_local! {
    /// The files that the request of this thread has looked up: inode, and number of moves. None: it does not check.
    static LOOKED_UP: RefCell<Option<Vec<(u64, u32)>>> = const { RefCell::new(None) };
}

/// Run a request, whose sections check the files that it looks up.
pub(crate) fn checking<T>(request: impl FnOnce() -> T) -> T {
    LOOKED_UP.set(Some(Vec::new()));
    let done = request();
    LOOKED_UP.set(None);
    done
}

/// Record that the request of this thread has looked up a file.
pub(crate) fn looked_up(ino: u64, moves: u32) {
    LOOKED_UP.with_borrow_mut(|files| {
        if let Some(files) = files
            && !files.iter().any(|file| file.0 == ino)
        {
            files.push((ino, moves));
        }
    });
}

/// Record that the request of this thread has changed something.
pub(crate) fn has_changed() {
    LOOKED_UP.set(None);
}

/// Return whether the files that the request of this thread has looked up are where they were.
pub(crate) fn all_remain(remains: impl Fn(u64, u32) -> bool) -> bool {
    LOOKED_UP.with_borrow(|files| {
        files
            .as_ref()
            .is_none_or(|files| files.iter().all(|(ino, moves)| remains(*ino, *moves)))
    })
}

/// Counts of the operations.
#[derive(Default, Debug)]
pub(crate) struct Moving {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Requests that wait for the end of an operation.
    waiting: Mutex<u32>,
    waits: AtomicBool,
    end: Condvar,
    /// An open came too late.
    late: Mutex<Option<Instant>>,
    was_late: AtomicBool,
}

/// An operation under way.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a Moving);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
        // A request that begins to wait after this look sees the count.
        if self.0.waits.load(Ordering::SeqCst) {
            let _waiting = lock(&self.0.waiting);
            self.0.end.notify_all();
        }
    }
}

impl Moving {
    /// An operation begins.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        UnderWay(self)
    }

    /// A file was opened that had been removed since it was looked up.
    pub(crate) fn note_late(&self) {
        *lock(&self.late) = Some(Instant::now());
        self.was_late.store(true, Ordering::SeqCst);
    }

    /// True if removed files are kept also if they are not open.
    pub(crate) fn keeps_all(&self) -> bool {
        if !self.was_late.load(Ordering::SeqCst) {
            return false;
        }
        let mut late = lock(&self.late);
        let keeps = late.is_some_and(|at| at.elapsed() < KEPT);
        if !keeps {
            *late = None;
            self.was_late.store(false, Ordering::SeqCst);
        }
        keeps
    }

    /// Run a request that may wait until its answer does not come from the middle of an operation.
    pub(crate) fn steady<T>(&self, mut request: impl FnMut() -> FsResult<T>) -> FsResult<T> {
        let first = Instant::now();
        loop {
            // In this order, equal counts mean that none is under way.
            let ended = self.ended.load(Ordering::SeqCst);
            let begun = self.begun.load(Ordering::SeqCst);
            let done = request();
            let is_steady = begun == ended && self.begun.load(Ordering::SeqCst) == begun;
            if is_steady || !is_stale(&done) || first.elapsed() > LONGEST {
                return done;
            }
            if begun != ended {
                self.await_end(ended);
            }
        }
    }

    /// Wait until an operation has ended since this many had, for `PAUSE` at most.
    fn await_end(&self, ended: u64) {
        let mut waiting = lock(&self.waiting);
        *waiting += 1;
        self.waits.store(true, Ordering::SeqCst);
        let is_under_way = |_: &mut u32| self.ended.load(Ordering::SeqCst) == ended;
        let woken = self.end.wait_timeout_while(waiting, PAUSE, is_under_way);
        let mut waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        *waiting -= 1;
        self.waits.store(*waiting > 0, Ordering::SeqCst);
    }
}

/// True if a request found nothing at its inode's place.
pub(crate) fn is_stale<T>(done: &FsResult<T>) -> bool {
    matches!(done, Err(FsError::Errno(libc::ESTALE) | FsError::Moved))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::error::errno;

    #[test]
    fn a_request_checks_what_it_has_looked_up_until_it_changes_something() {
        looked_up(1, 7);
        assert!(all_remain(|_, _| false), "nothing is checked outside requests");
        checking(|| {
            assert!(all_remain(|_, _| false));
            looked_up(1, 7);
            looked_up(1, 8);
            looked_up(2, 0);
            assert!(all_remain(|ino, moves| moves == if ino == 1 { 7 } else { 0 }));
            assert!(!all_remain(|ino, _| ino == 1));
            has_changed();
            looked_up(3, 0);
            assert!(all_remain(|_, _| false));
        });
        assert!(is_stale::<()>(&Err(FsError::Moved)));
    }

    #[test]
    fn all_files_are_kept_after_a_late_open() {
        let moving = Moving::default();
        assert!(!moving.keeps_all());
        moving.note_late();
        assert!(moving.keeps_all() && moving.keeps_all());
        *lock(&moving.late) = Instant::now().checked_sub(KEPT);
        assert!(!moving.keeps_all() && !moving.keeps_all());
    }

    #[test]
    fn a_stale_answer_from_the_middle_of_an_operation_does_not_count() {
        let moving = Moving::default();
        let mut runs = 0;
        let mut under_way = Some(moving.begin());
        let done = moving.steady(|| {
            runs += 1;
            match runs {
                1 => errno::<()>(libc::ESTALE),
                2 => {
                    under_way = None;
                    errno(libc::ESTALE)
                }
                3 => {
                    // One that begins and ends during the request.
                    drop(moving.begin());
                    errno(libc::ESTALE)
                }
                _ => errno(libc::ESTALE),
            }
        });
        assert!(is_stale(&done));
        assert_eq!(runs, 4);
        let _under_way = moving.begin();
        assert!(moving.steady(|| Ok(())).is_ok());
    }

    #[test]
    fn a_request_that_is_stale_waits_for_the_end_of_the_operation() {
        let moving = Moving::default();
        let (under_way, runs) = (moving.begin(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let request = scope.spawn(|| {
                moving.steady(|| {
                    runs.fetch_add(1, Ordering::SeqCst);
                    errno::<()>(libc::ESTALE)
                })
            });
            while !moving.waits.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            drop(under_way);
            assert!(request.join().is_ok_and(|done| is_stale(&done)));
        });
        assert!(runs.into_inner() > 1 && !moving.waits.load(Ordering::SeqCst));
    }
}
