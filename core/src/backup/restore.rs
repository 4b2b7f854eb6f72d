//! Create a store from backups: a full one, and incremental ones in order.
//!
//! 1. All work is done in a file without a name. The file gets the store's name when it is complete, verified
//!    (and checked) and on the disk; after any error there is no store, or the old one.
//! 2. The full backup is copied as it is; then every page that its table names is read again and verified.
//! 3. Pages of incremental backups overwrite those that they replace, or are appended. Their places are
//!    recorded in a second file without a name (`Flat`), and at the end the page table is rebuilt from it.
//! 4. Numbers in a backup are bounded by the data that follows: no memory is allocated for data that was not
//!    read.

mod flat;
mod input;

pub use input::Input;

use super::format::{HEAD, HEADER, Head, Header, MAGIC};
use super::progress::{Done, stopped};
use super::write::{Batch, CHECKPOINT, metas, new_meta};
use super::{already_exists, exists};
use crate::check::{self, Source, Watch};
use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::page::format::image::read_meta;
use crate::page::format::keep::keep;
use crate::page::format::meta::{Meta, Origin};
use crate::page::format::page_table::{Entry, FANOUT, Tree};
use crate::page::format::walk::{BAD_PAGE, Builder, EntryWalk, read_pages};
use crate::page::shared::layout::MAX_PAGES;
use crate::raw::failpoint::fail_point;
use crate::raw::files::place::NewFile;
use crate::raw::files::place::Trickle;
use crate::raw::files::place::write_error;
use flat::Flat;
use input::{Buffered, From, PIECE, Reader};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use xxhash_rust::xxh3::xxh3_64;

const PAGE: u64 = PAGE_SIZE as u64;

/// Options of a restore.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restoring {
    /// Replace an existing store. No process may have it open.
    pub force: bool,
    /// Run the checker over the store before it gets its name.
    pub check: bool,
    /// Stop the restore with `Error::Interrupted` when this is set.
    pub stop: Option<Arc<AtomicBool>>,
}

impl Default for Restoring {
    fn default() -> Restoring {
        Restoring {
            force: false,
            check: true,
            stop: None,
        }
    }
}

/// A store under construction.
struct Making<'a> {
    new: NewFile,
    /// The places of pages, once the page table is out of date.
    flat: Option<Flat>,
    /// The meta page of the new store.
    meta: Meta,
    state: Origin,
    /// Pages of the file.
    end: u64,
    /// Number of logical pages.
    count: u64,
    stop: Option<&'a Arc<AtomicBool>>,
    watch: &'a mut dyn Watch,
}

fn cannot_write(e: io::Error) -> Error {
    write_error("the restored store", e)
}

/// Create a store from a full backup (or the file of a store that is not open: its last checkpoint) and
/// incremental ones in the order in which they were made.
///
/// # Errors
/// `Error::BadBackup` says which backup cannot be used and why; `Error::Refused` if the store exists, or with
/// `force` if it is in use; `Error::NoSpace`, `Error::Io`.
pub fn restore(
    backups: Vec<Input<'_>>,
    store: &Path,
    options: &Restoring,
    watch: &mut dyn Watch,
) -> Result<Done> {
    let replaces = exists(store)?;
    if replaces && !options.force {
        return Err(already_exists(store));
    }
    let names: Vec<PathBuf> = backups.iter().map(|b| b.name.clone()).collect();
    let mut backups = backups.into_iter();
    let Some(first) = backups.next() else {
        return Err(Error::invalid("no backup to restore from"));
    };
    // Lock the store that is replaced, so that no process opens it during the restore.
    let _old = if replaces { Some(keep(store)?) } else { None };
    let mut making = Making {
        new: NewFile::new(store)?,
        flat: None,
        meta: Meta::default(),
        state: Origin::default(),
        end: 0,
        count: 0,
        stop: options.stop.as_ref(),
        watch,
    };
    let more = backups.len() > 0;
    making.full(&mut first.open()?, more)?;
    for backup in backups {
        making.incremental(&mut backup.open()?)?;
    }
    let restored = making.complete()?;
    fail_point!("restore.complete");
    if options.check {
        making.check(&names)?;
    }
    stopped(options.stop.as_ref())?;
    making.new.finish(options.force).map_err(|e| {
        if e.errno() == libc::EEXIST {
            already_exists(store)
        } else {
            e
        }
    })?;
    fail_point!("restore.named");
    Ok(restored)
}

