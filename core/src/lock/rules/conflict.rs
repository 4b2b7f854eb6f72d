//! Lookups in the table, and the rules of which locks exclude each other.
//!
//! Invariants:
//! 1. A request for an entry is checked on the container (with the intention) and on the entry, against the
//!    holds of other owners on each. That covers SIX and every other pair of modes of one owner too.
//! 2. Two requests of one container are compared directly, without looking at any hold.
//! 3. Locks that are held through one mount (`group_of`) on the same target do not exclude each other: the mount itself
//!    decides which of its commands exclude each other, by byte ranges. They exclude all other owners, and on different
//!    targets (a container and an entry of it) each other.

use crate::error::Result;
use crate::ids::ObjectId;
use crate::lock::memory::layout::{
    BUCKETS, FLAG_CHANGE, FLAG_EXCLUSIVE, FLAG_KEY, FLAG_MOUNT, IS, IX, KIND_CONTAINER, KIND_ENTRY,
    OWNER_BUCKETS, S, X, bucket, clashes, hi, lo, owner_bucket, pack,
};
use crate::lock::memory::op::{Hold, Link, Lockable, Op, OwnerRec, Waiter};
use crate::lock::memory::words::corrupt;
use crate::lock::{Holder, Mode, Owner, OwnerKind, Request, Target};

/// The kinds of owners that hold locks through a mount, in word 1 of an owner's record.
const FLOCK: u32 = 2;
const POSIX: u32 = 3;

/// The result of a request, as far as thin locks decide it.
pub(in crate::lock) enum Tried {
    Granted,
    Blocked(Holder),
    /// Records decide it.
    Undecided,
}

/// A request, reduced to what conflicts depend on.
#[derive(Clone, Copy, Debug)]
pub(in crate::lock) struct Want {
    pub(in crate::lock) owner: OwnerRec,
    pub(in crate::lock) mount: bool,
    pub(in crate::lock) change: bool,
    pub(in crate::lock) exclusive: bool,
    pub(in crate::lock) key: Option<u64>,
    /// The mount, for a lock that is held through one; otherwise 0.
    pub(in crate::lock) group: u64,
}

/// Return the mount that an owner's locks belong to, from word 1 of its record; 0 for other owners.
#[inline]
fn group_of(identity: u64) -> u64 {
    match lo(identity) >> 16 {
        FLOCK | POSIX => pack(lo(identity) & 0xffff | 1 << 16, hi(identity)),
        _ => 0,
    }
}

impl Want {
    pub(in crate::lock) fn of(request: &Request, owner: OwnerRec) -> Want {
        Want {
            owner,
            mount: request.owner.kind.is_mount(),
            change: request.change,
            exclusive: request.exclusive,
            key: request.target.key,
            group: if request.change {
                0
            } else {
                group_of(identity(&request.owner).0)
            },
        }
    }

    /// Return the mode needed on the container.
    #[inline]
    pub(in crate::lock) fn on_container(&self) -> u8 {
        match (self.key.is_some(), self.exclusive) {
            (true, false) => IS,
            (true, true) => IX,
            (false, false) => S,
            (false, true) => X,
        }
    }

    /// Return the mode needed on the entry.
    #[inline]
    pub(in crate::lock) fn on_entry(&self) -> u8 {
        if self.exclusive { X } else { S }
    }

    /// Return whether two requests of one container exclude each other.
    pub(in crate::lock) fn clashes_with(&self, other: &Want) -> bool {
        if self.owner == other.owner || (self.change && other.change) {
            return false;
        }
        if (self.change || other.change) && self.mount && other.mount {
            return false;
        }
        if self.group != 0 && self.group == other.group && self.key == other.key {
            return false;
        }
        clashes(self.on_container()) & other.on_container() != 0
            || (self.key.is_some() && self.key == other.key && (self.exclusive || other.exclusive))
    }
}

/// Return the mode bit for counts of shared and exclusive levels; 0 for none.
#[inline]
pub(in crate::lock) fn mode_of(levels: u64) -> u8 {
    if hi(levels) != 0 {
        X
    } else if lo(levels) != 0 {
        S
    } else {
        0
    }
}

