//! The operations that the store exposes, built from bodies, values and the graph: one function for each
//! method of `Reader` and `Writer`, with the same arguments and results.
//!
//! Rules that every function keeps:
//! 1. It checks the object first (`Error::Gone`), then announces the access to the section: `Pages::reading`,
//!    or `PagesMut::changing` with the hash of the entry.
//! 2. A change first writes the new value to newly allocated memory (which may yield to readers), then sets
//!    the mtime, then stores: a reader that sees the change sees its time.
//! 3. It retains the stored value before it releases the displaced one: they may be the same.
//! 4. After an error the caller rolls the operation back.
//! 5. The caller ends every operation with `end_operation`.

mod announce;
mod change;
mod entry;
mod fast;
mod metadata;
mod moves;
mod read;
mod referrers;
mod sorted;
#[cfg(test)]
mod tests;
mod waiting;

pub use change::{
    clear, insert, new_dict, new_list, new_object, remove, remove_items, set, set_class, set_item, set_mtime,
};
pub use entry::{check_change, lookup_key};
pub use fast::{Member, find_place, find_word};
pub use metadata::{Of as MetadataOf, has_metadata, metadata, set_metadata};
pub use moves::adopt::adopt;
pub use moves::convert::convert;
pub use moves::edit::edit;
pub use moves::exchange::exchange;
pub use moves::rename::rename;
pub use read::{
    Class, HandleInfo, class, class_is, class_name, contains, get, home, is_home, item, item_word, items,
    kind, large_name, large_read, len, mtime, next, open_handle, prev, refs, size, word,
};
pub use referrers::{references, referrers};
pub use sorted::{sorted_keys, sorted_position, verify as verify_sorted};
pub use waiting::{drop_waiting, list_of_waiting, make_waiting, reordered, spliced, waiting};

use super::graph::{self, ReapProgress};
use crate::error::Result;
use crate::ids::Obj;
use crate::page::access::PagesMut;

/// Create the root dict of a new store.
pub fn create_root<W: PagesMut>(w: &mut W) -> Result<Obj> {
    graph::create_root(w)
}

/// End an operation: free a bounded part of what waits to be freed, about `budget` entries.
pub fn end_operation<W: PagesMut>(w: &mut W, budget: u64) -> Result<ReapProgress> {
    graph::end_operation(w, budget)
}
