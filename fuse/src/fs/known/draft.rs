//! A long content that is built aside: it is in the store, as the only entry of a dict that nothing refers to.
//!
//! 1. No path leads to the dict, and no door shows it. A pin of this process keeps it: it is freed when the draft is
//!    dropped, and after the death of the process.
//! 2. The value is bytes of length `len`. It gets its type when it takes the place of the old value.

use crate::fs::text::scan::TextScan;
use persist_core::store::{Key, Obj, Step, Store, Value};
use std::fmt;

/// A draft.
pub(crate) struct Draft {
    store: Store,
    /// The dict, which is pinned.
    pub(crate) dict: Obj,
    /// The length of the content.
    pub(crate) len: u64,
    /// Whether the content is text, as long as it is written from its beginning to its end.
    pub(crate) scan: Option<TextScan>,
}

impl Draft {
    /// The key of the entry.
    pub(crate) const KEY: Key<'static> = Key::None;

    /// A draft whose content is in a dict that is pinned.
    pub(crate) fn new(store: Store, dict: Obj, content: &[u8]) -> Draft {
        let mut scan = TextScan::default();
        scan.feed(content);
        Draft {
            store,
            dict,
            len: content.len() as u64,
            scan: Some(scan),
        }
    }

    /// Another opening of the store has pinned the dict, and takes the place of this one.
    pub(crate) fn move_to(&mut self, next: &Store) {
        self.store = next.clone();
    }

    /// The entry in the engine's form.
    pub(crate) fn step() -> Step {
        Step::Key(Value::None)
    }

    /// Note what was written.
    pub(crate) fn wrote(&mut self, start: u64, bytes: &[u8]) {
        self.len = self.len.max(start + bytes.len() as u64);
        match &mut self.scan {
            Some(scan) if scan.seen() == start && self.len == start + bytes.len() as u64 => scan.feed(bytes),
            _ => self.scan = None,
        }
    }

    /// Note another length.
    pub(crate) fn resized(&mut self, len: u64) {
        if len != self.len {
            self.len = len;
            self.scan = None;
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.store.unpin(self.dict);
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("dict", &self.dict)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
