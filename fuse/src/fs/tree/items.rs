//! The items of lists: which item a name means in the state that a section sees, and changes of items.
//!
//! 1. A section brings the names of a list up to date with the state that it sees, before it uses them (`names`). What
//!    it learns is kept only if the section was valid until then (`Reader::still_valid`).
//! 2. A write section changes the names together with the items, and records how to take that back (`Renamed`): the
//!    section may fail after it.
//! 3. Under a number above the next one, an item waits beside the list, in the store. It joins the list when the
//!    numbers below it have been given (`join`).

use super::filesystem::Fs;
use super::removed::Removal;
use crate::fs::context::{Ctx, lock};
use crate::fs::error::{FsError, FsResult, errno};
use crate::fs::known::inodes::{Slot, Spot};
use crate::fs::known::list_names::{ListNames, Renamed, Seen};
use crate::fs::text::list_entries::key_beside;
use crate::fs::tree::metadata::records::{Subject, nanoseconds};
use persist_core::Error;
use persist_core::store::door::{Cursor, Since};
use persist_core::store::{Kind, Obj, Reader, Step, Writer};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::SystemTime;

/// Items that join a list in one section.
const JOIN: usize = 256;
/// Items read at once for a hash of all.
const CHUNK: usize = 1024;
/// Attempts to bring names up to date while other threads do the same.
const ROUNDS: usize = 64;

impl Fs {
    /// Use the names of a list in the state that the section sees.
    pub(crate) fn names<R>(&self, r: &Reader<'_>, list: Obj, f: impl Fn(&ListNames) -> R) -> FsResult<R> {
        for _ in 0..ROUNDS {
            let known = lock(&self.lists).get(list.id).map(|l| l.seen);
            let cursor = match known {
                Some(Seen::Log(cursor)) => cursor,
                _ => Cursor::default(),
            };
            let since = r.spliced(list, &cursor)?;
            let same = match (known, &since) {
                (Some(Seen::Log(_)), Since::Same) => true,
                (Some(Seen::Content(count, _)), Since::Off) => count == self.store.change_count(),
                _ => false,
            };
            if !same {
                self.catch_up(r, list, known, since)?;
                continue;
            }
            let lists = lock(&self.lists);
            if let Some(names) = lists.get(list.id).filter(|l| Some(l.seen) == known) {
                return Ok(f(names));
            }
        }
        Err(FsError::Store(Error::Busy(list.id)))
    }

    /// Bring the names of a list from the state `known` to that of the section.
    fn catch_up(&self, r: &Reader<'_>, list: Obj, known: Option<Seen>, since: Since) -> FsResult<()> {
        if let (Since::Spliced(splices, next), Some(Seen::Log(_))) = (&since, known)
            && splices.is_empty()
        {
            r.still_valid(list)?;
            let mut lists = lock(&self.lists);
            if let Some(names) = lists.get_mut(list.id).filter(|l| Some(l.seen) == known) {
                names.seen = Seen::Log(*next);
            }
            return Ok(());
        }
        let waiting = r.waiting(list)?;
        let len = r.len(list)?;
        let mut failed = None;
        let mut taken = |name: u64| {
            let Some(dict) = waiting.filter(|_| failed.is_none()) else {
                return false;
            };
            r.contains(dict, &key_beside(name).as_key()).unwrap_or_else(|e| {
                failed = Some(e);
                false
            })
        };
        let names = lock(&self.lists).get(list.id).cloned();
        let (seen, splices) = match (since, known) {
            (Since::Same, _) => return Ok(()),
            (Since::Spliced(splices, next), Some(Seen::Log(_))) => (Seen::Log(next), Some(splices)),
            (Since::Spliced(_, next) | Since::Lost(next), _) => (Seen::Log(next), None),
            (Since::Off, _) => {
                let count = self.store.change_count();
                let hash = content_of(r, list)?;
                let same = matches!(known, Some(Seen::Content(_, old)) if old == hash);
                (Seen::Content(count, hash), same.then(Vec::new))
            }
        };
        let names = match (names, splices) {
            (None, _) => ListNames::new(len, seen, &mut taken),
            (Some(mut names), splices) => {
                match splices {
                    Some(splices) => names.follow(&splices, &mut taken),
                    None => names.start_over(len, &mut taken),
                }
                if names.len() != len {
                    names.start_over(len, &mut taken);
                }
                names.seen = seen;
                names
            }
        };
        if let Some(e) = failed {
            return Err(e.into());
        }
        r.still_valid(list)?;
        let mut lists = lock(&self.lists);
        if lists.get(list.id).map(|l| l.seen) == known {
            lists.put(list.id, names);
            lists.note_waiting(list, waiting.is_some());
        }
        Ok(())
    }

