//! The threads whose requests the mount has answered lately. A program that begins to watch a path looks the path up,
//! so it is among them.

use crate::fs::context::lock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The most threads that are remembered.
const MOST: usize = 64;

/// The threads that made requests since they were last taken.
#[derive(Default)]
pub(crate) struct Callers {
    /// The thread that was added last: most requests come from the thread of the one before.
    last: AtomicU32,
    recent: Mutex<Vec<u32>>,
    came: Condvar,
}

impl Callers {
    /// Note the thread of a request.
    pub(crate) fn note(&self, tid: u32) {
        if self.last.load(Ordering::Relaxed) != tid {
            self.add(tid);
        }
    }

    #[cold]
    fn add(&self, tid: u32) {
        self.last.store(tid, Ordering::Relaxed);
        let mut recent = lock(&self.recent);
        if recent.len() < MOST && !recent.contains(&tid) {
            recent.push(tid);
            if recent.len() == 1 {
                self.came.notify_all();
            }
        }
    }

    /// Take the threads, after waiting for the first at most this long.
    pub(crate) fn take(&self, wait: Duration) -> Vec<u32> {
        let recent = lock(&self.recent);
        let (mut recent, _) = self
            .came
            .wait_timeout_while(recent, wait, |recent| recent.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        self.last.store(0, Ordering::Relaxed);
        std::mem::take(&mut recent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_is_taken_once_for_each_time_it_is_noted() {
        let callers = Callers::default();
        for tid in [5, 5, 6, 5] {
            callers.note(tid);
        }
        assert_eq!(callers.take(Duration::ZERO), [5, 6]);
        assert!(callers.take(Duration::ZERO).is_empty());
        callers.note(5);
        assert_eq!(callers.take(Duration::ZERO), [5]);
        (0..1000).for_each(|tid| callers.note(tid));
        assert_eq!(callers.take(Duration::ZERO).len(), MOST);
    }
}
