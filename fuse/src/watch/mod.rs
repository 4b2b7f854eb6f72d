//! inotify events for changes that come through other doors (Python, other mounts).
//!
//! The kernel makes events of what commands do through the mount. What another process changes in the store, the mount
//! replays through itself: a process of its own makes the system call that gives the event, and the mount answers the
//! request without doing anything (`views::replays`).
//!
//! - `shared`: what the threads share. `scanner`: a thread that finds out which inodes are watched.
//! - `follower`: a thread that reads the change feed of the containers that those inodes show, and orders replays.
//! - `events`: the containers that are followed, and the events of their changes. `mirror`, `lists`: what the entries
//!   were, and what became of them. `pending`: events that wait.
//! - `child`: starting and ordering the process that replays. `replayer`: its program.
//!
//! 1. Where nothing is watched, a change costs nothing, and the store is not looked at. The scanner looks at `/proc`
//!    beside the requests, never in one.
//! 2. A replay never changes the store, whatever the process does.
//! 3. Changes that commands make through this mount are not replayed: the kernel has made their events.
//! 4. The events of one directory come in the order of the commits. Equal ones that wait are one, as in inotify.
//! 5. If changes are missing (`Changes::Lost`), the entries are compared with what they were: names that came and went
//!    give CREATE and DELETE, all other files MODIFY; in a directory of many entries the directory itself ATTRIB.
//! 6. The process that replays holds no descriptor of the kernel's device. It can wait in the kernel for this one; if
//!    that were a thread of this one, a kill would not close the device, and the mount would hang for ever.
//! 7. No thread that answers requests waits for anything here.

mod child;
mod events;
mod follower;
mod lists;
mod mirror;
mod pending;
pub(crate) mod replayer;
mod scanner;
mod shared;

use crate::fs::context::lock;
use crate::kernel::inotify;
use crate::kernel::mounts;
use crate::views::mounted::Mounted;
use follower::Follower;
use shared::Shared;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait of an unmount for the replay under way.
const AT_THE_END: Duration = Duration::from_secs(1);

/// The replay of changes, until the mount ends.
pub(crate) struct Watch(Arc<Shared>);

impl Watch {
    /// Start the threads. The store is mounted, and requests are answered.
    pub(crate) fn start(mounted: Arc<Mounted>, mountpoint: &Path) -> io::Result<Watch> {
        let shared = Arc::new(Shared::default());
        let mount = mounts::at(mountpoint)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        let (of_scanner, mount_of_scanner) = (shared.clone(), mounted.clone());
        let device = inotify::kernel_device(mount.device);
        thread::Builder::new()
            .name("watches".into())
            .spawn(move || scanner::scan(&of_scanner, &mount_of_scanner, device))?;
        let follower = Follower::new(shared.clone(), mounted, mountpoint, mount.device);
        thread::Builder::new()
            .name("events".into())
            .spawn(move || follower.run())?;
        Ok(Watch(shared))
    }

    /// Replay nothing more, so that the mount is not in use by a replay.
    pub(crate) fn stop(&self) {
        {
            // Under the mutex: a thread that has not seen it sleeps, and is woken.
            let _watched = lock(&self.0.watched);
            self.0.stopped.store(true, Ordering::SeqCst);
        }
        self.0.changed.notify_all();
        let begun = Instant::now();
        while matches!(self.0.replaying.try_lock(), Err(TryLockError::WouldBlock))
            && begun.elapsed() < AT_THE_END
        {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
