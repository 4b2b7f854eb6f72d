//! Write backups.
//!
//! A full backup is a store file. It begins with two meta pages of the same content (checkpoints 2 and 1, so
//! that either may be damaged). Then follow, for each leaf of the page table, the pages it names and the leaf
//! itself; inner pages of the table follow as soon as they are full, and the root is last. The place of a
//! page follows from the pages before it. So one walk over the table computes the root, and a second one
//! writes everything in order. The file has no free pages.

use super::format::{HEAD, Head, Header};
use super::progress::{Done, stopped};
use crate::check::Watch;
use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::page::Pager;
use crate::page::checkpoint::reading::view::FrozenState;
use crate::page::format::meta::{Meta, Origin};
use crate::page::format::page_table::{Entry, FANOUT, Tree};
use crate::page::format::walk::{Builder, EntryWalk};
use crate::raw::failpoint::fail_point;
use crate::raw::files::place::write_error;
use crate::raw::process;
use std::io::{self, Write};
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The checkpoint in a fresh full backup, in meta page 0. The previous checkpoint has the same content.
pub(super) const CHECKPOINT: u64 = 2;

/// The destination of a backup.
pub(super) struct Flow<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) bytes: u64,
    pub(super) stop: Option<&'a Arc<AtomicBool>>,
    pub(super) watch: &'a mut dyn Watch,
}

pub(super) fn cannot_write(e: io::Error) -> Error {
    match e.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => write_error("the backup", e),
        _ => Error::io("cannot write the backup", e),
    }
}

impl Flow<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(cannot_write)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Adjacent pages: those of one leaf of the page table.
pub(super) struct Batch {
    pub(super) entries: Vec<(u64, Entry)>,
    bytes: Vec<u8>,
}

impl Batch {
    pub(super) fn new() -> Batch {
        Batch {
            entries: Vec::with_capacity(FANOUT as usize),
            bytes: vec![0; FANOUT as usize * PAGE_SIZE],
        }
    }

