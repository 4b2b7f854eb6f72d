//! Page tables as streams: reading the entries of a table in order, and building a table in order. They serve code that
//! copies or compares whole checkpoints in bounded memory, from the file alone.
//!
//! 1. A walk reads each page of a table by a system call and compares it with the checksum in its parent. A page that
//!    does not match gives an error at its place for everything under it; the walk continues after it.
//! 2. Beside another table, a walk skips equal subtrees and returns the entries that differ.
//! 3. A walk holds two table pages per level, and reads no more of them than the file has, so it ends however they are
//!    linked.
//! 4. A builder holds one page per level. It emits a page of the table as soon as the page is full, after all pages
//!    below it. So data pages and table can be written to a pipe as they are produced.

use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::page::format::page_table::{Entry, FANOUT, MAX_HEIGHT, Tree, covers};
use crate::raw::files::held::Using;
use crate::raw::files::place::read_past_cache;
use std::fs::File;
use std::io::IoSliceMut;
use xxhash_rust::xxh3::xxh3_64;

pub(crate) const BAD_NODE: &str = "a page of the page table does not match its checksum (file offset)";
pub(crate) const BAD_PAGE: &str = "a page does not match its checksum (file offset)";

/// A page of a page table during a walk.
enum Node {
    None,
    /// Above the root of a tree of this height.
    Above(Entry, u32),
    Page(Box<[u8; PAGE_SIZE]>),
}

/// The content of a place of a tree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Entry(Entry),
    /// The tree is lower: its root is below.
    Above(Entry, u32),
}

impl Node {
    /// Return the child at entry `i`, which lies at `level`.
    fn child(&self, level: u32, i: u64) -> Place {
        match self {
            Node::Above(root, height) if i == 0 && *height == level => Place::Entry(*root),
            Node::Above(root, height) if i == 0 => Place::Above(*root, *height),
            Node::None | Node::Above(..) => Place::Entry(Entry::default()),
            Node::Page(page) => Place::Entry(Entry::read(page, i as usize)),
        }
    }
}

struct Frame {
    mine: Node,
    other: Node,
    level: u32,
    base: u64,
    next: u64,
}

/// The entries of a page table in order, or those that differ from another table of the same file. An entry without a
/// physical page: the other table has the logical page and this one does not.
pub(crate) struct EntryWalk<'a> {
    file: Using<'a>,
    pages: u64,
    /// Number of table pages that may still be read.
    left: u64,
    stack: Vec<Frame>,
}

impl std::fmt::Debug for EntryWalk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryWalk")
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}

fn corrupt(what: &'static str, physical: u32) -> Error {
    Error::Corrupt {
        what,
        at: u64::from(physical) * PAGE_SIZE as u64,
    }
}

