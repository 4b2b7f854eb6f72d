//! Salvage: copy everything readable from a damaged store into a new one: containers with their kinds,
//! classes, identities and times, every value, shared references and cycles. It returns a list of what cannot
//! be read.
//!
//! 1. The damaged file is locked against all other processes, and nothing is written to it.
//! 2. A container becomes one container, however many references it has. It is created where its home was, so
//!    that the mount shows it in the same place. References from elsewhere are added when all homes exist
//!    (until then None holds their place). A container whose home is lost is created where it is first found.
//! 3. An entry whose value cannot be read is omitted; such an item of a list is None, so that later items
//!    keep their index. Runs of items that cannot be read are omitted.
//! 4. Containers that lost all readable references, but had some, are put into a dict `lost+found` at the
//!    root, under `#` and their id.
//! 5. Every segment is read once: the new store is at most about as large as the file, however its containers
//!    are linked.

mod fill;
mod found;
mod scalars;

use super::sparse::{Marks, PerContainer, Queue};
use super::state::pages_in_use;
use super::{Finding, Watch};
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::{Addr, Obj, ObjectId};
use crate::object::graph;
use crate::object::header::Kind;
use crate::page::access::Pages;
use crate::page::format::image::{Claim, Image, Source};
use crate::page::superblock as sb;
use crate::raw::files::owner;
use crate::raw::files::owner::Owner;
use crate::store::{Options, Store};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The most losses that are listed; more are only counted.
const KEPT: usize = 10_000;

/// The result of a salvage.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Salvaged {
    /// The checkpoint that was read.
    pub checkpoint: u64,
    /// Dicts, lists and objects, the root included.
    pub containers: u64,
    /// Entries, attributes and items.
    pub entries: u64,
    /// The number of containers in `lost+found`.
    pub found: u64,
    /// What could not be read, up to a limit: each with the path from the root to it, or to the container that held it.
    pub losses: Vec<Finding>,
    /// The total number of losses.
    pub lost: u64,
}

/// The state of a container in the new store.
#[derive(Clone, Copy, Default)]
struct Made {
    /// The new container (id 0: none yet).
    addr: u64,
    id: u64,
    /// It was filled.
    filled: bool,
    /// Some of its references are still to be added.
    owing: bool,
}

impl Made {
    fn obj(self) -> Option<Obj> {
        (self.id != 0).then_some(Obj {
            addr: Addr(self.addr),
            id: ObjectId(self.id),
        })
    }
}

/// A salvage in progress.
struct Salvage<'a, 's> {
    p: &'a Image<'s>,
    new: &'a Store,
    watch: &'a mut dyn Watch,
    done: Salvaged,
    made: PerContainer<Made>,
    /// Containers to be filled.
    waiting: Queue,
    /// Containers with references still to be added.
    owing: Queue,
    /// Segments of scalars that were read.
    read: Marks,
    /// Segments of bodies that were walked; and those walked again for the omitted references.
    walked: Marks,
    again: Marks,
    classes: HashMap<u64, String>,
}

/// Salvage the content of the damaged store at `damaged` into a new store at `new`.
///
/// ```
/// use persist_core::check::salvage;
/// use persist_core::store::{Actor, In, Key, Options, Store, Wait};
/// # let dir = tempfile::tempdir()?;
/// # let (damaged, readable) = (dir.path().join("damaged.store"), dir.path().join("readable.store"));
/// let store = Store::open(&damaged, &Options::default())?;
/// let root = store.root();
/// store.write(Actor::Thread, &mut Wait::default(), |w| w.set(root, &Key::Str(b"visits"), &In::Int(1)))?;
/// store.close()?;
/// let done = salvage(&damaged, &readable, &mut ())?;
/// assert_eq!((done.entries, done.lost), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `Error::Refused` if another process has the damaged store open; `Error::Io` if `new` exists already or cannot be
/// created; those of writing a store. Damage is not an error, except `Error::NotAStore` if the file has no checkpoint.
pub fn salvage(damaged: &Path, new: &Path, watch: &mut dyn Watch) -> Result<Salvaged> {
    salvage_from(&Source::exclusive(damaged)?, new, watch)
}

