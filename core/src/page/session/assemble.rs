//! Assembling an opening from its parts, and taking its process slot.

use crate::error::Result;
use crate::page::pager::compose::{Parts, Wants};
use crate::page::pager::{Above, Hooks, Pager};
use crate::page::session::settings::Settings;
use crate::page::shared::users::slots;
use std::sync::Arc;

/// What the wings below have done by this one and the others.
const ABOVE: Above = Above {
    recover_process: Pager::recover_process,
    thread_ends: Pager::thread_ends,
    follow: Pager::follow,
    help: Pager::help,
};

impl Pager {
    pub(super) fn put_together(parts: Parts, settings: &Settings, hooks: Box<dyn Hooks>) -> Arc<Pager> {
        let wants = Wants {
            read_only: settings.read_only,
            bound: settings.bound,
            requirements: settings.requirements(),
            commit: settings.durability > 1 && !settings.read_only,
        };
        Pager::compose(parts, wants, hooks, ABOVE)
    }

    /// Take a process slot.
    pub(super) fn register(&self) -> Result<()> {
        let mut reg = self.membership().registration();
        let (p, generation) = slots::claim_process_slot(self.shm(), &reg.file, reg.requirements)?;
        reg.process = p;
        reg.generation = generation;
        self.membership().set_slot(p, generation);
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
