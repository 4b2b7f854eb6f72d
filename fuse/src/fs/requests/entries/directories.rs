//! Requests on directories: listing, mkdir, unlink, rmdir.
//!
//! | position in a listing | entry |
//! | --- | --- |
//! | 0, 1 | `.` and `..` |
//! | 2 + cursor | the entries of the store: the store's cursor; in a list, the item's name + 1 |
//! | `BESIDE` + 2 + cursor | the entries that wait beside a list: the store's cursor |

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsResult, errno};
use crate::fs::known::inodes::{Place, Slot, Spot};
use crate::fs::known::leases::Held;
use crate::fs::known::metadata::Mark;
use crate::fs::requests::control;
use crate::fs::text::{list_entries, names};
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::find::{Found, Named};
use crate::fs::tree::links::References;
use crate::fs::tree::metadata::attributes::Attr;
use crate::fs::tree::metadata::attributes::NodeKind;
use crate::fs::tree::metadata::owners::New;
use crate::fs::tree::metadata::records::Subject;
use crate::fs::tree::removed::Removal;
use crate::fs::tree::values::owned_key;
use persist_core::store::{In, Kind, Obj, Reader, Value};
use std::time::Duration;

/// The position of the first entry that waits beside a list.
const BESIDE: u64 = 1 << 61;
/// Entries read in one section.
const BATCH: usize = 64;

/// One entry of a listing.
pub(crate) struct Line {
    /// The position after this entry.
    pub(crate) next: u64,
    pub(crate) name: Vec<u8>,
    pub(crate) attr: Attr,
    /// How long the kernel may keep the entry with its attributes.
    pub(crate) ttl: Duration,
}

impl Fs {
    /// Request: open a directory.
    pub(crate) fn opendir(&self, ctx: &Ctx, ino: u64) -> FsResult<()> {
        match self.place(ino)? {
            Place::Dir(obj) => {
                self.join(ctx, obj);
                Ok(())
            }
            Place::Control(_) => Ok(()),
            _ => errno(libc::ENOTDIR),
        }
    }

    /// Request: list a directory from a position on. With `plus`, the entries have attributes and each entry counts as
    /// a lookup. `line` returns false when it has no room; that entry is not counted.
    pub(crate) fn readdir(
        &self,
        ctx: &Ctx,
        ino: u64,
        from: u64,
        plus: bool,
        held: &mut Held,
        mut line: impl FnMut(&Line) -> bool,
    ) -> FsResult<()> {
        let place = self.place(ino)?;
        let here = Attr {
            ino,
            ..self.control_attr(NodeKind::Dir, 0)
        };
        for (at, name) in [(0, &b"."[..]), (1, b"..")] {
            if from <= at
                && !line(&Line {
                    next: at + 1,
                    name: name.to_vec(),
                    attr: here,
                    ttl: Duration::ZERO,
                })
            {
                return Ok(());
            }
        }
        let dir = match place {
            Place::Dir(obj) => obj,
            Place::Control(c) => {
                for (n, (name, control)) in control::children(c).iter().enumerate() {
                    let next = n as u64 + 3;
                    let attr = self.control_node(*control)?;
                    if from < next
                        && !line(&Line {
                            next,
                            name: name.to_vec(),
                            attr,
                            ttl: Duration::ZERO,
                        })
                    {
                        break;
                    }
                }
                return Ok(());
            }
            _ => return errno(libc::ENOTDIR),
        };
        let mut cursor = from.saturating_sub(2);
        loop {
            let batch = self.read(ctx, |r| {
                self.batch(r, dir, cursor, if plus { Some(&mut *held) } else { None })
            });
            let (batch, end) = match batch {
                Ok(batch) => batch,
                // The directory was removed while it is open.
                Err(e) if e.is_gone() => return Ok(()),
                Err(e) => return Err(e),
            };
            let mut entries = batch.into_iter();
            while let Some((at, name, found)) = entries.next() {
                if !self.show(
                    Line {
                        next: at + 2,
                        name,
                        attr: found.attr,
                        ttl: Duration::ZERO,
                    },
                    found,
                    plus.then_some(&*held),
                    &mut line,
                ) {
                    entries.for_each(|(_, _, rest)| self.drop_found(rest));
                    return Ok(());
                }
            }
            match end {
                Some(at) => cursor = at,
                None => return Ok(()),
            }
        }
    }

