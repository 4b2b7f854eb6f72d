//! The redo log: durable commits with one flush.
//!
//! While somebody who has the store open wants every completed change to survive a power cut
//! (`durability="commit"`), every writer's commit also goes to a log, as a record of the bytes that
//! it changed. What the last checkpoint holds and the log's records after it make up the state after a
//! power cut (`replay`). A record lies in a ring in the sidecar first; who waits for it, or another who
//! waits (`group`), writes the ring to the log's file and flushes that, once for everyone.
//!
//! | MODE | A COMMIT | GOES OVER |
//! | --- | --- | --- |
//! | `OFF` | is not logged | to `PENDING` by `start_log`, of whoever wants durable commits |
//! | `PENDING` | is not logged; who wants it durable waits for a checkpoint | to `ON` by the next flip |
//! | `ON` | is logged | to `PENDING` by a commit that the log has no room for |
//! | any | | to `OFF` by a commit that finds nobody who wants durable ones any more, by a log that cannot be written, by the last close |
//!
//! 1. The mode changes under the latch and outside transactions. With it on, the log holds every change
//!    since the last flip, in the order of the commits: a record is complete in the ring before the commit
//!    and counts (`LOG_END`) from the commit on. The commit is the undo log's, one store. Whoever
//!    recovers from a death in between sees from the undo log which it is (`finish_log_commit`). What is undone never
//!    gets into the file.
//!    A change without an undo log (`section::in_place_store`) is not made while the log is on.
//! 2. A change that is not logged leaves a gap. No record is ever chained across one: the flip that turns
//!    the log on begins a new chain, and records after it count for nothing until its
//!    checkpoint is durable (`group`, `hold`). So a replay ends where the gap is, at a state that was.
//! 3. What either durable meta page's suffix needs is not overwritten (`LOG_OLD`).
//! 4. The file is made before a meta page names it, and goes, or is made anew, only when the newest
//!    durable meta page names none.
//! 5. A flush of the log that fails poisons the store, as any other. Bytes that cannot be written, a full
//!    disk, a log that was taken away: the log is given up, and a checkpoint makes durable what it would have.
//!
//! Files: `words` (in the sidecar), `lifecycle` (on, off, its file), `append` (commits), `durable` (waiting for it),
//! `leader` (flushing), `replay`. Formats: `format::log_file`, `format::log_record`; who flushes: `sync::group`.

mod append;
mod durable;
mod leader;
mod lifecycle;
mod replay;
mod words;
