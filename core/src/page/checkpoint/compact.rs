//! Compaction: copying the pages that the last checkpoint and the snapshots reach, one after the other, into a new
//! file, which then replaces the old one under its name.
//!
//! 1. Compaction requires that no other process uses the store. The presence byte is held exclusively from before the
//!    copied checkpoint until after the rename, so every completed change is in the copy. A process that waits for the
//!    byte finds another file under the name afterwards, and opens that.
//! 2. At any moment the name leads to the old file or to the new one, and both are complete. The new file is flushed
//!    before the rename, and the sidecar, which belongs to the old file, is removed before it.
//! 3. Pages shared by two trees are shared in the copy. Pages keep their logical numbers and their births. The copied
//!    checkpoint becomes the one before the newest, and the newest is identical under the next number. So, whichever is
//!    opened, none of its pages belongs to the current epoch and could be written in place.
//! 4. Every page is compared with its checksum: a damaged store is refused.

use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::page::format::catalogue::{self, Snapshot};
use crate::page::format::image::Source;
use crate::page::format::log_record::Place;
use crate::page::format::meta::Meta;
use crate::page::format::page_table::{Entry, FANOUT, Tree};
use crate::page::pager::Pager;
use crate::page::shared::paths::sidecar_path;
use crate::page::shared::users::slots::BYTE_PRESENCE;
use crate::raw::failpoint::fail_point;
use crate::raw::files::file;
use crate::raw::files::file::Ofd;
use crate::raw::files::owner;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// Callback that receives the number of pages written.
pub type Progress<'a> = &'a mut dyn FnMut(u64);

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Exclusive hold of the presence byte. Dropping it makes the lock shared again.
struct SoleUser<'a>(&'a Pager);

impl Drop for SoleUser<'_> {
    fn drop(&mut self) {
        if let Ok(reg) = self.0.registration() {
            let _ = file::ofd_lock(&reg.file, BYTE_PRESENCE, Ofd::Shared);
        }
    }
}

/// The copy being written.
struct Copy<'a> {
    source: &'a Source,
    out: File,
    next: u32,
    /// Physical page in the source -> its entry in the copy.
    copied: HashMap<u32, Entry>,
    progress: Progress<'a>,
}

impl Copy<'_> {
    fn write(&mut self, page: &[u8; PAGE_SIZE], birth: u32) -> Result<Entry> {
        let entry = Entry {
            physical: self.next,
            birth,
            sum: xxh3_64(page),
        };
        let at = u64::from(self.next) * PAGE_SIZE as u64;
        file::write_new(&self.out, page, at, "the compacted store")?;
        self.next += 1;
        (self.progress)(1);
        Ok(entry)
    }

    /// Copy a page and its subtree, children first. Depth is bounded by `MAX_HEIGHT`.
    fn copy(&mut self, old: Entry, level: u32) -> Result<Entry> {
        if old.physical == 0 {
            return Ok(old);
        }
        if let Some(&new) = self.copied.get(&old.physical) {
            return Ok(new);
        }
        let mut page = *self.source.checked(old)?;
        if level > 0 {
            for i in 0..FANOUT as usize {
                let child = Entry::read(&page, i);
                self.copy(child, level - 1)?.write(&mut page, i);
            }
        }
        let new = self.write(&page, old.birth)?;
        self.copied.insert(old.physical, new);
        Ok(new)
    }

    fn tree(&mut self, tree: Tree) -> Result<Tree> {
        Ok(Tree {
            root: self.copy(tree.root, tree.height)?,
            height: tree.height,
        })
    }
}