    fn drop_found(&self, found: Found) {
        if let Some(obj) = found.pinned {
            self.store.unpin(obj);
        }
    }

    /// Output one entry, and count the lookup if it was accepted.
    fn show(
        &self,
        mut out: Line,
        found: Found,
        plus: Option<&Held>,
        line: &mut impl FnMut(&Line) -> bool,
    ) -> bool {
        if let Some(held) = plus {
            // The lookup is counted before the entry is output, so that the entry has its final number. The count is
            // reverted if there was no room.
            out.attr = self.enter(found);
            let covered = out.attr.covered;
            out.ttl = held.ttl(covered.entry);
            if covered.attributes != covered.entry {
                out.ttl = out.ttl.min(held.ttl(covered.attributes));
            }
            let taken = line(&out);
            if !taken {
                self.forget(out.attr.ino, 1);
            }
            taken
        } else {
            out.attr.ino = self.number(&found.place);
            self.drop_found(found);
            line(&out)
        }
    }

    /// The next entries, each with the cursor after it, and the cursor to continue from (None: at the end).
    #[expect(clippy::type_complexity, reason = "used once, right above")]
    fn batch(
        &self,
        r: &Reader<'_>,
        dir: Obj,
        mut cursor: u64,
        held: Option<&mut Held>,
    ) -> FsResult<(Vec<(u64, Vec<u8>, Found)>, Option<u64>)> {
        let mut out: Vec<(u64, Vec<u8>, Found)> = Vec::new();
        let result = self.fill(r, dir, &mut cursor, held, &mut out);
        match result {
            Ok(more) => Ok((out, more.then_some(cursor))),
            Err(e) => {
                // The section may run again: give the pins back.
                out.into_iter().for_each(|(_, _, found)| self.drop_found(found));
                Err(e)
            }
        }
    }

    fn fill(
        &self,
        r: &Reader<'_>,
        dir: Obj,
        cursor: &mut u64,
        mut held: Option<&mut Held>,
        out: &mut Vec<(u64, Vec<u8>, Found)>,
    ) -> FsResult<bool> {
        if r.kind(dir)? == Kind::List {
            return self.fill_list(r, dir, cursor, held, out);
        }
        for _ in 0..BATCH {
            let Some(entry) = r.next(dir, *cursor)? else {
                return Ok(false);
            };
            *cursor = entry.cursor;
            let key = owned_key(r, &entry.key)?;
            let name = names::name_of(&key);
            let spot = Spot {
                parent: dir,
                slot: Slot::Key(key),
            };
            let found = self.line_of(r, dir, &name, &spot, &entry.value, held.as_deref_mut())?;
            out.push((*cursor, name, found));
        }
        Ok(true)
    }

    /// Describe an entry of a listing: with `held`, for an answer that counts as a lookup, otherwise its kind only.
    fn line_of(
        &self,
        r: &Reader<'_>,
        dir: Obj,
        name: &[u8],
        spot: &Spot,
        value: &Value,
        held: Option<&mut Held>,
    ) -> FsResult<Found> {
        let Some(held) = held else {
            return self.describe_kind(r, spot, value);
        };
        self.describe_leased(r, dir, name, spot, value, held)
    }

    fn fill_list(
        &self,
        r: &Reader<'_>,
        dir: Obj,
        cursor: &mut u64,
        mut held: Option<&mut Held>,
        out: &mut Vec<(u64, Vec<u8>, Found)>,
    ) -> FsResult<bool> {
        if *cursor < BESIDE {
            let (start, names) = self.names_from(r, dir, *cursor, BATCH)?;
            let mut values = Vec::with_capacity(names.len());
            r.items(dir, start, names.len(), &mut values)?;
            for (name, value) in names.iter().zip(&values) {
                *cursor = name + 1;
                let spot = Spot {
                    parent: dir,
                    slot: Slot::Item(*name),
                };
                let name = name.to_string().into_bytes();
                let found = self.line_of(r, dir, &name, &spot, value, held.as_deref_mut())?;
                out.push((*cursor, name, found));
            }
            if names.len() == BATCH {
                return Ok(true);
            }
            *cursor = BESIDE;
        }
        let Some(dict) = r.waiting(dir)? else {
            return Ok(false);
        };
        for _ in 0..BATCH {
            let Some(entry) = r.next(dict, *cursor - BESIDE)? else {
                return Ok(false);
            };
            *cursor = BESIDE + entry.cursor;
            let key = owned_key(r, &entry.key)?;
            let name = list_entries::name_beside(&key);
            let spot = Spot {
                parent: dict,
                slot: Slot::Key(key),
            };
            let found = match held {
                Some(_) => self.describe(r, &spot, &entry.value)?,
                None => self.describe_kind(r, &spot, &entry.value)?,
            };
            out.push((*cursor, name, found));
        }
        Ok(true)
    }

