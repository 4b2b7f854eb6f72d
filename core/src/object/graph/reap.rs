//! Examine the containers without a home, in bounded steps: free what nothing refers to, find homes, collect
//! unreachable cycles.
//!
//! `reap` runs at the end of every operation, when every live container is reachable from the root or pinned.
//! In the middle of an operation it would free containers that the operation is about to refer to.

use super::lists::{Bits, List, ORPHANS, SUSPECTS, remove_from_list};
use super::walk::{Found, search};
use super::{annex, backs, content, release, release_word, set_home_words};
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::{Addr, Obj, ObjectId};
use crate::object::header::{self, DETACHED, DOOMED, DRAINED, EMPTIED, ORPHAN, SUSPECT};
use crate::object::{blob, dict, key};
use crate::page::access::{Pages, PagesMut};
use crate::page::superblock as sb;

/// Steps of the search upward for one container within `reap`.
const WALK: u64 = 4096;
/// Steps of a search that count as much as the removal of one entry.
const WALK_UNIT: u64 = 16;
/// Ancestors marked as garbage at once. The others are found again later.
const GARBAGE_MAX: usize = 1 << 15;
/// Pieces of a large value that count as much as the removal of one entry.
const BLOB_UNIT: u64 = 4;
/// Entries examined for the place of a container in its new home.
const HINT_SCAN: usize = 256;
/// The least and the most effort (a power of two) for one suspect at the end of an operation.
const EFFORT: (u64, u64) = (12, 26);

/// The result of a call of `reap`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReapProgress {
    /// Containers freed.
    pub freed: u64,
    /// True if something is left to be freed or examined.
    pub more: bool,
}

/// Return whether the end of an operation has any work: one look at the superblock.
#[inline(always)]
pub fn has_pending_work<P: Pages>(p: &P) -> Result<bool> {
    let words = p.bytes(sb::ORPHANS, 48)?;
    let at = |list: Addr| dict::word_in(words, (list.0 - sb::ORPHANS.0) as usize);
    Ok(at(sb::ORPHANS) | at(sb::SUSPECTS) | at(sb::BLOBS) != 0)
}

/// Return whether something waits to be freed, or to be examined for that; suspects do not count.
#[inline]
pub fn has_pending_frees<P: Pages>(p: &P) -> Result<bool> {
    Ok(p.u64_at(sb::ORPHANS)? | p.u64_at(sb::BLOBS)? != 0)
}

/// Free and examine what is on the orphan list. `budget` is about the number of entries that are removed from
/// containers.
pub fn reap<W: PagesMut>(w: &mut W, budget: u64) -> Result<ReapProgress> {
    reap_with(w, budget, WALK)
}

fn reap_with<W: PagesMut>(w: &mut W, budget: u64, walk: u64) -> Result<ReapProgress> {
    let mut progress = ReapProgress::default();
    let mut left = budget;
    reap_blobs(w, &mut left)?;
    while left > 0 {
        let h = ORPHANS.first(w)?;
        if h.is_null() {
            break;
        }
        left -= 1;
        let bits = Bits::read(w, h)?;
        if bits.has(DOOMED) || bits.refs() == 0 && !is_pinned(w, h)? {
            progress.freed += u64::from(empty(w, h, bits, &mut left)?);
        } else if bits.refs() == 0 {
            move_to_suspects(w, h)?;
        } else {
            let mut steps = walk;
            resolve(w, h, &mut steps)?;
            // This is the root, in a damaged store: another look would find the same.
            if ORPHANS.first(w)? == h && !Bits::read(w, h)?.has(DOOMED) {
                return Err(Error::corrupt("an orphan that is none", h));
            }
            left = left.saturating_sub((walk - steps) / WALK_UNIT);
        }
    }
    progress.more = !ORPHANS.first(w)?.is_null() || w.u64_at(sb::BLOBS)? != 0;
    Ok(progress)
}

fn reap_blobs<W: PagesMut>(w: &mut W, left: &mut u64) -> Result<()> {
    while *left > 0 {
        let blob = Addr(w.u64_at(sb::BLOBS)?);
        if blob.is_null() {
            break;
        }
        let next = w.u64_at(blob + blob::LINK)?;
        if blob::free_some(w, blob, left.saturating_mul(BLOB_UNIT))? {
            w.set_u64(sb::BLOBS, next)?;
            *left -= 1;
        } else {
            *left = 0;
        }
    }
    Ok(())
}

fn is_pinned<W: PagesMut>(w: &W, h: Addr) -> Result<bool> {
    Ok(w.is_pinned(ObjectId(w.u64_at(h + header::ID)?)))
}

