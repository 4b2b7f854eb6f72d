//! Times of change that no tool has set: that of the container when the content was first seen.
//!
//! A container has one time for all of its entries. When one of them changes, the others must not seem changed, also to
//! the next mount: `rsync -a` transfers what changed and nothing else. So the mount writes at its end, for each
//! container, which contents it has shown with which times. A mount that was killed has not: after it, a file's time is
//! that of its container.
//!
//! A file that shows another content than before has a later time than before, also if its container has not: two
//! changes may fall into one tick of the clock, and a clock may be set back.
//!
//! The time of a directory is that of the last change of its entries. A command that changes the content of a file
//! moves the time of the container, but not that of the directory. The mount keeps that time (`known::directories`). At
//! its end it writes it into the directory's record, with a fingerprint of the state of the container for which it
//! holds. What a tool sets is the time of both. To Python the value of an entry is a part of its container: what Python
//! stores moves the directory's time.
//!
//! The table of a container (`MetadataOf::Times`):
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | version: 1 |
//! | 8 | 24 each | an entry: its number, the fingerprint of its content, the time in nanoseconds since 1970 |
//!
//! The number of an entry is a hash of its name; in a list, the index.

use crate::fs::context::{Ctx, lock, time_of};
use crate::fs::error::{FsError, FsResult};
use crate::fs::known::directories::Stamp;
use crate::fs::known::inodes::{Slot, Spot};
use crate::fs::known::metadata::{Seen, Table, fingerprint, number_of};
use crate::fs::text::names;
use crate::fs::text::record::Record;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::metadata::records::Subject;
use crate::fs::tree::metadata::records::nanoseconds;
use persist_core::Error;
use persist_core::store::door::MetadataOf;
use persist_core::store::{Kind, Obj, Reader, Value, Writer};
use std::collections::HashSet;
use std::time::SystemTime;

const VERSION: u64 = 1;
const ENTRY: usize = 24;
/// The most entries of a table: the store takes records of up to 16 MiB.
const MAX: usize = (16 << 20) / ENTRY - 1;

/// Return the time of a content that is new in a file, by the time of its container and by what the file was before.
fn later_than(before: Option<Seen>, container: u64) -> u64 {
    match before {
        Some(seen) if seen.time >= container => {
            nanoseconds(SystemTime::now()).max(seen.time.saturating_add(1))
        }
        _ => container,
    }
}

impl Fs {
    /// The time of change of a directory, whose record is given.
    pub(crate) fn dir_time(&self, r: &Reader<'_>, container: Obj, record: &Record) -> FsResult<u64> {
        let stamp = self.stamp_with(r, container, record)?;
        let kept = lock(&self.directories).time(container.id, stamp);
        if let Some(time) = kept {
            return Ok(time);
        }
        Ok(match record.mtime {
            Some((time, print)) if print == print_of(stamp) => time,
            _ => stamp.time,
        })
    }

