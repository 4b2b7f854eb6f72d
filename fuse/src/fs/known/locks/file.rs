//! The locks of one file: its ranges, and the holds of their owners in the store.

use super::ranges::Ranges;
use super::request::{Ask, Call, State};
use crate::fs::error::{FsError, would_wait};
use persist_core::store::door::LockReply;
use persist_core::store::{LockMode, LockTarget, Store, Wait};
use std::collections::HashMap;
use std::sync::Arc;

/// The locks of one target.
#[derive(Default)]
pub(crate) struct File {
    pub(super) flock: Ranges,
    fcntl: Ranges,
    /// The holds in the store.
    pub(super) holds: HashMap<(Call, u64), LockMode>,
}

impl File {
    /// The ranges that are locked by a call.
    pub(crate) fn ranges(&self, call: Call) -> &Ranges {
        match call {
            Call::Flock => &self.flock,
            Call::Fcntl => &self.fcntl,
        }
    }

    /// The ranges, to change them.
    pub(super) fn ranges_mut(&mut self, call: Call) -> &mut Ranges {
        match call {
            Call::Flock => &mut self.flock,
            Call::Fcntl => &mut self.fcntl,
        }
    }

    /// Return whether nothing is locked.
    pub(super) fn is_unused(&self) -> bool {
        self.flock.is_empty() && self.fcntl.is_empty() && self.holds.is_empty()
    }

    /// The inodes through which it is locked.
    pub(super) fn inodes(&self) -> impl Iterator<Item = u64> {
        [&self.flock, &self.fcntl]
            .into_iter()
            .flat_map(|ranges| ranges.groups().iter().map(|g| g.ino))
    }
}

/// The result of one try.
pub(super) enum Tried {
    Granted,
    /// It can be granted later.
    Waits(State),
    Refused(FsError),
}

/// Hold the entry of a file in the store in the mode of a request.
pub(super) fn hold(store: &Store, target: LockTarget<'_>, ask: &Ask) -> Tried {
    if !ask.sleep {
        return match store.set_lock(ask.actor(), target, Some(ask.mode), &mut Wait::never()) {
            Ok(()) => Tried::Granted,
            Err(e) if would_wait(&e) => Tried::Waits(State::Later),
            Err(e) => Tried::Refused(e.into()),
        };
    }
    match store.lock_later(ask.actor(), target, ask.mode, None) {
        Ok(LockReply::Held) => Tried::Granted,
        Ok(LockReply::Queued(pending)) => Tried::Waits(State::Store(Arc::new(pending), ask.mode)),
        Ok(LockReply::Later) => Tried::Waits(State::Later),
        Err(e) => Tried::Refused(e.into()),
    }
}
