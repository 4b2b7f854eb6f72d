//! The protocols between threads and processes, model-checked (loom): every interleaving, and every value
//! that a weakly ordered load may see, of two or three threads.
//!
//! `latch`, `gate` and the log's `group` are the engine's own files, compiled against the model's atomics, and the
//! lock manager (`queue`) is the engine's as it is. What stands around them (burial, the live page table, the flip of
//! the epoch) is written down here as the engine does it, with the file it mirrors named.
//!
//! Each model is also run with a part of its protocol taken out, and must then fail: so the model is known
//! to look where the danger is.
//!
//! Times do not exist in a model: a sleeper that nobody wakes is a deadlock, though the engine's would
//! look again after 20 ms.

mod checkpoint;
mod entering;
#[path = "../../src/page/sync/gate.rs"]
#[rustfmt::skip]
#[allow(dead_code)]
mod gate;
#[path = "../../src/page/sync/group.rs"]
#[rustfmt::skip]
#[allow(dead_code)]
mod group;
#[path = "../../src/page/sync/latch.rs"]
#[rustfmt::skip]
#[allow(dead_code)]
mod latch;
mod log;
mod model;
mod pages;
mod queue;
mod raw;
mod slots;
#[path = "../../src/page/sync/waiters.rs"]
#[rustfmt::skip]
mod waiters;

/// `group` names the sleepers by their place in the engine.
mod page {
    pub(crate) mod sync {
        pub(crate) use crate::waiters;
    }
}