    /// Change the content of an entry of `container`: the time of the directory stays.
    pub(crate) fn changing_content<R>(
        &self,
        w: &mut Writer<'_>,
        container: Obj,
        f: impl FnOnce(&mut Writer<'_>) -> FsResult<R>,
    ) -> FsResult<R> {
        let record = self.record(w, Subject::Dir(container))?;
        let time = self.dir_time(w, container, &record)?;
        let result = f(w);
        // The time of a container moves also if the change is taken back.
        if let Ok(stamp) = self.stamp_with(w, container, &record)
            && stamp.time != time
        {
            lock(&self.directories).keep_time(container, stamp, time);
        }
        result
    }

    /// Entries of a directory come or go: its time is that of its container.
    pub(crate) fn changing_entries(&self, container: Obj) {
        lock(&self.directories).forget_time(container.id);
    }

    /// The time of change of a file with this content, given the time of its container.
    pub(crate) fn first_seen(
        &self,
        r: &Reader<'_>,
        spot: &Spot,
        print: u64,
        container: SystemTime,
    ) -> FsResult<SystemTime> {
        let number = number_of(&spot.slot);
        let seen = lock(&self.metadata).seen(spot.parent.id, number, print);
        if let Some(time) = seen {
            return Ok(time_of(time));
        }
        if lock(&self.metadata).table(spot.parent.id).is_none() {
            let table = self.stored_table(r, spot.parent)?;
            r.still_valid(spot.parent)?;
            lock(&self.metadata).add_table(spot.parent.id, table);
        }
        let listed = self.number_in_table(r, spot.parent, matches!(spot.slot, Slot::Item(_)), number)?;
        // A section that no longer holds may have met a content and the time of another one.
        r.still_valid(spot.parent)?;
        let mut memory = lock(&self.metadata);
        let table = memory.table(spot.parent.id);
        let stored = listed.and_then(|number| table?.get(&number));
        let time = match stored {
            Some(seen) if seen.print == print => seen.time,
            _ => {
                let before = memory.last_shown(spot.parent.id, number).or(stored.copied());
                later_than(before, nanoseconds(container))
            }
        };
        memory.see(spot.parent, number, Seen { print, time });
        Ok(time_of(time))
    }

    /// The number of an entry in the table of its container, by its number among those that were seen.
    fn number_in_table(
        &self,
        r: &Reader<'_>,
        container: Obj,
        is_item: bool,
        number: u64,
    ) -> FsResult<Option<u64>> {
        match is_item {
            true => Ok(self.item(r, container, number)?.map(|(index, _)| index)),
            false => Ok(Some(number)),
        }
    }

    /// The table that the store has of a container.
    fn stored_table(&self, r: &Reader<'_>, container: Obj) -> FsResult<Table> {
        if !r.has_metadata(container)? {
            return Ok(Table::default());
        }
        let bytes = r.metadata(container, &MetadataOf::Times)?.unwrap_or_default();
        if bytes.is_empty() {
            return Ok(Table::default());
        }
        let table = from_bytes(&bytes);
        if table.is_none() {
            log::warn!(
                "the times of the entries of container {} are not readable",
                container.id.0
            );
        }
        Ok(table.unwrap_or_default())
    }

    /// Write the times that were shown, at the end of the mount.
    pub(crate) fn store_times(&self, ctx: &Ctx) {
        let directories = lock(&self.directories).times();
        for (container, stamp, time) in directories {
            match self.write(ctx, |w, _| self.store_dir_time(w, container, stamp, time)) {
                Ok(()) => {}
                Err(FsError::Store(Error::ReadOnly)) => return,
                Err(e) if e.is_gone() => {}
                Err(e) => {
                    return log::warn!(
                        "times of directories were not stored: {}",
                        e.message(self.store.path())
                    );
                }
            }
        }
        let all = lock(&self.metadata).all_seen();
        for (container, seen) in all {
            match self.store_times_of(ctx, container, &seen) {
                Ok(()) => {}
                Err(FsError::Store(Error::ReadOnly)) => return,
                Err(e) if e.is_gone() => {}
                Err(e) => {
                    return log::warn!("times of files were not stored: {}", e.message(self.store.path()));
                }
            }
        }
    }

    fn store_dir_time(&self, w: &mut Writer<'_>, container: Obj, stamp: Stamp, time: u64) -> FsResult<()> {
        let subject = Subject::Dir(container);
        let mut record = self.record(w, subject)?;
        let mtime = Some((time, print_of(stamp)));
        if self.stamp_with(w, container, &record)? != stamp || record.mtime == mtime {
            return Ok(());
        }
        record.mtime = mtime;
        self.set_record(w, subject, &record)
    }

    fn store_times_of(&self, ctx: &Ctx, container: Obj, seen: &Table) -> FsResult<()> {
        let (old, new) = self.read(ctx, |r| {
            let old = self.stored_table(r, container)?;
            let is_list = r.kind(container)? == Kind::List;
            let mut new = old.clone();
            for (number, seen) in seen {
                if let Some(number) = self.number_in_table(r, container, is_list, *number)? {
                    new.insert(number, *seen);
                }
            }
            if new.len() as u64 > r.len(container)? {
                let there = numbers_in(r, container)?;
                new.retain(|number, _| there.contains(number));
            }
            Ok((old, new))
        })?;
        if new == old {
            return Ok(());
        }
        if new.len() > MAX {
            log::warn!(
                "the times of {} entries of container {} were not stored, {MAX} at most: after the next mount these \
                 files have the time of their directory's last change",
                new.len(),
                container.id.0
            );
            return Ok(());
        }
        let bytes = (!new.is_empty()).then(|| to_bytes(&new));
        self.write(ctx, |w, _| {
            Ok(w.set_metadata(container, &MetadataOf::Times, bytes.as_deref())?)
        })
    }
}

/// The fingerprint that a record has of the state of a container.
fn print_of(stamp: Stamp) -> u64 {
    let Stamp { time, len, set } = stamp;
    // Without `set`, the fingerprint is that of records from before it.
    let words = [time, len, set].map(u64::to_le_bytes);
    fingerprint(words[..2 + usize::from(set != 0)].as_flattened())
}

/// The numbers of the entries that a container has.
fn numbers_in(r: &Reader<'_>, container: Obj) -> FsResult<HashSet<u64>> {
    if r.kind(container)? == Kind::List {
        return Ok((0..r.len(container)?).collect());
    }
    let (mut numbers, mut cursor) = (HashSet::new(), 0);
    while let Some(entry) = r.next(container, cursor)? {
        cursor = entry.cursor;
        if !matches!(entry.value, Value::Obj(_)) {
            let key = crate::fs::tree::values::owned_key(r, &entry.key)?;
            numbers.insert(fingerprint(&names::name_in(&key)));
        }
    }
    Ok(numbers)
}

fn to_bytes(table: &Table) -> Vec<u8> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_unstable_by_key(|(number, _)| **number);
    let mut out = VERSION.to_le_bytes().to_vec();
    for (number, seen) in entries {
        for word in [*number, seen.print, seen.time] {
            out.extend(word.to_le_bytes());
        }
    }
    out
}

fn from_bytes(bytes: &[u8]) -> Option<Table> {
    let (version, entries) = bytes.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*version) != VERSION || !entries.len().is_multiple_of(ENTRY) {
        return None;
    }
    let word = |entry: &[u8], n: usize| Some(u64::from_le_bytes(*entry[8 * n..].first_chunk()?));
    entries
        .chunks_exact(ENTRY)
        .map(|entry| {
            let (print, time) = (word(entry, 1)?, word(entry, 2)?);
            Some((word(entry, 0)?, Seen { print, time }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_table_reads_as_it_was_written(entries: std::collections::HashMap<u64, (u64, u64)>) {
            let table: Table = entries.into_iter().map(|(n, (print, time))| (n, Seen { print, time })).collect();
            let bytes = to_bytes(&table);
            prop_assert_eq!(from_bytes(&bytes), Some(table));
            prop_assert_eq!(from_bytes(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn hostile_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = from_bytes(&bytes);
        }
    }
}
