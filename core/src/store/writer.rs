//! The write operations inside a section. All changes of one section take effect together, or none does if
//! its closure returns an error.
#![allow(clippy::missing_errors_doc)] // All of them: as reading, and `Error::NoSpace`.

use super::{In, Key, Kind, Obj, Result, Step, Writer};
use crate::object::ops::MetadataOf;
use crate::object::value::{Edit, LargeKind};
use crate::object::{ops, splices};

impl Writer<'_> {
    /// Create an empty dict. Refer to it or pin it before the operation ends; otherwise it is freed again.
    pub fn new_dict(&mut self) -> Result<Obj> {
        ops::new_dict(self)
    }

    /// Create an empty list; see `new_dict`.
    pub fn new_list(&mut self) -> Result<Obj> {
        ops::new_list(self)
    }

    /// Create an object of a class (`module:qualname`, "" for generic); see `new_dict`.
    pub fn new_object(&mut self, class: &str) -> Result<Obj> {
        ops::new_object(self, class)
    }

    /// Convert a container to another kind in place (identity, references and locks stay). To a list: the
    /// entries are taken in the order of their keys, which must be 0..n as int or str. To a dict: the keys
    /// from a list are ints. Between dict and object the entries stay (objects: str keys only). `class` is that of an
    /// object; a dict or list that another kind becomes has none.
    pub fn convert(&mut self, obj: Obj, kind: Kind, class: &str) -> Result<()> {
        ops::convert(self, obj, kind, class)
    }

    /// Give a dict or list a class, or take it away. The entries stay. A door makes of it what it makes of an object's
    /// class: the engine only keeps it, but for `SortedDict`, a dict whose keys it keeps in order. That takes time in
    /// proportion to the entries that are there.
    pub fn set_class(&mut self, obj: Obj, class: Option<&str>) -> Result<()> {
        ops::set_class(self, obj, class)
    }

    /// Set an entry or attribute. The old value is released.
    #[inline]
    pub fn set(&mut self, obj: Obj, key: &Key<'_>, value: &In<'_>) -> Result<()> {
        ops::set(self, obj, key, value)
    }

    /// Meet what a change of an entry would meet, locks and leases, and change nothing. Without a key: a change of the
    /// whole container, or of an item of a list.
    #[doc(hidden)]
    pub fn check_change(&mut self, obj: Obj, key: Option<&Key<'_>>) -> Result<()> {
        ops::check_change(self, obj, key)
    }

    /// Change a part of a str or bytes in place, and return its length. Of a large value only the pages that the
    /// change touches are written. It stores or cuts off at most `EDIT_MAX` bytes: more needs several calls.
    ///
    /// Returns `Error::WrongKind` for a value of another type, and `Error::Invalid` if a str would no longer be
    /// text; it is then unchanged once the operation is rolled back.
    #[doc(hidden)]
    pub fn edit(&mut self, obj: Obj, step: &Step, change: &Edit<'_>) -> Result<u64> {
        ops::edit(self, obj, step, change)
    }

    /// Replace the value of an entry by a large str or bytes that is under a key of another dict, in one step and
    /// without a copy. It becomes a value of this kind: the caller has checked that a str is text. The entry keeps
    /// its metadata; the key of the dict is removed.
    #[doc(hidden)]
    pub fn adopt(&mut self, from: Obj, key: &Key<'_>, to: Obj, step: &Step, kind: LargeKind) -> Result<()> {
        ops::adopt(self, from, key, to, step, kind)
    }

    /// Remove an entry or attribute. Return true if it existed.
    pub fn remove(&mut self, obj: Obj, key: &Key<'_>) -> Result<bool> {
        self.removing();
        ops::remove(self, obj, key)
    }

    /// Remove everything from a dict, list or object.
    pub fn clear(&mut self, obj: Obj) -> Result<()> {
        self.removing();
        ops::clear(self, obj)
    }

    /// Replace the item at an index.
    #[inline]
    pub fn set_item(&mut self, obj: Obj, index: u64, value: &In<'_>) -> Result<()> {
        ops::set_item(self, obj, index, value)
    }

    /// Insert before an index (`len`: append).
    pub fn insert(&mut self, obj: Obj, index: u64, value: &In<'_>) -> Result<()> {
        ops::insert(self, obj, index, value)
    }

    /// Remove the items `[start, end)`.
    pub fn remove_items(&mut self, obj: Obj, start: u64, end: u64) -> Result<()> {
        self.removing();
        ops::remove_items(self, obj, start, end)
    }

    /// Move an entry to another container or key in one step, replacing the entry there (rename(2)).
    /// Identity, homes and locks follow.
    pub fn rename(&mut self, from: Obj, from_step: &Step, to: Obj, to_step: &Step) -> Result<()> {
        ops::rename(self, from, from_step, to, to_step)
    }

    /// Exchange the values of two entries, and their metadata, in one step and without a copy. Returns
    /// `Error::WrongKind` if one of them is a container.
    #[doc(hidden)]
    pub fn exchange(&mut self, a: Obj, a_step: &Step, b: Obj, b_step: &Step) -> Result<()> {
        ops::exchange(self, a, a_step, b, b_step)
    }

    /// Return the dict of the entries that wait beside a list, and make it if it is missing; see `Reader::waiting`.
    #[doc(hidden)]
    pub fn make_waiting(&mut self, list: Obj) -> Result<Obj> {
        ops::make_waiting(self, list)
    }

    /// Remove the dict of waiting entries, which must be empty.
    #[doc(hidden)]
    pub fn drop_waiting(&mut self, list: Obj) -> Result<()> {
        ops::drop_waiting(self, list)
    }

    /// Record that the items `[start, end)` were replaced by the same items in another order. A change of order
    /// consists of `set_item`, which by itself means that an item has another value.
    #[doc(hidden)]
    pub fn reordered(&mut self, list: Obj, start: u64, end: u64) -> Result<()> {
        ops::reordered(self, list, start, end)
    }

    /// Begin or end to log which items are inserted into lists and removed; see `Reader::spliced`.
    #[doc(hidden)]
    pub fn log_splices(&mut self, on: bool) -> Result<()> {
        if on {
            splices::start(self)
        } else {
            splices::stop(self)
        }
    }

    /// Set a record of metadata, or remove it; see `Reader::metadata`. It follows its entry and is removed with it. The
    /// mtime stays as it is.
    #[doc(hidden)]
    pub fn set_metadata(&mut self, obj: Obj, of: &MetadataOf<'_>, record: Option<&[u8]>) -> Result<()> {
        ops::set_metadata(self, obj, of, record)
    }

    /// Set a container's mtime (utimens), in nanoseconds since 1970.
    pub fn set_mtime(&mut self, obj: Obj, ns: u64) -> Result<()> {
        ops::set_mtime(self, obj, ns)
    }
}
