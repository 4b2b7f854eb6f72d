//! The pins of a section whose result is not valid yet (`section`, invariant 7).

use crate::ids::ObjectId;
use std::cell::{Cell, RefCell};

/// Containers that the section has pinned, usually one.
#[derive(Debug)]
pub(super) struct Pinned {
    first: Cell<Option<ObjectId>>,
    more: RefCell<Vec<ObjectId>>,
}

impl Default for Pinned {
    #[inline(always)]
    fn default() -> Pinned {
        Pinned {
            first: Cell::new(None),
            more: const { RefCell::new(Vec::new()) },
        }
    }
}

impl Pinned {
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }

    pub(super) fn add(&self, id: ObjectId) {
        if self.is_empty() {
            self.first.set(Some(id));
        } else {
            self.more.borrow_mut().push(id);
        }
    }

    /// Forget the pins, so that they remain.
    #[inline(always)]
    pub(super) fn keep(&self) {
        if self.first.take().is_some() {
            self.more.take();
        }
    }

    /// Take all pins, so that the caller can release them.
    pub(super) fn take(&self) -> impl Iterator<Item = ObjectId> {
        self.first.take().into_iter().chain(self.more.take())
    }
}
