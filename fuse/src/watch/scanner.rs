//! Finding out what is watched. The kernel tells a filesystem nothing of inotify; `/proc` shows the watches of the
//! processes that this one may inspect.
//!
//! 1. A process that has made requests to the mount is looked at some milliseconds later: a program that begins to
//!    watch a path looks it up. The same process is looked at again after `AGAIN` at the earliest.
//! 2. Each `TICK`, one line of `/proc/loadavg` says whether processes were started. Young processes are looked at: a
//!    program that watches the root of the mount, or a path that the kernel keeps, need not make a request.
//! 3. All processes are looked at every `ALL_EVERY`, in any case.
//! 4. A mount of which nothing is watched, and which has had no request and no change for `RESTS_AFTER`, rests: there
//!    are no ticks until the next request, or until a look at all processes finds a watch or a change. A program that
//!    begins to watch nearly always makes a request.
//! 5. No look takes more than the `SHARE`th part of the time.
//! 6. An error (too many open files, say) says nothing of what a process watches: what was known of it stays until the
//!    next look.

use super::shared::Shared;
use crate::kernel::inotify;
use crate::views::mounted::Mounted;
use std::collections::{HashMap, HashSet};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// A caller may need this time to begin to watch.
const BEGIN_TIME: Duration = Duration::from_millis(2);
const TICK: Duration = Duration::from_millis(250);
const AGAIN: Duration = Duration::from_millis(50);
/// How long a process is young.
const YOUNG: Duration = Duration::from_secs(3);
const ALL_EVERY: Duration = Duration::from_secs(5);
const RESTS_AFTER: Duration = Duration::from_secs(10);
const SHARE: u32 = 50;

/// What is known of the processes.
struct Scanner {
    device: u64,
    /// What each watches, of those that watch anything.
    watches: HashMap<u32, HashSet<u64>>,
    /// When those that make requests were looked at.
    looked: HashMap<u32, Instant>,
    /// Those that were there at the last look at all, and those that came since.
    known: HashSet<u32>,
    young: HashMap<u32, Instant>,
    last_started: Option<u32>,
    /// The last look at many processes failed, and that was reported.
    failed: bool,
}

/// When the mount was last in use.
struct Activity {
    /// The store's count of changes.
    changes: u64,
    last: Instant,
}

impl Activity {
    /// Return whether the mount rests, with this count of changes.
    fn rests(&mut self, changes: u64, is_watched: bool) -> bool {
        if is_watched || changes != self.changes {
            self.last = Instant::now();
        }
        self.changes = changes;
        self.last.elapsed() >= RESTS_AFTER
    }
}

/// Look until the mount ends.
pub(super) fn scan(shared: &Shared, mounted: &Mounted, device: u64) {
    let callers = mounted.callers();
    let mut scanner = Scanner {
        device,
        watches: HashMap::new(),
        looked: HashMap::new(),
        known: HashSet::new(),
        young: HashMap::new(),
        last_started: None,
        failed: false,
    };
    let mut due: HashSet<u32> = HashSet::new();
    let (mut tick, mut all) = (Instant::now(), Instant::now());
    let mut earliest = tick;
    let mut activity = Activity {
        changes: 0,
        last: Instant::now(),
    };
    while !shared.is_stopped() {
        let wait = if due.is_empty() { ALL_EVERY } else { BEGIN_TIME };
        let came = callers.take(wait.min(tick.saturating_duration_since(Instant::now())));
        if !came.is_empty() {
            activity.last = Instant::now();
            thread::sleep(BEGIN_TIME);
            due.extend(came);
        }
        let begun = Instant::now();
        let (is_frozen, changes) = {
            let live = mounted.live().now();
            (live.store().is_frozen(), live.store().change_count())
        };
        if is_frozen {
            // There will be no changes until a remount.
            due.clear();
            tick = begun + ALL_EVERY;
            thread::sleep(TICK);
            continue;
        }
        if begun >= all {
            let looked = scanner.look_at_all();
            scanner.report(looked);
            due.clear();
            all = begun + ALL_EVERY.max(begun.elapsed() * SHARE);
        } else {
            if begun >= tick {
                let looked = scanner.look_at_young(begun);
                scanner.report(looked);
            }
            due.retain(|tid| !scanner.look_again(*tid, begun));
        }
        if begun >= tick {
            // The next look at many processes comes later if this one took long.
            earliest = Instant::now() + begun.elapsed() * SHARE;
        }
        let rests = activity.rests(changes, !scanner.watches.is_empty());
        if begun >= tick {
            tick = if rests { all } else { earliest.max(begun + TICK) };
        } else if !rests {
            // It may have rested until this request.
            tick = tick.min(earliest.max(begun + TICK));
        }
        shared.watch(scanner.watches.values().flatten().copied().collect());
        thread::sleep((begun.elapsed() * SHARE).min(TICK));
    }
}

impl Scanner {
    fn look(&mut self, pid: u32) -> io::Result<()> {
        let found = inotify::watched_by(pid, self.device)?;
        if found.is_empty() {
            self.watches.remove(&pid);
        } else {
            self.watches.insert(pid, found);
        }
        Ok(())
    }

    /// Report the first of several failures in succession.
    fn report(&mut self, looked: io::Result<()>) {
        if let Err(e) = &looked
            && !self.failed
        {
            log::warn!(
                "looking for inotify watches in /proc: {e}: new ones are not noticed until that works again"
            );
        }
        self.failed = looked.is_err();
    }

    fn look_at_all(&mut self) -> io::Result<()> {
        let last = inotify::last_started()?;
        let all: HashSet<u32> = inotify::processes()?.into_iter().collect();
        let now = Instant::now();
        // Those that have ended, and threads that made requests, are in no listing of processes.
        let some: HashSet<u32> = all.iter().chain(self.watches.keys()).copied().collect();
        let looked = self.look_at(some);
        self.looked.retain(|_, when| now - *when < ALL_EVERY);
        self.known = all;
        self.last_started = Some(last);
        looked
    }

    /// Look at some processes. Returns the first error.
    fn look_at(&mut self, some: HashSet<u32>) -> io::Result<()> {
        let mut looked = Ok(());
        for pid in some {
            looked = looked.and(self.look(pid));
        }
        looked
    }

    /// Look at the processes that came lately, and at those that watch.
    fn look_at_young(&mut self, now: Instant) -> io::Result<()> {
        let last = inotify::last_started()?;
        if self.last_started != Some(last) {
            for pid in inotify::processes()? {
                if self.known.insert(pid) {
                    self.young.insert(pid, now);
                }
            }
            self.last_started = Some(last);
        }
        self.young.retain(|_, came| now - *came < YOUNG);
        let some: HashSet<u32> = self.young.keys().chain(self.watches.keys()).copied().collect();
        self.look_at(some)
    }

    /// Look at a process that has made a request; false if that is too early.
    fn look_again(&mut self, tid: u32, now: Instant) -> bool {
        if self.looked.get(&tid).is_some_and(|when| now - *when < AGAIN) {
            return false;
        }
        self.looked.insert(tid, now);
        // After an error the process is looked at with all others.
        let _ = self.look(tid);
        true
    }
}
