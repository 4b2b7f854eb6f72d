//! Identity and lifetime of containers: reference counts, homes, back references, orphans, and the collector
//! of unreachable cycles. Bodies (`dict`, `list`, `class`) move words; code that moves a word that refers to
//! a container reports it to this module (`retain`, `release`, `move_home`).
//!
//! Liveness is decided upward: a container lives if the root or a pinned container is among its ancestors.
//! Every container is in one of these states:
//!
//! | STATE | FLAGS | HOME, HINT | MEANING |
//! | --- | --- | --- | --- |
//! | homed | none (or DOOMED) | parent, hash or index | some entry of the parent shows it |
//! | orphan | ORPHAN (and DOOMED) | list links | new, lost its home, or being freed: `reap` examines it |
//! | suspect | SUSPECT | list links | only a pin keeps it, or that was too costly to determine |
//! | drained | DRAINED, DOOMED | 0, 0 | empty garbage; waits until other garbage releases it |
//!
//! ```text
//!            retain                          reap: a live parent found
//! create -> ORPHAN ------> homed <---------------+------------------+
//!             ^              | release: home gone|                  |
//!             |              v                   |                  |
//!             +----------- ORPHAN --- reap: pinned, or unknown --> SUSPECT
//!             |              |                                      |
//!             |              | reap: garbage        unpinned, collect|
//!             |              v                                      |
//!             |         ORPHAN+DOOMED --> drained --> freed          |
//!             +------------------------------------------------------+
//! ```
//!
//! Invariants (`check_graph` verifies them):
//! 1. The reference count is the number of words in containers that refer to this one. One of those words is
//!    the home (if homed); the others are counted in the back references (`backs`).
//! 2. Following homes from any container ends at the root, or at a container without a home. Homes form no
//!    cycle. So every unreachable container hangs below an orphan or a suspect, and is found when that one is
//!    examined.
//! 3. A container marked DOOMED is garbage forever: no new reference to it may be made.
//! 4. No operation recurses, and each does a bounded amount of work: the rest waits on the two lists, in the
//!    store, for later operations.
//!
//! The root has one reference that no container holds, and no home.

mod annex;
mod backs;
mod check;
mod content;
mod lists;
mod reap;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod walk;

pub use annex::{
    class, has_annex, hidden, metadata, order, set_class, set_metadata, set_order, set_stamp, set_waiting,
    stamp, waiting,
};
pub use check::{
    GraphReport, Identity, back_references, check_graph, holder, identity, len, members, own_segments,
    place_in_home, verify_body,
};
pub use content::Place;
pub use reap::{
    Collection, ReapProgress, collect, end_operation, has_pending_frees, has_pending_work, is_suspect, reap,
    unpinned,
};
pub use walk::{Shown, root, shown_home};

use crate::error::{Error, Result};
use crate::heap;
use crate::ids::{Addr, Obj, ObjectId};
use crate::object::header::{self, DOOMED, DRAINED, EMPTIED, Kind};
use crate::object::word::Word;
use crate::object::{blob, scalar};
use crate::page::access::{Pages, PagesMut};
use crate::page::superblock as sb;
use lists::{Bits, ORPHANS, remove_from_list};

/// Pieces of a large value that are freed at once; the others follow in steps (`reap`).
const BLOB_STEP: u64 = 64;

/// Create an empty container, on the orphan list until something refers to it. `class` is the class record of
/// an object, 0 for others.
pub fn create<W: PagesMut>(w: &mut W, kind: Kind, class: u64) -> Result<Obj> {
    let (h, id) = new_header(w, kind, class)?;
    let links = ORPHANS.link_in(w, h, false)?;
    let b = w.init(h, header::SIZE)?;
    b[1] = header::ORPHAN;
    b[header::HOME as usize..header::HOME as usize + 16].copy_from_slice(&links);
    Ok(Obj { addr: h, id })
}