    /// Request: make a directory.
    pub(crate) fn mkdir(&self, ctx: &Ctx, parent: u64, name: &[u8], mode: u32) -> FsResult<Attr> {
        if self.find_control(ctx, parent, name)?.is_some() || name == names::LOCK {
            return errno(libc::EEXIST);
        }
        let dir = self.dir(parent)?;
        let named = self.named_to_make(ctx, dir, name)?;
        self.write(ctx, |w, renamed| {
            if self.value_of(w, dir, &named)?.is_some() {
                return errno(libc::EEXIST);
            }
            let obj = w.new_dict()?;
            self.put(w, dir, &named, &In::Obj(obj), renamed)?;
            self.record_new(ctx, w, dir, Subject::Dir(obj), New::Dir(mode))
        })?;
        let ctx = &Ctx {
            may_wait: true,
            ..*ctx
        };
        self.entry_appeared(ctx, dir, name);
        Ok(self.enter(self.find(ctx, dir, name)?))
    }

    /// Request: remove a file or a reference.
    pub(crate) fn unlink(&self, ctx: &Ctx, parent: u64, name: &[u8]) -> FsResult<()> {
        self.remove(ctx, parent, name, false)
    }

    /// Request: remove an empty directory.
    pub(crate) fn rmdir(&self, ctx: &Ctx, parent: u64, name: &[u8]) -> FsResult<()> {
        self.remove(ctx, parent, name, true)
    }

    fn remove(&self, ctx: &Ctx, parent: u64, name: &[u8], dir_wanted: bool) -> FsResult<()> {
        if self.find_control(ctx, parent, name)?.is_some() {
            return errno(libc::EPERM);
        }
        let dir = self.dir(parent)?;
        let named = self.named(ctx, dir, name)?;
        self.with_references(|| self.remove_named(ctx, dir, &named, dir_wanted))
    }

    fn remove_named(&self, ctx: &Ctx, dir: Obj, named: &Named, dir_wanted: bool) -> FsResult<()> {
        let references = match dir_wanted {
            true => self.references_to(ctx, dir, named, true)?,
            false => References::default(),
        };
        let _moving = self.moving.begin();
        let mut removal = Removal::new(self);
        let (spot, child, values) = self.write(ctx, |w, renamed| {
            removal.run(|removal| {
                let Some((spot, value)) = self.value_of(w, dir, named)? else {
                    return errno(libc::ENOENT);
                };
                let child = match value {
                    Value::Obj(obj) if self.shown_at(w, obj, &spot)? => Some(obj),
                    _ => None,
                };
                match (child, dir_wanted) {
                    (Some(_), false) => return errno(libc::EISDIR),
                    (None, true) => return errno(libc::ENOTDIR),
                    (Some(obj), true) if !self.is_empty(w, obj)? => return errno(libc::ENOTEMPTY),
                    (Some(_), true) => self.check_references(w, &references, child)?,
                    (None, false) => {}
                }
                removal.remove(w, &spot, &value, renamed)?;
                let values = self.keep_texts(w, &references)?;
                Ok((spot, child, values))
            })
        })?;
        removal.finish();
        self.spot_deleted(spot.parent, &spot.slot);
        if let Some(obj) = child {
            lock(&self.lists).forget(obj.id);
            lock(&self.metadata).deleted(&Mark::Dir(obj.id));
        }
        let ctx = &Ctx {
            may_wait: true,
            ..*ctx
        };
        self.finish_links(ctx, &values);
        Ok(())
    }
}
