//! Opening: the store file, and who is first and last.
//!
//! 1. A process that uses a store holds a shared OFD lock on the presence byte of its lock file (`lock_file`); making
//!    or discarding a sidecar (`sidecar`) needs the exclusive one, so it happens only while no other is there.
//! 2. After locking, both paths are looked at again: a file that was replaced meanwhile is not the one
//!    that was locked.

use crate::error::{Error, Result, is_forbidden, open_error, refused};
use crate::ids::{Addr, PAGE_SIZE};
use crate::page::access::Pages;
use crate::page::format::meta::FIRST_PAGES;
use crate::page::format::meta::Link;
use crate::page::format::meta::{Meta, Origin};
use crate::page::format::newest::{is_blank, newest_meta};
use crate::page::pager::frozen::Frozen;
use crate::page::pager::lookup_cache::LookupCache;
use crate::page::pager::redo::Redo;
use crate::page::pager::{Hooks, Pager};
use crate::page::session::sidecar::open_sidecar;
use crate::page::shared::layout::MAX_PAGES;
use crate::page::shared::paths::lock_path;
use crate::page::shared::pins::Pins;
use crate::page::shared::probe::Probe;
use crate::page::shared::shm::Shm;
use crate::page::shared::slots::{self, BYTE_PRESENCE, Registration, Wishes};
use crate::page::shared::{at, lock_file};
use crate::page::superblock as sb;
use crate::page::sync::wait::Wait;
use crate::raw::file::{self, Ofd};
use crate::raw::held::Held;
use crate::raw::map::Map;
use crate::raw::process::{self, Unshared};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// How to open.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For reading only.
    pub read_only: bool,
    /// Make the file if it is missing.
    pub create: bool,
    /// 0: nothing is flushed; 1: checkpoints are; 2: every completed change is.
    pub durability: u8,
    /// What was changed longer ago than this is durable (checkpoints are made by a thread); None: no such bound.
    pub max_age: Option<Duration>,
    /// Longest wait where the caller gives no bound.
    pub bound: Duration,
    /// Open this snapshot, for reading only.
    pub snapshot: Option<String>,
    /// Open it on any filesystem.
    pub any_filesystem: bool,
}

impl Settings {
    fn wishes(&self) -> Wishes {
        // Where nothing is flushed there is no bound on what a power cut takes.
        let age = self.max_age.filter(|_| self.durability > 0 && !self.read_only);
        Wishes {
            durability: self.durability,
            max_age: age.map_or(0, crate::page::helper::thread::in_ms),
        }
    }
}

/// What an opening is put together from.
pub(in crate::page) struct Parts {
    pub(in crate::page) shm: Shm,
    pub(in crate::page) map: Map,
    pub(in crate::page) file: Arc<Held>,
    pub(in crate::page) path: PathBuf,
    pub(in crate::page) seed: u64,
    /// Says to those that have another lock file that the store is in use.
    pub(in crate::page) mark: Unshared,
    /// Holds presence and slot byte.
    pub(in crate::page) registered: Unshared,
    /// Says that the sidecar is in use.
    pub(in crate::page) side: Unshared,
    pub(in crate::page) probe: Unshared,
    pub(in crate::page) frozen: Option<Frozen>,
}