/// Create the root dict of a new store.
pub fn create_root<W: PagesMut>(w: &mut W) -> Result<Obj> {
    let (h, id) = new_header(w, Kind::Dict, 0)?;
    Bits::read(w, h)?.with_refs(1).store(w, h)?;
    w.set_u64(sb::ROOT, h.0)?;
    Ok(Obj { addr: h, id })
}

fn new_header<W: PagesMut>(w: &mut W, kind: Kind, class: u64) -> Result<(Addr, ObjectId)> {
    let id = w.next_id()?;
    let now = w.now();
    let h = heap::alloc(w, header::SIZE)?;
    let b = w.init(h, header::SIZE)?;
    b.fill(0);
    b[0] = kind as u8;
    for (at, word) in [(header::MTIME, now), (header::CLASS_OR_LEN, class)] {
        b[at as usize..at as usize + 8].copy_from_slice(&word.to_le_bytes());
    }
    // The id is logged, so that a rollback removes it: a caller that still holds the container then finds it
    // gone, and does not take other memory for it.
    w.set_u64(h + header::ID, id.0)?;
    Ok((h, id))
}

/// Return the number of words in containers that refer to this one.
pub fn refs<P: Pages>(p: &P, h: Addr) -> Result<u64> {
    let n = u64::from(Bits::read(p, h)?.refs());
    Ok(if h == root(p)? { n.saturating_sub(1) } else { n })
}

/// Add a reference from `parent` to `child`, from the entry whose key has the hash `hint` (lists: from the
/// item at about that index). Return the child a home if it has none.
pub fn retain<W: PagesMut>(w: &mut W, child: Addr, parent: Addr, hint: u64) -> Result<()> {
    let bits = Bits::read(w, child)?;
    if bits.has(DOOMED | DRAINED) {
        return Err(Error::Gone(ObjectId(w.u64_at(child + header::ID)?)));
    }
    let Some(refs) = bits.refs().checked_add(1) else {
        return Err(Error::invalid(
            "a container that has 4294967295 references cannot take another",
        ));
    };
    if !bits.homed() && walk::may_live_in(w, child, parent)? {
        remove_from_list(w, child, bits)?
            .with_refs(refs)
            .store(w, child)?;
        return set_home_words(w, child, parent, hint);
    }
    backs::add(w, child, parent)?;
    bits.with_refs(refs).store(w, child)
}

/// Remove a reference from `parent` to `child`. If it was the last, or the home, the child goes to the orphan
/// list: `reap` finds another home for it or frees it.
pub fn release<W: PagesMut>(w: &mut W, child: Addr, parent: Addr) -> Result<()> {
    let bits = Bits::read(w, child)?;
    let Some(refs) = bits.refs().checked_sub(1) else {
        return Err(Error::corrupt("a reference that was not counted", child));
    };
    let left = bits.with_refs(refs);
    let home = bits.homed() && w.u64_at(child + header::HOME)? == parent.0;
    if home && backs::count(w, child, parent)? == 0 {
        return ORPHANS.push(w, child, left, false);
    }
    // If another entry of the home remains, that entry is the home now: `content::find` finds it.
    backs::sub(w, child, parent)?;
    if refs == 0 && bits.homed() {
        return Err(Error::corrupt("a home that does not count as a reference", child));
    }
    if refs == 0 && !bits.has(header::ORPHAN) {
        let left = remove_from_list(w, child, left)?.without(DRAINED);
        return ORPHANS.push(w, child, left, false);
    }
    left.store(w, child)
}