/// Return the name of a set of modes.
pub(in crate::lock) fn name_of(modes: u8) -> Mode {
    if modes & X != 0 {
        Mode::X
    } else if modes & S != 0 {
        if modes & IX != 0 { Mode::Six } else { Mode::S }
    } else if modes & IX != 0 {
        Mode::Ix
    } else {
        Mode::Is
    }
}

/// Return words 1 and 2 of an owner's record.
pub(in crate::lock) fn identity(owner: &Owner) -> (u64, u64) {
    let kind: u32 = match owner.kind {
        OwnerKind::Thread => 1,
        OwnerKind::Flock => FLOCK,
        OwnerKind::Posix => POSIX,
        OwnerKind::Command => 4,
    };
    (
        pack(u32::from(owner.slot) | kind << 16, owner.generation),
        owner.id,
    )
}

/// Return the owner that `identity` encodes as these words; None if the words encode no owner.
pub(in crate::lock) fn owner_of(identity: u64, id: u64, caller: u32) -> Option<Owner> {
    let kind = match lo(identity) >> 16 {
        1 => OwnerKind::Thread,
        FLOCK => OwnerKind::Flock,
        POSIX => OwnerKind::Posix,
        4 => OwnerKind::Command,
        _ => return None,
    };
    Some(Owner {
        slot: identity as u16,
        generation: hi(identity),
        kind,
        id,
        caller,
    })
}

impl Op<'_, '_> {
    /// Return the lockable of a container or an entry.
    pub(in crate::lock) fn find(&self, id: u64, key: Option<u64>) -> Result<Lockable> {
        let kind = if key.is_some() { KIND_ENTRY } else { KIND_CONTAINER };
        let mut l: Lockable = Link(lo(self.load(BUCKETS + bucket(id, key))?));
        while !l.is_none() {
            if self.get(l, 1)? == id && self.hi(l, 3)? == kind && self.get(l, 2)? == key.unwrap_or(0) {
                return Ok(l);
            }
            l = Link(self.lo(l, 0)?);
        }
        Ok(l)
    }

    pub(in crate::lock) fn find_owner(&self, owner: &Owner) -> Result<OwnerRec> {
        let (kind, id) = identity(owner);
        let mut o: OwnerRec = Link(lo(self.load(OWNER_BUCKETS + owner_bucket(kind, id))?));
        while !o.is_none() && (self.get(o, 1)? != kind || self.get(o, 2)? != id) {
            o = Link(self.lo(o, 0)?);
        }
        Ok(o)
    }

    /// Return the hold of an owner on a lockable.
    pub(in crate::lock) fn find_hold(&self, l: Lockable, o: OwnerRec) -> Result<Hold> {
        let mut h: Hold = Link(self.lo(l, 3)?);
        while !h.is_none() && self.lo(h, 2)? != o.0 {
            h = Link(self.lo(h, 0)?);
        }
        Ok(h)
    }

    pub(in crate::lock) fn owner(&self, o: OwnerRec) -> Result<Owner> {
        owner_of(self.get(o, 1)?, self.get(o, 2)?, self.lo(o, 4)?)
            .ok_or_else(|| corrupt("an impossible owner in the lock table, owner", o.0 as usize))
    }

    /// Return the container of a lockable: itself, or its parent.
    pub(in crate::lock) fn container(&self, l: Lockable) -> Result<Lockable> {
        Ok(if self.hi(l, 3)? == KIND_ENTRY {
            Link(self.hi(l, 0)?)
        } else {
            l
        })
    }

    pub(in crate::lock) fn target(&self, l: Lockable) -> Result<Target> {
        let key = if self.hi(l, 3)? == KIND_ENTRY {
            Some(self.get(l, 2)?)
        } else {
            None
        };
        Ok(Target {
            id: ObjectId(self.get(l, 1)?),
            key,
        })
    }

