//! Synchronization over words that the caller passes in: the lowest wing of the page manager. It does not depend on the
//! sidecar.
//!
//! Owns the protocols of the latch (one writer), the gate (many readers or one writer), group commit (one flush for
//! many), leases and the ring of the change feed, sleeping on a word and waking its sleepers, bounded waiting, the
//! running task, and the list of waits over several stores of this process. Loom checks each protocol in isolation
//! (`core/tests/protocols`).
//!
//! Lock order: the latch before the gate. The mutex of the list of waits is a leaf.

pub(crate) mod deadlock;
pub(in crate::page) mod gate;
pub(in crate::page) mod group;
pub(in crate::page) mod latch;
pub(crate) mod leases;
pub(in crate::page) mod ring;
pub mod task;
pub mod wait;
pub(in crate::page) mod waiters;
