//! The number of links of a directory: 2, and one for each subdirectory. A directory that was removed has none.
//!
//! 1. The entries of a directory with more than `MOST` entries are not counted. The number of its links is 1, which
//!    means "not known" to programs that use it (as on Btrfs).
//! 2. A count is used again as long as the container is in the same state (`known::directories`). A request that adds
//!    or removes one entry carries it on: counting at each would make a directory of n files cost n * n / 2.
//! 3. While a transaction is open, readers see the state before it, but its times. A count of that state is not kept.
//! 4. A symlink to a container becomes its directory when the home of that goes, without a change of this container. A
//!    link value becomes such a symlink, and the time stays. So the count of a directory with symlinks is not kept.

use crate::fs::context::lock;
use crate::fs::error::FsResult;
use crate::fs::known::directories::Stamp;
use crate::fs::text::record::Record;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::metadata::records::{Subject, nanoseconds};
use persist_core::store::{Kind, LargeKind, Obj, Reader, Step, Value};
use std::time::SystemTime;

/// The most entries that are counted.
const MOST: u64 = 256;
/// Containers that changed longer ago than this many nanoseconds get another time at their next change.
const TICK: u64 = 50_000_000;

/// The number of subdirectories of a container in a state.
pub(crate) struct Count {
    container: Obj,
    stamp: Stamp,
    count: u32,
}

impl Fs {
    /// Return the number of subdirectories before a change, if it is known.
    pub(crate) fn count_before(&self, r: &Reader<'_>, container: Obj) -> FsResult<Option<u32>> {
        if !lock(&self.directories).has_subdirectories(container.id) {
            return Ok(None);
        }
        let stamp = self.stamp(r, container)?;
        Ok(lock(&self.directories).subdirectories(container.id, stamp))
    }

    /// Return the number after a change in this section, by which so many have come or gone. It is kept when the change
    /// is done (`keep_count`).
    pub(crate) fn count_after(
        &self,
        r: &Reader<'_>,
        container: Obj,
        before: Option<u32>,
        by: i32,
    ) -> FsResult<Option<Count>> {
        let Some(count) = before.and_then(|before| before.checked_add_signed(by)) else {
            return Ok(None);
        };
        let stamp = self.stamp(r, container)?;
        Ok(Some(Count {
            container,
            stamp,
            count,
        }))
    }

    /// Keep a number, if there is one.
    pub(crate) fn keep_count(&self, count: Option<Count>) {
        if let Some(Count {
            container,
            stamp,
            count,
        }) = count
        {
            lock(&self.directories).keep_subdirectories(container, stamp, count);
        }
    }

    /// The state of a container.
    fn stamp(&self, r: &Reader<'_>, container: Obj) -> FsResult<Stamp> {
        let record = self.record(r, Subject::Dir(container))?;
        self.stamp_with(r, container, &record)
    }

    /// The same, with the record of its directory.
    pub(crate) fn stamp_with(&self, r: &Reader<'_>, container: Obj, record: &Record) -> FsResult<Stamp> {
        Ok(Stamp {
            time: r.mtime(container)?,
            len: r.len(container)?,
            set: record.set.unwrap_or(0),
        })
    }

    /// The number of links of a directory, whose record is given.
    pub(crate) fn links_of(&self, r: &Reader<'_>, container: Obj, record: &Record) -> FsResult<u32> {
        if container != self.root && r.refs(container)? == 0 {
            return Ok(0);
        }
        let stamp = self.stamp_with(r, container, record)?;
        let waiting = match r.kind(container)? {
            Kind::List => r.waiting(container)?,
            Kind::Dict | Kind::Object => None,
        };
        let others = waiting.map_or(Ok(0), |dict| r.len(dict))?;
        if stamp.len.saturating_add(others) > MOST {
            return Ok(1);
        }
        let kept = lock(&self.directories).subdirectories(container.id, stamp);
        if let (Some(count), None) = (kept, waiting) {
            return Ok(2 + count);
        }
        let there = count(r, container)?;
        if let Some(dict) = waiting {
            return Ok(2 + there.homes + count(r, dict)?.homes);
        }
        let is_settled = nanoseconds(SystemTime::now()).saturating_sub(stamp.time) > TICK;
        if there.symlinks == 0 && is_settled && !r.is_before_transaction() {
            r.still_valid(container)?;
            lock(&self.directories).keep_subdirectories(container, stamp, there.homes);
        }
        Ok(2 + there.homes)
    }
}

/// What a container has: subdirectories, and symlinks, which may become subdirectories.
#[derive(Default)]
struct Entries {
    homes: u32,
    symlinks: u32,
}

impl Entries {
    fn add(&mut self, value: &Value, is_home: impl FnOnce(Obj) -> FsResult<bool>) -> FsResult<()> {
        match value {
            Value::Obj(obj) if is_home(*obj)? => self.homes += 1,
            Value::Obj(_) | Value::Link(_) => self.symlinks += 1,
            Value::Large(large) if large.kind == LargeKind::Link => self.symlinks += 1,
            _ => {}
        }
        Ok(())
    }
}

fn count(r: &Reader<'_>, container: Obj) -> FsResult<Entries> {
    let mut count = Entries::default();
    if r.kind(container)? == Kind::List {
        let mut items = Vec::new();
        let len = r.len(container)?;
        r.items(
            container,
            0,
            usize::try_from(len).unwrap_or(usize::MAX),
            &mut items,
        )?;
        for (index, item) in (0..).zip(&items) {
            count.add(item, |obj| Ok(r.is_home(obj, container, &Step::Index(index))?))?;
        }
        return Ok(count);
    }
    let mut cursor = 0;
    while let Some(entry) = r.next(container, cursor)? {
        cursor = entry.cursor;
        let step = Step::Key(entry.key);
        count.add(&entry.value, |obj| Ok(r.is_home(obj, container, &step)?))?;
    }
    Ok(count)
}
