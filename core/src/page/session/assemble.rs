//! Assembling an opening from its parts, and taking its process slot.

use crate::error::Result;
use crate::page::pager::state::frozen::Frozen;
use crate::page::pager::state::leases::LeaseHolder;
use crate::page::pager::state::lookup_cache::LookupCache;
use crate::page::pager::state::membership::Membership;
use crate::page::pager::state::openness::Openness;
use crate::page::pager::state::redo::Redo;
use crate::page::pager::state::transaction::Transactions;
use crate::page::pager::state::undo_index::KeptIndex;
use crate::page::pager::state::watches::Watches;
use crate::page::pager::{Above, Hooks, Pager};
use crate::page::session::settings::Settings;
use crate::page::shared::shm::Shm;
use crate::page::shared::users::pins::Pins;
use crate::page::shared::users::probe::Probe;
use crate::page::shared::users::slots::{self, Registration};
use crate::raw::files::held::Held;
use crate::raw::map::Map;
use crate::raw::process::{self, Unshared};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The parts of an opening.
pub(in crate::page) struct Parts {
    pub(in crate::page) shm: Shm,
    pub(in crate::page) map: Map,
    pub(in crate::page) file: Arc<Held>,
    pub(in crate::page) path: PathBuf,
    pub(in crate::page) seed: u64,
    /// Shows processes with another lock file that the store is in use.
    pub(in crate::page) mark: Unshared,
    /// Holds the presence byte and the slot byte.
    pub(in crate::page) registered: Unshared,
    /// Shows that the sidecar is in use.
    pub(in crate::page) side: Unshared,
    pub(in crate::page) probe: Unshared,
    pub(in crate::page) frozen: Option<Frozen>,
}

impl Pager {
    pub(super) fn put_together(parts: Parts, settings: &Settings, hooks: Box<dyn Hooks>) -> Arc<Pager> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let registration = Registration {
            mark: parts.mark,
            file: parts.registered,
            side: parts.side,
            process: 0,
            generation: 0,
            requirements: settings.requirements(),
            forks: process::watch_forks(),
        };
        let pager = Arc::new_cyclic(|me| Pager {
            map: parts.map,
            seed: parts.seed,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            me: me.clone(),
            read_only: settings.read_only,
            frozen: parts.frozen,
            bound: settings.bound,
            membership: Membership::new(registration, Probe::new(parts.probe)),
            pins: Pins::default(),
            lookups: LookupCache::default(),
            lease_holder: LeaseHolder::default(),
            kept_index: KeptIndex::default(),
            transactions: Transactions::default(),
            helper: crate::page::pager::state::helper::Helper::default(),
            watches: Watches::default(),
            redo: Redo::new(settings.durability > 1 && !settings.read_only),
            hooks: OnceLock::new(),
            above: Above {
                recover_process: Pager::recover_process,
                thread_ends: Pager::thread_ends,
                follow: Pager::follow,
                help: Pager::help,
            },
            openness: Openness::default(),
            _open: crate::page::sync::deadlock::OpenStore::new(),
            shm: parts.shm,
            file: parts.file,
            path: parts.path,
        });
        pager.set_hooks(hooks);
        pager
    }

    /// Take a process slot.
    pub(super) fn register(&self) -> Result<()> {
        let mut reg = self.membership.registration();
        let (p, generation) = slots::claim_process_slot(&self.shm, &reg.file, reg.requirements)?;
        reg.process = p;
        reg.generation = generation;
        self.membership.set_slot(p, generation);
        Ok(())
    }

    /// Assemble an opening that is alone with its sidecar.
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
}
