//! What the Python module, the mount and the command need of a store, and an ordinary caller does not: words and places
//! of the fast path, tasks, requests that do not wait, and the figures of the checkers. Not part of the documented API:
//! it changes with these programs.

pub use super::fast::Member;
pub use super::feed::{Changes, Feed};
pub use crate::ids::{Addr, IdHasher, PAGE_SIZE};
pub use crate::object::builtin::{SORTED, builtin_kind};
pub use crate::object::canonical::can_be_key;
pub use crate::object::class::attr::Known;
pub use crate::object::graph::GraphReport;
pub use crate::object::literal;
pub use crate::object::notice::Change;
pub use crate::object::ops::{HandleInfo, MetadataOf};
pub use crate::object::splices::{Cursor, Since, Splice};
pub use crate::object::value::{COPY_MAX, EDIT_MAX, Edit, Short, Small};
pub use crate::object::word::Word;
pub use crate::page::checkpoint::reading::verify::PageReport;
pub use crate::page::sync::task::{MAX_TASK, set_task};
pub use crate::page::{MAX_SNAPSHOTS, PageView, PageWalk};
pub use crate::raw::files::file::flock;
pub use crate::raw::process::{ignore_interrupts, watch_forks as process_number};
pub use crate::store::leases::{HeldLease, LEASE_BUCKETS, LeaseBucket, lease_clock};
pub use crate::store::locks::handles::LockOwner;
pub use crate::store::locks::pending::{LockReply, Pending};
