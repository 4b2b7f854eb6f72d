//! Listings of directories, with or without the attributes of the entries.
//!
//! | position in a listing | entry |
//! | --- | --- |
//! | 0, 1 | `.` and `..` |
//! | 2 + cursor | the entries of the store: the store's cursor; in a list, the item's name + 1 |
//! | `BESIDE` + 2 + cursor | the entries that wait beside a list: the store's cursor |
//!
//! The kernel requests attributes (`plus`) at the beginning of each listing, and further on after a program has looked
//! at an entry that came with them. While it keeps all entries of a directory (`known::listed`), a listing begins with
//! `.` and `..` alone. The kernel then requests the names alone, and answers programs from what it keeps.

use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsResult, errno};
use crate::fs::known::inodes::{Place, Slot, Spot};
use crate::fs::known::leases::Held;
use crate::fs::known::listed::Reply;
use crate::fs::text::{list_entries, names};
use crate::fs::tree::control;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::find::Found;
use crate::fs::tree::metadata::attributes::{Attr, NodeKind};
use crate::fs::tree::values::owned_key;
use persist_core::store::door::lease_clock;
use persist_core::store::{Kind, Obj, Reader, Value};
use std::borrow::Cow;
use std::time::Duration;

/// The position of the first entry that waits beside a list.
const BESIDE: u64 = 1 << 61;
/// Entries read in one section. Those for which the reply has no room are read again, so they are few.
const BATCH: usize = 16;

/// One entry of a listing.
pub(crate) struct Line<'a> {
    /// The position after this entry.
    pub(crate) next: u64,
    pub(crate) name: Cow<'a, [u8]>,
    pub(crate) attr: Attr,
    /// How long the kernel may keep the entry with its attributes.
    pub(crate) ttl: Duration,
}

/// What was read of an entry.
enum Read {
    /// All that a lookup needs.
    Whole(Found),
    /// Its inode number, and what it is.
    Kind(u64, NodeKind),
}

/// An entry that was read: the cursor after it, its name, and what was read of it.
type Entry = (u64, Vec<u8>, Read);

