//! Walking a frozen checkpoint page by page: for backups and checks.
//!
//! 1. Every page is compared with its checksum. One that does not fit is an error in its place, one of the page
//!    table one for all that lies under it; the walk goes on behind it.
//! 2. Beside another checkpoint's tree, of which equal subtrees are skipped, it shows the pages that differ.
//! 3. It holds two pages of the page table a level, and nothing else.

use super::Pager;
use super::table::{Entry, FANOUT, MAX_HEIGHT, Tree};
use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::raw::file;

/// A logical page of a checkpoint.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PageView<'a> {
    /// The logical page.
    pub page: u64,
    /// The physical page (file offset / 4096).
    pub physical: u64,
    /// The epoch it was first written in.
    pub birth: u64,
    /// xxh3 of its bytes.
    pub checksum: u64,
    /// Its bytes. None: the other checkpoint has the page, this one has not (the numbers above are 0).
    pub bytes: Option<&'a [u8; PAGE_SIZE]>,
}

/// A page of a page table while it is walked.
#[derive(Clone, Copy, Debug)]
enum Node<'a> {
    None,
    /// Above the root of a tree of this height.
    Above(Entry, u32),
    Page(&'a [u8; PAGE_SIZE]),
}

/// What stands at a place of a tree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Entry(Entry),
    /// The tree is not so high: its root stands below.
    Above(Entry, u32),
}

impl Node<'_> {
    /// What entry `i` names, which stands at `level`.
    fn child(&self, level: u32, i: u64) -> Place {
        match *self {
            Node::Above(root, height) if i == 0 && height == level => Place::Entry(root),
            Node::Above(root, height) if i == 0 => Place::Above(root, height),
            Node::None | Node::Above(..) => Place::Entry(Entry::default()),
            Node::Page(page) => Place::Entry(Entry::read(page, i as usize)),
        }
    }
}

#[derive(Debug)]
struct Frame<'a> {
    mine: Node<'a>,
    other: Node<'a>,
    level: u32,
    base: u64,
    next: u64,
}

/// The pages of a frozen checkpoint, in order.
#[derive(Debug)]
pub struct PageWalk<'a> {
    mine: &'a Pager,
    other: &'a Pager,
    stack: Vec<Frame<'a>>,
}

impl Pager {
    /// All logical pages of a frozen opening; with `since`, those in which it differs from that other one of the
    /// same store.
    pub fn pages<'a>(&'a self, since: Option<&'a Pager>) -> Result<PageWalk<'a>> {
        let tree = |pager: &Pager| -> Result<Tree> {
            pager.slot()?;
            match &pager.frozen {
                Some(frozen) => Ok(frozen.tree),
                None => Err(Error::invalid(
                    "pages can be walked in a snapshot only: open the store at one",
                )),
            }
        };
        let (mine, other) = (tree(self)?, since.map_or(Ok(Tree::default()), tree)?);
        if since.is_some_and(|s| !self.is_same_file(s)) {
            return Err(Error::invalid(
                "only snapshots of one store file can be compared page by page",
            ));
        }
        let above = |tree: Tree| match tree.height.min(MAX_HEIGHT) {
            0 => Node::None,
            height => Node::Above(tree.root, height),
        };
        Ok(PageWalk {
            mine: self,
            other: since.unwrap_or(self),
            stack: vec![Frame {
                mine: above(mine),
                other: above(other),
                level: mine.height.max(other.height).min(MAX_HEIGHT) + 1,
                base: 0,
                next: 0,
            }],
        })
    }

    /// Of the same file, whatever its name.
    #[must_use]
    pub fn is_same_file(&self, other: &Pager) -> bool {
        matches!(
            (file::identity(&self.file), file::identity(&other.file)),
            (Ok(a), Ok(b)) if a == b
        )
    }
}

fn read(pager: &Pager, place: Place) -> Result<Node<'_>> {
    match place {
        Place::Above(root, height) => Ok(Node::Above(root, height)),
        Place::Entry(entry) if entry.phys == 0 => Ok(Node::None),
        Place::Entry(entry) => pager
            .verified(
                entry,
                "a page of the page table does not match its checksum (file offset)",
            )
            .map(Node::Page),
    }
}

fn view(pager: &Pager, page: u64, entry: Entry) -> Result<PageView<'_>> {
    let bytes = if entry.phys == 0 {
        None
    } else {
        Some(pager.verified(entry, "a page does not match its checksum (file offset)")?)
    };
    Ok(PageView {
        page,
        physical: u64::from(entry.phys),
        birth: u64::from(entry.birth),
        checksum: entry.sum,
        bytes,
    })
}

impl<'a> Iterator for PageWalk<'a> {
    type Item = Result<PageView<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let frame = self.stack.last_mut()?;
            if frame.next == FANOUT {
                self.stack.pop();
                continue;
            }
            let (i, level) = (frame.next, frame.level - 1);
            frame.next += 1;
            let base = frame.base + i * FANOUT.pow(level);
            let (mine, other) = (frame.mine.child(level, i), frame.other.child(level, i));
            if mine == other {
                continue;
            }
            if level == 0 {
                if let Place::Entry(entry) = mine {
                    return Some(view(self.mine, base, entry));
                }
                continue;
            }
            match (read(self.mine, mine), read(self.other, other)) {
                (Ok(mine), Ok(other)) => self.stack.push(Frame {
                    mine,
                    other,
                    level,
                    base,
                    next: 0,
                }),
                (Err(e), _) | (_, Err(e)) => return Some(Err(e)),
            }
        }
    }
}
