//! A frozen opening: one checkpoint of a store, read only, through a sidecar in this process's private memory.
//!
//! 1. It shows a snapshot, of a store that is in use or not; or the newest checkpoint, if this process may use no
//!    sidecar (read-only filesystem, file or directory).
//! 2. A byte lock keeps a snapshot from being dropped (`snapshot`). Nothing keeps the newest checkpoint: the opening
//!    moves to a newer one when writers make it (`follow`).
//! 3. The sidecar is an unnamed file in memory, as long as the live table needs, and takes memory only for what is
//!    read. Slots, pins and the like are as in other openings; the gate is never raised.
//! 4. It shows the content of the checkpoint. Changes completed after it are not visible, though the sidecar of others
//!    or a redo log may have them.

use crate::error::{Error, Result, open_error};
use crate::ids::PAGE_SIZE;
use crate::page::format::catalogue::{self, Snapshot};
use crate::page::format::claim::{claim_listed, no_snapshot};
use crate::page::format::meta::Meta;
use crate::page::format::newest::{file_length, newest_meta};
use crate::page::pager::compose::Parts;
use crate::page::pager::state::follow::Follow;
use crate::page::pager::state::frozen::Frozen;
use crate::page::pager::{Hooks, Pager};
use crate::page::session::settings::Settings;
use crate::page::shared::header::identity::Identity;
use crate::page::shared::layout;
use crate::page::shared::shm::Shm;
use crate::raw::files::file;
use crate::raw::files::held::Held;
use crate::raw::map::Map;
use crate::raw::process::Unshared;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

impl Pager {
    /// Open a snapshot, or without a name the newest checkpoint.
    pub(crate) fn open_frozen(
        path: PathBuf,
        name: Option<&str>,
        settings: &Settings,
        hooks: Box<dyn Hooks>,
    ) -> Result<Arc<Pager>> {
        let file = File::open(&path).map_err(|e| open_error(&path, e))?;
        file_length(&file, &path)?;
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
        let len = file_length(&file, &path)?;
        let pages = (len / PAGE_SIZE as u64).min(layout::MAX_PAGES);
        let side = file::in_memory(Shm::length_for(logical))
            .map_err(|e| Error::io("cannot make a sidecar in memory", e))?;
        let again =
            |write| file::reopen(&side, write).map_err(|e| Error::io("cannot reopen a sidecar in memory", e));
        // The locks are on this process's private memory: no other process tests them.
        let [mark, registered, probe] = [again(true)?, again(true)?, again(true)?].map(Unshared::brief);
        let mut shm = Shm::map(side)?;
        shm.name_session(0);
        shm.identify(&Identity {
            layout: layout::LAYOUT,
            uuid: meta.uuid,
            ready: true,
            ..Identity::default()
        });
        shm.show_checkpoint(checkpoint, tree, pages, (logical, next_id));
        shm.last_checkpoint().set_number(checkpoint);
        let side = Unshared::new(shm.lock_in_use()?);
        let file = Arc::new(Held::new(file));
        let bytes = (pages as usize).max(1) * PAGE_SIZE;
        let (map, follow) = if snapshot.is_some() {
            (Map::read_only(&*file.using()?, bytes, true)?, None)
        } else {
            let memory = file::in_memory(bytes as u64)
                .map_err(|e| Error::io("cannot keep copies of the store in memory", e))?;
            let memory = Arc::new(Held::new(memory));
            let map = Map::growing(Arc::clone(&memory), bytes, layout::MAX_PAGES as usize * PAGE_SIZE)?;
            (map, Some(Follow::new(&*file.using()?, memory)?))
        };
        let frozen = Frozen::new(snapshot, follow, lock);
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
