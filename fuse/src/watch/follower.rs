//! The thread that follows the change feed and orders replays.
//!
//! 1. A container is followed if its directory is watched (all its entries are of interest), or if an entry of it is: a
//!    watched file, and the entry that shows a watched directory.
//! 2. While a replay is under way, the feed goes on in shared memory. It is read between two replays, so that it is
//!    rarely lost.

use super::child::Replayer;
use super::events::{Events, Followed, gone_is_none, own_ctx};
use super::pending::{Event, What};
use super::shared::{Shared, Watched};
use crate::fs::context::lock;
use crate::fs::error::{FsError, FsResult};
use crate::fs::known::inodes::{Place, Slot};
use crate::fs::requests::entries::watched::{Sort, name_of};
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::metadata::attributes::NodeKind;
use crate::views::mounted::Mounted;
use crate::views::replays::Act;
use persist_core::Error;
use persist_core::store::door::{Changes, Feed};
use persist_core::store::{Obj, ObjectId, Wait};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How often new watches are taken over while the feed is followed.
const LOOK: Duration = Duration::from_millis(20);
/// How long the process that replays is not started again after a failure.
const LATER: Duration = Duration::from_secs(60);
/// The pause after an error.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a replay is tried that the kernel answers by itself from what it keeps, and the pause between.
const TRIES: u32 = 300;
const BETWEEN: Duration = Duration::from_millis(5);

/// The thread's state.
pub(super) struct Follower {
    shared: Arc<Shared>,
    mounted: Arc<Mounted>,
    mountpoint: PathBuf,
    device: u64,
    /// The version of the watched inodes that were taken over.
    version: u64,
    inodes: HashSet<u64>,
    feed: Option<Feed>,
    events: Events,
    replayer: Option<Replayer>,
    /// The process cannot be started before this time.
    fails_until: Option<Instant>,
}

impl Follower {
    pub(super) fn new(
        shared: Arc<Shared>,
        mounted: Arc<Mounted>,
        mountpoint: &Path,
        device: u64,
    ) -> Follower {
        Follower {
            shared,
            mounted,
            mountpoint: mountpoint.to_owned(),
            device,
            version: 0,
            inodes: HashSet::new(),
            feed: None,
            events: Events::default(),
            replayer: None,
            fails_until: None,
        }
    }

    /// Follow until the mount ends.
    pub(super) fn run(mut self) {
        while !self.shared.is_stopped() {
            self.take_over_watches();
            if self.inodes.is_empty() {
                self.rest();
                continue;
            }
            if let Err(e) = self.step() {
                if self.shared.is_stopped() {
                    return;
                }
                // The store is closed, by a remount or at the end; or it is one that does not change.
                log::debug!("following changes: errno {}", e.errno());
                self.start_over();
                self.pause();
            }
        }
    }

    /// Forget everything, and take the watches over again.
    fn start_over(&mut self) {
        self.feed = None;
        self.events = Events::default();
        self.version = u64::MAX;
    }

    /// Nothing is watched: wait for watches.
    fn rest(&mut self) {
        self.replayer = None;
        self.start_over();
        self.version = lock(&self.shared.watched).version;
        self.wait_for_watches();
    }

    fn wait_for_watches(&self) {
        let watched = lock(&self.shared.watched);
        let same = |w: &mut Watched| w.version == self.version && !self.shared.is_stopped();
        let ended = self.shared.changed.wait_while(watched, same);
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }

    fn pause(&self) {
        let watched = lock(&self.shared.watched);
        let goes_on = |_: &mut Watched| !self.shared.is_stopped();
        let ended = self.shared.changed.wait_timeout_while(watched, PAUSE, goes_on);
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }

    /// Follow the containers of what is watched now.
    fn take_over_watches(&mut self) {
        {
            let watched = lock(&self.shared.watched);
            if watched.version == self.version {
                return;
            }
            self.version = watched.version;
            self.inodes.clone_from(&watched.inodes);
        }
        let fs = self.mounted.live().now();
        let mut wanted: HashMap<ObjectId, (Obj, bool, HashSet<Slot>)> = HashMap::new();
        for ino in &self.inodes {
            // What cannot be read does not exist any more.
            let Ok((obj, entry)) = fs.watched_place(*ino) else {
                continue;
            };
            let all = entry.is_none();
            let of = wanted
                .entry(obj.id)
                .or_insert_with(|| (obj, false, HashSet::new()));
            of.1 |= all;
            of.2.extend(entry);
            if all && let Ok(Some((parent, slot))) = fs.entry_of(&own_ctx(), obj) {
                let of = wanted
                    .entry(parent.id)
                    .or_insert_with(|| (parent, false, HashSet::new()));
                of.2.insert(slot);
            }
        }
        if let Err(e) = self.follow(&fs, wanted) {
            log::debug!("watching containers: errno {}", e.errno());
            self.start_over();
        }
    }

