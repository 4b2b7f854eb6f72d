//! Salvage of a list's body (see `object::salvage`): items keep their indices, as far as the counts above the
//! lost parts can be read.

use super::node::{Inner, Leaf, Root, child_addr, le};
use crate::error::Result;
use crate::ids::Addr;
use crate::object::pieces::{Fresh, Lost, Out, Piece};
use crate::object::word::Word;
use crate::page::access::Pages;

/// See `object::salvage::content`.
pub fn salvage<P: Pages>(p: &P, h: Addr, fresh: Fresh<'_>, out: Out<'_>) -> Result<()> {
    let root = match Root::read(p, h) {
        Ok(root) => root,
        Err(e) => return out(Piece::Lost(Lost::of(&e, h))),
    };
    if root.body.is_null() {
        return Ok(());
    }
    let mut walk = Walk { p, fresh, out };
    walk.node(root.word(), root.len, root.height, 0)
}

struct Walk<'a, 'f, P> {
    p: &'a P,
    fresh: Fresh<'f>,
    out: Out<'f>,
}

impl<P: Pages> Walk<'_, '_, P> {
    fn lost(&mut self, lost: Lost, index: u64, count: u64) -> Result<()> {
        (self.out)(Piece::Lost(Lost { index, count, ..lost }))
    }

    /// Salvage the items under a child word, the first of which has this index. The depth is bounded by the
    /// height that a list's header may have.
    fn node(&mut self, word: u64, count: u64, height: usize, index: u64) -> Result<()> {
        let at = child_addr(word);
        if !(self.fresh)(at) {
            return self.lost(Lost::twice(at), index, count);
        }
        if height == 0 {
            return self.leaf(word, count, index);
        }
        let p = self.p;
        let inner = match Inner::read(p, at, height) {
            Ok(inner) => inner,
            Err(e) => return self.lost(Lost::of(&e, at), index, count),
        };
        let mut index = index;
        for i in 0..inner.n {
            let below = inner.count(i);
            self.node(inner.child_word(i), below, height - 1, index)?;
            index = index.saturating_add(below);
        }
        Ok(())
    }

    fn leaf(&mut self, word: u64, count: u64, index: u64) -> Result<()> {
        let p = self.p;
        let at = child_addr(word);
        let items = Leaf::of(word, count, 0).and_then(|leaf| {
            leaf.verify(p)?;
            leaf.items(p, 0, leaf.n)
        });
        let items = match items {
            Ok(items) => items,
            Err(e) => return self.lost(Lost::of(&e, at), index, count),
        };
        for (i, b) in items.chunks_exact(8).enumerate() {
            let (i, word) = (index.saturating_add(i as u64), Word(le(b, 0)));
            if word.is_empty() {
                let what = "a list with an empty item";
                self.lost(
                    Lost {
                        what,
                        at,
                        index: i,
                        count: 1,
                    },
                    i,
                    1,
                )?;
            } else {
                (self.out)(Piece::Item(i, word))?;
            }
        }
        Ok(())
    }
}