impl Pager {
    /// Rewrite the store without free pages, and replace this file by the copy. Return its number of pages before and
    /// after. The caller must close the store afterwards, because this opening uses the old file.
    pub fn compact(&self, progress: Progress<'_>) -> Result<(u64, u64)> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        // The helper's steps would go to the old file. The caller closes the store afterwards.
        self.stop_helper();
        if self.depth() > 0 {
            return Err(Error::invalid("compact inside a transaction: commit it first"));
        }
        let reg = self.registration()?;
        if !file::ofd_lock(&reg.file, BYTE_PRESENCE, Ofd::Exclusive)? {
            drop(reg);
            let others = self.page_stat().processes.saturating_sub(1).max(1);
            return Err(Error::Refused {
                path: self.path().to_path_buf(),
                why: format!(
                    "it is in use ({others} other openings); compacting it needs it alone: close it everywhere first"
                ),
            });
        }
        drop(reg);
        let alone = SoleUser(self);
        // The copied checkpoint names no redo log, and nothing needs one.
        self.end_log()?;
        self.checkpoint_always()?;
        self.release_free_pages()?;
        self.checkpoint_always()?;
        self.remove_log();
        let path = std::fs::canonicalize(self.path())
            .map_err(|e| Error::io(format!("cannot find {}", self.path().display()), e))?;
        let new = with_end(&path, "-compact");
        let done = self.compact_into(&path, &new, progress);
        if done.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        drop(alone);
        done
    }

    fn compact_into(&self, path: &Path, new: &Path, progress: Progress<'_>) -> Result<(u64, u64)> {
        let source = self.source()?;
        let (meta, snapshots) = catalogue::newest(&*self.file().using()?)?;
        let io = |what: &str, e| Error::io(format!("{what} {}", new.display()), e);
        // A copy left by a compaction that was killed.
        let _ = std::fs::remove_file(new);
        let old = self
            .file()
            .using()?
            .metadata()
            .map_err(|e| Error::io("fstat", e))?;
        if old.nlink() > 1 {
            return Err(Error::Refused {
                path: path.to_owned(),
                why: "it has more than one name (hard links), of which one only would lead to the compacted file"
                    .to_owned(),
            });
        }
        let out = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(new)
            .map_err(|e| io("cannot make", e))?;
        file::in_place(&out);
        let made = out.metadata().map_err(|e| Error::io("fstat", e))?;
        if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
            fchown(&out, Some(old.uid()), Some(old.gid()))
                .map_err(|e| io("cannot give the store's owner to", e))?;
        }
        owner::copy_rights(&out, &*self.file().using()?)
            .map_err(|e| io("cannot set the permissions of", e))?;
        let mut copy = Copy {
            source: &source,
            out,
            next: 2,
            copied: HashMap::new(),
            progress,
        };
        let tree = copy.tree(meta.tree())?;
        let mut kept = Vec::with_capacity(snapshots.len());
        for s in snapshots {
            let tree = copy.tree(s.tree)?;
            kept.push(Snapshot { tree, ..s });
        }
        let catalogue = catalogue::write(&kept, |page| copy.write(page, 0))?;
        let pages = u64::from(copy.next);
        file::flush(&copy.out).map_err(|e| io("cannot flush", e))?;
        fail_point!("compact.copied");
        for checkpoint in [meta.checkpoint, meta.checkpoint + 1] {
            let page = Meta {
                checkpoint,
                root: tree.root.physical,
                height: tree.height,
                root_sum: tree.root.sum,
                file_pages: pages,
                catalogue,
                log: Place::default(),
                ..meta
            };
            let at = checkpoint % 2 * PAGE_SIZE as u64;
            file::write_new(&copy.out, &page.encode(), at, "the compacted store")?;
        }
        copy.out.sync_all().map_err(|e| io("cannot flush", e))?;
        fail_point!("compact.flushed");
        let side = sidecar_path(self.path());
        match std::fs::remove_file(&side) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("cannot remove {}", side.display()), e));
            }
            _ => {}
        }
        fail_point!("compact.exclusive");
        std::fs::rename(new, path).map_err(|e| io("cannot rename", e))?;
        fail_point!("compact.renamed");
        // If the directory cannot be flushed (some filesystems), do not fail: both the old and the new file are valid.
        if let Some(dir) = path.parent().and_then(|dir| File::open(dir).ok()) {
            let _ = dir.sync_all();
        }
        Ok((source.pages(), pages))
    }
}