impl Fs {
    /// Request: list a directory from a position on. With `plus`, the entries have attributes and each entry counts as
    /// a lookup. `line` returns false when it has no room; that entry is not counted.
    pub(crate) fn readdir(
        &self,
        ctx: &Ctx,
        ino: u64,
        from: u64,
        plus: bool,
        held: &mut Held,
        mut line: impl FnMut(&mut Line<'_>) -> bool,
    ) -> FsResult<()> {
        let place = self.place(ino)?;
        let here = Attr {
            ino,
            ..self.control_attr(NodeKind::Dir, 0)
        };
        for (at, name) in [(0, &b"."[..]), (1, b"..")] {
            if from <= at
                && !line(&mut Line {
                    next: at + 1,
                    name: name.into(),
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
                        && !line(&mut Line {
                            next,
                            name: (*name).into(),
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
        let mut reply = Reply::new(lease_clock(), from.max(2), held.forgotten());
        if plus && from == 0 && held.is_on() && lock(&self.listed).is_kept(ino, &reply) {
            return Ok(());
        }
        let mut cursor = from.saturating_sub(2);
        loop {
            let batch = self.read(ctx, |r| {
                self.batch(r, dir, cursor, if plus { Some(&mut *held) } else { None })
            });
            // The section may have waited, and the times to live count from here.
            reply.now = lease_clock();
            let (batch, end) = match batch {
                Ok(batch) => batch,
                // The directory was removed while it is open.
                Err(e) if e.is_gone() => return Ok(()),
                Err(e) => return Err(e),
            };
            let mut entries = batch.into_iter();
            while let Some((at, name, read)) = entries.next() {
                let shown = match read {
                    Read::Whole(found) => self.show(ctx, (at + 2, name, found), held, &mut reply, &mut line),
                    Read::Kind(ino, kind) => line(&mut Line {
                        next: at + 2,
                        name: name.into(),
                        attr: Attr { ino, kind, ..here },
                        ttl: Duration::ZERO,
                    }),
                };
                if !shown {
                    entries.for_each(|(_, _, rest)| self.drop_read(rest));
                    if plus {
                        lock(&self.listed).replied(ino, &reply, false);
                    }
                    return Ok(());
                }
                reply.next = at + 2;
            }
            match end {
                Some(at) => cursor = at,
                None => {
                    if plus || reply.is_empty() {
                        lock(&self.listed).replied(ino, &reply, true);
                    }
                    return Ok(());
                }
            }
        }
    }

    fn drop_read(&self, read: Read) {
        if let Read::Whole(Found {
            pinned: Some(obj), ..
        }) = read
        {
            self.store.unpin(obj);
        }
    }

    /// Output an entry with its attributes, and count the lookup if it was accepted.
    fn show(
        &self,
        ctx: &Ctx,
        (next, name, found): (u64, Vec<u8>, Found),
        held: &Held,
        reply: &mut Reply,
        line: &mut impl FnMut(&mut Line<'_>) -> bool,
    ) -> bool {
        // The lookup is counted before the entry is output, so that the entry has its final number. The count is
        // reverted if there was no room.
        let attr = self.enter(ctx, found);
        let covered = attr.covered;
        let mut ttl = held.ttl_at(reply.now, covered.entry);
        if covered.attributes != covered.entry {
            ttl = ttl.min(held.ttl_at(reply.now, covered.attributes));
        }
        let name = name.into();
        let taken = line(&mut Line {
            next,
            name,
            attr,
            ttl,
        });
        if taken {
            reply.shown(ttl);
        } else {
            self.note_unknown(attr.ino);
            self.forget(attr.ino, 1);
        }
        taken
    }

    /// The next entries, and the cursor to continue from (None: at the end).
    fn batch(
        &self,
        r: &Reader<'_>,
        dir: Obj,
        mut cursor: u64,
        held: Option<&mut Held>,
    ) -> FsResult<(Vec<Entry>, Option<u64>)> {
        let mut out = Vec::with_capacity(BATCH);
        let result = self.fill(r, dir, &mut cursor, held, &mut out);
        match result {
            Ok(more) => Ok((out, more.then_some(cursor))),
            Err(e) => {
                // The section may run again: give the pins back.
                out.into_iter().for_each(|(_, _, read)| self.drop_read(read));
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
        out: &mut Vec<Entry>,
    ) -> FsResult<bool> {
        if r.kind(dir)? == Kind::List {
            return self.fill_list(r, dir, cursor, held, out);
        }
        for _ in 0..BATCH {
            let Some(entry) = r.next(dir, *cursor)? else {
                return Ok(false);
            };
            *cursor = entry.cursor;
            let spot = Spot {
                parent: dir,
                slot: Slot::Key(owned_key(r, &entry.key)?),
            };
            let (name, read) = self.read_entry(r, spot, &entry.value, held.as_deref_mut())?;
            out.push((*cursor, name, read));
        }
        Ok(true)
    }

    /// Read an entry of a listing: with `held`, for an answer that counts as a lookup.
    fn read_entry(
        &self,
        r: &Reader<'_>,
        spot: Spot,
        value: &Value,
        held: Option<&mut Held>,
    ) -> FsResult<(Vec<u8>, Read)> {
        let Some(held) = held else {
            let read = self.read_kind(r, &spot, value)?;
            let name = match spot.slot {
                Slot::Key(key) => names::into_name(key),
                Slot::Item(name) => name.to_string().into_bytes(),
            };
            return Ok((name, read));
        };
        let name = match &spot.slot {
            Slot::Key(key) => names::name_of(key),
            Slot::Item(name) => name.to_string().into_bytes(),
        };
        let found = self.describe_leased(r, spot.parent, &name, spot, value, held)?;
        Ok((name, Read::Whole(found)))
    }

    fn read_kind(&self, r: &Reader<'_>, spot: &Spot, value: &Value) -> FsResult<Read> {
        let (kind, number) = match value {
            Value::Obj(obj) if self.shown_at(r, *obj, spot)? => {
                (NodeKind::Dir, self.number(&Place::Dir(*obj)))
            }
            Value::Obj(_) | Value::Link(_) => {
                if let Value::Link(text) = value {
                    self.note_link(r, spot, text)?;
                }
                (NodeKind::Link, lock(&self.inodes).number_at(spot, true))
            }
            _ => (NodeKind::File, lock(&self.inodes).number_at(spot, false)),
        };
        Ok(Read::Kind(number, kind))
    }

    fn fill_list(
        &self,
        r: &Reader<'_>,
        dir: Obj,
        cursor: &mut u64,
        mut held: Option<&mut Held>,
        out: &mut Vec<Entry>,
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
                let (name, read) = self.read_entry(r, spot, value, held.as_deref_mut())?;
                out.push((*cursor, name, read));
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
            let read = match held {
                Some(_) => Read::Whole(self.describe(r, spot, &entry.value)?),
                None => self.read_kind(r, &spot, &entry.value)?,
            };
            out.push((*cursor, name, read));
        }
        Ok(true)
    }
}