/// Remove up to `left` entries of garbage, and free it once it is empty and unreferenced. Return true if it
/// was freed.
fn empty<W: PagesMut>(w: &mut W, h: Addr, bits: Bits, left: &mut u64) -> Result<bool> {
    if !bits.has(DOOMED) {
        bits.with(DOOMED).store(w, h)?;
    }
    let detached = bits.has(DETACHED);
    let parent = if detached {
        Addr(w.u64_at(h + header::MTIME)?)
    } else {
        h
    };
    let mut words = Vec::new();
    let max = usize::try_from(*left + 1).unwrap_or(usize::MAX).min(4096);
    let done = content::drain(w, h, max, &mut words)?;
    *left = left.saturating_sub(words.len() as u64);
    if words.is_empty() && !done {
        return Err(Error::corrupt("a container that cannot be emptied", h));
    }
    for word in words {
        release_word(w, word, parent)?;
    }
    if !done {
        return Ok(false);
    }
    let bits = Bits::read(w, h)?;
    let bits = remove_from_list(w, h, bits)?;
    if bits.refs() > 0 {
        set_home_words(w, h, Addr::NULL, 0)?;
        bits.with(DRAINED).store(w, h)?;
        return Ok(false);
    }
    backs::free(w, h)?;
    annex::remove(w, h)?;
    // A caller that still holds its address and id finds it gone.
    w.set_bytes(h, &[0; 16])?;
    heap::free(w, h)?;
    if detached {
        release(w, parent, h)?;
        if !has_detached(w, parent)? {
            Bits::read(w, parent)?.without(EMPTIED).store(w, parent)?;
        }
    }
    Ok(!detached)
}

/// Return whether former content of a container is left (or might be: the search is bounded).
fn has_detached<P: Pages>(p: &P, h: Addr) -> Result<bool> {
    let mut cursor = 0;
    for _ in 0..64 {
        match backs::next(p, h, &mut cursor)? {
            None => return Ok(false),
            Some((parent, _)) if Bits::read(p, parent)?.has(DETACHED) => return Ok(true),
            Some(_) => {}
        }
    }
    Ok(true)
}

/// Determine what keeps a container without a home alive, and give it a home, park it, or mark it as garbage.
/// Return false if the steps did not suffice.
fn resolve<W: PagesMut>(w: &mut W, h: Addr, steps: &mut u64) -> Result<bool> {
    let found = search(w, h, |id| w.is_pinned(id), steps)?;
    match found {
        Found::Root(path) => link(w, &path)?,
        Found::Pinned(path) => {
            if let Some(&keeper) = path.first() {
                move_to_suspects(w, keeper)?;
            }
            link(w, &path)?;
        }
        Found::Garbage(closure) => mark_garbage(w, &closure)?,
        Found::Unknown => {
            move_to_suspects(w, h)?;
            return Ok(false);
        }
    }
    Ok(true)
}

/// Make each member of a path the home of the next.
fn link<W: PagesMut>(w: &mut W, path: &[Addr]) -> Result<()> {
    for pair in path.windows(2) {
        if let [parent, child] = *pair {
            set_home(w, child, parent)?;
        }
    }
    Ok(())
}

/// Make `parent`, which refers to `child`, the home of `child`.
fn set_home<W: PagesMut>(w: &mut W, child: Addr, parent: Addr) -> Result<()> {
    let bits = Bits::read(w, child)?;
    if bits.homed() {
        let old = Addr(w.u64_at(child + header::HOME)?);
        if old == parent {
            return Ok(());
        }
        w.rehomed()?;
        backs::add(w, child, old)?;
    } else {
        w.rehomed()?;
        remove_from_list(w, child, bits)?.store(w, child)?;
    }
    backs::sub(w, child, parent)?;
    let hint = match content::find(w, parent, child, 0, HINT_SCAN)? {
        Some(content::Place::Key(word)) => key::hash_word(w, word)?,
        Some(content::Place::Index(i)) => i,
        Some(content::Place::Hidden) | None => 0,
    };
    set_home_words(w, child, parent, hint)
}

/// Put a container on the suspect list, without a home.
fn move_to_suspects<W: PagesMut>(w: &mut W, h: Addr) -> Result<()> {
    let bits = Bits::read(w, h)?;
    if bits.has(SUSPECT) {
        return Ok(());
    }
    if bits.homed() {
        let home = Addr(w.u64_at(h + header::HOME)?);
        backs::add(w, h, home)?;
    }
    let bits = remove_from_list(w, h, bits)?;
    SUSPECTS.push(w, h, bits, true)
}

/// Mark containers as garbage. They stay in place: the examined one is on the orphan list, and the homes of
/// the others lead to it or to others there.
fn mark_garbage<W: PagesMut>(w: &mut W, closure: &[Addr]) -> Result<()> {
    for &h in closure.iter().take(GARBAGE_MAX) {
        let bits = Bits::read(w, h)?;
        if bits.has(SUSPECT) {
            let bits = remove_from_list(w, h, bits)?;
            ORPHANS.push(w, h, bits.with(DOOMED), false)?;
        } else {
            bits.with(DOOMED).store(w, h)?;
        }
    }
    Ok(())
}