impl<'a> EntryWalk<'a> {
    /// Create a walk over a file of `pages` pages.
    pub(crate) fn new(file: impl Into<Using<'a>>, pages: u64, mine: Tree, other: Tree) -> EntryWalk<'a> {
        let above = |tree: Tree| match tree.height.min(MAX_HEIGHT) {
            0 => Node::None,
            height => Node::Above(tree.root, height),
        };
        EntryWalk {
            file: file.into(),
            pages,
            left: pages * 2,
            stack: vec![Frame {
                mine: above(mine),
                other: above(other),
                level: mine.height.max(other.height).min(MAX_HEIGHT) + 1,
                base: 0,
                next: 0,
            }],
        }
    }

    fn read(&mut self, place: Place) -> Result<Node> {
        let entry = match place {
            Place::Above(root, height) => return Ok(Node::Above(root, height)),
            Place::Entry(entry) if entry.physical == 0 => return Ok(Node::None),
            Place::Entry(entry) => entry,
        };
        if self.left == 0 {
            self.stack.clear();
            return Err(corrupt(
                "a page table larger than its file (offset)",
                entry.physical,
            ));
        }
        self.left -= 1;
        let mut page = Box::new([0; PAGE_SIZE]);
        read_pages(
            &self.file,
            self.pages,
            &[(0, entry)],
            page.as_mut_slice(),
            BAD_NODE,
        )?;
        Ok(Node::Page(page))
    }
}

impl Iterator for EntryWalk<'_> {
    type Item = Result<(u64, Entry)>;

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
                    return Some(Ok((base, entry)));
                }
                continue;
            }
            let read = self.read(mine).and_then(|mine| Ok((mine, self.read(other)?)));
            match read {
                Ok((mine, other)) => self.stack.push(Frame {
                    mine,
                    other,
                    level,
                    base,
                    next: 0,
                }),
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// Read consecutive physical pages of a file of `pages` pages into `bytes`, and compare them with their checksums.
/// `what` describes a page that does not match. Neighbours in the file are read together.
pub(crate) fn read_pages(
    file: &File,
    pages: u64,
    entries: &[(u64, Entry)],
    bytes: &mut [u8],
    what: &'static str,
) -> Result<()> {
    let mut places: Vec<Option<&mut [u8]>> = bytes.chunks_exact_mut(PAGE_SIZE).map(Some).collect();
    let mut order: Vec<usize> = (0..entries.len()).collect();
    let physical = |i: usize| entries[i].1.physical;
    order.sort_by_key(|i| physical(*i));
    let mut rest = order.as_slice();
    while let Some(&first) = rest.first() {
        if physical(first) < 2 || u64::from(physical(first)) >= pages {
            return Err(corrupt("a page number beyond the file (offset)", physical(first)));
        }
        let mut count = 1;
        while count < rest.len()
            && u64::from(physical(rest[count])) == u64::from(physical(first)) + count as u64
        {
            count += 1;
        }
        let (run, later) = rest.split_at(count);
        let mut pieces: Vec<IoSliceMut<'_>> = run
            .iter()
            .filter_map(|i| places.get_mut(*i)?.take())
            .map(IoSliceMut::new)
            .collect();
        let at = u64::from(physical(first)) * PAGE_SIZE as u64;
        let n = read_past_cache(file, &mut pieces, at)
            .map_err(|e| Error::io(format!("cannot read the store file at offset {at:#x}"), e))?;
        if n < (count * PAGE_SIZE) as u64 {
            let missing = physical(first) + (n / PAGE_SIZE as u64) as u32;
            return Err(corrupt("a page beyond the end of the file (offset)", missing));
        }
        rest = later;
    }
    for ((_, entry), page) in entries.iter().zip(bytes.chunks_exact(PAGE_SIZE)) {
        if xxh3_64(page) != entry.sum {
            return Err(corrupt(what, entry.physical));
        }
    }
    Ok(())
}

/// Builds a page table in order. Pages of the file are numbered as they are emitted.
pub(crate) struct Builder {
    height: u32,
    birth: u32,
    /// The next physical page.
    next: u64,
    /// The unfinished page of each level, from the leaves up, and its number in its level.
    levels: Vec<Option<(u64, Box<[u8; PAGE_SIZE]>)>>,
}

impl Builder {
    /// Create a builder. Pages begin at physical page `first`, and were first written in epoch `birth`.
    pub(crate) fn new(height: u32, birth: u32, first: u64) -> Builder {
        let height = height.min(MAX_HEIGHT);
        Builder {
            height,
            birth,
            next: first,
            levels: vec![None; height as usize],
        }
    }

    fn number(&mut self) -> Result<u32> {
        let physical = u32::try_from(self.next)
            .ok()
            .filter(|p| u64::from(*p) < crate::page::shared::layout::MAX_PAGES);
        self.next += 1;
        physical.ok_or(Error::TooMany {
            what: "pages of a store",
            limit: crate::page::shared::layout::MAX_PAGES as usize,
        })
    }

    /// Append the next logical page, whose bytes follow the pages emitted so far. Return its physical page.
    pub(crate) fn append(
        &mut self,
        page: u64,
        sum: u64,
        out: &mut impl FnMut(&[u8; PAGE_SIZE]) -> Result<()>,
    ) -> Result<u32> {
        self.close_before(page, out)?;
        let physical = self.number()?;
        self.put(page, physical, sum)?;
        Ok(physical)
    }

    /// Append the next logical page, whose bytes are already in the file.
    pub(crate) fn name(
        &mut self,
        page: u64,
        physical: u32,
        sum: u64,
        out: &mut impl FnMut(&[u8; PAGE_SIZE]) -> Result<()>,
    ) -> Result<()> {
        self.close_before(page, out)?;
        self.put(page, physical, sum)
    }

    fn put(&mut self, page: u64, physical: u32, sum: u64) -> Result<()> {
        if page >= covers(self.height) {
            return Err(Error::Corrupt {
                what: "a page beyond its page table (logical page)",
                at: page,
            });
        }
        let birth = self.birth;
        self.put_at(0, page, Entry { physical, birth, sum });
        Ok(())
    }

    fn put_at(&mut self, level: usize, index: u64, entry: Entry) {
        let (number, page) =
            self.levels[level].get_or_insert_with(|| (index / FANOUT, Box::new([0; PAGE_SIZE])));
        debug_assert_eq!(*number, index / FANOUT);
        entry.write(page, (index % FANOUT) as usize);
    }

    /// Emit the table pages that lie completely before a logical page.
    fn close_before(
        &mut self,
        page: u64,
        out: &mut impl FnMut(&[u8; PAGE_SIZE]) -> Result<()>,
    ) -> Result<()> {
        for level in 0..self.levels.len() {
            let here = page / FANOUT.pow(level as u32 + 1);
            if self.levels[level]
                .as_ref()
                .is_some_and(|(number, _)| *number != here)
            {
                self.close(level, out)?;
            }
        }
        Ok(())
    }

    fn close(&mut self, level: usize, out: &mut impl FnMut(&[u8; PAGE_SIZE]) -> Result<()>) -> Result<Entry> {
        let Some((number, page)) = self.levels[level].take() else {
            return Ok(Entry::default());
        };
        out(&page)?;
        let entry = Entry {
            physical: self.number()?,
            birth: self.birth,
            sum: xxh3_64(page.as_slice()),
        };
        if level + 1 < self.levels.len() {
            self.put_at(level + 1, number, entry);
        }
        Ok(entry)
    }

    /// Emit the remaining table pages, the root last.
    pub(crate) fn finish(
        mut self,
        out: &mut impl FnMut(&[u8; PAGE_SIZE]) -> Result<()>,
    ) -> Result<(Tree, u64)> {
        let mut root = Entry::default();
        for level in 0..self.levels.len() {
            root = self.close(level, out)?;
        }
        let tree = Tree {
            root,
            height: self.height,
        };
        Ok((tree, self.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    /// Write a table of these pages, each filled with one byte. Return what its walk must produce.
    fn built(file: &File, height: u32, first: u64, pages: &[(u64, u8)]) -> (Tree, u64, Vec<(u64, Entry)>) {
        let mut builder = Builder::new(height, 1, first);
        let mut want = Vec::new();
        // The builder must emit its pages and these pages in the order of their numbers.
        let mut at = first;
        for (page, fill) in pages {
            let bytes = [*fill; PAGE_SIZE];
            let sum = xxh3_64(&bytes);
            let physical = builder
                .append(*page, sum, &mut |node| {
                    file.write_all_at(node, at * PAGE_SIZE as u64).unwrap();
                    at += 1;
                    Ok(())
                })
                .unwrap();
            assert_eq!(u64::from(physical), at);
            file.write_all_at(&bytes, at * PAGE_SIZE as u64).unwrap();
            at += 1;
            want.push((
                *page,
                Entry {
                    physical,
                    birth: 1,
                    sum,
                },
            ));
        }
        let (tree, next) = builder
            .finish(&mut |node| {
                file.write_all_at(node, at * PAGE_SIZE as u64).unwrap();
                at += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(at, next);
        (tree, next, want)
    }

    #[test]
    fn what_is_built_is_walked() {
        let cases: &[(u32, &[u64])] = &[
            (1, &[0]),
            (1, &[255]),
            (2, &[0, 1, 255, 256, 65535]),
            (3, &[0, 65536, 65537, 1 << 20]),
            (4, &[3, 70_000, (1 << 28) - 1]),
            (4, &[0]),
            (2, &[]),
        ];
        for (height, pages) in cases {
            let file = tempfile::tempfile().unwrap();
            let pages: Vec<_> = pages.iter().enumerate().map(|(i, p)| (*p, i as u8 + 1)).collect();
            let (tree, end, want) = built(&file, *height, 2, &pages);
            let walk = EntryWalk::new(&file, end, tree, Tree::default());
            let found: Vec<_> = walk.collect::<Result<_>>().unwrap();
            assert_eq!(found, want);
            let mut bytes = vec![0; found.len() * PAGE_SIZE];
            read_pages(&file, end, &found, &mut bytes, BAD_PAGE).unwrap();
            for (page, (_, fill)) in bytes.chunks_exact(PAGE_SIZE).zip(&pages) {
                assert!(page.iter().all(|b| b == fill));
            }
        }
        let mut builder = Builder::new(2, 1, 2);
        let e = builder.append(65536, 0, &mut |_| Ok(())).unwrap_err();
        assert!(matches!(e, Error::Corrupt { .. }));
    }

    #[test]
    fn differences_between_tables_of_any_heights() {
        let file = tempfile::tempfile().unwrap();
        let (low, end, in_low) = built(&file, 1, 2, &[(0, 1), (7, 2), (9, 3)]);
        let (high, end, in_high) = built(&file, 3, end, &[(7, 4), (300, 5), (65536, 6)]);
        let walk = |a, b| -> Vec<_> { EntryWalk::new(&file, end, a, b).collect::<Result<_>>().unwrap() };
        assert!(walk(low, low).is_empty() && walk(high, high).is_empty());
        let gone = |page| (page, Entry::default());
        let up = [gone(0), in_high[0], gone(9), in_high[1], in_high[2]];
        assert_eq!(walk(high, low), up);
        let down = [in_low[0], in_low[1], in_low[2], gone(300), gone(65536)];
        assert_eq!(walk(low, high), down);
    }

    #[test]
    fn damage_and_cycles_end() {
        let file = tempfile::tempfile().unwrap();
        let (tree, end, _) = built(&file, 2, 2, &[(0, 1), (300, 2)]);
        // Pages 2: data, 3: leaf, 4: data, 5: leaf, 6: root.
        file.write_all_at(&[9], 3 * PAGE_SIZE as u64 + 99).unwrap();
        let found: Vec<_> = EntryWalk::new(&file, end, tree, Tree::default()).collect();
        assert!(matches!(
            found[0],
            Err(Error::Corrupt {
                what: BAD_NODE,
                at: 12288
            })
        ));
        assert_eq!(found[1].as_ref().unwrap().0, 300);
        let mut bytes = [0; PAGE_SIZE];
        let entry = |physical, sum| {
            [(
                0,
                Entry {
                    physical,
                    birth: 1,
                    sum,
                },
            )]
        };
        for physical in [0, 1, 7, u32::MAX] {
            assert!(read_pages(&file, end, &entry(physical, 0), &mut bytes, BAD_PAGE).is_err());
        }
        // The entry names a page past the end of the file.
        assert!(read_pages(&file, 99, &entry(50, 0), &mut bytes, BAD_PAGE).is_err());
        assert!(read_pages(&file, end, &entry(2, 0), &mut bytes, BAD_PAGE).is_err());

        // A table in which every entry names the same child page: 16 million leaves in five pages.
        let file = tempfile::tempfile().unwrap();
        let mut below = Entry {
            physical: 2,
            birth: 1,
            sum: xxh3_64(&[1; PAGE_SIZE]),
        };
        for level in 0..4u32 {
            let mut page = [0; PAGE_SIZE];
            for i in 0..FANOUT as usize {
                below.write(&mut page, i);
            }
            below = Entry {
                physical: 3 + level,
                birth: 1,
                sum: xxh3_64(&page),
            };
            file.write_all_at(&page, u64::from(below.physical) * PAGE_SIZE as u64)
                .unwrap();
        }
        let tree = Tree {
            root: below,
            height: 4,
        };
        let walk = EntryWalk::new(&file, 7, tree, Tree::default());
        let found: Vec<_> = walk.take(100_000).collect();
        assert!(found.len() < 10_000);
        assert!(matches!(found.last(), Some(Err(Error::Corrupt { .. }))));
    }
}
