//! Announcing changes to the change feed. An operation announces what it has changed before it ends; where nothing
//! watches the container, that is one load.

use super::entry::Spot;
use crate::ids::Obj;
use crate::object::notice::{self, ANY, ENTRY, ITEMS, METADATA};
use crate::object::value::Key;
use crate::page::access::{Notice, PagesMut};

/// Announce an entry that was set, replaced or removed.
#[inline(always)]
pub(super) fn entry<W: PagesMut>(w: &mut W, obj: Obj, key: &Key<'_>, existed: bool, exists: bool) {
    if w.is_watched(obj.id) {
        entry_watched(w, obj, key, existed, exists);
    }
}

#[cold]
fn entry_watched<W: PagesMut>(w: &mut W, obj: Obj, key: &Key<'_>, existed: bool, exists: bool) {
    let Some(form) = notice::encode(key) else {
        return announce(w, obj, ANY, [0; 3]);
    };
    w.announce(&Notice {
        container: obj,
        kind: ENTRY,
        at: 0,
        removed: u64::from(existed),
        added: u64::from(exists),
        key: &form,
    });
}

/// Announce items that were replaced by others.
#[inline(always)]
pub(super) fn items<W: PagesMut>(w: &mut W, obj: Obj, at: u64, removed: u64, added: u64) {
    if w.is_watched(obj.id) {
        announce(w, obj, ITEMS, [at, removed, added]);
    }
}

/// Announce that the value at a place was replaced, or changed in part.
pub(super) fn replaced<W: PagesMut>(w: &mut W, obj: Obj, spot: &Spot<'_>) {
    match spot {
        Spot::Key(key, _) => entry(w, obj, key, true, true),
        Spot::Index(i) => items(w, obj, *i, 1, 1),
    }
}

/// Announce that anything in the container may have changed.
#[inline(always)]
pub(super) fn any<W: PagesMut>(w: &mut W, obj: Obj) {
    if w.is_watched(obj.id) {
        announce(w, obj, ANY, [0; 3]);
    }
}

/// Announce that modes, times or attributes were set.
pub(super) fn metadata<W: PagesMut>(w: &mut W, obj: Obj) {
    if w.is_watched(obj.id) {
        announce(w, obj, METADATA, [0; 3]);
    }
}

#[cold]
fn announce<W: PagesMut>(w: &mut W, obj: Obj, kind: u16, [at, removed, added]: [u64; 3]) {
    w.announce(&Notice {
        container: obj,
        kind,
        at,
        removed,
        added,
        key: &[],
    });
}
