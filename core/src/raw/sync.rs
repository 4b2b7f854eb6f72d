//! The atomics that the protocols between threads and processes are written with: those of std. A
//! module of its own, so that tests/protocols can compile the same code against a model checker's.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The half of a protocol's word that a futex sleeps on.
pub(crate) type FutexWord = AtomicU32;