/// Move a reference from one entry to another; the home moves with it if the entry was the home.
pub fn move_home<W: PagesMut>(
    w: &mut W,
    child: Addr,
    (from, from_hint): (Addr, u64),
    (to, to_hint): (Addr, u64),
) -> Result<()> {
    let bits = Bits::read(w, child)?;
    if bits.has(DOOMED | DRAINED) {
        return Err(Error::Gone(ObjectId(w.u64_at(child + header::ID)?)));
    }
    let homed = bits.homed() && w.u64_at(child + header::HOME)? == from.0;
    let entry = homed && (w.u64_at(child + header::HINT)? == from_hint || backs::count(w, child, from)? == 0);
    if from == to {
        return if entry {
            w.set_u64(child + header::HINT, to_hint)
        } else {
            Ok(())
        };
    }
    if entry && walk::may_live_in(w, child, to)? {
        return set_home_words(w, child, to, to_hint);
    }
    retain(w, child, to, to_hint)?;
    release(w, child, from)
}

fn set_home_words<W: PagesMut>(w: &mut W, child: Addr, parent: Addr, hint: u64) -> Result<()> {
    let mut words = [0; 16];
    words[..8].copy_from_slice(&parent.0.to_le_bytes());
    words[8..].copy_from_slice(&hint.to_le_bytes());
    w.set_bytes(child + header::HOME, &words)
}

/// Free what a word that was removed from `parent` holds: release a container, free a scalar (a very large
/// one in steps).
pub fn release_word<W: PagesMut>(w: &mut W, word: Word, parent: Addr) -> Result<()> {
    if let Some(child) = word.as_container() {
        return release(w, child, parent);
    }
    if word.as_scalar().is_none() {
        return Ok(());
    }
    match scalar::as_blob(w, word)? {
        None => scalar::free(w, word),
        Some(blob) => {
            if !blob::free_some(w, blob, BLOB_STEP)? {
                let next = w.u64_at(sb::BLOBS)?;
                w.set_u64(blob + blob::LINK, next)?;
                w.set_u64(sb::BLOBS, blob.0)?;
            }
            Ok(())
        }
    }
}

/// Move the whole content of a container to a new, doomed one that `reap` frees in steps: emptying costs the
/// same at every size. Until then the parts count as references of `h`, which the new container keeps from
/// being freed.
pub fn detach<W: PagesMut>(w: &mut W, h: Addr) -> Result<()> {
    let bits = Bits::read(w, h)?;
    let class = if bits.kind() == Kind::Object {
        w.u64_at(h + header::CLASS_OR_LEN)?
    } else {
        0
    };
    let (new, _) = new_header(w, bits.kind(), class)?;
    let part = |at: u64, len: u64| at as usize..(at + len) as usize;
    let old = w.bytes(h, header::SIZE)?.to_vec();
    let b = w.init(new, header::SIZE)?;
    b[1] = (bits.flags() & header::UNSHARED) | header::DETACHED | DOOMED;
    for range in [
        part(header::FORM, 2),
        part(header::BODY, 8),
        part(header::CLASS_OR_LEN, 8),
    ] {
        b[range.clone()].copy_from_slice(&old[range]);
    }
    b[part(header::MTIME, 8)].copy_from_slice(&h.0.to_le_bytes());
    let new_bits = Bits::read(w, new)?;
    ORPHANS.push(w, new, new_bits, true)?;
    w.set_bytes(h + header::FORM, &[0; 2])?;
    w.set_u64(h + header::BODY, 0)?;
    if bits.kind() != Kind::Object {
        w.set_u64(h + header::CLASS_OR_LEN, 0)?;
    }
    let bits = Bits::read(w, h)?;
    let Some(refs) = bits.refs().checked_add(1) else {
        return Err(Error::invalid(
            "a container that has 4294967295 references cannot take another",
        ));
    };
    bits.with(EMPTIED).with_refs(refs).store(w, h)?;
    backs::add(w, h, new)
}

/// Update the hint of the home, if `parent` is the home of `child` and keeps it under another key.
pub fn rehint<W: PagesMut>(w: &mut W, child: Addr, parent: Addr, hint: u64) -> Result<()> {
    if Bits::read(w, child)?.homed() && w.u64_at(child + header::HOME)? == parent.0 {
        w.set_u64(child + header::HINT, hint)?;
    }
    Ok(())
}