/// Return the refusal, if a full backup that begins with these bytes has another version.
fn refused_version(head: &[u8; 2 * PAGE_SIZE]) -> Option<String> {
    let pages = head.as_chunks::<PAGE_SIZE>().0.iter();
    pages.filter_map(|p| Meta::decode(p).err()?.refuses()).next()
}

impl Making<'_> {
    fn full(&mut self, from: &mut Reader<'_>, more: bool) -> Result<()> {
        let mut head = [0; 2 * PAGE_SIZE];
        let n = from.up_to(&mut head)?;
        if n >= MAGIC.len() && &head[..MAGIC.len()] == MAGIC {
            return Err(from.bad("an incremental backup: name the full one first, then those made since"));
        }
        if n < head.len() {
            return Err(from.bad("not a full backup: it is too short"));
        }
        self.new.file().write_all_at(&head, 0).map_err(cannot_write)?;
        let metas = [0, 1].map(|i| read_meta(self.new.file(), i));
        if let Some(why) = refused_version(&head) {
            return Err(from.bad(why));
        }
        let newest = metas.iter().flatten().max_by_key(|m| m.checkpoint);
        let Some(&meta) = newest else {
            let why = |i: usize| metas[i].as_ref().err().map_or("", String::as_str);
            return Err(from.bad(format!(
                "not a full backup: meta page 0: {}; meta page 1: {}",
                why(0),
                why(1)
            )));
        };
        if meta.log.generation != 0 {
            return Err(from.bad(
                "a store with a redo log, which is not read here: open it once and close it, or make a backup of it",
            ));
        }
        (self.meta, self.state, self.end) = (meta, meta.state(), meta.file_pages.min(MAX_PAGES));
        self.copy(from)?;
        // All pages of a fresh backup are of epoch 1, and its table is kept. The pages of any other store file are
        // of any epoch up to its checkpoint, and a new table is written.
        let is_fresh = meta.checkpoint == CHECKPOINT && meta.origin != Origin::default();
        self.verify(if is_fresh { 1 } else { meta.checkpoint }, more || !is_fresh)
            .map_err(|e| from.damaged(e))
    }

    /// Copy the rest of a full backup.
    fn copy(&mut self, from: &mut Reader<'_>) -> Result<()> {
        let mut trickle = Trickle::default();
        let mut piece = vec![0; PIECE];
        self.watch.begin("copy", self.end);
        let mut at = 2 * PAGE;
        trickle.wrote(self.new.file(), at);
        while at < self.end * PAGE {
            stopped(self.stop)?;
            let len = (self.end * PAGE - at).min(PIECE as u64) as usize;
            from.exactly(&mut piece[..len])?;
            self.new
                .file()
                .write_all_at(&piece[..len], at)
                .map_err(cannot_write)?;
            trickle.wrote(self.new.file(), len as u64);
            fail_point!("restore.copied");
            at += len as u64;
            self.watch.advance(len as u64 / PAGE);
        }
        match from.from {
            // A store's file may have grown since its last checkpoint.
            From::File(..) => Ok(()),
            From::Stream(_) => from.ends(),
        }
    }

    /// Read and verify every page that the table names. With `list`, record the place of each.
    fn verify(&mut self, youngest: u64, list: bool) -> Result<()> {
        if list {
            self.flat = Some(Flat::new(&self.target())?);
        }
        self.watch.begin("verify", self.end);
        let mut used = vec![0u64; (self.end as usize).div_ceil(64)];
        let tree = self.meta.tree();
        let mut walk = EntryWalk::new(self.new.file(), self.end, tree, Tree::default()).peekable();
        let mut batch = Batch::new();
        while batch.next(&mut walk)? {
            stopped(self.stop)?;
            let (entries, bytes) = batch.room();
            read_pages(self.new.file(), self.end, entries, bytes, BAD_PAGE)?;
            for &(page, entry) in entries {
                let (word, bit) = (entry.physical as usize / 64, 1 << (entry.physical % 64));
                let what = if page >= self.meta.logical {
                    Some("a page beyond the store's logical pages, at file offset")
                } else if used[word] & bit != 0 {
                    Some("a page of the file that is used twice, at file offset")
                } else if u64::from(entry.birth) > youngest {
                    Some("a page that is younger than its checkpoint, at file offset")
                } else {
                    None
                };
                if let Some(what) = what {
                    let at = u64::from(entry.physical) * PAGE;
                    return Err(Error::Corrupt { what, at });
                }
                used[word] |= bit;
                if let Some(flat) = &mut self.flat {
                    flat.set(page, entry)?;
                }
            }
            self.count += entries.len() as u64;
            self.watch.advance(entries.len() as u64);
        }
        Ok(())
    }

    fn target(&self) -> PathBuf {
        self.new.target().to_owned()
    }

    /// Apply an incremental backup.
    fn incremental(&mut self, from: &mut Reader<'_>) -> Result<()> {
        let mut encoded = [0; HEADER];
        let n = from.up_to(&mut encoded)?;
        let header = if n < HEADER {
            Err("it is not an incremental backup: it is too short".to_owned())
        } else {
            Header::decode(&encoded)
        };
        let header = header.map_err(|why| from.bad(why))?;
        self.fits(&header).map_err(|why| from.bad(why))?;
        self.watch.begin("apply", header.pages);
        let mut digest = Header::digest(&encoded);
        let (mut pages, mut gone, mut next) = (0, 0, 0);
        let (mut head, mut bytes) = ([0; HEAD], [0; PAGE_SIZE]);
        let mut buffered = Buffered::new(from);
        loop {
            buffered.exactly(&mut head)?;
            let (page, sum) = match Head::decode(&head) {
                Head::End { digest: said } => {
                    if said != digest.digest() || (pages, gone) != (header.pages, header.gone) {
                        return Err(buffered
                            .from
                            .bad("it is damaged: its end does not fit its records"));
                    }
                    break;
                }
                Head::Page { page, sum } => (page, Some(sum)),
                Head::Gone { page } => (page, None),
            };
            digest.update(&head);
            let limit = if sum.is_some() {
                header.logical
            } else {
                self.meta.logical
            };
            if page < next || page >= limit {
                return Err(buffered
                    .from
                    .bad(format!("it is damaged: page {page} where it cannot be")));
            }
            next = page + 1;
            if let Some(sum) = sum {
                buffered.exactly(&mut bytes)?;
                if xxh3_64(&bytes) != sum {
                    let why = format!("it is damaged: page {page} does not match its checksum");
                    return Err(buffered.from.bad(why));
                }
                self.put(page, sum, &bytes)?;
                fail_point!("restore.applied");
                pages += 1;
                self.watch.advance(1);
                if pages.is_multiple_of(FANOUT) {
                    stopped(self.stop)?;
                }
            } else {
                gone += 1;
                if !self.remove(page)? {
                    let why = format!("it is damaged: page {page} is removed, but did not exist");
                    return Err(buffered.from.bad(why));
                }
            }
        }
        buffered.ends()?;
        self.state = header.target;
        self.meta = Meta {
            height: header.height,
            logical: header.logical,
            next_id: header.next_id,
            ..self.meta
        };
        Ok(())
    }

    /// Check whether an incremental backup starts at the current state. Return the reason if it does not.
    fn fits(&self, header: &Header) -> std::result::Result<(), String> {
        let (have, wants) = (self.state, header.base);
        if wants.uuid != have.uuid {
            return Err("it belongs to another store than the backups before it".to_owned());
        }
        if wants != have {
            let order = if wants.checkpoint > have.checkpoint {
                "one that comes between is missing"
            } else {
                "it comes earlier, or was made from another snapshot"
            };
            return Err(format!(
                "it was made from checkpoint {}, but the backups before it lead to {}: {order}",
                wants.checkpoint, have.checkpoint
            ));
        }
        if header.seed != self.meta.seed
            || header.logical < self.meta.logical
            || header.next_id < self.meta.next_id
        {
            return Err("it is damaged: its numbers do not follow those of the backups before it".to_owned());
        }
        Ok(())
    }

    fn flat(&mut self) -> Result<&mut Flat> {
        self.flat
            .as_mut()
            .ok_or_else(|| Error::invalid("a restore that lost its list of pages"))
    }

    fn put(&mut self, page: u64, sum: u64, bytes: &[u8; PAGE_SIZE]) -> Result<()> {
        let old = self.flat()?.get(page)?;
        let physical = if old.physical == 0 {
            self.count += 1;
            self.end += 1;
            if self.end > MAX_PAGES {
                return Err(Error::TooMany {
                    what: "pages of a store",
                    limit: MAX_PAGES as usize,
                });
            }
            (self.end - 1) as u32
        } else {
            old.physical
        };
        self.flat()?.set(
            page,
            Entry {
                physical,
                birth: 1,
                sum,
            },
        )?;
        let file = self.new.file();
        file.write_all_at(bytes, u64::from(physical) * PAGE)
            .map_err(cannot_write)
    }

    /// Remove a page. Return false if it did not exist.
    fn remove(&mut self, page: u64) -> Result<bool> {
        if self.flat()?.get(page)?.physical == 0 {
            return Ok(false);
        }
        self.flat()?.set(page, Entry::default())?;
        self.count -= 1;
        Ok(true)
    }

    /// Write the page table, if it differs from the full backup's, and the meta pages.
    fn complete(&mut self) -> Result<Done> {
        let mut tree = self.meta.tree();
        if let Some(mut flat) = self.flat.take() {
            (tree, self.end) = self.write_table(&mut flat)?;
        }
        let meta = Meta {
            logical: self.meta.logical,
            next_id: self.meta.next_id,
            seed: self.meta.seed,
            ..new_meta(self.state, tree, self.end)
        };
        for (i, page) in metas(&meta).iter().enumerate() {
            let done = self.new.file().write_all_at(page, i as u64 * PAGE);
            done.map_err(cannot_write)?;
        }
        Ok(Done {
            checkpoint: self.state.checkpoint,
            pages: self.count,
            bytes: self.end * PAGE,
        })
    }

    fn write_table(&self, flat: &mut Flat) -> Result<(Tree, u64)> {
        let mut builder = Builder::new(self.meta.height, 1, self.end);
        let mut at = self.end;
        let mut out = |node: &[u8; PAGE_SIZE]| {
            let done = self.new.file().write_all_at(node, at * PAGE);
            at += 1;
            done.map_err(cannot_write)
        };
        for block in 0..self.meta.logical.div_ceil(FANOUT) {
            flat.load(block)?;
            for i in 0..FANOUT {
                let entry = Entry::read(&flat.block, i as usize);
                if entry.physical != 0 {
                    builder.name(block * FANOUT + i, entry.physical, entry.sum, &mut out)?;
                }
            }
            if block.is_multiple_of(FANOUT) {
                stopped(self.stop)?;
            }
        }
        builder.finish(&mut out)
    }

    fn check(&mut self, names: &[PathBuf]) -> Result<()> {
        let source = Source::exclusive(&self.new.path())?;
        let report = check::check_file(&source, self.watch)?;
        let Some(first) = report.findings.first() else {
            return Ok(());
        };
        let at = first.at.map_or(String::new(), |at| format!(", at {at:#x}"));
        Err(Error::BadBackup {
            path: names.last().cloned().unwrap_or_default(),
            why: format!(
                "the store it leads to is damaged, as its original was: {}: {}{at} ({} findings); with --no-check it is \
                 restored as it is",
                first.part, first.what, report.total
            ),
        })
    }
}