    fn follow(&mut self, fs: &Fs, wanted: HashMap<ObjectId, (Obj, bool, HashSet<Slot>)>) -> FsResult<()> {
        let feed = match &mut self.feed {
            Some(feed) => feed,
            None => {
                let feed = fs.store().feed()?;
                self.feed.insert(feed)
            }
        };
        self.events.followed.retain(|id, _| {
            let stays = wanted.contains_key(id);
            if !stays {
                feed.unwatch(*id);
            }
            stays
        });
        // Before anything of them is compared: what the kernel keeps of them already ends by itself.
        let dirs = wanted.values().map(|(obj, _, _)| fs.number(&Place::Dir(*obj)));
        self.mounted.replays().set_dirs(dirs.collect());
        for (id, (obj, all, some)) in wanted {
            if let Some(followed) = self.events.followed.get_mut(&id)
                && (followed.all || !all)
            {
                (followed.all, followed.some) = (all, some);
                continue;
            }
            match feed.watch(obj, &mut Wait::default()) {
                Ok(()) => {}
                Err(Error::Gone(_)) => continue,
                Err(e) => return Err(e.into()),
            }
            // What changes from here on is reported, and what the mirror has of it already does no harm.
            let mut followed = Followed::new(obj, all, some);
            followed.read(fs)?;
            self.events.followed.insert(id, followed);
        }
        Ok(())
    }

    /// Read the feed, and replay one event.
    fn step(&mut self) -> FsResult<()> {
        let wait = match self.events.pending.is_empty() {
            true => LOOK,
            false => Duration::ZERO,
        };
        let Some(feed) = &mut self.feed else {
            return Err(FsError::Errno(libc::EROFS));
        };
        let found = feed.next(&mut Wait::at_most(wait))?;
        let own = feed.own().to_vec();
        let fs = self.mounted.live().now();
        match found {
            Some(Changes::These(changes)) => {
                for (change, own) in changes.iter().zip(own) {
                    self.events.take(&fs, change, own)?;
                }
            }
            Some(Changes::Lost) => self.events.compare_all(&fs)?,
            None => {}
        }
        let has_more = self.feed.as_ref().is_some_and(Feed::has_more);
        self.events.finish_lists(&fs, has_more)?;
        match self.events.pending.pop() {
            Some(event) => self.replay(fs, &event),
            None => Ok(()),
        }
    }

    /// Replay an event. One that cannot be replayed is dropped: its directory is gone, or closed to the mount's user.
    fn replay(&mut self, fs: Arc<Fs>, event: &Event) -> FsResult<()> {
        let Some(path) = gone_is_none(fs.path_to(&own_ctx(), event.container).map(Some))? else {
            return Ok(());
        };
        let dir = fs.number(&Place::Dir(event.container));
        let (name, acts) = match &event.entry {
            None => (b".".to_vec(), vec![Act::Metadata]),
            Some((slot, what)) => (name_of(slot), self.acts(&fs, event.container, slot, *what)?),
        };
        // A remount waits for the end of its use.
        drop(fs);
        let shared = self.shared.clone();
        let _busy = lock(&shared.replaying);
        for act in acts {
            if self.shared.is_stopped() {
                return Ok(());
            }
            if let Err(e) = self.order(dir, &path, &name, act) {
                log::debug!("replaying {act:?} of {:?}: {e}", String::from_utf8_lossy(&name));
            }
        }
        Ok(())
    }

    /// What is to be replayed for an event of an entry.
    fn acts(&self, fs: &Fs, container: Obj, slot: &Slot, what: What) -> FsResult<Vec<Act>> {
        Ok(match what {
            What::Modified => vec![Act::Modify(fs.held_entry(container, slot, Sort::File))],
            What::Created(sort) => vec![Act::Create(sort.kind())],
            What::Removed(Sort::Dir(obj)) => {
                let held = fs.held_entry(container, slot, Sort::Dir(obj));
                let vanishes = held.filter(|ino| self.inodes.contains(ino));
                let moved = vanishes.is_some() && gone_is_none(fs.entry_of(&own_ctx(), obj))?.is_some();
                let first = vanishes.filter(|_| !moved).map(Act::Vanish);
                first
                    .into_iter()
                    .chain([Act::Remove(NodeKind::Dir, None)])
                    .collect()
            }
            What::Removed(sort) => vec![Act::Remove(sort.kind(), fs.held_entry(container, slot, sort))],
        })
    }

    /// Let the other process replay, which is started if it does not run.
    fn order(&mut self, dir: u64, path: &[Vec<u8>], name: &[u8], act: Act) -> io::Result<()> {
        for tries in 0.. {
            let replayer = match &mut self.replayer {
                Some(replayer) => replayer,
                None => {
                    if self.fails_until.is_some_and(|time| Instant::now() < time) {
                        return Err(io::Error::from_raw_os_error(libc::ECHILD));
                    }
                    let next = Replayer::start(&self.mounted, &self.mountpoint, self.device);
                    self.replayer.insert(next.inspect_err(|e| {
                        self.fails_until = Some(Instant::now() + LATER);
                        log::warn!("changes give no inotify events: {e}");
                    })?)
                }
            };
            match replayer.replay(dir, path, name, act) {
                Ok(()) => return Ok(()),
                Err(e) if replayer.has_ended() => {
                    self.replayer = None;
                    return Err(e);
                }
                Err(e) => match e.raw_os_error() {
                    // The kernel answers from what it keeps, which it does not for long.
                    Some(errno) if is_kept(act, errno) && tries < TRIES && !self.shared.is_stopped() => {
                        std::thread::sleep(BETWEEN);
                    }
                    _ => return Err(e),
                },
            }
        }
        Ok(())
    }
}

/// Whether the kernel itself has answered a replay with this error: the mount answers the lookup of an entry that is to
/// be made, or removed, otherwise.
fn is_kept(act: Act, errno: i32) -> bool {
    match act {
        Act::Create(_) => errno == libc::EEXIST,
        Act::Remove(..) | Act::Vanish(_) => errno == libc::ENOENT,
        Act::Modify(_) | Act::Metadata | Act::Hello => false,
    }
}
