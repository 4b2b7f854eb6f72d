//! Metadata of files and directories in the store: reading and changing the records (`text::record`).
//!
//! 1. What a tool set (mode, owner, times, extended attributes) is in the store when the request is answered. The
//!    record belongs to the entry, or for a directory to its container: it moves with it and is removed with it.
//! 2. A time of change belongs to a content (its fingerprint). When the content changes, through either door, the time
//!    is that of the change.
//! 3. What equals the default of the mount is not stored.

use crate::fs::error::{FsResult, errno};
use crate::fs::known::inodes::{Place, Slot, Spot};
use crate::fs::text::record::Record;
use crate::fs::tree::filesystem::Fs;
use persist_core::store::door::MetadataOf;
use persist_core::store::{Obj, Reader, Value, Writer};
use std::time::{SystemTime, UNIX_EPOCH};

/// The subject of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'a> {
    /// A directory.
    Dir(Obj),
    /// A file or a symlink.
    Entry(&'a Spot),
}

impl<'a> Subject<'a> {
    /// The subject of a place, if records are kept for such places.
    pub(crate) fn of(place: &'a Place) -> Option<Subject<'a>> {
        match place {
            Place::Dir(obj) => Some(Subject::Dir(*obj)),
            Place::File(spot) | Place::Link(spot) => Some(Subject::Entry(spot)),
            _ => None,
        }
    }
}

/// Nanoseconds since 1970. Times before that become 0.
pub(crate) fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

impl Fs {
    /// The subject in the engine's form; None if the entry does not exist.
    fn subject<'a>(&self, r: &Reader<'_>, subject: Subject<'a>) -> FsResult<Option<(Obj, MetadataOf<'a>)>> {
        let (parent, slot) = match subject {
            Subject::Dir(obj) => return Ok(Some((obj, MetadataOf::Container))),
            Subject::Entry(spot) => (spot.parent, &spot.slot),
        };
        match slot {
            Slot::Key(key) => Ok(Some((parent, MetadataOf::Key(key.as_key())))),
            Slot::Item(name) => {
                let item = self.item(r, parent, *name)?;
                Ok(item.map(|(index, _)| (parent, MetadataOf::Index(index))))
            }
        }
    }

    /// The record of a file or directory; an empty one if nothing was set.
    pub(crate) fn record(&self, r: &Reader<'_>, subject: Subject<'_>) -> FsResult<Record> {
        let container = match subject {
            Subject::Dir(obj) => obj,
            Subject::Entry(spot) => spot.parent,
        };
        if !r.has_metadata(container)? {
            return Ok(Record::default());
        }
        let Some((obj, of)) = self.subject(r, subject)? else {
            return Ok(Record::default());
        };
        match r.metadata(obj, &of)? {
            Some(bytes) => Record::from_bytes(&bytes),
            None => Ok(Record::default()),
        }
    }

    /// Set the record of a file or directory that exists.
    pub(crate) fn set_record(
        &self,
        w: &mut Writer<'_>,
        subject: Subject<'_>,
        record: &Record,
    ) -> FsResult<()> {
        let Some((obj, of)) = self.subject(w, subject)? else {
            return errno(libc::ESTALE);
        };
        let bytes = (!record.is_empty()).then(|| record.to_bytes());
        Ok(w.set_metadata(obj, &of, bytes.as_deref())?)
    }

    /// Record that the value of an entry was written again: the time of change moves with the same content.
    pub(crate) fn note_written_at(&self, w: &mut Writer<'_>, spot: &Spot, value: &Value) -> FsResult<()> {
        let Some(print) = self.print_of(value) else {
            return Ok(());
        };
        self.change_record(w, Subject::Entry(spot), |record| {
            record.mtime = Some((nanoseconds(SystemTime::now()), print));
            Ok(())
        })
    }

    /// Copy the record of an entry to the one that takes its place.
    pub(crate) fn carry_record(&self, w: &mut Writer<'_>, record: &Record, to: &Spot) -> FsResult<()> {
        let old = self.record(w, Subject::Entry(to))?;
        if old == *record {
            return Ok(());
        }
        self.set_record(w, Subject::Entry(to), record)
    }

    /// Change the record of a file or directory that exists.
    pub(crate) fn change_record<R>(
        &self,
        w: &mut Writer<'_>,
        subject: Subject<'_>,
        f: impl FnOnce(&mut Record) -> FsResult<R>,
    ) -> FsResult<R> {
        let old = self.record(w, subject)?;
        let mut new = old.clone();
        let result = f(&mut new)?;
        if new != old {
            new.ctime = Some(nanoseconds(SystemTime::now()));
            self.set_record(w, subject, &new)?;
        }
        Ok(result)
    }
}
