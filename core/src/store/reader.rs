//! The read operations inside a section. Each call checks that the object still exists (`Error::Gone`) and
//! that no transaction of another owner has changed it; `Store::read` waits for such a transaction.
#![allow(clippy::missing_errors_doc)] // All of them: `Error::Gone`, `Error::WrongKind`, `Error::Corrupt`.

use super::{Class, Entry, Error, HandleInfo, Key, Kind, Large, Obj, Reader, Result, Step, Value, Word};
use crate::object::ops::MetadataOf;
use crate::object::splices::{Cursor, Since};
use crate::object::{header, ops, scalar, splices};

impl Reader<'_> {
    /// Pin a container: its memory stays until `Store::unpin`, even if nothing refers to it any more. Pins
    /// count per process and end with the process.
    pub fn pin(&self, obj: Obj) -> Result<()> {
        header::check(self, obj)?;
        self.pin_id(obj.id)
    }

    /// Return the kind of a container.
    #[inline]
    pub fn kind(&self, obj: Obj) -> Result<Kind> {
        ops::kind(self, obj)
    }

    /// Return what a handle of a container needs: its kind, its class, and for an object the location of its
    /// attributes.
    #[doc(hidden)]
    pub fn open_handle(&self, obj: Obj) -> Result<HandleInfo> {
        ops::open_handle(self, obj)
    }

    /// Return the name of a class obtained in this section.
    #[doc(hidden)]
    pub fn class_name(&self, class: Class) -> Result<String> {
        ops::class_name(self, class)
    }

    /// Return whether `name` is the name of a class obtained in this section.
    #[doc(hidden)]
    pub fn class_is(&self, class: Class, name: &str) -> Result<bool> {
        ops::class_is(self, class, name)
    }

    /// Return the number of entries, items or attributes.
    #[inline]
    // The length is that of an object in the store, not of the reader.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self, obj: Obj) -> Result<u64> {
        ops::len(self, obj)
    }

    /// Return the time of the last change, in nanoseconds since 1970.
    pub fn mtime(&self, obj: Obj) -> Result<u64> {
        ops::mtime(self, obj)
    }

    /// Return the number of references from containers.
    pub fn refs(&self, obj: Obj) -> Result<u64> {
        ops::refs(self, obj)
    }

    /// Return at most `max` containers that refer to this one by entries that are not its home.
    #[doc(hidden)]
    pub fn referrers(&self, obj: Obj, max: usize) -> Result<Vec<Obj>> {
        ops::referrers(self, obj, max)
    }

    /// Append the steps of the entries of `parent` that refer to `child` (the home too), among the next `max` entries
    /// from `cursor` on (0: the first), which is advanced. Return false at the end.
    #[doc(hidden)]
    pub fn references(
        &self,
        parent: Obj,
        child: Obj,
        cursor: &mut u64,
        max: usize,
        out: &mut Vec<Step>,
    ) -> Result<bool> {
        ops::references(self, parent, child, cursor, max, out)
    }

    /// Return the class: an object's (`module:qualname`, "" if it is generic), or that of a dict or list, None for most
    /// of these.
    pub fn class(&self, obj: Obj) -> Result<Option<String>> {
        ops::class(self, obj)
    }

    /// Return the home of a container: the container that shows this one, and the step from it. None for the
    /// root and for objects that only a pin keeps.
    pub fn home(&self, obj: Obj) -> Result<Option<(Obj, Step)>> {
        ops::home(self, obj)
    }

    /// Return true if the entry of `parent` at `step` is `obj`'s home (otherwise the mount shows a symlink).
    /// If several entries of one parent refer to it, exactly one of them is the home.
    #[doc(hidden)]
    pub fn is_home(&self, obj: Obj, parent: Obj, step: &Step) -> Result<bool> {
        ops::is_home(self, obj, parent, step)
    }

    /// Return the value under a key of a dict, or an attribute of an object (key: str).
    #[inline]
    pub fn get(&self, obj: Obj, key: &Key<'_>) -> Result<Option<Value>> {
        ops::get(self, obj, key)
    }

    /// Return the word of the value under a key. Most small values are in the word (`Word::as_short`);
    /// `value` reads the others. A word is valid in this section only.
    #[doc(hidden)]
    #[inline]
    pub fn word(&self, obj: Obj, key: &Key<'_>) -> Result<Option<Word>> {
        ops::word(self, obj, key)
    }

    /// Return the word of the item at an index; see `word`.
    #[doc(hidden)]
    #[inline]
    pub fn item_word(&self, obj: Obj, index: u64) -> Result<Option<Word>> {
        ops::item_word(self, obj, index)
    }

    /// Return the value of a word obtained in this section.
    #[doc(hidden)]
    pub fn value(&self, word: Word) -> Result<Value> {
        scalar::decode(self, word)
    }

    /// Return whether the key exists.
    #[inline]
    pub fn contains(&self, obj: Obj, key: &Key<'_>) -> Result<bool> {
        ops::contains(self, obj, key)
    }

    /// Return the next entry in insertion order after `cursor` (0: the first).
    pub fn next(&self, obj: Obj, cursor: u64) -> Result<Option<Entry>> {
        ops::next(self, obj, cursor)
    }

    /// Return the previous entry before `cursor` (`u64::MAX`: the last).
    pub fn prev(&self, obj: Obj, cursor: u64) -> Result<Option<Entry>> {
        ops::prev(self, obj, cursor)
    }

    /// Return the item at an index.
    #[inline]
    pub fn item(&self, obj: Obj, index: u64) -> Result<Option<Value>> {
        ops::item(self, obj, index)
    }

    /// Append up to `max` items from `start` to `out`.
    pub fn items(&self, obj: Obj, start: u64, max: usize, out: &mut Vec<Value>) -> Result<()> {
        ops::items(self, obj, start, max, out)
    }

    /// Return the position of a key among the keys of a sorted dict (class `SortedDict`): before the key that is equal
    /// to it, or after it. `Error::Invalid` for a key that has no order among them.
    pub fn sorted_position(&self, dict: Obj, key: &Key<'_>, after: bool) -> Result<u64> {
        ops::sorted_position(self, dict, key, after)
    }

    /// Append up to `max` keys of a sorted dict to `out`, in ascending order, from position `start`.
    pub fn sorted_keys(&self, dict: Obj, start: u64, max: usize, out: &mut Vec<Value>) -> Result<()> {
        ops::sorted_keys(self, dict, start, max, out)
    }

    /// Return the dict of the entries that wait beside a list, if there are any. It does not count as an item; the
    /// mount keeps there what is written out of turn.
    #[doc(hidden)]
    pub fn waiting(&self, list: Obj) -> Result<Option<Obj>> {
        ops::waiting(self, list)
    }

    /// Return the list beside which the entries of this dict wait, if it is such a dict.
    #[doc(hidden)]
    pub fn list_of_waiting(&self, dict: Obj) -> Result<Option<Obj>> {
        ops::list_of_waiting(self, dict)
    }

    /// Return whether there is any metadata of a container or its entries.
    #[doc(hidden)]
    pub fn has_metadata(&self, obj: Obj) -> Result<bool> {
        ops::has_metadata(self, obj)
    }

    /// Return a record of metadata: bytes that a door keeps about a container or one of its entries, which are not part
    /// of any value.
    #[doc(hidden)]
    pub fn metadata(&self, obj: Obj, of: &MetadataOf<'_>) -> Result<Option<Vec<u8>>> {
        ops::metadata(self, obj, of)
    }

    /// Return how the places of a list's items have changed since a cursor (`Writer::log_splices`). The first cursor
    /// comes from `Cursor::default()`.
    #[doc(hidden)]
    pub fn spliced(&self, list: Obj, cursor: &Cursor) -> Result<Since> {
        ops::spliced(self, list, cursor)
    }

    /// Return `Error::Busy` if this section no longer holds: what was read in it must not be kept beyond it.
    #[doc(hidden)]
    pub fn still_valid(&self, obj: Obj) -> Result<()> {
        if self.holds() {
            Ok(())
        } else {
            Err(Error::Busy(obj.id))
        }
    }

    /// Return whether this is the state before a transaction that is open. The times of containers may be those of the
    /// transaction: then they say nothing about the state.
    #[doc(hidden)]
    pub fn is_before_transaction(&self) -> bool {
        self.shows_committed()
    }

    /// Return whether a log of splices is kept.
    #[doc(hidden)]
    pub fn logs_splices(&self) -> Result<bool> {
        splices::is_kept(self)
    }

    /// Return the size in bytes of a str or bytes value without copying it; None for other scalars.
    pub fn size(&self, obj: Obj, step: &Step) -> Result<Option<u64>> {
        ops::size(self, obj, step)
    }

    /// Return the name of the type of a large typed value. Returns `Error::Gone` if the value was replaced.
    pub fn large_name(&self, large: &Large) -> Result<Box<str>> {
        match ops::large_name(self, large) {
            Err(Error::Gone(id)) if self.is_beside_transaction() => Err(Error::Busy(id)),
            read => read,
        }
    }

    /// Read a piece of a large value and return the number of bytes read (0: at its end). Returns
    /// `Error::Gone` if the value was replaced.
    pub fn large_read(&self, large: &Large, offset: u64, buf: &mut [u8]) -> Result<usize> {
        match ops::large_read(self, large, offset, buf) {
            // A transaction that is open may have replaced it. In the state before the transaction it is there.
            Err(Error::Gone(id)) if self.is_beside_transaction() => Err(Error::Busy(id)),
            read => read,
        }
    }
}
