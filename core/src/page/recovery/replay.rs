//! Replay: after a power failure, or when the sidecar is lost, the log's records are applied to the checkpoint that
//! names them, up to the first record that is not complete.
//!
//! 1. Replay happens before any other process can enter, as ordinary writes: pages of the checkpoint are copied, not
//!    overwritten. So the checkpoint and the log do not change, and a replay that is killed is restarted with a new
//!    sidecar (`LOG_REPLAY`).
//! 2. Records are written in the order of commits, and each is complete on disk or does not match its checksum. So the
//!    replayed state is one that existed, and no older than the last commit that was reported durable.
//! 3. The log continues after the records found, in a new chain: a torn end is not read again.

use crate::error::{Error, Result};
use crate::page::format::log_file::{Found, LogFile};
use crate::page::format::log_record::{self, HEADER, Place, Range, Record};
use crate::page::format::meta::Meta;
use crate::page::pager::Pager;
use crate::page::shared::paths::log_path;
use crate::page::shared::regions::free_pages::ABSENT;
use crate::raw::failpoint::fail_point;

impl Pager {
    /// Replay the log that the checkpoint names. The process is alone with a new sidecar. Return whether any record was
    /// replayed.
    pub(crate) fn replay_log(&self, meta: &Meta) -> Result<bool> {
        if self.shm().is_replayed() {
            return Ok(false);
        }
        let path = log_path(self.path());
        let refused = |what: String| Error::Refused {
            path: self.path().to_path_buf(),
            why: format!(
                "its redo log {} {what}: changes that were reported durable may be in it. Put the right file \
                 there; or, to go back to the last checkpoint, make an empty file of that name",
                path.display()
            ),
        };
        let log = match LogFile::find(&path, self.file(), meta.uuid, meta.log.generation)? {
            Found::Log(log) => log,
            Found::Emptied => {
                self.shm().log().has_nothing_to_replay();
                return Ok(false);
            }
            Found::Missing => return Err(refused("is missing".to_owned())),
            Found::Foreign(what) => return Err(refused(what.to_owned())),
        };
        let mut place = meta.log;
        let mut buf = Vec::new();
        let mut replayed = false;
        while let Some(len) = next_record(&log, place, meta.log.at, &mut buf)? {
            let Some((record, next)) = Record::read(&buf[..len], place) else {
                break;
            };
            self.replay(&record)?;
            fail_point!("log.replayed");
            (place, replayed) = (next, true);
        }
        // If this checkpoint is damaged later, the one before it needs its own part of the log.
        let before = Meta::before(&*self.file().using()?, meta)?
            .filter(|m| m.log.generation == meta.log.generation)
            .map_or(meta.log.at, |m| m.log.at.min(meta.log.at));
        self.shm().log().is_replayed_to(place.at, before);
        Ok(replayed)
    }

    fn replay(&self, record: &Record<'_>) -> Result<()> {
        self.latched(|pager, slot| {
            let gate = pager.keep_readers_out(slot)?;
            record.ranges(|range| pager.replay_range(&range))?;
            drop(gate);
            pager.whole()?;
            let next = record.next_id().max(pager.shm().live().next_id());
            pager.shm().live().set_next_id(next);
            Ok(())
        })
    }

    fn replay_range(&self, range: &Range<'_>) -> Result<()> {
        let page = range.addr.page().0;
        let logical = self.shm().live().logical();
        // New pages are added one at a time.
        if page > logical {
            return Err(Error::Corrupt {
                what: "an address beyond the store in the redo log",
                at: range.addr.0,
            });
        }
        self.extend_logical(page)?;
        let entry = match self.shm().entry(page) {
            0 => self.fill(page, || true)?,
            entry => entry,
        };
        let keep = !range.whole && entry & ABSENT == 0;
        let physical = match self.writable(page, entry, keep, true) {
            Err(Error::NoSpace { .. }) => {
                return Err(Error::NoSpace {
                    what: "the store file, to bring in what its redo log holds",
                    source: std::io::Error::from_raw_os_error(libc::ENOSPC),
                });
            }
            done => done?,
        };
        // SAFETY: under the latch with the gate raised (`section`, invariant 1), and no other process has the store
        // open.
        let bytes = unsafe { self.map().page_mut(physical) }?;
        if range.whole {
            bytes.fill(0);
        }
        bytes[range.addr.offset()..range.addr.offset() + range.bytes.len()].copy_from_slice(range.bytes);
        Ok(())
    }
}

/// Read the bytes of a possible record at `place`. Return how many, or None at the log's end.
fn next_record(log: &LogFile, place: Place, first: u64, buf: &mut Vec<u8>) -> Result<Option<usize>> {
    let failed = |e| Error::io("cannot read the redo log", e);
    // At most once around the ring.
    let most = log.ring.saturating_sub(place.at - first) as usize;
    let mut header = [0; HEADER];
    if most < HEADER || !log.read(place.at, &mut header).map_err(failed)? {
        return Ok(None);
    }
    let Some(len) = log_record::length(&header, place, most) else {
        return Ok(None);
    };
    buf.resize(buf.len().max(len), 0);
    Ok(log
        .read(place.at, &mut buf[..len])
        .map_err(failed)?
        .then_some(len))
}
