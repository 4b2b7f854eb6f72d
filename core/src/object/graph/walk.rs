//! Walks upward: what reaches a container, and which home shows it. Nothing here changes the store, recurses,
//! or runs forever: every walk is bounded by a budget or by the set of containers it has seen.

use super::backs;
use super::content::{self, Place};
use super::lists::Bits;
use crate::error::Result;
use crate::ids::{Addr, ObjectId};
use crate::object::header::{self, DOOMED, DRAINED, EMPTIED};
use crate::page::access::Pages;
use crate::page::superblock as sb;
use std::collections::{HashMap, HashSet};

/// Return the root's address.
#[inline]
pub fn root<P: Pages>(p: &P) -> Result<Addr> {
    Ok(Addr(p.u64_at(sb::ROOT)?))
}

/// The most steps of `may_live_in`, after which it returns false.
const LIVE_IN_STEPS: u64 = 1 << 16;
/// Steps of each walk, upward and downward, before the other continues.
const TURN: u64 = 64;
/// The most homes followed to decide whether a container is reachable by name; no path is as long.
const NAME_STEPS: u64 = 4096;

fn home<P: Pages>(p: &P, h: Addr) -> Result<Addr> {
    Ok(Addr(p.u64_at(h + header::HOME)?))
}

/// Return whether `child`, which has no home (or is about to lose it), may have its home in `parent` without
/// closing a cycle of homes: `parent` must not lie below `child`. Two walks alternate, up from the parent and
/// down from the child, so the cost is at most twice that of the shorter; building any structure from the top
/// or from the bottom costs O(n log n) in all. False may be wrong if both walks are long; the child then
/// waits for `reap`, which searches further.
pub(super) fn may_live_in<P: Pages>(p: &P, child: Addr, parent: Addr) -> Result<bool> {
    if parent == child {
        return Ok(false);
    }
    if content::is_empty(p, child)? {
        return Ok(true);
    }
    let root = root(p)?;
    let mut up = parent;
    let mut down = Below {
        stack: vec![(child, 0)],
        words: Vec::new(),
    };
    for _ in 0..LIVE_IN_STEPS / TURN {
        for _ in 0..TURN {
            if up == root {
                return Ok(true);
            }
            if up == child {
                return Ok(false);
            }
            if !Bits::read(p, up)?.homed() {
                return Ok(true);
            }
            up = home(p, up)?;
        }
        if let Some(below) = down.find(p, parent)? {
            return Ok(!below);
        }
    }
    Ok(false)
}

/// A walk downward, along homes.
struct Below {
    stack: Vec<(Addr, u64)>,
    words: Vec<crate::object::word::Word>,
}

impl Below {
    /// Examine about `TURN` more entries for a container. Return whether it was found; None if that is not
    /// yet known.
    fn find<P: Pages>(&mut self, p: &P, wanted: Addr) -> Result<Option<bool>> {
        for _ in 0..TURN / 16 {
            let Some((h, cursor)) = self.stack.last_mut() else {
                return Ok(Some(false));
            };
            let h = *h;
            self.words.clear();
            content::words(p, h, cursor, 16, &mut self.words)?;
            if self.words.len() < 16 {
                self.stack.pop();
            }
            for child in self.words.iter().filter_map(|word| word.as_container()) {
                if Bits::read(p, child)?.homed() && home(p, child)? == h {
                    if child == wanted {
                        return Ok(Some(true));
                    }
                    self.stack.push((child, 0));
                }
            }
        }
        Ok(None)
    }
}

/// Return whether following homes from `h` leads to the root, and not through `avoid`, in at most `steps`
/// steps; None if the steps did not suffice.
fn reaches_root<P: Pages>(p: &P, mut h: Addr, avoid: Addr, steps: u64) -> Result<Option<bool>> {
    let root = root(p)?;
    for _ in 0..steps {
        if h == root {
            return Ok(Some(true));
        }
        if h == avoid || !Bits::read(p, h)?.homed() {
            return Ok(Some(false));
        }
        let parent = home(p, h)?;
        if !still_in(p, h, parent)? {
            return Ok(Some(false));
        }
        h = parent;
    }
    Ok(None)
}

/// Return whether a recorded parent really refers to a container: after the parent was emptied as a whole,
/// its former content still counts until it is freed.
fn still_in<P: Pages>(p: &P, child: Addr, parent: Addr) -> Result<bool> {
    if !Bits::read(p, parent)?.has(EMPTIED) {
        return Ok(true);
    }
    let hint = p.u64_at(child + header::HINT)?;
    Ok(content::find(p, parent, child, hint, usize::MAX)?.is_some())
}

/// The parents of a container that really refer to it: its home, then those in its back references.
struct Parents {
    of: Addr,
    home: Option<Addr>,
    cursor: u64,
}

impl Parents {
    fn new<P: Pages>(p: &P, of: Addr) -> Result<Parents> {
        let homed = Bits::read(p, of)?.homed() && of != root(p)?;
        let home = if homed { Some(home(p, of)?) } else { None };
        Ok(Parents { of, home, cursor: 0 })
    }

