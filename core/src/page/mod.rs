//! The page manager: allocates, translates and copies-on-write 4 KiB pages; epochs, checkpoints, recovery. All crash
//! safety lives here; upper layers write through sections and know nothing of it.
//!
//! Its wings, from the ground up. A wing imports only wings that stand before it, and no two files import each other in
//! a circle (`tests/system/test_tidy.py`):
//!
//! | WING | OWNS |
//! | --- | --- |
//! | (files of this folder) | what upper layers see of pages: `access`, `superblock`; `mem`, its double for tests |
//! | `sync` | latch, gate, group commit, waiting: protocols over words that are handed in |
//! | `shared` | the sidecar: layout, mapping, slots, pins, undo log, free map, dirty lists; byte locks |
//! | `format` | the store file and the log file: formats, and reading them without a sidecar |
//! | `pager` | `Pager`, one open store: the struct, and what a process keeps for each of its protocols |
//! | `pages` | physical pages of the live state: allocation, translation, copy on first write |
//! | `section` | sections and transactions: the only way to a byte of the map |
//! | `redo` | the redo log of durable commits |
//! | `checkpoint` | checkpoints, snapshots, compaction, verifying |
//! | `recovery` | recovery from dead processes, inherited sidecars, damage |
//! | `helper` | the thread that makes checkpoints and frees memory |
//! | `session` | opening, closing, forks, read-only openings |
//!
//! The wings above `pager` add methods to `Pager`. A lower wing may call a method that a higher one defines (a section
//! that finds a dead writer calls `recovery`).
//!
//! Invariants (numbers as used throughout):
//! - I1 No page reachable from either meta page (or a snapshot) is written. (`pages::cow`, `checkpoint`)
//! - I2 An undo record is visible before its store; the log is committed or undone before the latch is released.
//!   (`shared::undo`, `section`)
//! - I3 A page is reused only when no meta page and no snapshot reaches it, and only inside a write section.
//!   (`shared::free_pages`, `checkpoint::dropped`)
//! - I4 Meta pages are written by `pwrite` only, after a successful flush of all they reach. (`checkpoint::phases`)
//! - I5 Every address is checked against the page count; the file never shrinks while open. (`section`,
//!   `pages::live_table`)
//! - I6 Recovery can itself be killed at any instruction and done again. (`recovery`)
//!
//! Lock order: checkpoint owner -> latch -> gate; the leader of a flush of the redo log waits for the latch only; byte
//! locks of dead processes are taken at any point and never waited for. In-process mutexes (registration, pins) are
//! leaves.

pub mod access;
pub mod checkpoint;
pub mod format;
mod helper;
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

pub use checkpoint::view::{PageView, PageWalk};
pub use format::catalogue::{MAX_NAME, MAX_SNAPSHOTS, Snapshot};
pub use pager::blocks::Block;
pub(crate) use pager::blocks::Reason;
pub use pager::{Hooks, LockMemory, PageStat, Pager};
pub use section::read::ReadSection;
pub use section::write::WriteSection;
pub use session::settings::Settings;
