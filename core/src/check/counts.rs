//! The checks that need everything to be read first: reference counts, back references, homes, ids, and
//! segments that nothing refers to.

use super::graph::stamp;
use super::sparse::{Marks, PerContainer};
use super::state::{Note, State};
use crate::error::Result;
use crate::heap;
use crate::ids::Addr;
use crate::object::graph as objects;
use crate::object::header::{DOOMED, DRAINED, ORPHAN, SUSPECT};

/// The most segments without an owner that are reported singly.
const NAMED: usize = 20;

impl State<'_, '_> {
    pub(super) fn counts(&mut self) {
        let pages = self.containers.pages();
        self.begin("references", self.report.containers);
        let mut ids = Vec::with_capacity(self.report.containers as usize);
        let (mut wrong, mut good, mut trail) = (0u64, Marks::default(), Marks::default());
        good.add(self.root);
        for h in self.visited_on(&pages) {
            self.advance();
            let note = self.containers.get(h).copied().unwrap_or_default();
            match self.references(h, &note) {
                Ok(None) => {}
                // A reference in an unreadable part is missing here; that was already reported.
                Ok(Some(_)) if self.torn => wrong += 1,
                Ok(Some(what)) => self.find("references", what, h),
                Err(e) if !self.torn => self.fault("references", &e, h),
                Err(_) => wrong += 1,
            }
            if let Ok(identity) = objects::identity(self.p, h) {
                ids.push(identity.id);
            }
            self.home(h, &mut good, &mut trail);
        }
        self.end();
        if wrong > 0 {
            let what = format!(
                "{wrong} containers whose references do not add up, some or all because of the findings above"
            );
            self.report.find("references", what, None, None);
        }
        self.ids(ids, &pages);
        self.unclaimed();
    }

    /// Return the containers that were found, in address order.
    fn visited_on(&self, pages: &[u64]) -> Vec<Addr> {
        let places = pages.iter().flat_map(|&page| PerContainer::<Note>::places(page));
        places
            .filter(|&h| self.containers.get(h).is_some_and(|n| n.found))
            .collect()
    }

    /// Return the error in a container's references, if there is one.
    fn references(&self, h: Addr, note: &Note) -> Result<Option<String>> {
        let p = self.p;
        let identity = objects::identity(p, h)?;
        let real = u64::from(note.refs) + u64::from(h == self.root);
        if identity.refs != real {
            return Ok(Some(format!(
                "a reference count of {} where {real} refer to it",
                identity.refs
            )));
        }
        let listed = self.listed.has(h);
        if listed != (identity.flags & (ORPHAN | SUSPECT) != 0) {
            return Ok(Some(
                "a container that says it waits on a list and does not, or the reverse".into(),
            ));
        }
        if h != self.root && !listed && identity.home.is_none() && identity.flags & DRAINED == 0 {
            return Ok(Some("a container without a home that waits on no list".into()));
        }
        let (mut count, mut parents) = (u64::from(h == self.root), 0u64);
        if let Some((home, _)) = identity.home.filter(|_| h != self.root) {
            count += 1;
            parents = stamp(home);
        }
        objects::back_references(p, h, &mut |parent, n| {
            count = count.saturating_add(n);
            parents = parents.wrapping_add(stamp(parent).wrapping_mul(n));
        })?;
        if count != real {
            return Ok(Some(format!(
                "back references to {count} where {real} refer to it"
            )));
        }
        if parents != note.parents {
            return Ok(Some(
                "a home or back references that differ from its referrers".into(),
            ));
        }
        let drained = identity.flags & DRAINED != 0;
        if drained && (identity.flags & DOOMED == 0 || objects::len(p, h)? > 0 || real == 0) {
            return Ok(Some("an emptied container that is not empty garbage".into()));
        }
        Ok(None)
    }

    /// Check that homes lead to the root or to a container without one. `good` contains the containers known
    /// to do so; `trail` is empty before and after.
    fn home(&mut self, h: Addr, good: &mut Marks, trail: &mut Marks) {
        let home = |h: Addr| {
            objects::identity(self.p, h)
                .ok()
                .and_then(|identity| identity.home)
        };
        let mut at = Some(h);
        let mut cycle = None;
        while let Some(here) = at.filter(|&here| !good.has(here)) {
            if !trail.add(here) {
                cycle = Some(here);
                break;
            }
            at = home(here).map(|(home, _)| home);
        }
        let mut at = Some(h);
        while let Some(here) = at.filter(|&here| trail.has(here)) {
            trail.remove(here);
            good.add(here);
            at = home(here).map(|(home, _)| home);
        }
        if let Some(here) = cycle {
            self.find("references", "homes that form a cycle", here);
        }
    }

    /// Check that every container has a unique id, and one that was assigned.
    fn ids(&mut self, mut ids: Vec<u64>, pages: &[u64]) {
        ids.sort_unstable();
        let next = self.p.next_id();
        let strange = ids.first() == Some(&0) || ids.last().is_some_and(|&last| last >= next);
        let mut twice: Vec<u64> = ids.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
        drop(ids);
        twice.dedup();
        if !strange && twice.is_empty() {
            return;
        }
        for h in self.visited_on(pages) {
            let Ok(identity) = objects::identity(self.p, h) else {
                continue;
            };
            if identity.id == 0 || identity.id >= next {
                self.find(
                    "references",
                    format!("an id that was never given out: {}", identity.id),
                    h,
                );
            } else if twice.binary_search(&identity.id).is_ok() {
                self.find(
                    "references",
                    format!("an id that another container has too: {}", identity.id),
                    h,
                );
            }
        }
    }

    /// Report the segments that are allocated and have no owner.
    fn unclaimed(&mut self) {
        let (p, mut count) = (self.p, 0u64);
        let mut named = Vec::new();
        for n in 0..self.in_use {
            let Some(page) = p.nth(n).filter(|page| self.heap.has(page.addr())) else {
                continue;
            };
            for s in heap::page_segments(p, page).unwrap_or_default() {
                if s.allocated && !self.claimed.has(s.addr) {
                    count += 1;
                    if named.len() < NAMED {
                        named.push((s.addr, s.size));
                    }
                }
            }
        }
        if count > 0 && self.torn {
            let what = format!("{count} segments that nothing refers to, some or all because of the above");
            return self.report.find("heap", what, None, None);
        }
        for (at, size) in &named {
            let what = format!("a segment of {size} bytes that is allocated and belongs to nothing");
            self.report.find("heap", what, Some(at.0), None);
        }
        self.report.total += count - named.len() as u64;
    }
}
