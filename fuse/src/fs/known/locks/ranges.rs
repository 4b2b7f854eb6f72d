//! The locked byte ranges of one file: which ranges each owner holds, and which of them exclude a request.
//!
//! 1. The ranges of a group (an owner through one inode) are sorted, disjoint, and merged where they touch in one mode.
//! 2. A group without ranges does not exist. Groups are in the order in which their owners began to hold a range, since
//!    the kernel reports conflicts in this order.
//! 3. Ranges of one owner never exclude each other.

use persist_core::store::LockMode;

/// A locked byte range; both ends are included.
pub(crate) type Range = (u64, u64);

/// The whole file, as flock locks it.
pub(crate) const WHOLE: Range = (0, i64::MAX as u64);

/// A range that an owner holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HeldRange {
    /// The kernel's lock owner.
    pub(crate) owner: u64,
    /// The process that locked it.
    pub(crate) pid: u32,
    pub(crate) range: Range,
    pub(crate) mode: LockMode,
}

/// The requesting owner, and what its locks end with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    /// The kernel's lock owner.
    pub(crate) owner: u64,
    /// The inode through which it locks.
    pub(crate) ino: u64,
    /// The open file through which it locks.
    pub(crate) fh: u64,
    /// The process.
    pub(crate) pid: u32,
}

/// The ranges of one owner through one inode.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) owner: u64,
    pub(crate) ino: u64,
    pub(crate) pid: u32,
    /// The open files through which it locked.
    pub(crate) handles: Vec<u64>,
    ranges: Vec<(Range, LockMode)>,
}

/// The ranges of one file.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    groups: Vec<Group>,
}

fn excludes(held: LockMode, wanted: LockMode) -> bool {
    held == LockMode::Exclusive || wanted == LockMode::Exclusive
}

impl Group {
    /// The ranges that overlap this one.
    fn overlapping(&self, (start, end): Range) -> &[(Range, LockMode)] {
        let from = self.ranges.partition_point(|((_, e), _)| *e < start);
        let to = self.ranges.partition_point(|((s, _), _)| *s <= end);
        self.ranges.get(from..to).unwrap_or_default()
    }

    fn held(&self, (range, mode): (Range, LockMode)) -> HeldRange {
        HeldRange {
            owner: self.owner,
            pid: self.pid,
            range,
            mode,
        }
    }

    /// Lock a range in a mode, or unlock it. What overlaps it is cut, what touches it in the same mode is merged.
    fn set(&mut self, (start, end): Range, mode: Option<LockMode>) {
        let from = self.ranges.partition_point(|((_, e), _)| *e < start);
        let to = self.ranges.partition_point(|((s, _), _)| *s <= end);
        let mut between: Vec<(Range, LockMode)> = Vec::with_capacity(3);
        let mut push = |range: Range, mode: LockMode| match between.last_mut() {
            Some(last) if last.1 == mode && last.0.1.checked_add(1) == Some(range.0) => last.0.1 = range.1,
            _ => between.push((range, mode)),
        };
        // The neighbours may be merged with what is between them.
        let (low, high) = (from.saturating_sub(1), (to + 1).min(self.ranges.len()));
        if low < from {
            let (range, mode) = self.ranges[low];
            push(range, mode);
        }
        let cut = self.ranges.get(from..to).unwrap_or_default();
        if let Some(((s, _), m)) = cut.first()
            && *s < start
        {
            push((*s, start - 1), *m);
        }
        if let Some(mode) = mode {
            push((start, end), mode);
        }
        if let Some(((_, e), m)) = cut.last()
            && *e > end
        {
            push((end + 1, *e), *m);
        }
        if high > to {
            let (range, mode) = self.ranges[to];
            push(range, mode);
        }
        self.ranges.splice(low..high, between);
    }
}

impl Ranges {
    /// Return whether nothing is locked.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The groups.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// All ranges.
    pub(crate) fn all(&self) -> impl Iterator<Item = HeldRange> {
        self.groups
            .iter()
            .flat_map(|g| g.ranges.iter().map(|r| g.held(*r)))
    }

    /// The ranges of other owners that exclude this request.
    pub(crate) fn excluding(
        &self,
        owner: u64,
        range: Range,
        mode: LockMode,
    ) -> impl Iterator<Item = HeldRange> {
        self.groups
            .iter()
            .filter(move |g| g.owner != owner)
            .flat_map(move |g| {
                let overlapping = g.overlapping(range).iter();
                overlapping
                    .filter(move |(_, held)| excludes(*held, mode))
                    .map(|r| g.held(*r))
            })
    }

    /// The first range of this owner that overlaps another.
    pub(crate) fn own(&self, owner: u64, range: Range) -> Option<HeldRange> {
        let mut groups = self.groups.iter().filter(|g| g.owner == owner);
        groups.find_map(|g| g.overlapping(range).first().map(|r| g.held(*r)))
    }

    /// The process that an owner of ranges belongs to; 0 if it has none.
    pub(crate) fn user_of(&self, owner: u64) -> u32 {
        let group = self.groups.iter().find(|g| g.owner == owner);
        group.map_or(0, |g| g.pid)
    }

