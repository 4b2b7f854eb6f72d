//! The atomics used by the protocols between threads and processes: those of std. They are in a module of
//! their own so that tests/protocols can compile the same code with a model checker's atomics.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The half of a protocol word that a futex waits on.
pub(crate) type FutexWord = AtomicU32;