fn move_to<W: PagesMut>(w: &mut W, list: List, h: Addr) -> Result<()> {
    let bits = Bits::read(w, h)?;
    let bits = remove_from_list(w, h, bits)?;
    list.push(w, h, bits, false)
}

/// Re-examine a container whose last pin was released, at the end of the operation, if only the pin kept it.
/// Call this within an operation.
pub fn unpinned<W: PagesMut>(w: &mut W, obj: Obj) -> Result<()> {
    if header::check(w, obj).is_err() || !Bits::read(w, obj.addr)?.has(SUSPECT) {
        return Ok(());
    }
    move_to(w, ORPHANS, obj.addr)
}

/// Return whether `unpinned` has any work for this container: a hint for readers.
pub fn is_suspect<P: Pages>(p: &P, obj: Obj) -> bool {
    header::check(p, obj).is_ok() && Bits::read(p, obj.addr).is_ok_and(|bits| bits.has(SUSPECT | ORPHAN))
}

/// End an operation: free a bounded amount, and sometimes examine a suspect, so that cycles, and containers
/// kept by pins of dead processes, are eventually freed. Call this at the end of every operation.
pub fn end_operation<W: PagesMut>(w: &mut W, budget: u64) -> Result<ReapProgress> {
    let h = SUSPECTS.first(w)?;
    if !h.is_null() {
        let random = w.now().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        if random & 7 == 0 {
            examine_one_suspect(w, h, random)?;
        }
    }
    reap(w, budget)
}

/// Examine a suspect, in proportion to its cost: a suspect with references needs a search, and the more
/// effort that takes, the more rarely it is made, so that it costs an operation 64 steps on average.
fn examine_one_suspect<W: PagesMut>(w: &mut W, h: Addr, random: u64) -> Result<()> {
    let effort = w.u64_at(sb::EFFORT)?.clamp(EFFORT.0, EFFORT.1);
    if Bits::read(w, h)?.refs() == 0 {
        if !is_pinned(w, h)? {
            return move_to(w, ORPHANS, h);
        }
    } else if random & ((1 << (effort - 6)) - 1) == 0 {
        let mut steps = 1 << effort;
        let known = resolve(w, h, &mut steps)?;
        let next = if known { effort - 1 } else { effort + 1 }.clamp(EFFORT.0, EFFORT.1);
        if next != effort {
            w.set_u64(sb::EFFORT, next)?;
        }
    }
    if SUSPECTS.first(w)? == h {
        SUSPECTS.rotate(w)
    } else {
        Ok(())
    }
}

/// A complete collection, in steps that may be operations of their own: every suspect is examined once, at
/// any cost, and all garbage is freed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Collection {
    /// Suspects still to be examined; None before the first step.
    left: Option<u64>,
    /// The first suspect that was kept: the examined ones begin with it.
    kept: Addr,
    /// Containers freed so far.
    pub freed: u64,
    /// True if nothing is left to do.
    pub done: bool,
}

impl Collection {
    /// Run one step: `budget` is about the number of entries removed and suspects examined. (A search is not
    /// interrupted: it may visit every ancestor of a suspect.)
    pub fn step<W: PagesMut>(&mut self, w: &mut W, budget: u64) -> Result<()> {
        let mut suspects = match self.left {
            Some(n) => n,
            None => SUSPECTS.len(w)?,
        };
        let mut left = budget.max(1);
        loop {
            let h = SUSPECTS.first(w)?;
            if h == self.kept {
                // All have been examined once, whatever the count says.
                suspects = 0;
            } else if !Bits::read(w, self.kept).is_ok_and(|bits| bits.has(SUSPECT)) {
                self.kept = Addr::NULL;
            }
            if suspects == 0 || left == 0 || h.is_null() {
                break;
            }
            (suspects, left) = (suspects - 1, left - 1);
            if Bits::read(w, h)?.refs() > 0 {
                let mut steps = u64::MAX;
                resolve(w, h, &mut steps)?;
            } else if !is_pinned(w, h)? {
                move_to(w, ORPHANS, h)?;
            }
            if SUSPECTS.first(w)? == h {
                SUSPECTS.rotate(w)?;
                if self.kept.is_null() {
                    self.kept = h;
                }
            }
        }
        let progress = reap_with(w, left, u64::MAX)?;
        self.freed += progress.freed;
        self.left = Some(suspects);
        self.done = !progress.more && (suspects == 0 || SUSPECTS.first(w)?.is_null());
        Ok(())
    }
}

/// Run a single collection step: see `Collection`.
pub fn collect<W: PagesMut>(w: &mut W, budget: u64) -> Result<ReapProgress> {
    let mut c = Collection::default();
    c.step(w, budget)?;
    Ok(ReapProgress {
        freed: c.freed,
        more: !c.done,
    })
}
