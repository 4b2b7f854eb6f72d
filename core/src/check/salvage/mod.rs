//! Salvage: out of a damaged store into a new one, whatever can be read: containers with their kinds, classes,
//! identities and times, every value, shared references and cycles; and a list of what cannot.
//!
//! 1. The damaged file is kept from everybody, and nothing is written to it.
//! 2. A container becomes one container, however many refer to it. It is made where its home was, so that the
//!    mount shows it where it did; references from elsewhere are put in when all homes are there (until then
//!    their place is held by None). One whose home is lost is made where it is met.
//! 3. An entry whose value cannot be read is left out; an item of a list is None, so that those behind it stay
//!    where they were. Runs of items that cannot be read are left out.
//! 4. Containers that nothing readable refers to any more, but that something did, are put into a dict
//!    `lost+found` at the root, under `#` and their id.
//! 5. Every segment is read once: what is made is at most about as large as the file, however it is linked.

mod fill;
mod found;
mod scalars;

use super::Watch;
use super::sparse::{Marks, PerContainer, Queue};
use super::state::pages_in_use;
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::{Addr, Obj, ObjectId};
use crate::object::graph;
use crate::object::header::Kind;
use crate::page::access::Pages;
use crate::page::format::image::{Claim, Image, Source};
use crate::page::superblock as sb;
use crate::raw::owner::{self, Owner};
use crate::store::{Options, Store};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Losses that are kept; more are counted.
const KEPT: usize = 10_000;

/// Something that could not be got.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Loss {
    /// The way from the root to it, or to what it was a part of.
    pub path: String,
    /// What became of it.
    pub what: String,
}

/// What a salvage brought.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Salvaged {
    /// The checkpoint that it is from.
    pub checkpoint: u64,
    /// Dicts, lists and objects, the root included.
    pub containers: u64,
    /// Entries, attributes and items.
    pub entries: u64,
    /// Of the containers, those in `lost+found`.
    pub found: u64,
    /// What is lost: the first so many.
    pub losses: Vec<Loss>,
    /// How many losses there are.
    pub lost: u64,
}

/// What became of a container.
#[derive(Clone, Copy, Default)]
struct Made {
    /// The new container (id 0: none yet).
    addr: u64,
    id: u64,
    /// It was filled.
    filled: bool,
    /// Some of its references are to be put in yet.
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

/// A salvage under way.
struct Salvage<'a, 's> {
    p: &'a Image<'s>,
    new: &'a Store,
    watch: &'a mut dyn Watch,
    done: Salvaged,
    made: PerContainer<Made>,
    /// Containers to be filled.
    waiting: Queue,
    /// Containers with references to be put in yet.
    owing: Queue,
    /// Segments of scalars that were read.
    read: Marks,
    /// Segments of bodies that were walked; and those walked again for the references that were owing.
    walked: Marks,
    again: Marks,
    classes: HashMap<u64, String>,
}

/// Salvages what the file `source` holds into a new store at `path`.
///
/// # Errors
/// `Error::Io` if `path` exists already or cannot be made; what writing a store may answer. What is wrong with
/// the source is no error, but for `Error::NotAStore` where it has no checkpoint.
pub fn salvage(source: &Source, path: &Path, watch: &mut dyn Watch) -> Result<Salvaged> {
    let (image, _claim) = best(source)?;
    let cannot = |e| Error::io(format!("cannot make {}", path.display()), e);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(cannot)?;
    // It is to take the place of the damaged one: the same users may use it, from the beginning on.
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
    owner::resemble(&file, source.file()).map_err(cannot)?;
    done
}

/// The newest checkpoint or snapshot whose root can be read; if there is none, the newest checkpoint.
fn best(source: &Source) -> Result<(Image<'_>, Option<Claim>)> {
    let newest = source.newest()?;
    let has_root = |image: &Image<'_>| {
        let root = graph::root(image).and_then(|root| graph::identity(image, root));
        root.is_ok_and(|who| who.kind == Kind::Dict)
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
            Ok((root, who)) if readable && who.kind == Kind::Dict && PerContainer::<Made>::fits(root) => {
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

    /// Fills what waits, puts in the references that are owing, and so on until nothing is left.
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
            let what = what.into();
            self.done.losses.push(Loss { path, what });
        }
    }
}
