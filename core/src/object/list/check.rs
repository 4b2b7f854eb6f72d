//! Verify the invariants of a list's body (see `super`), and enumerate its segments.
//!
//! Terminates on any bytes: no inner node is visited twice, and the depth is bounded.

use super::node::{Inner, LEAF_CAP, LEAF_TAG, Leaf, NODE, Root, child_addr, child_start, le};
use super::shrink::{INNER_MIN, LEAF_MIN};
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::Addr;
use crate::object::header::{self, Kind};
use crate::object::word::Word;
use crate::page::access::Pages;
use std::collections::HashSet;

/// Verify every invariant of the body of the list at `h`.
pub fn check<P: Pages>(p: &P, h: Addr) -> Result<()> {
    segments(p, h, &mut |_| Ok(()))
}

/// Check as `check` does, and call `visit` with every heap segment of the body. `visit` may end the walk with
/// an error (for instance for a segment seen before: two lists must not share any).
pub fn segments<P: Pages>(p: &P, h: Addr, visit: &mut dyn FnMut(Addr) -> Result<()>) -> Result<()> {
    if header::kind(p, h)? != Kind::List {
        return Err(Error::corrupt("no list where one is expected", h));
    }
    let root = Root::read(p, h)?;
    if root.body.is_null() {
        return Ok(());
    }
    let mut walk = Walk {
        p,
        seen: HashSet::new(),
        visit,
    };
    if root.height == 0 {
        super::grow::capacity(p, &root)?;
        return walk.leaf(root.word(), root.len, 0);
    }
    if Inner::read(p, root.body, root.height)?.n < 2 {
        return Err(Error::corrupt("a list that is deeper than need be", h));
    }
    walk.inner(root.word(), root.len, root.height, (true, true))
}

struct Walk<'a, P> {
    p: &'a P,
    seen: HashSet<Addr>,
    visit: &'a mut dyn FnMut(Addr) -> Result<()>,
}

impl<P: Pages> Walk<'_, P> {
    /// Check an inner node; `first` and `last`: it is the first or last of its level.
    fn inner(&mut self, word: u64, count: u64, height: usize, (first, last): (bool, bool)) -> Result<()> {
        let node = child_addr(word);
        if child_start(word) != 0 || heap::size_of(self.p, node)? < NODE {
            return Err(Error::corrupt("an inner node of a list that is none", node));
        }
        if !self.seen.insert(node) {
            return Err(Error::corrupt("an inner node of a list that is used twice", node));
        }
        (self.visit)(node)?;
        let inner = Inner::read(self.p, node, height)?;
        if !first && !last && inner.n < INNER_MIN {
            return Err(Error::corrupt("an inner node of a list that is too empty", node));
        }
        let mut left = count;
        for i in 0..inner.n {
            let ends = (first && i == 0, last && i + 1 == inner.n);
            let (word, count) = (inner.child_word(i), inner.count(i));
            left = left
                .checked_sub(count)
                .ok_or_else(|| Error::corrupt("an inner node of a list with wrong counts", node))?;
            if height > 1 {
                self.inner(word, count, height - 1, ends)?;
                continue;
            }
            if heap::size_of(self.p, child_addr(word))? < NODE {
                return Err(Error::corrupt("a list leaf in a small segment", child_addr(word)));
            }
            let min = if ends == (false, false) { LEAF_MIN } else { 1 };
            self.leaf(word, count, min)?;
        }
        if left != 0 {
            return Err(Error::corrupt("an inner node of a list with wrong counts", node));
        }
        Ok(())
    }

    /// Check a leaf of at least `min` items, whose slots are known to lie in its segment.
    fn leaf(&mut self, word: u64, count: u64, min: usize) -> Result<()> {
        let leaf = Leaf::of(word, count, 0)?;
        debug_assert!(leaf.start + leaf.n <= LEAF_CAP);
        if self.p.u8_at(leaf.addr)? != LEAF_TAG || leaf.n < min {
            return Err(Error::corrupt(
                "a list leaf that is none, or too empty",
                leaf.addr,
            ));
        }
        (self.visit)(leaf.addr)?;
        let items = leaf.items(self.p, 0, leaf.n)?;
        if items.chunks_exact(8).any(|b| Word(le(b, 0)).is_empty()) {
            return Err(Error::corrupt("a list with an empty item", leaf.addr));
        }
        Ok(())
    }
}
