//! The protocols between threads and processes, model-checked (loom): every interleaving, and every value that a weakly
//! ordered load may see, of two or three threads.
//!
//! `latch`, `gate`, `leases`, the log's `group` and the feed's `ring` are the engine's own files, compiled against the
//! model's atomics, and the lock manager (`queue`) is the engine's own. The code around them (recovery, the live page
//! table, the flip of the epoch) is repeated here as in the engine, with the name of the file that it mirrors.
//!
//! Each model is also run with a part of its protocol removed, and must then fail. This proves that the model covers
//! the dangerous cases.
//!
//! Models have no times: a sleeper that is not woken is a deadlock, though the engine's would check again after 20 ms.

mod checkpoint;
mod entering;
mod feed;
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
mod lease;
#[path = "../../src/page/sync/leases.rs"]
#[rustfmt::skip]
#[allow(dead_code)]
mod leases;
mod log;
mod model;
mod pages;
mod queue;
mod raw;
#[path = "../../src/page/sync/ring.rs"]
#[rustfmt::skip]
#[allow(dead_code)]
mod ring;
mod slots;
#[path = "../../src/page/sync/waiters.rs"]
#[rustfmt::skip]
mod waiters;

/// `group` refers to the sleepers by their path in the engine.
mod page {
    pub(crate) mod sync {
        pub(crate) use crate::waiters;
    }
}