/// As `salvage`, from a file that the caller has locked.
///
/// # Errors
/// `Error::Io` if `path` exists already or cannot be created; those of writing a store. Damage in the source
/// is not an error, except `Error::NotAStore` if it has no checkpoint.
pub fn salvage_from(source: &Source, path: &Path, watch: &mut dyn Watch) -> Result<Salvaged> {
    let (image, _claim) = best(source)?;
    let cannot = |e| Error::io(format!("cannot make {}", path.display()), e);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(cannot)?;
    // The new store may replace the damaged one, so the same users have access to it from the beginning.
    let of = Owner::of(&source.file().metadata().map_err(cannot)?);
    let list = owner::access_list(source.file()).map_err(cannot)?;
    let in_work = Owner {
        mode: of.mode | 0o600,
        ..of
    };
    owner::give(&file, in_work, list).map_err(cannot)?;
    let new = Store::open(path, &Options::default())?;
    let salvage = Salvage {
        p: &image,
        new: &new,
        watch,
        done: Salvaged {
            checkpoint: image.checkpoint(),
            ..Salvaged::default()
        },
        made: PerContainer::new(),
        waiting: Queue::default(),
        owing: Queue::default(),
        read: Marks::default(),
        walked: Marks::default(),
        again: Marks::default(),
        classes: HashMap::new(),
    };
    let done = salvage.run(source);
    new.close()?;
    owner::copy_rights(&file, source.file()).map_err(cannot)?;
    done
}

/// Return the newest checkpoint or snapshot whose root can be read; if there is none, the newest checkpoint.
fn best(source: &Source) -> Result<(Image<'_>, Option<Claim>)> {
    let newest = source.newest()?;
    let has_root = |image: &Image<'_>| {
        let root = graph::root(image).and_then(|root| graph::identity(image, root));
        root.is_ok_and(|identity| identity.kind == Kind::Dict)
    };
    for number in source.checkpoints() {
        let image = source.image(number)?;
        if has_root(&image) {
            return Ok((image, None));
        }
    }
    for snapshot in source.snapshots().unwrap_or_default().iter().rev() {
        match source.snapshot(snapshot)? {
            Some((image, claim)) if has_root(&image) => return Ok((image, Some(claim))),
            _ => {}
        }
    }
    Ok((source.image(newest)?, None))
}

impl Salvage<'_, '_> {
    fn run(mut self, source: &Source) -> Result<Salvaged> {
        let segments = (0..pages_in_use(self.p))
            .filter_map(|n| heap::page_segments(self.p, self.p.nth(n)?).ok())
            .map(|segments| segments.iter().filter(|s| s.allocated).count() as u64)
            .sum();
        self.watch.begin("salvage", segments);
        let readable = self.p.u64_at(sb::MAGIC).is_ok_and(|m| m == sb::MAGIC_VALUE);
        let root = graph::root(self.p).and_then(|root| Ok((root, graph::identity(self.p, root)?)));
        match root {
            Ok((root, identity))
                if readable && identity.kind == Kind::Dict && PerContainer::<Made>::fits(root) =>
            {
                let new = self.new.root();
                *self.made.at(root) = Made {
                    addr: new.addr.0,
                    id: new.id.0,
                    ..Made::default()
                };
                self.waiting.push(root);
            }
            _ => self.lose("root".into(), "the root cannot be read"),
        }
        self.done.containers = 1;
        if source.has_log() {
            let what = "what was completed after this checkpoint is in the redo log, which is not read";
            self.lose("root".into(), what);
        }
        self.fill_all()?;
        if self.done.lost > 0 {
            self.find_unreferenced()?;
        }
        self.new.sync()?;
        Ok(self.done)
    }

    /// Fill the waiting containers, add the omitted references, and repeat until nothing is left.
    fn fill_all(&mut self) -> Result<()> {
        loop {
            while let Some(h) = self.waiting.pop() {
                if !std::mem::replace(&mut self.made.at(h).filled, true) {
                    self.fill(h, false)?;
                }
            }
            if self
                .waiting
                .refill(&self.made, |made| made.id != 0 && !made.filled)
            {
                continue;
            }
            match self.owing.pop() {
                Some(h) if std::mem::take(&mut self.made.at(h).owing) => self.fill(h, true)?,
                Some(_) => {}
                None if self.owing.refill(&self.made, |made| made.owing) => {}
                None => return Ok(()),
            }
        }
    }

    fn lose(&mut self, path: String, what: impl Into<String>) {
        self.done.lost += 1;
        if self.done.losses.len() < KEPT {
            self.done.losses.push(Finding {
                part: "objects",
                what: what.into(),
                at: None,
                path: Some(path),
            });
        }
    }
}