    fn next<P: Pages>(&mut self, p: &P) -> Result<Option<Addr>> {
        loop {
            let parent = match self.home.take() {
                Some(home) => home,
                None => match backs::next(p, self.of, &mut self.cursor)? {
                    Some((parent, _)) => parent,
                    None => return Ok(None),
                },
            };
            if still_in(p, self.of, parent)? {
                return Ok(Some(parent));
            }
        }
    }
}

/// The result of a search upward.
#[derive(Debug)]
pub(super) enum Found {
    /// The root reaches the container. The path begins with a container whose homes lead to the root, ends
    /// with the container, and each member refers to the next.
    Root(Vec<Addr>),
    /// Not the root but a pinned container reaches it, the first of the path.
    Pinned(Vec<Addr>),
    /// Neither: the container and all its ancestors, the nearest first, are garbage. (Ancestors already known
    /// as garbage are omitted.)
    Garbage(Vec<Addr>),
    /// The budget did not suffice.
    Unknown,
}

/// Search breadth first through all ancestors for what keeps a container alive. `budget` is the number of
/// steps left.
pub(super) fn search<P: Pages>(
    p: &P,
    c: Addr,
    pinned: impl Fn(ObjectId) -> bool,
    budget: &mut u64,
) -> Result<Found> {
    if let Some(path) = search_near(p, c, budget)? {
        return Ok(Found::Root(path));
    }
    let is_pinned = |h: Addr| Ok(pinned(ObjectId(p.u64_at(h + header::ID)?)));
    let mut keeper = if is_pinned(c)? { Some(c) } else { None };
    let root = root(p)?;
    // The member of the closure that each one was reached from, and the members in that order.
    let mut via: HashMap<Addr, Addr> = HashMap::from([(c, Addr::NULL)]);
    let mut order = vec![c];
    // Containers whose homes do not lead to the root.
    let mut astray: HashSet<Addr> = HashSet::from([c]);
    let path = |via: &HashMap<Addr, Addr>, mut h: Addr| {
        let mut path = Vec::new();
        while !h.is_null() {
            path.push(h);
            h = via.get(&h).copied().unwrap_or(Addr::NULL);
        }
        path
    };
    let mut at = 0;
    while let Some(&h) = order.get(at) {
        at += 1;
        let mut parents = Parents::new(p, h)?;
        while let Some(parent) = parents.next(p)? {
            if *budget == 0 {
                return Ok(Found::Unknown);
            }
            *budget -= 1;
            if via.contains_key(&parent) || Bits::read(p, parent)?.has(DOOMED | DRAINED) {
                continue;
            }
            via.insert(parent, h);
            let mut up = parent;
            loop {
                if up == root {
                    return Ok(Found::Root(path(&via, parent)));
                }
                // Recorded before it is certain: if the root is found after all, the records are discarded.
                // So a cycle of homes in a damaged file ends here too.
                if !Bits::read(p, up)?.homed() || !astray.insert(up) {
                    break;
                }
                if *budget == 0 {
                    return Ok(Found::Unknown);
                }
                *budget -= 1;
                let next = home(p, up)?;
                if !still_in(p, up, next)? {
                    break;
                }
                up = next;
            }
            order.push(parent);
            if keeper.is_none() && is_pinned(parent)? {
                keeper = Some(parent);
            }
        }
    }
    Ok(match keeper {
        Some(keeper) => Found::Pinned(path(&via, keeper)),
        None => Found::Garbage(order),
    })
}

/// Search without allocating, for the common case that one of the first few parents is near the root.
fn search_near<P: Pages>(p: &P, c: Addr, budget: &mut u64) -> Result<Option<Vec<Addr>>> {
    let mut parents = Parents::new(p, c)?;
    for _ in 0..4 {
        let Some(parent) = parents.next(p)? else { break };
        *budget = budget.saturating_sub(1);
        if reaches_root(p, parent, c, 32)? == Some(true) {
            return Ok(Some(vec![parent, c]));
        }
    }
    Ok(None)
}

/// The entry that shows a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// The container that shows it.
    pub parent: Addr,
    /// The place of the entry.
    pub place: Place,
}

/// Return the home of a container as readers see it: the recorded home, or, if that hangs below an
/// unreachable container (or was just emptied), another one that the root reaches, if there is one. The
/// results are consistent: following them never forms a cycle. None for the root and for containers without a
/// home.
pub fn shown_home<P: Pages>(p: &P, c: Addr) -> Result<Option<Shown>> {
    if c == root(p)? {
        return Ok(None);
    }
    let mut recorded = None;
    if Bits::read(p, c)?.homed() {
        let parent = home(p, c)?;
        recorded = shown_in(p, c, parent, p.u64_at(c + header::HINT)?)?;
        if recorded.is_some() && reaches_root(p, parent, c, NAME_STEPS)? != Some(false) {
            return Ok(recorded);
        }
    }
    let mut budget = NAME_STEPS;
    if let Found::Root(path) = search(p, c, |_| false, &mut budget)?
        && let [.., parent, _] = path[..]
    {
        return shown_in(p, c, parent, 0);
    }
    Ok(recorded)
}

fn shown_in<P: Pages>(p: &P, c: Addr, parent: Addr, hint: u64) -> Result<Option<Shown>> {
    let place = content::find(p, parent, c, hint, usize::MAX)?;
    Ok(place.map(|place| Shown { parent, place }))
}