    /// The index of the item that had this name when it was found, and its present name.
    pub(crate) fn item(&self, r: &Reader<'_>, list: Obj, name: u64) -> FsResult<Option<(u64, u64)>> {
        self.names(r, list, |l| {
            let index = l.current(name)?;
            Some((index, l.name(index)?))
        })
    }

    /// The index of an item.
    pub(crate) fn index(&self, r: &Reader<'_>, list: Obj, name: u64) -> FsResult<u64> {
        let found = self.names(r, list, |l| l.current(name))?;
        found.ok_or(FsError::Errno(libc::ENOENT))
    }

    /// The name of the item at an index; a negative one counts from the end.
    pub(crate) fn name_at(&self, r: &Reader<'_>, list: Obj, index: i64) -> FsResult<Option<u64>> {
        self.names(r, list, |l| {
            let index = if index < 0 {
                l.len().checked_sub(index.unsigned_abs())?
            } else {
                index.unsigned_abs()
            };
            l.name(index)
        })
    }

    /// The names of at most `max` items whose names are not below `from`, and the index of the first.
    pub(crate) fn names_from(
        &self,
        r: &Reader<'_>,
        list: Obj,
        from: u64,
        max: usize,
    ) -> FsResult<(u64, Vec<u64>)> {
        self.names(r, list, |l| {
            let start = l.place(from);
            let names = (start..l.len()).take(max).filter_map(|i| l.name(i));
            (start, names.collect())
        })
    }

    /// Remove an item and its name.
    pub(crate) fn remove_item(
        &self,
        w: &mut Writer<'_>,
        list: Obj,
        name: u64,
        renamed: &mut Vec<Renamed>,
    ) -> FsResult<()> {
        let Some((index, now)) = self.item(w, list, name)? else {
            return errno(libc::ENOENT);
        };
        w.remove_items(list, index, index + 1)?;
        self.rename_in(w, list, now, false, renamed)
    }

    /// Record that this section removed the item of a name (its present one), or inserted one.
    pub(crate) fn rename_in(
        &self,
        w: &mut Writer<'_>,
        list: Obj,
        name: u64,
        inserted: bool,
        renamed: &mut Vec<Renamed>,
    ) -> FsResult<()> {
        if !w.logs_splices()? {
            w.log_splices(true)?;
        }
        let seen = match w.spliced(list, &Cursor::default())? {
            Since::Lost(cursor) | Since::Spliced(_, cursor) => Seen::Log(cursor),
            Since::Same | Since::Off => Seen::Unknown,
        };
        let mut lists = lock(&self.lists);
        let Some(names) = lists.get_mut(list.id) else {
            return Ok(());
        };
        renamed.push(Renamed {
            list: list.id,
            name,
            inserted,
            seen: names.seen,
            next: names.next(),
        });
        names.seen = seen;
        if inserted {
            names.inserted(name);
        } else {
            names.removed(name);
        }
        Ok(())
    }

    /// Check the locks of the list whose waiting entry is about to change. With `touch`, its time changes too.
    pub(crate) fn guard_beside(&self, w: &mut Writer<'_>, dict: Obj, touch: bool) -> FsResult<Option<Obj>> {
        let Some(list) = w.list_of_waiting(dict)? else {
            return Ok(None);
        };
        let now = self.now(w, list, touch)?;
        w.set_mtime(list, now)?;
        Ok(Some(list))
    }

    /// The time of a list, or with `touch` a later one.
    fn now(&self, w: &Writer<'_>, list: Obj, touch: bool) -> FsResult<u64> {
        let last = w.mtime(list)?;
        Ok(match touch {
            true => nanoseconds(SystemTime::now()).max(last.saturating_add(1)),
            false => last,
        })
    }

    /// The dict of the entries that wait beside a list, made if it is missing.
    pub(crate) fn beside(&self, w: &mut Writer<'_>, list: Obj) -> FsResult<Obj> {
        let dict = w.make_waiting(list)?;
        let now = self.now(w, list, true)?;
        w.set_mtime(list, now)?;
        lock(&self.lists).note_waiting(list, true);
        Ok(dict)
    }

    /// Remove the dict of waiting entries of a list if it is empty.
    pub(crate) fn drop_beside(&self, w: &mut Writer<'_>, list: Obj) -> FsResult<()> {
        if let Some(dict) = w.waiting(list)?
            && w.len(dict)? == 0
        {
            w.drop_waiting(list)?;
        }
        Ok(())
    }