    /// Read the next entries of a walk. Return false at the end.
    pub(super) fn next(&mut self, walk: &mut Peekable<EntryWalk<'_>>) -> Result<bool> {
        self.entries.clear();
        while let Some(found) = walk.next() {
            let entry = found?;
            self.entries.push(entry);
            let next = walk.peek().and_then(|next| next.as_ref().ok());
            if next.is_none_or(|next| next.0 / FANOUT != entry.0 / FANOUT) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Return the entries, and a buffer for their pages.
    pub(super) fn room(&mut self) -> (&[(u64, Entry)], &mut [u8]) {
        (&self.entries, &mut self.bytes[..self.entries.len() * PAGE_SIZE])
    }

    fn pages(&self) -> impl Iterator<Item = (u64, Entry, &[u8])> {
        let pages = self.bytes.chunks_exact(PAGE_SIZE);
        self.entries.iter().zip(pages).map(|(e, page)| (e.0, e.1, page))
    }
}

fn frozen_state(pager: &Pager) -> Result<FrozenState> {
    pager.frozen_state().ok_or_else(|| {
        Error::invalid("only a snapshot, or a store that no process changes, can be backed up")
    })
}

/// A limit for the entries of a table: no more than its file has pages, all within the table.
struct Limit {
    logical: u64,
    left: u64,
}

impl Limit {
    fn of(state: &FrozenState) -> Limit {
        Limit {
            logical: state.logical,
            left: state.file_pages,
        }
    }

    fn take(&mut self, page: u64, entry: Entry) -> Result<()> {
        let at = u64::from(entry.physical) * PAGE_SIZE as u64;
        if page >= self.logical {
            return Err(Error::Corrupt {
                what: "a page beyond the store's logical pages (file offset)",
                at,
            });
        }
        self.left = self.left.checked_sub(1).ok_or(Error::Corrupt {
            what: "more logical pages than the file has pages (file offset)",
            at,
        })?;
        Ok(())
    }
}

/// Return both meta pages of a file that holds one state.
pub(super) fn metas(meta: &Meta) -> [[u8; PAGE_SIZE]; 2] {
    [CHECKPOINT, CHECKPOINT - 1].map(|checkpoint| Meta { checkpoint, ..*meta }.encode())
}

/// Return a meta page for a file of its own.
pub(super) fn new_meta(origin: Origin, tree: Tree, file_pages: u64) -> Meta {
    Meta {
        uuid: [process::random_u64(), process::random_u64()],
        root: tree.root.physical,
        height: tree.height,
        root_sum: tree.root.sum,
        file_pages,
        origin,
        ..Meta::default()
    }
}

/// Write a full backup.
pub(super) fn full(pager: &Pager, flow: &mut Flow<'_>) -> Result<Done> {
    let state = frozen_state(pager)?;
    let builder = || Builder::new(state.tree.height, 1, 2);
    let mut first = builder();
    let (mut limit, mut count) = (Limit::of(&state), 0u64);
    for found in pager.entries(None)? {
        let (page, entry) = found?;
        limit.take(page, entry)?;
        first.append(page, entry.sum, &mut |_| Ok(()))?;
        count += 1;
        if count.is_multiple_of(FANOUT) {
            stopped(flow.stop)?;
        }
    }
    let (tree, end) = first.finish(&mut |_| Ok(()))?;
    flow.watch.begin("backup", count);
    fail_point!("backup.walked");

    let meta = Meta {
        logical: state.logical,
        next_id: state.next_id,
        seed: state.seed,
        ..new_meta(state.origin, tree, end)
    };
    for page in metas(&meta) {
        flow.put(&page)?;
    }
    let mut second = builder();
    let mut walk = pager.entries(None)?.peekable();
    let mut batch = Batch::new();
    while batch.next(&mut walk)? {
        stopped(flow.stop)?;
        let (entries, bytes) = batch.room();
        pager.read_entries(entries, bytes)?;
        for (page, entry, _) in batch.pages() {
            // The pages before it are output with the first of them.
            second.append(page, entry.sum, &mut |node| flow.put(node))?;
        }
        fail_point!("backup.pages");
        let len = batch.entries.len();
        flow.put(&batch.bytes[..len * PAGE_SIZE])?;
        flow.watch.advance(len as u64);
    }
    if second.finish(&mut |node| flow.put(node))? != (tree, end) {
        return Err(Error::Corrupt {
            what: "a snapshot that changes while it is read (file offset)",
            at: u64::from(state.tree.root.physical) * PAGE_SIZE as u64,
        });
    }
    Ok(Done {
        checkpoint: state.origin.checkpoint,
        pages: count,
        bytes: flow.bytes,
    })
}

/// Write an incremental backup: the differences between two snapshots.
pub(super) fn incremental(pager: &Pager, base: &Pager, flow: &mut Flow<'_>) -> Result<Done> {
    let (state, from) = (frozen_state(pager)?, frozen_state(base)?);
    if from.origin.checkpoint > state.origin.checkpoint {
        return Err(Error::invalid(
            "the snapshot to start from is the younger one: name one that was taken before",
        ));
    }
    let mut header = Header {
        base: from.origin,
        target: state.origin,
        logical: state.logical,
        next_id: state.next_id,
        seed: state.seed,
        height: state.tree.height,
        pages: 0,
        gone: 0,
    };
    let mut limits = [Limit::of(&from), Limit::of(&state)];
    for (n, found) in pager.entries(Some(base))?.enumerate() {
        let (page, entry) = found?;
        let is_present = entry.physical != 0;
        limits[usize::from(is_present)].take(page, entry)?;
        *(if is_present {
            &mut header.pages
        } else {
            &mut header.gone
        }) += 1;
        if (n as u64).is_multiple_of(FANOUT) {
            stopped(flow.stop)?;
        }
    }
    flow.watch.begin("backup", header.pages);
    fail_point!("backup.walked");

    let encoded = header.encode();
    flow.put(&encoded)?;
    let mut digest = Header::digest(&encoded);
    let mut walk = pager.entries(Some(base))?.peekable();
    let (mut batch, mut all) = (Batch::new(), Vec::new());
    let mut records = Vec::with_capacity(FANOUT as usize * (PAGE_SIZE + HEAD));
    while batch.next(&mut walk)? {
        stopped(flow.stop)?;
        all.clone_from(&batch.entries);
        batch.entries.retain(|(_, entry)| entry.physical != 0);
        let (entries, bytes) = batch.room();
        pager.read_entries(entries, bytes)?;
        records.clear();
        let mut pages = batch.pages();
        for (page, entry) in &all {
            let (page, sum) = (*page, entry.sum);
            let is_present = entry.physical != 0;
            let head = if is_present {
                Head::Page { page, sum }
            } else {
                Head::Gone { page }
            }
            .encode();
            digest.update(&head);
            records.extend_from_slice(&head);
            if is_present && let Some((_, _, bytes)) = pages.next() {
                records.extend_from_slice(bytes);
            }
        }
        flow.put(&records)?;
        fail_point!("backup.records");
        flow.watch.advance(batch.entries.len() as u64);
    }
    let digest = digest.digest();
    flow.put(&Head::End { digest }.encode())?;
    Ok(Done {
        checkpoint: state.origin.checkpoint,
        pages: header.pages,
        bytes: flow.bytes,
    })
}