    /// Return the modes in which a hold has its lockable: as a lock, and for changes.
    pub(in crate::lock) fn modes(&self, h: Hold) -> Result<(u8, u8)> {
        let (levels, entries, changes) = (self.get(h, 3)?, self.get(h, 4)?, self.get(h, 5)?);
        let bit = |count: u32, mode: u8| if count != 0 { mode } else { 0 };
        let lock = bit(lo(levels), S) | bit(hi(levels), X) | bit(lo(entries), IS) | bit(hi(entries), IX);
        Ok((lock, bit(lo(changes), X) | bit(hi(changes), IX)))
    }

    /// Return whether a hold blocks a request that needs `mode` on the hold's lockable.
    pub(in crate::lock) fn hold_blocks(&self, h: Hold, mode: u8, want: &Want) -> Result<bool> {
        let word = self.get(h, 2)?;
        if lo(word) == want.owner.0 {
            return Ok(false);
        }
        let both_mount = want.mount && hi(word) != 0;
        let (mut lock, change) = self.modes(h)?;
        let clash = clashes(mode);
        // S and X are needed on the target itself, intentions on the container of a target.
        let is_target = mode & (S | X) != 0;
        if is_target && both_mount && want.group != 0 {
            let holder: OwnerRec = Link(lo(word));
            if group_of(self.get(holder, 1)?) == want.group {
                lock &= !(S | X);
            }
        }
        Ok((lock & clash != 0 && !(want.change && both_mount))
            || (change & clash != 0 && !want.change && !both_mount))
    }

    /// Call `f` for each hold that blocks the request, until it returns true. Return that hold.
    pub(in crate::lock) fn blocking_hold(
        &self,
        c: Lockable,
        want: &Want,
        mut f: impl FnMut(Hold) -> Result<bool>,
    ) -> Result<Hold> {
        let mut lists = [(c, want.on_container()), (Lockable::NONE, want.on_entry())];
        if want.key.is_some() {
            lists[1].0 = self.find(self.get(c, 1)?, want.key)?;
        }
        for (l, mode) in lists {
            if l.is_none() {
                continue;
            }
            let mut h: Hold = Link(self.lo(l, 3)?);
            while !h.is_none() {
                if self.hold_blocks(h, mode, want)? && f(h)? {
                    return Ok(h);
                }
                h = Link(self.lo(h, 0)?);
            }
        }
        Ok(Hold::NONE)
    }

    /// Return a waiter's request.
    pub(in crate::lock) fn want(&self, w: Waiter) -> Result<Want> {
        let flags = self.get(w, 3)?;
        let owner: OwnerRec = Link(self.hi(w, 1)?);
        let holds_through_mount = flags & (FLAG_MOUNT | FLAG_CHANGE) == FLAG_MOUNT;
        Ok(Want {
            owner,
            group: if holds_through_mount {
                group_of(self.get(owner, 1)?)
            } else {
                0
            },
            mount: flags & FLAG_MOUNT != 0,
            change: flags & FLAG_CHANGE != 0,
            exclusive: flags & FLAG_EXCLUSIVE != 0,
            key: if flags & FLAG_KEY != 0 {
                Some(self.get(w, 2)?)
            } else {
                None
            },
        })
    }

    /// Return the description of a hold; `as_change` selects which of its two parts.
    pub(in crate::lock) fn describe_hold(&self, h: Hold, as_change: bool) -> Result<Holder> {
        let (lock, change) = self.modes(h)?;
        Ok(Holder {
            owner: self.owner(Link(self.lo(h, 2)?))?,
            target: self.target(Link(self.hi(h, 0)?))?,
            mode: name_of(if as_change { change } else { lock }),
            waiting: false,
            change: as_change,
        })
    }

    /// Return the description of a hold that blocks `want`.
    pub(in crate::lock) fn describe_blocker(&self, h: Hold) -> Result<Holder> {
        let (lock, _) = self.modes(h)?;
        self.describe_hold(h, lock == 0)
    }

    pub(in crate::lock) fn describe_waiter(&self, w: Waiter) -> Result<Holder> {
        let want = self.want(w)?;
        let id = ObjectId(self.get(Lockable::from(self.lo(w, 1)?), 1)?);
        Ok(Holder {
            owner: self.owner(want.owner)?,
            target: Target { id, key: want.key },
            mode: name_of(want.on_entry()),
            waiting: true,
            change: want.change,
        })
    }
}