    /// The waiting item that joins the list next: its key and the name under which it joins.
    fn joins(&self, r: &Reader<'_>, list: Obj, dict: Obj) -> FsResult<Option<u64>> {
        let (passed, next) = self.names(r, list, |l| (l.passed(), l.next()))?;
        for name in passed.into_iter().chain([next]) {
            if r.contains(dict, &key_beside(name).as_key())? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Let the entries that wait beside a list join it, as far as the numbers below them have been given.
    pub(crate) fn join(&self, ctx: &Ctx, list: Obj) {
        loop {
            let ready = self.read(ctx, |r| match r.kind(list)? {
                Kind::List => match r.waiting(list)? {
                    Some(dict) => Ok(self.joins(r, list, dict)?.is_some()),
                    None => Ok(false),
                },
                _ => Ok(false),
            });
            match ready {
                Ok(true) => {}
                Err(e) if e.is_gone() => return lock(&self.lists).forget(list.id),
                Ok(false) | Err(_) => return,
            }
            let _moving = self.moving.begin();
            let mut removal = Removal::new(self);
            let joined = self.write_to_follow(ctx, |w, renamed| {
                removal.run(|removal| {
                    let moved = self.join_some(w, list, renamed)?;
                    moved.iter().for_each(|(_, to)| removal.arrives(to));
                    Ok(moved)
                })
            });
            match joined {
                Ok((moved, unforgotten)) => {
                    moved.iter().for_each(|(from, to)| self.spot_moved(from, to));
                    drop(removal);
                    drop(unforgotten);
                }
                Err(e) => {
                    // The entries wait on, under their names.
                    log::debug!("list items wait on: errno {}", e.errno());
                    return;
                }
            }
        }
    }

    fn join_some(
        &self,
        w: &mut Writer<'_>,
        list: Obj,
        renamed: &mut Vec<Renamed>,
    ) -> FsResult<Vec<(Spot, Spot)>> {
        let mut moved = Vec::new();
        let time = w.mtime(list)?;
        while moved.len() < JOIN {
            let Some(dict) = w.waiting(list)? else { break };
            let Some(name) = self.joins(w, list, dict)? else {
                break;
            };
            let from = Spot {
                parent: dict,
                slot: Slot::Key(key_beside(name)),
            };
            self.enter_list(w, &from, list, name, renamed)?;
            moved.push((
                from,
                Spot {
                    parent: list,
                    slot: Slot::Item(name),
                },
            ));
        }
        self.drop_beside(w, list)?;
        // To the user the items were there all the time.
        w.set_mtime(list, time)?;
        Ok(moved)
    }

    /// Move an entry into a list, as a new item under a number that is free there. The entry keeps its identity.
    pub(crate) fn enter_list(
        &self,
        w: &mut Writer<'_>,
        from: &Spot,
        list: Obj,
        name: u64,
        renamed: &mut Vec<Renamed>,
    ) -> FsResult<()> {
        let at = self.names(w, list, |l| l.place(name))?;
        if at == w.len(list)? {
            let step = self.step(w, from)?;
            let source = self.item_of(w, from)?;
            w.rename(from.parent, &step, list, &Step::Index(at))?;
            self.rename_in(w, list, name, true, renamed)?;
            if let Some(now) = source {
                self.rename_in(w, from.parent, now, false, renamed)?;
            }
            return Ok(());
        }
        let Some(value) = self.value_at(w, from)? else {
            return errno(libc::ENOENT);
        };
        let value = self.owned(w, &value)?;
        w.insert(list, at, &value.as_in())?;
        self.rename_in(w, list, name, true, renamed)?;
        let to = Spot {
            parent: list,
            slot: Slot::Item(name),
        };
        let record = self.record(w, Subject::Entry(from))?;
        self.carry_record(w, &record, &to)?;
        match &from.slot {
            Slot::Item(name) => self.remove_item(w, from.parent, *name, renamed),
            Slot::Key(key) => Ok(w.remove(from.parent, &key.as_key()).map(drop)?),
        }
    }

    /// The present name of a spot that is an item.
    pub(crate) fn item_of(&self, r: &Reader<'_>, spot: &Spot) -> FsResult<Option<u64>> {
        match spot.slot {
            Slot::Item(name) => Ok(self.item(r, spot.parent, name)?.map(|(_, now)| now)),
            Slot::Key(_) => Ok(None),
        }
    }
}

/// A hash of the items of a list: of their values, or of their identities.
fn content_of(r: &Reader<'_>, list: Obj) -> FsResult<u64> {
    let mut hasher = DefaultHasher::new();
    let len = r.len(list)?;
    let mut at = 0;
    let mut items = Vec::with_capacity(CHUNK);
    while at < len {
        items.clear();
        r.items(list, at, CHUNK, &mut items)?;
        if items.is_empty() {
            break;
        }
        at += items.len() as u64;
        for item in &items {
            format!("{item:?}").hash(&mut hasher);
        }
    }
    len.hash(&mut hasher);
    Ok(hasher.finish())
}
