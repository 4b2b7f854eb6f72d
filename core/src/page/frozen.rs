//! A frozen opening: one checkpoint of a store, read only, through a sidecar that is this process's own memory.
//!
//! 1. It is a snapshot, of a store that is in use or not; or the newest checkpoint, where this process may use no
//!    sidecar (read-only filesystem, file or directory).
//! 2. A snapshot is kept from being dropped by a byte lock (`snapshot`). The newest checkpoint is kept by nothing: the
//!    opening goes on with it when writers do (`follow`).
//! 3. The sidecar is a file in memory without a name, as long as the live table needs, and takes memory only
//!    for what is read. Slots, pins and the like are as everywhere; the gate is never raised.
//! 4. It shows what the checkpoint holds. What was completed after it is not there, though the sidecar of others
//!    or a redo log may have it.

use super::catalogue::{self, Snapshot};
use super::follow::Follow;
use super::identify::{newest_meta, open_error};
use super::meta::Meta;
use super::open::Parts;
use super::shm::{self, Shm, at};
use super::snapshot::{claim, no_snapshot};
use super::table::Tree;
use super::{Hooks, Pager, Settings};
use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::raw::file;
use crate::raw::held::{self, Descriptor, Held};
use crate::raw::map::Map;
use crate::raw::process::{self, Unshared};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a frozen opening reads, and its right to.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// None: the newest checkpoint.
    pub(crate) snapshot: Option<Snapshot>,
    /// Of the newest checkpoint.
    pub(super) follow: Option<Follow>,
    right: Mutex<Right>,
}

/// The descriptor whose lock keeps the checkpoint, and the process it belongs to.
#[derive(Debug)]
struct Right {
    lock: Option<Unshared>,
    forks: u32,
}

impl Frozen {
    /// In a forked child: a right of its own. What the parent keeps it may give up.
    pub(crate) fn renew(&self, file: &Held) -> Result<()> {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.forks == process::forks() {
            return Ok(());
        }
        right.lock = match &self.snapshot {
            Some(s) => Some(claim_listed(file, &s.name, Some(s.checkpoint))?.1),
            None => None,
        };
        right.forks = process::forks();
        Ok(())
    }

    pub(crate) fn give_up(&self) {
        self.right.lock().unwrap_or_else(PoisonError::into_inner).lock = None;
    }
}

/// The snapshot of this name (and checkpoint, if given), locked.
fn claim_listed(file: &impl Descriptor, name: &str, checkpoint: Option<u64>) -> Result<(Snapshot, Unshared)> {
    let listed = || -> Result<Snapshot> {
        let (_, all) = catalogue::newest(&*held::ours(file, "cannot read the list of snapshots")?)?;
        all.into_iter()
            .find(|s| s.name == name && checkpoint.is_none_or(|c| c == s.checkpoint))
            .ok_or_else(|| no_snapshot(name))
    };
    for _ in 0..1000 {
        let found = listed()?;
        if let Some(lock) = claim(file, found.checkpoint)? {
            // With the byte in hand: is it still there?
            if listed()? == found {
                return Ok((found, lock));
            }
            continue;
        }
        // It is being dropped.
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Error::InUse {
        what: format!("the snapshot {name:?}"),
        holder: "a process that is dropping it".to_owned(),
    })
}

impl Pager {
    /// Reads one checkpoint only.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// The page table that it shows.
    pub(crate) fn frozen_tree(&self, frozen: &Frozen) -> Tree {
        let (root, height) = self.root();
        frozen.snapshot.as_ref().map_or(Tree { root, height }, |s| s.tree)
    }

