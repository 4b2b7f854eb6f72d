//! What can be asked inside a section. Each call checks that the object still exists (`Error::Gone`)
//! and that no foreign transaction has changed it; `Store::read` waits for those.
#![allow(clippy::missing_errors_doc)] // All of them: `Error::Gone`, `Error::WrongKind`, `Error::Corrupt`.

use super::{Class, Entry, Key, Kind, Large, Met, Obj, Reader, Result, Step, Value, Word};
use crate::object::{header, ops, scalar};

impl Reader<'_> {
    /// Pins a container: its memory stays until `Store::unpin`, though nothing refers to it any more.
    /// Pins count per process and end with it.
    pub fn pin(&self, obj: Obj) -> Result<()> {
        header::check(self, obj)?;
        self.pin_id(obj.id)
    }

    /// The kind.
    #[inline]
    pub fn kind(&self, obj: Obj) -> Result<Kind> {
        ops::kind(self, obj)
    }

    /// A container that somebody will keep a handle of: its kind, and of an object its class and the way to its
    /// attributes.
    pub fn meet(&self, obj: Obj) -> Result<Met> {
        ops::meet(self, obj)
    }

    /// The name of a class that this section gave.
    pub fn class_name(&self, class: Class) -> Result<String> {
        ops::class_name(self, class)
    }

    /// Whether that is the name of a class that this section gave.
    pub fn class_is(&self, class: Class, name: &str) -> Result<bool> {
        ops::class_is(self, class, name)
    }

    /// Number of entries, items or attributes.
    #[inline]
    #[allow(clippy::len_without_is_empty)] // Of an object in the store, not of the reader.
    pub fn len(&self, obj: Obj) -> Result<u64> {
        ops::len(self, obj)
    }

    /// Time of the last change, nanoseconds since 1970.
    pub fn mtime(&self, obj: Obj) -> Result<u64> {
        ops::mtime(self, obj)
    }

    /// Number of references from containers.
    pub fn refs(&self, obj: Obj) -> Result<u64> {
        ops::refs(self, obj)
    }

    /// An object's class, `module:qualname`; "" for a generic object; None for other kinds.
    pub fn class(&self, obj: Obj) -> Result<Option<String>> {
        ops::class(self, obj)
    }

    /// The container that shows this one, and the step from it. None for the root and for objects that
    /// only a pin keeps.
    pub fn home(&self, obj: Obj) -> Result<Option<(Obj, Step)>> {
        ops::home(self, obj)
    }

    /// True if the entry of `parent` at `step` is `obj`'s home (else the mount shows a symlink). With
    /// several entries of one parent referring to it, exactly one of them is.
    pub fn is_home(&self, obj: Obj, parent: Obj, step: &Step) -> Result<bool> {
        ops::is_home(self, obj, parent, step)
    }

    /// The value under a key of a dict, or an attribute of an object (key: str).
    #[inline]
    pub fn get(&self, obj: Obj, key: &Key<'_>) -> Result<Option<Value>> {
        ops::get(self, obj, key)
    }

    /// The word of the value under a key: most small values are in it (`Word::as_short`), the others
    /// come by `value`. Means something in this section only.
    #[inline]
    pub fn word(&self, obj: Obj, key: &Key<'_>) -> Result<Option<Word>> {
        ops::word(self, obj, key)
    }

    /// The word of the item at an index; see `word`.
    #[inline]
    pub fn item_word(&self, obj: Obj, index: u64) -> Result<Option<Word>> {
        ops::item_word(self, obj, index)
    }

    /// The value of a word that this section gave.
    pub fn value(&self, word: Word) -> Result<Value> {
        scalar::decode(self, word)
    }

    /// Whether there is such a key.
    #[inline]
    pub fn contains(&self, obj: Obj, key: &Key<'_>) -> Result<bool> {
        ops::contains(self, obj, key)
    }

    /// The next entry in insertion order after `cursor` (0: the first).
    pub fn next(&self, obj: Obj, cursor: u64) -> Result<Option<Entry>> {
        ops::next(self, obj, cursor)
    }

    /// The previous entry before `cursor` (`u64::MAX`: the last).
    pub fn prev(&self, obj: Obj, cursor: u64) -> Result<Option<Entry>> {
        ops::prev(self, obj, cursor)
    }

    /// The item at an index.
    #[inline]
    pub fn item(&self, obj: Obj, index: u64) -> Result<Option<Value>> {
        ops::item(self, obj, index)
    }

    /// Appends up to `max` items from `start` to `out`.
    pub fn items(&self, obj: Obj, start: u64, max: usize, out: &mut Vec<Value>) -> Result<()> {
        ops::items(self, obj, start, max, out)
    }

    /// The size in bytes of a str or bytes value without copying it; for other scalars None.
    pub fn size(&self, obj: Obj, step: &Step) -> Result<Option<u64>> {
        ops::size(self, obj, step)
    }

    /// Reads a piece of a large value: bytes read (0: at its end). `Error::Gone` when it was replaced.
    pub fn large_read(&self, large: &Large, offset: u64, buf: &mut [u8]) -> Result<usize> {
        ops::large_read(self, large, offset, buf)
    }
}
