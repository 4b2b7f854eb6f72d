//! Opening the store file, and deciding which process is first and last.
//!
//! 1. A process that uses a store holds a shared OFD lock on the presence byte of its lock file (`lock_file`). Making
//!    or discarding a sidecar (`sidecar`) needs the exclusive lock, so it happens only while no other process is there.
//! 2. After locking, both paths are checked again: a file that was replaced in between is not the locked one.

use crate::error::{Error, Result, is_forbidden, open_error, refused};
use crate::ids::PAGE_SIZE;
use crate::page::format::meta::Meta;
use crate::page::format::newest::{file_length, is_blank, newest_meta, not_a_store};
use crate::page::pager::compose::Parts;
use crate::page::pager::{Hooks, Pager};
use crate::page::session::create::create_store;
use crate::page::session::settings::Settings;
use crate::page::session::sidecar::open_sidecar;
use crate::page::shared::layout::MAX_PAGES;
use crate::page::shared::paths::lock_path;
use crate::page::shared::users::lock_file;
use crate::page::shared::users::slots::BYTE_PRESENCE;
use crate::page::sync::wait::Wait;
use crate::raw::files::file;
use crate::raw::files::file::Ofd;
use crate::raw::files::held::Held;
use crate::raw::map::Map;
use crate::raw::process::{self, Unshared};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Pager {
    /// Open a store. The cost does not depend on its size.
    pub fn open(path: &Path, settings: &Settings, hooks: Box<dyn Hooks>) -> Result<Arc<Pager>> {
        let path = std::path::absolute(path).map_err(|e| open_error(path, e))?;
        let name = path.display().to_string();
        Pager::open_at(path, settings, hooks).map_err(|e| match e {
            // A failed system call of any step: the message names the store.
            Error::Io { what, source } if !what.contains(&name) => {
                Error::io(format!("{name}: {what}"), source)
            }
            e => e,
        })
    }

    fn open_at(path: PathBuf, settings: &Settings, hooks: Box<dyn Hooks>) -> Result<Arc<Pager>> {
        if let Some(name) = &settings.snapshot {
            return Pager::open_frozen(path, Some(name), settings, hooks);
        }
        let deadline = Instant::now() + settings.bound;
        loop {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .create(settings.create && !settings.read_only);
            let file = match options.open(&path) {
                Ok(file) => file,
                Err(e) if settings.read_only && is_forbidden(&e) => {
                    return Pager::open_frozen(path, None, settings, hooks);
                }
                Err(e) => return Err(open_error(&path, e)),
            };
            file_length(&file, &path)?;
            // Check before anything is created beside the store.
            if (settings.read_only || !settings.create) && is_blank(&file, &path)? {
                return Err(not_a_store(
                    &path,
                    "it is empty, or was never completed; open it for writing once",
                ));
            }
            if !settings.any_filesystem
                && let Some(kind) = file::foreign_filesystem(&file)
            {
                return Err(refused(
                    &path,
                    format!(
                        "it lies on {kind}, which is not known to share memory between all processes that use it; \
                         use a local disk, or set PERSIST_ANY_FILESYSTEM=1 if it does (Rust: Options::any_filesystem)"
                    ),
                ));
            }
            let (lock, made) = match lock_file::obtain(&path, &file, deadline) {
                Ok(lock) => lock,
                Err(Error::Io { source, .. }) if settings.read_only && is_forbidden(&source) => {
                    return Pager::open_frozen(path, None, settings, hooks);
                }
                Err(e) => return Err(e),
            };
            let alone = file::ofd_lock(&lock, BYTE_PRESENCE, Ofd::Exclusive)?;
            if !alone && !file::ofd_lock(&lock, BYTE_PRESENCE, Ofd::Shared)? {
                // Another process is opening it for the first time, or closing it for the last time.
                if Instant::now() >= deadline {
                    let holder = process::lock_holder(&lock, BYTE_PRESENCE);
                    return Err(refused(
                        &path,
                        format!(
                            "{holder} keeps it to itself (opening or closing it), and may be stopped: let it go on or \
                             end it, and try again"
                        ),
                    ));
                }
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let name = lock_path(&path);
            let is_there =
                |name: &Path, file: &File| lock_file::is_at(name, file).map_err(|e| open_error(name, e));
            if !is_there(&path, &file)? || !is_there(&name, &lock)? {
                continue;
            }
            let mark = lock_file::mark(&file)?;
            if alone && let Err(e) = lock_file::check_unused_elsewhere(&path, &mark, settings.bound) {
                if made {
                    let _ = std::fs::remove_file(&name);
                }
                return Err(e);
            }
            lock_file::no_earlier_version(&path, &mark)?;
            return Pager::attach(path, file, (lock, mark), alone, settings, hooks);
        }
    }

    fn attach(
        path: PathBuf,
        file: File,
        locks: (Unshared, Unshared),
        alone: bool,
        settings: &Settings,
        hooks: Box<dyn Hooks>,
    ) -> Result<Arc<Pager>> {
        if alone && is_blank(&file, &path)? {
            create_store(&file, &path, settings.durability > 0)?;
        }
        let len = file_length(&file, &path)?;
        let (meta, meta_sum) = newest_meta(&file, &path)?;
        let shm = match open_sidecar(&path, &file, &meta, meta_sum, alone) {
            Ok(shm) => shm,
            Err(Error::Io { source, .. }) if alone && settings.read_only && is_forbidden(&source) => {
                drop(locks);
                return Pager::open_frozen(path, None, settings, hooks);
            }
            Err(e) => return Err(e),
        };
        let file = Arc::new(Held::new(file));
        // The content of a sidecar left by an earlier session is not trusted yet.
        let needed = match alone {
            true => len / PAGE_SIZE as u64,
            false => shm.space().file_pages(),
        };
        let needed = needed.min(MAX_PAGES) as usize * PAGE_SIZE;
        let map = Map::growing(Arc::clone(&file), needed, MAX_PAGES as usize * PAGE_SIZE)?;
        let side = Unshared::new(shm.lock_in_use()?);
        let (lock, mark) = locks;
        let probe = Unshared::brief(file::reopen(&lock, true).map_err(|e| open_error(&path, e))?);
        let parts = Parts {
            shm,
            map,
            file,
            path,
            seed: meta.seed,
            mark,
            registered: lock,
            side,
            probe,
            frozen: None,
        };
        let pager = Pager::put_together(parts, settings, hooks);
        let recovered = alone && pager.inherit(&meta, meta_sum)?;
        if recovered {
            log::warn!(
                "{}: the processes that used it have ended without closing it: what they had completed is recovered",
                pager.path().display()
            );
        }
        let others_want = pager.shm().shortest_max_age();
        pager.register()?;
        if recovered && !pager.is_read_only() {
            pager.find_free_pages();
        }
        let mut replayed = false;
        if alone {
            replayed = pager.replay_log(&meta)?;
            if !pager.is_read_only() && meta.logical == 0 {
                pager.create_superblock()?;
            }
            let reg = pager.membership().registration();
            // From exclusive to shared in one step: other processes may enter now.
            file::ofd_lock(&reg.file, BYTE_PRESENCE, Ofd::Shared)?;
        } else {
            pager.recover_dead_processes(None)?;
        }
        pager
            .check_superblock()
            .map_err(|e| pager.with_kept_checkpoint(e))?;
        if replayed && !pager.is_read_only() {
            // Make the replayed state durable so that it is not replayed again. If this fails, the next sync reports
            // the error.
            let _ = pager.checkpoint(&mut Wait::default());
        }
        if alone && !pager.is_read_only() && !settings.examines {
            pager.replace_torn_meta(&meta)?;
        }
        crate::page::session::fork::watch(pager.weak());
        pager.start_helper_if_due(others_want);
        Ok(pager)
    }

    /// If the older meta page is not valid, mark the epoch as changed, so that the next checkpoint is made even if
    /// nothing changes: it writes that page. A power failure during a checkpoint leaves the page torn, and until it is
    /// written again the store has one valid meta page.
    fn replace_torn_meta(&self, newest: &Meta) -> Result<()> {
        if newest.checkpoint == 1 || Meta::before(&*self.file().using()?, newest)?.is_some() {
            return Ok(());
        }
        log::warn!(
            "{}: meta page {} is not valid (a power failure cut a checkpoint short, or the page was damaged); the \
             store opens at checkpoint {}, and the next checkpoint writes the page again",
            self.path().display(),
            (newest.checkpoint + 1) % 2,
            newest.checkpoint
        );
        // Without space for it the store can still be read, and space can be freed.
        match self.dirty_epoch() {
            Err(Error::NoSpace { .. }) => Ok(()),
            done => done,
        }
    }
}