    /// The strongest mode in which an owner holds a range.
    pub(crate) fn strongest(&self, owner: u64) -> Option<LockMode> {
        let mut modes = self
            .groups
            .iter()
            .filter(|g| g.owner == owner)
            .flat_map(|g| g.ranges.iter().map(|(_, mode)| *mode));
        let first = modes.next()?;
        let exclusive = first == LockMode::Exclusive || modes.any(|mode| mode == LockMode::Exclusive);
        Some(if exclusive {
            LockMode::Exclusive
        } else {
            LockMode::Shared
        })
    }

    /// Lock a range in a mode, or unlock it. Nothing may exclude it.
    pub(crate) fn set(&mut self, origin: &Origin, range: Range, mode: Option<LockMode>) {
        let found = self
            .groups
            .iter()
            .position(|g| g.owner == origin.owner && g.ino == origin.ino);
        let at = match (found, mode) {
            (Some(at), _) => at,
            (None, None) => return,
            (None, Some(_)) => {
                self.groups.push(Group {
                    owner: origin.owner,
                    ino: origin.ino,
                    pid: origin.pid,
                    handles: Vec::new(),
                    ranges: Vec::new(),
                });
                self.groups.len() - 1
            }
        };
        let group = &mut self.groups[at];
        if mode.is_some() {
            group.pid = origin.pid;
            if !group.handles.contains(&origin.fh) {
                group.handles.push(origin.fh);
            }
        }
        group.set(range, mode);
        if group.ranges.is_empty() {
            self.groups.remove(at);
        }
    }

    /// Remove and return the groups that are chosen.
    pub(crate) fn take(&mut self, chosen: impl Fn(&Group) -> bool) -> Vec<Group> {
        self.groups.extract_if(.., |g| chosen(g)).collect()
    }

    /// Add groups that were taken from the table of another file.
    pub(crate) fn add(&mut self, groups: Vec<Group>) {
        self.groups.extend(groups);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LockMode::{Exclusive, Shared};
    use proptest::prelude::*;

    const SIZE: u64 = 24;

    fn origin(owner: u64) -> Origin {
        Origin {
            owner,
            ino: 1,
            fh: owner,
            pid: owner as u32,
        }
    }

    fn ranges_of(all: &Ranges, owner: u64) -> Vec<(Range, LockMode)> {
        all.all()
            .filter(|h| h.owner == owner)
            .map(|h| (h.range, h.mode))
            .collect()
    }

    #[test]
    fn a_range_is_split_merged_and_converted() {
        let mut all = Ranges::default();
        let me = origin(1);
        all.set(&me, (0, 29), Some(Shared));
        all.set(&me, (10, 19), Some(Exclusive));
        assert_eq!(
            ranges_of(&all, 1),
            [((0, 9), Shared), ((10, 19), Exclusive), ((20, 29), Shared)]
        );
        assert_eq!(all.strongest(1), Some(Exclusive));
        all.set(&me, (10, 19), Some(Shared));
        assert_eq!(ranges_of(&all, 1), [((0, 29), Shared)]);
        all.set(&me, (5, 5), None);
        assert_eq!(ranges_of(&all, 1), [((0, 4), Shared), ((6, 29), Shared)]);
        all.set(&me, WHOLE, Some(Exclusive));
        assert_eq!(ranges_of(&all, 1), [(WHOLE, Exclusive)]);
        all.set(&me, WHOLE, None);
        assert!(all.is_empty() && all.strongest(1).is_none());
        // The last byte that a request can name has no successor.
        all.set(&me, (u64::MAX, u64::MAX), Some(Shared));
        all.set(&me, (0, u64::MAX - 1), Some(Shared));
        assert_eq!(ranges_of(&all, 1), [((0, u64::MAX), Shared)]);
    }

    proptest! {
        /// The ranges are what an array of one mode for each byte and owner says.
        #[test]
        fn like_an_array_of_bytes(
            steps in prop::collection::vec((1u64..4, 0..SIZE, 0..SIZE, 0u8..3), 1..60),
        ) {
            let mut all = Ranges::default();
            let mut bytes = [[None; SIZE as usize]; 4];
            for (owner, a, b, mode) in steps {
                let (start, end) = (a.min(b), a.max(b));
                let mode = [None, Some(Shared), Some(Exclusive)][usize::from(mode)];
                if let Some(mode) = mode {
                    let taken = (1..4).any(|o| o != owner && (start..=end).any(|i| {
                        bytes[o as usize][i as usize].is_some_and(|held| excludes(held, mode))
                    }));
                    let found = all.excluding(owner, (start, end), mode).next();
                    prop_assert_eq!(found.is_some(), taken);
                    if let Some(held) = found {
                        let (s, e) = held.range;
                        prop_assert!(s <= end && e >= start && excludes(held.mode, mode));
                        for i in s..=e {
                            prop_assert_eq!(bytes[held.owner as usize][i as usize], Some(held.mode));
                        }
                        continue;
                    }
                }
                all.set(&origin(owner), (start, end), mode);
                for i in start..=end {
                    bytes[owner as usize][i as usize] = mode;
                }
                for owner in 1..4 {
                    let mut runs: Vec<(Range, LockMode)> = Vec::new();
                    for (i, mode) in bytes[owner as usize].iter().enumerate() {
                        let (i, Some(mode)) = (i as u64, *mode) else { continue };
                        match runs.last_mut() {
                            Some(((_, e), m)) if *m == mode && *e + 1 == i => *e = i,
                            _ => runs.push(((i, i), mode)),
                        }
                    }
                    prop_assert_eq!(ranges_of(&all, owner), runs);
                }
            }
        }
    }
}
