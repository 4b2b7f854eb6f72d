//! Verify the graph: counts, homes, back references and the two lists against the real content of the
//! containers. Iterative; memory is proportional to the number of containers and references. For the offline
//! checker and tests.

use super::lists::{Bits, List, ORPHANS, SUSPECTS};
use super::{Shown, annex, backs, content, root};
use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::object::header::{self, DETACHED, DOOMED, DRAINED, Kind};
use crate::object::word::{Tag, Word};
use crate::object::{entries, list, scalar};
use crate::page::access::Pages;
use std::collections::{HashMap, HashSet};

const NOT_A_MEMBER: &str = "a list of containers with a member that is not its own";

/// The result of the checker.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GraphReport {
    /// Every container that the root, an orphan or a suspect reaches: in a sound store, all containers.
    pub containers: Vec<Addr>,
    /// Words in containers that refer to containers.
    pub references: u64,
    /// Containers on the orphan list.
    pub orphans: u64,
    /// Containers on the suspect list.
    pub suspects: u64,
}

struct Seen {
    report: GraphReport,
    found: HashSet<Addr>,
    /// (child, parent) -> number of references.
    refs: HashMap<(Addr, Addr), u64>,
    total: HashMap<Addr, u64>,
}

/// Verify the invariants of the module `graph`. Reads the bodies, but does not verify them.
pub fn check_graph<P: Pages>(p: &P) -> Result<GraphReport> {
    let mut seen = Seen {
        report: GraphReport::default(),
        found: HashSet::new(),
        refs: HashMap::new(),
        total: HashMap::new(),
    };
    let root = root(p)?;
    seen.add(root);
    seen.report.orphans = seen.walk_list(p, ORPHANS, header::ORPHAN)?;
    seen.report.suspects = seen.walk_list(p, SUSPECTS, header::SUSPECT)?;
    seen.walk_contents(p)?;
    let mut ids = HashSet::new();
    for &h in &seen.report.containers {
        let id = p.u64_at(h + header::ID)?;
        if id == 0 || !ids.insert(id) {
            return Err(Error::corrupt("a container without an id of its own", h));
        }
        seen.check_references(p, h, h == root)?;
    }
    check_homes(p, &seen.report.containers, root)?;
    Ok(seen.report)
}

/// Verify the body of a container, and the scalars in it.
pub fn verify_body<P: Pages>(p: &P, h: Addr) -> Result<()> {
    if header::kind(p, h)? == Kind::List {
        list::check(p, h)?;
    } else {
        entries::verify(p, h, p.words(), &mut |_, _| Ok(()))?;
    }
    let verify = |word: Word| match word.as_container() {
        Some(_) => Ok(()),
        None => scalar::verify(p, word),
    };
    let (mut cursor, mut words) = (0, Vec::new());
    if header::kind(p, h)? != Kind::List {
        while let Some((next, key, word)) = entries::next(p, h, cursor)? {
            cursor = next;
            verify(key)?;
            verify(word)?;
        }
        return Ok(());
    }
    loop {
        words.clear();
        content::words(p, h, &mut cursor, 256, &mut words)?;
        words.iter().try_for_each(|word| verify(*word))?;
        if words.len() < 256 {
            return Ok(());
        }
    }
}

impl Seen {
    fn add(&mut self, h: Addr) {
        if self.found.insert(h) {
            self.report.containers.push(h);
        }
    }

    fn refer(&mut self, child: Addr, parent: Addr) {
        self.add(child);
        self.report.references += 1;
        *self.refs.entry((child, parent)).or_default() += 1;
        *self.total.entry(child).or_default() += 1;
    }

    fn walk_list<P: Pages>(&mut self, p: &P, list: List, flag: u8) -> Result<u64> {
        let mut members = HashSet::new();
        each_member(p, list, flag, &mut |h| {
            if !members.insert(h) {
                return Err(Error::corrupt(NOT_A_MEMBER, h));
            }
            self.add(h);
            Ok(())
        })
    }

    fn walk_contents<P: Pages>(&mut self, p: &P) -> Result<()> {
        let mut at = 0;
        let mut words = Vec::new();
        while let Some(&h) = self.report.containers.get(at) {
            at += 1;
            let mut parent = h;
            if Bits::read(p, h)?.has(DETACHED) {
                parent = Addr(p.u64_at(h + header::MTIME)?);
                self.refer(parent, h);
            }
            let (mut cursor, mut n) = (0, 0);
            loop {
                words.clear();
                content::words(p, h, &mut cursor, 256, &mut words)?;
                n += words.len() as u64;
                for &word in &words {
                    if word.is_empty() || !word.is_float() && word.tag() == Tag::Bad {
                        return Err(Error::corrupt("a container with a word that is not a value", h));
                    }
                    if let Some(child) = word.as_container() {
                        self.refer(child, parent);
                    }
                }
                if words.len() < 256 {
                    break;
                }
            }
            let hidden = annex::hidden(p, h)?
                .iter()
                .filter(|hidden| !hidden.is_null())
                .count();
            if content::len(p, h)? + hidden as u64 != n {
                return Err(Error::corrupt("a container with a wrong length", h));
            }
        }
        Ok(())
    }

