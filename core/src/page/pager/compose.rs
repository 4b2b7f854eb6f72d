//! Composing an open store from its parts.

use crate::page::lookups::LookupCache;
use crate::page::pager::state::frozen::Frozen;
use crate::page::pager::state::helper::Helper;
use crate::page::pager::state::leases::{LeaseHolder, Unleased};
use crate::page::pager::state::membership::Membership;
use crate::page::pager::state::openness::Openness;
use crate::page::pager::state::redo::Redo;
use crate::page::pager::state::transaction::Transactions;
use crate::page::pager::state::undo_index::KeptIndex;
use crate::page::pager::state::watches::Watches;
use crate::page::pager::{Above, Hooks, Pager};
use crate::page::shared::layout::THREAD_SLOTS;
use crate::page::shared::shm::Shm;
use crate::page::shared::users::pins::Pins;
use crate::page::shared::users::probe::Probe;
use crate::page::shared::users::slots::{Registration, Requirements};
use crate::page::sync::deadlock::OpenStore;
use crate::raw::files::held::Held;
use crate::raw::map::Map;
use crate::raw::process::{self, Unshared};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

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

/// How the store is to be opened.
pub(in crate::page) struct Wants {
    pub(in crate::page) read_only: bool,
    /// Longest wait if the caller gives no bound.
    pub(in crate::page) bound: Duration,
    pub(in crate::page) requirements: Requirements,
    /// This process requires its changes to be durable when they are complete.
    pub(in crate::page) commit: bool,
}

impl Pager {
    /// Compose an open store, without a process slot. `above`: the functions of higher wings.
    pub(in crate::page) fn compose(
        parts: Parts,
        wants: Wants,
        hooks: Box<dyn Hooks>,
        above: Above,
    ) -> Arc<Pager> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let registration = Registration {
            mark: parts.mark,
            file: parts.registered,
            side: parts.side,
            process: 0,
            generation: 0,
            requirements: wants.requirements,
            forks: process::watch_forks(),
        };
        let pager = Arc::new_cyclic(|me| Pager {
            map: parts.map,
            seed: parts.seed,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            me: me.clone(),
            read_only: wants.read_only,
            frozen: parts.frozen,
            bound: wants.bound,
            membership: Membership::new(registration, Probe::new(parts.probe)),
            pins: Pins::default(),
            lookups: LookupCache::new(THREAD_SLOTS),
            lease_holder: LeaseHolder::default(),
            unleased: Unleased::default(),
            kept_index: KeptIndex::default(),
            transactions: Transactions::default(),
            helper: Helper::default(),
            watches: Watches::default(),
            redo: Redo::new(wants.commit),
            hooks: OnceLock::new(),
            above,
            openness: Openness::default(),
            _open: OpenStore::new(),
            shm: parts.shm,
            file: parts.file,
            path: parts.path,
        });
        pager.set_hooks(hooks);
        pager
    }
}
