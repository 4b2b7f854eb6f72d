//! What the store exposes, put together from bodies, values and the graph: one function for each
//! method of `Reader` and `Writer`, with the same arguments and results.
//!
//! Rules that every function keeps:
//! 1. The object is checked first (`Error::Gone`), then the section is told: `Pages::reading`, or
//!    `PagesMut::changing` with the hash of the entry concerned.
//! 2. A change first writes the new value to fresh memory (so it may let readers in meanwhile),
//!    then stamps the mtime, then stores: whoever sees the change sees its time.
//! 3. What is stored is retained before what it displaces is released: they may be the same.
//! 4. After an error the caller rolls the operation back.
//! 5. The caller ends every operation with `end_operation`.

mod change;
mod convert;
mod entry;
mod fast;
mod read;
mod rename;
#[cfg(test)]
mod tests;

pub use change::{
    clear, insert, new_dict, new_list, new_object, remove, remove_items, set, set_item, set_mtime,
};
pub use convert::convert;
pub use entry::about;
pub use fast::{Member, find_place, find_word};
pub use read::{
    Class, Met, class, class_is, class_name, contains, get, home, is_home, item, item_word, items, kind,
    large_read, len, meet, mtime, next, prev, refs, size, word,
};
pub use rename::rename;

use super::graph::{self, ReapProgress};
use crate::error::Result;
use crate::ids::Obj;
use crate::page::access::PagesMut;

/// Makes the root dict of a new store.
pub fn create_root<W: PagesMut>(w: &mut W) -> Result<Obj> {
    graph::create_root(w)
}

/// Ends an operation: a bounded part of what waits to be freed is freed, about `budget` entries.
pub fn end_operation<W: PagesMut>(w: &mut W, budget: u64) -> Result<ReapProgress> {
    graph::end_operation(w, budget)
}
