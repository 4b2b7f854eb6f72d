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
mod read;
mod rename;
#[cfg(test)]
mod tests;

pub use change::{
    clear, insert, new_dict, new_list, new_object, remove, remove_items, set, set_item, set_mtime,
};
pub use convert::convert;
pub use entry::about;
pub use read::{
    Class, Met, class, class_is, class_name, contains, get, glance, glance_attribute, glance_item, home,
    is_home, item, items, kind, large_read, len, meet, mtime, next, peek, peek_item, prev, refs, size,
};
pub use rename::rename;

use super::class::attr::{self, Known};
use super::graph::{self, ReapProgress};
use super::header::{self};
use super::list;
use super::value::Key;
use crate::error::Result;
use crate::ids::{Addr, Obj};
use crate::page::access::{Pages, PagesMut};

/// Makes the root dict of a new store.
pub fn create_root<W: PagesMut>(w: &mut W) -> Result<Obj> {
    graph::create_root(w)
}

/// Ends an operation: a bounded part of what waits to be freed is freed, about `budget` entries.
pub fn end_operation<W: PagesMut>(w: &mut W, budget: u64) -> Result<ReapProgress> {
    graph::end_operation(w, budget)
}

/// What `Store::set_at_once` needs to know of an entry: where its value lies and where the time of its
/// container.
#[inline(always)]
pub fn known<P: Pages>(p: &P, obj: Obj, key: &Key<'_>) -> Option<(Addr, Addr)> {
    let [at, _] = p.recall(about(obj, key)?)?;
    Some((Addr(at), obj.addr + header::MTIME))
}

/// The same of an attribute of whose object this is known.
#[inline]
pub fn known_attribute<P: Pages>(p: &P, obj: Obj, key: &Key<'_>, known: &Known) -> Option<(Addr, Addr)> {
    // Its line and that of the value come together.
    p.prefetch(obj.addr + header::MTIME);
    let (at, _) = attr::locate_known(p, obj, key, known).ok()??;
    Some((at, obj.addr + header::MTIME))
}

/// The same of an item of a list.
#[inline]
pub fn known_item<P: Pages>(p: &P, obj: Obj, index: i64) -> Option<(Addr, Addr)> {
    let at = read::item_at(p, obj, index).ok()??;
    let at = list::place(p, obj.addr, at).ok()??;
    Some((at, obj.addr + header::MTIME))
}