    /// The snapshot this is an opening of.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.frozen.as_ref().and_then(|f| f.snapshot.as_ref())
    }

    /// Opens a snapshot, or without a name the newest checkpoint.
    pub(crate) fn open_frozen(
        path: PathBuf,
        name: Option<&str>,
        settings: &Settings,
        hooks: Box<dyn Hooks>,
    ) -> Result<Arc<Pager>> {
        let file = File::open(&path).map_err(|e| open_error(&path, e))?;
        let info = file.metadata().map_err(|e| open_error(&path, e))?;
        if !info.is_file() {
            return Err(Error::NotAStore {
                path,
                why: "not a regular file".to_owned(),
            });
        }
        if name.is_some_and(|n| catalogue::check_name(n).is_err()) {
            return Err(no_snapshot(name.unwrap_or_default()));
        }
        let (snapshot, lock) = match name {
            Some(name) => {
                newest_meta(&file, &path)?;
                let (snapshot, lock) = claim_listed(&file, name, None)?;
                (Some(snapshot), Some(lock))
            }
            None => (None, None),
        };
        let (meta, _) = newest_meta(&file, &path)?;
        Pager::freeze(path, file, &meta, snapshot, lock, settings, hooks)
    }

    fn freeze(
        path: PathBuf,
        file: File,
        meta: &Meta,
        snapshot: Option<Snapshot>,
        lock: Option<Unshared>,
        settings: &Settings,
        hooks: Box<dyn Hooks>,
    ) -> Result<Arc<Pager>> {
        let (checkpoint, tree, logical, next_id) = match &snapshot {
            Some(s) => (s.checkpoint, s.tree, s.pages, s.next_id),
            None => (meta.checkpoint, meta.tree(), meta.logical, meta.next_id),
        };
        let len = file.metadata().map_err(|e| open_error(&path, e))?.len();
        let pages = (len / PAGE_SIZE as u64).min(shm::MAX_PAGES);
        let side = file::in_memory(Shm::length_for(logical))
            .map_err(|e| Error::io("cannot make a sidecar in memory", e))?;
        let again =
            |write| file::reopen(&side, write).map_err(|e| Error::io("cannot reopen a sidecar in memory", e));
        // Their locks are of this process's own memory: no other process asks for them.
        let [mark, registered, probe] = [again(true)?, again(true)?, again(true)?].map(Unshared::brief);
        let shm = Shm::map(side)?;
        for (word, value) in [
            (at::LAYOUT, shm::LAYOUT),
            (at::UUID, meta.uuid[0]),
            (at::UUID + 8, meta.uuid[1]),
            (at::EPOCH, checkpoint + 1),
            (at::DURABLE, checkpoint),
            (at::ROOT, u64::from(tree.root.phys) | u64::from(tree.height) << 32),
            (at::ROOT_SUM, tree.root.sum),
            (at::FILE_PAGES, pages),
            // Nothing is ever free here: the free map is not looked at.
            (at::REBUILD_BELOW, pages),
            (at::LOGICAL, logical),
            (at::NEXT_ID, next_id),
            (at::MAGIC, shm::MAGIC),
            (at::READY, 1),
        ] {
            shm.set(word, value);
        }
        let side = Unshared::new(shm.lock_in_use()?);
        let file = Arc::new(Held::new(file));
        let bytes = (pages as usize).max(1) * PAGE_SIZE;
        let (map, follow) = if snapshot.is_some() {
            (Map::read_only(&*file.using()?, bytes, true)?, None)
        } else {
            let memory = file::in_memory(bytes as u64)
                .map_err(|e| Error::io("cannot keep copies of the store in memory", e))?;
            let memory = Arc::new(Held::new(memory));
            let map = Map::growing(Arc::clone(&memory), bytes, shm::MAX_PAGES as usize * PAGE_SIZE)?;
            (map, Some(Follow::new(&*file.using()?, memory)?))
        };
        let frozen = Frozen {
            snapshot,
            follow,
            right: Mutex::new(Right {
                lock,
                forks: process::watch_forks(),
            }),
        };
        let settings = Settings {
            read_only: true,
            durability: 0,
            ..settings.clone()
        };
        let parts = Parts {
            shm,
            map,
            file,
            path,
            seed: meta.seed,
            mark,
            registered,
            side,
            probe,
            frozen: Some(frozen),
        };
        Pager::assemble(parts, &settings, hooks)
    }
}
