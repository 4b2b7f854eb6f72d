//! The pins of the containers that are being created.

use persist_core::store::Obj;
use std::sync::Arc;

use crate::engine::shared::Shared;

/// Containers that are pinned until this is dropped.
pub(super) struct Pins {
    pub(super) shared: Arc<Shared>,
    pub(super) held: Vec<Obj>,
    /// Those of attempts that were undone.
    pub(super) stale: Vec<Obj>,
}

impl Pins {
    /// The operation runs again and creates other containers.
    pub(super) fn restart(&mut self) {
        self.stale.append(&mut self.held);
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for obj in self.held.drain(..).chain(self.stale.drain(..)) {
            self.shared.store.unpin(obj);
        }
    }
}
