//! The redo log: durable commits with one flush.
//!
//! While any process with the store open requires every completed change to survive a power failure
//! (`durability="commit"`), every writer's commit also goes to a log, as a record of the bytes that it changed. After a
//! power failure the state consists of the last checkpoint and the log's records after it (`replay`). A record is first
//! written to a ring in the sidecar. A process that waits for it, or another that waits (`group`), writes the ring to
//! the log's file and flushes the file once for all waiters.
//!
//! | MODE | A COMMIT | CHANGES |
//! | --- | --- | --- |
//! | `OFF` | is not logged | to `PENDING` by `start_log`, of a process that requires durable commits |
//! | `PENDING` | is not logged; a durable one waits for a checkpoint | to `ON` by the next flip |
//! | `ON` | is logged | to `PENDING` by a commit that the log has no room for |
//! | any | | to `OFF` by a commit when no process requires durable ones, or by a log that cannot be written |
//! | any | | to `OFF` by the last close |
//!
//! 1. The mode changes under the latch and outside transactions. While it is on, the log holds every change since the
//!    last flip, in the order of the commits. A record is complete in the ring before the commit and counts (`LOG_END`)
//!    from the commit on. The commit is the undo log's, one store. After a death in between, recovery finds from the
//!    undo log whether the record counts (`finish_log_commit`). Undone changes never reach the file. A change without
//!    an undo log (`section::in_place_store`) is not made while the log is on.
//! 2. A change that is not logged leaves a gap, and no record is ever chained across one. The flip that turns the log
//!    on begins a new chain, and records after it do not count until its checkpoint is durable (`group`, `hold`). So a
//!    replay ends at the gap, in a state that existed.
//! 3. The suffix that either durable meta page needs is not overwritten (`LOG_OLD`).
//! 4. The file is made before a meta page names it. It is removed or replaced only when the newest durable meta page
//!    names none.
//! 5. A failed flush of the log poisons the store, as any other failed flush. If bytes cannot be written, on a full
//!    disk or because the log was removed, the log is abandoned, and a checkpoint makes its records durable.
//!
//! Files: `words` (in the sidecar), `append` (commits), `state` and `ticket` (of this process). In higher wings:
//! `checkpoint::log_modes` (on, off, its file), `durable` (waiting for it, flushing), `recovery::replay`. Formats:
//! `format::log_file`, `format::log_record`; choice of the flushing process: `sync::group`.

mod append;
mod state;
mod ticket;
pub(in crate::page) mod words;