    /// Check invariant 1.
    fn check_references<P: Pages>(&self, p: &P, h: Addr, is_root: bool) -> Result<()> {
        let bits = Bits::read(p, h)?;
        let total = self.total.get(&h).copied().unwrap_or(0) + u64::from(is_root);
        if u64::from(bits.refs()) != total {
            return Err(Error::corrupt("a container with a wrong reference count", h));
        }
        let mut counted = u64::from(is_root);
        let homed = bits.homed() && !is_root;
        let home = Addr(p.u64_at(h + header::HOME)?);
        if homed {
            counted += 1;
            if !self.refs.contains_key(&(h, home)) {
                return Err(Error::corrupt("a container whose home does not refer to it", h));
            }
        }
        let (mut cursor, mut parents) = (0, HashSet::new());
        while let Some((parent, n)) = backs::next(p, h, &mut cursor)? {
            let as_home = u64::from(homed && parent == home);
            let real = self.refs.get(&(h, parent)).copied().unwrap_or(0);
            if !parents.insert(parent) || n.checked_add(as_home) != Some(real) {
                return Err(Error::corrupt("a container with a wrong back reference", h));
            }
            counted += n;
        }
        if counted != total {
            return Err(Error::corrupt("a container with missing back references", h));
        }
        if bits.has(DRAINED) && (!bits.has(DOOMED) || content::len(p, h)? > 0 || total == 0) {
            return Err(Error::corrupt(
                "an emptied container that is not empty garbage",
                h,
            ));
        }
        Ok(())
    }
}

/// Check invariant 2: homes lead to the root or to a container without one.
fn check_homes<P: Pages>(p: &P, containers: &[Addr], root: Addr) -> Result<()> {
    let mut good: HashSet<Addr> = HashSet::from([root]);
    let mut trail = HashSet::new();
    for &start in containers {
        let mut h = start;
        while !good.contains(&h) {
            if !trail.insert(h) {
                return Err(Error::corrupt("homes that form a cycle", h));
            }
            if !Bits::read(p, h)?.homed() {
                break;
            }
            h = Addr(p.u64_at(h + header::HOME)?);
        }
        good.extend(trail.drain());
    }
    Ok(())
}

/// The fields of a container's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its kind.
    pub kind: Kind,
    /// Its flags.
    pub flags: u8,
    /// Its reference count.
    pub refs: u64,
    /// Its id.
    pub id: u64,
    /// Its home and the hint, if the header has one.
    pub home: Option<(Addr, u64)>,
}

/// Read a header.
pub fn identity<P: Pages>(p: &P, h: Addr) -> Result<Identity> {
    let bits = Bits::read(p, h)?;
    let home = Addr(p.u64_at(h + header::HOME)?);
    let hint = p.u64_at(h + header::HINT)?;
    Ok(Identity {
        kind: bits.kind(),
        flags: bits.flags(),
        refs: u64::from(bits.refs()),
        id: p.u64_at(h + header::ID)?,
        home: (bits.homed() && !home.is_null()).then_some((home, hint)),
    })
}

/// Return the container that owns this content: itself, unless it was detached from another.
pub fn holder<P: Pages>(p: &P, h: Addr) -> Result<Addr> {
    if Bits::read(p, h)?.has(DETACHED) {
        return Ok(Addr(p.u64_at(h + header::MTIME)?));
    }
    Ok(h)
}

/// Call `f` with the members of the two lists, orphans first; `f` returns an error for a member seen before.
/// Return the lengths of the lists.
pub fn members<P: Pages>(p: &P, f: &mut dyn FnMut(Addr) -> Result<()>) -> Result<[u64; 2]> {
    Ok([
        each_member(p, ORPHANS, header::ORPHAN, f)?,
        each_member(p, SUSPECTS, header::SUSPECT, f)?,
    ])
}

fn each_member<P: Pages>(p: &P, list: List, flag: u8, f: &mut dyn FnMut(Addr) -> Result<()>) -> Result<u64> {
    let first = list.first(p)?;
    let (mut h, mut n) = (first, 0);
    while !h.is_null() {
        if !Bits::read(p, h)?.has(flag) {
            return Err(Error::corrupt(NOT_A_MEMBER, h));
        }
        let next = list.linked(p, h, header::HINT)?;
        if p.u64_at(next + header::HOME)? != h.0 {
            return Err(Error::corrupt("a list of containers with a wrong link", h));
        }
        f(h)?;
        n += 1;
        h = if next == first { Addr::NULL } else { next };
    }
    if list.len(p)? != n {
        return Err(Error::corrupt("a list of containers with a wrong length", first));
    }
    Ok(n)
}

/// Call `f` with the parents in the back references of a container and their counts.
pub fn back_references<P: Pages>(p: &P, h: Addr, f: &mut dyn FnMut(Addr, u64)) -> Result<()> {
    let mut cursor = 0;
    while let Some((parent, n)) = backs::next(p, h, &mut cursor)? {
        f(parent, n);
    }
    Ok(())
}

/// Return the place at which the recorded home shows a container, examining at most about `max` of its
/// entries.
pub fn place_in_home<P: Pages>(p: &P, h: Addr, max: usize) -> Result<Option<Shown>> {
    let Some((parent, hint)) = identity(p, h)?.home else {
        return Ok(None);
    };
    let place = content::find(p, parent, h, hint, max)?;
    Ok(place.map(|place| Shown { parent, place }))
}

/// Return the number of entries according to the container's header.
pub fn len<P: Pages>(p: &P, h: Addr) -> Result<u64> {
    content::len(p, h)
}

/// Return the segments that belong to the graph layer itself: the header, the annex, and that of the back references.
/// If those are a dict, return its header too, to be walked as one: `(address, is a dict)`.
pub fn own_segments<P: Pages>(p: &P, h: Addr) -> Result<Vec<(Addr, bool)>> {
    Kind::of(p.u8_at(h)?).ok_or_else(|| Error::corrupt("no container where one is referred to", h))?;
    let mut segments = vec![(h, false)];
    segments.extend(annex::segment(p, h)?.map(|at| (at, false)));
    segments.extend(backs::segment(p, h)?);
    Ok(segments)
}
