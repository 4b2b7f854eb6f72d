//! The page manager. It allocates, translates and copies 4 KiB pages on write, and owns epochs, checkpoints and
//! recovery. All crash safety is implemented here. Upper layers write through sections and do not depend on how crash
//! safety works.
//!
//! The wings, lowest first. A wing imports only the wings listed before it, and no two files import each other in a
//! cycle (`tests/system/test_tidy.py`):
//!
//! | WING | OWNS |
//! | --- | --- |
//! | (files of this folder) | the interface to upper layers: `access`, `superblock`, `lookups`; `mem`, its double for tests |
//! | `sync` | latch, gate, group commit, waiting: protocols over words that the caller passes in |
//! | `shared` | the sidecar: layout and mapping, the owners of its words (`header`, `regions`), and its users (`users`) |
//! | `format` | the store file and the log file: their formats, and reading them without a sidecar |
//! | `pager` | `Pager`, one open store: its struct and process-local state, its threads, other processes, damage |
//! | `pages` | physical pages of the live state: allocation, translation, copy on first write |
//! | `redo` | the redo log of durable commits: its words, and appending to it |
//! | `section` | sections and transactions: the only way to access bytes of the map |
//! | `checkpoint` | checkpoints, snapshots, compaction, verification; turning the redo log on and off |
//! | `durable` | waiting until a change is durable: flushing the redo log for all waiters |
//! | `recovery` | recovery from dead processes, inherited sidecars, power failures |
//! | `helper` | the thread that makes checkpoints and frees memory |
//! | `session` | opening, closing, forks, read-only openings |
//!
//! The wings after `pager` add methods to `Pager`. A wing calls only methods of the wings listed before it. The fields
//! of `Pager` are private to the wing `pager`, and `pager::parts` has what other wings use of them. A lower wing
//! sometimes needs a higher one: a section that finds a dead writer needs `recovery`. It calls such a function through
//! `pager::Above`, which is filled in when a store is opened.
//!
//! Invariants (referred to by number throughout):
//! - I1 No page reachable from either meta page, from a snapshot or from a view of a moment is written. (`pages::cow`,
//!   `checkpoint`)
//! - I2 An undo record is visible before the store it covers. The log is committed or undone before the latch is
//!   released. (`shared::regions::undo`, `section`)
//! - I3 A page is reused only when no meta page, no snapshot and no view reaches it, and only inside a write section.
//!   (`shared::regions::free_pages`, `checkpoint::dropped`, `checkpoint::kept`)
//! - I4 Meta pages are written only by `pwrite`, after a successful flush of everything they reach.
//!   (`checkpoint::phases`)
//! - I5 Every address is checked against the page count. The file never shrinks while it is open. (`section`,
//!   `pages::live_table`)
//! - I6 Recovery can be killed at any instruction and run again. (`recovery`)
//!
//! Lock order: checkpoint owner -> latch -> gate. The leader of a redo log flush waits only for the latch. Byte locks
//! of dead processes may be taken at any point and are never waited for. Nothing else is locked under an in-process
//! mutex (registration, pins).

pub mod access;
pub mod checkpoint;
mod durable;
pub mod format;
mod helper;
pub mod lookups;
#[cfg(any(test, feature = "testing"))]
pub mod mem;
mod pager;
mod pages;
mod recovery;
mod redo;
mod section;
mod session;
pub(crate) mod shared;
pub mod superblock;
pub mod sync;
#[cfg(test)]
mod tests;

pub use checkpoint::reading::view::{PageView, PageWalk};
pub use format::catalogue::{MAX_NAME, MAX_SNAPSHOTS, Snapshot};
pub use pager::state::blocks::Block;
pub(crate) use pager::state::blocks::Reason;
pub use pager::{Hooks, LockMemory, PageStat, Pager};
pub(crate) use section::leases::touching;
pub(crate) use section::moment::View;
pub use section::read::ReadSection;
pub use section::write::WriteSection;
pub use session::settings::Settings;
pub(crate) use shared::layout::LEASE_BUCKETS;
#[cfg(feature = "testing")]
pub use shared::layout::file_parts;
pub(crate) use sync::ring::Found;