impl Pager {
    /// Opens a store. Costs the same whatever its size.
    pub fn open(path: &Path, settings: &Settings, hooks: Box<dyn Hooks>) -> Result<Arc<Pager>> {
        let path = std::path::absolute(path).map_err(|e| open_error(path, e))?;
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
            if !file.metadata().map_err(|e| open_error(&path, e))?.is_file() {
                return Err(Error::NotAStore {
                    path,
                    why: "not a regular file".to_owned(),
                });
            }
            // Before anything is made beside it.
            if (settings.read_only || !settings.create) && is_blank(&file, &path)? {
                return Err(Error::NotAStore {
                    path,
                    why: "it is empty, or was never completed; open it for writing once".to_owned(),
                });
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
                // Somebody is opening it for the first time, or closing it for the last.
                if Instant::now() >= deadline {
                    return Err(refused(
                        &path,
                        "another process keeps it to itself (opening or closing it); try again",
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
            if alone && let Err(e) = lock_file::nobody_elsewhere(&path, &mark, settings.bound) {
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
        let len = file.metadata().map_err(|e| open_error(&path, e))?.len();
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
        // What a sidecar says that was left behind is not believed yet.
        let needed = match alone {
            true => len / PAGE_SIZE as u64,
            false => shm.get(at::FILE_PAGES),
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
        let others_want = pager.shm.get(at::MAX_AGE);
        pager.register()?;
        if recovered && !pager.read_only {
            pager.find_free_pages();
        }
        let mut replayed = false;
        if alone {
            replayed = pager.replay_log(&meta)?;
            if !pager.read_only && meta.logical == 0 {
                pager.create_superblock()?;
            }
            let reg = pager
                .registration
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            // From exclusive to shared in one step: others may come in now.
            file::ofd_lock(&reg.file, BYTE_PRESENCE, Ofd::Shared)?;
        } else {
            pager.recover_dead_processes(None)?;
        }
        pager.check_superblock().map_err(|e| pager.with_way_back(e))?;
        if replayed && !pager.read_only {
            // So that it need not be done again. If it fails, whoever syncs is told.
            let _ = pager.checkpoint(&mut Wait::default());
        }
        crate::page::session::fork::watch(&pager.me);
        pager.start_helper_if_due(others_want);
        Ok(pager)
    }

    fn put_together(parts: Parts, settings: &Settings, hooks: Box<dyn Hooks>) -> Arc<Pager> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let forks = process::watch_forks();
        let pager = Arc::new_cyclic(|me| Pager {
            map: parts.map,
            seed: parts.seed,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            me: me.clone(),
            read_only: settings.read_only,
            frozen: parts.frozen,
            bound: settings.bound,
            registration: Mutex::new(Registration {
                mark: parts.mark,
                file: parts.registered,
                side: parts.side,
                process: 0,
                generation: 0,
                wishes: settings.wishes(),
                forks,
            }),
            process: AtomicU64::new(0),
            probe: Probe::new(parts.probe),
            pins: Pins::default(),
            lookups: LookupCache::default(),
            committed: Mutex::default(),
            blocks: Mutex::default(),
            turn: AtomicU32::new(0),
            transaction_task: AtomicU64::new(0),
            deaths: AtomicU32::new(0),
            doomed: AtomicBool::new(false),
            helper: crate::page::pager::helper::Helper::default(),
            redo: Redo::new(settings.durability > 1 && !settings.read_only),
            hooks: OnceLock::new(),
            closed: AtomicBool::new(false),
            _open: crate::page::sync::deadlock::OpenStore::new(),
            closing: AtomicU32::new(0),
            shm: parts.shm,
            file: parts.file,
            path: parts.path,
        });
        pager.set_hooks(hooks);
        pager
    }

    /// Takes a process slot.
    fn register(&self) -> Result<()> {
        let mut reg = self
            .registration
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (p, generation) = slots::claim_process_slot(&self.shm, &reg.file, reg.wishes)?;
        reg.process = p;
        reg.generation = generation;
        self.set_process(p, generation);
        Ok(())
    }

    /// An opening that is alone with its sidecar.
    pub(in crate::page) fn assemble(
        parts: Parts,
        settings: &Settings,
        hooks: Box<dyn Hooks>,
    ) -> Result<Arc<Pager>> {
        let pager = Pager::put_together(parts, settings, hooks);
        pager.register()?;
        pager.check_superblock()?;
        Ok(pager)
    }

    /// Of a store that has none yet: nobody came so far, or whoever did died at it.
    fn create_superblock(&self) -> Result<()> {
        if self.read_held(|section| section.has_superblock())? {
            return Ok(());
        }
        self.shm.set(at::LOGICAL, 0);
        let mut section = self.write(&mut Wait::default())?;
        section.create_superblock()?;
        section.whole()?;
        section.commit();
        Ok(())
    }

    fn check_superblock(&self) -> Result<()> {
        if self.shm.get(at::LOGICAL) == 0 {
            return Err(Error::NotAStore {
                path: self.path.clone(),
                why: "it was never completed; open it for writing once".to_owned(),
            });
        }
        let (magic, next) =
            self.read_held(|section| Ok((section.u64_at(sb::MAGIC)?, section.u64_at(sb::NEXT_PAGE)?)))?;
        if magic != sb::MAGIC_VALUE {
            return Err(Error::corrupt("no superblock in logical page 0", Addr(0)));
        }
        if next > self.shm.get(at::LOGICAL) {
            return Err(Error::corrupt("more pages in use than there are", sb::NEXT_PAGE));
        }
        Ok(())
    }
}

/// Writes checkpoint 1: an empty page table. It is on the disk, and so is the file's name, before
/// anything else is written: a creation that was cut short is told by what there is.
fn create_store(file: &File, path: &Path, flush: bool) -> Result<()> {
    file::in_place(file);
    file::allocate(file, 0, FIRST_PAGES * PAGE_SIZE as u64, "the store file")?;
    let meta = Meta {
        uuid: [process::random_u64(), process::random_u64()],
        checkpoint: 1,
        root: 0,
        height: 0,
        root_sum: 0,
        file_pages: FIRST_PAGES,
        logical: 0,
        next_id: 1,
        seed: process::random_u64(),
        catalogue: Link::default(),
        log: crate::page::format::log_record::Place::default(),
        origin: Origin::default(),
    };
    file::write_meta(file, &meta.encode(), PAGE_SIZE as u64)
        .map_err(|e| Error::io("cannot write the meta page", e))?;
    if !flush {
        return Ok(());
    }
    file::flush(file).map_err(|e| Error::io("cannot flush the new store file", e))?;
    // A directory that cannot be opened or flushed (permissions, odd filesystems) is no reason to fail.
    if let Some(dir) = path.parent().and_then(|dir| File::open(dir).ok()) {
        let _ = dir.sync_all();
    }
    Ok(())
}
