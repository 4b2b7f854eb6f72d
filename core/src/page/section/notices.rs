//! The change feed: how a write section announces what it changed, and how a process watches and reads it.
//!
//! 1. A section stages a record for each change of a watched container, and publishes the records after its commit
//!    (`sync::ring`). In a transaction they wait for the transaction's commit. So the records are in the order of the
//!    commits.
//! 2. No change of a watched container is missing. The records of an operation or a block that is undone are dropped
//!    with it. A record may be of a change that was not made, because the process died between a record and its store.
//! 3. A container is watched from the moment in which `watch` had the latch: a change that begins later announces
//!    itself.
//! 4. Publishing wakes the sleepers after the latch is released.
//!
//! A record, in words of 8 bytes:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 2 | length of the record in words |
//! | 2 | 2 | kind (`object::notice`) |
//! | 4 | 2 | bytes of the key |
//! | 6 | 2 | process slot of the writer |
//! | 8 | 8 | id of the container |
//! | 16 | 8 | address of the container |
//! | 24 | 8 | first index |
//! | 32 | 8 | number of entries removed |
//! | 40 | 8 | number of entries added |
//! | 48 | | the key, padded with zeros |

use crate::error::Result;
use crate::ids::{Obj, ObjectId};
use crate::page::access::{NOTICE_WORDS, Notice};
use crate::page::pager::Pager;
use crate::page::section::write::WriteSection;
use crate::page::shared::regions::feed::{BUCKETS, bucket};
use crate::page::sync::ring::{Found, Ring};
use crate::page::sync::wait::Wait;
use crate::raw::failpoint::fail_point;
use crate::raw::sync::Ordering;
use smallvec::SmallVec;
use std::time::Duration;

impl WriteSection<'_> {
    /// Stage the record of a change.
    #[cold]
    pub(super) fn stage_notice(&mut self, notice: &Notice<'_>) {
        let words = NOTICE_WORDS + notice.key.len().div_ceil(8);
        let mut record: SmallVec<[u64; 32]> = SmallVec::with_capacity(words);
        let by = u64::from(self.read.pager.process_number());
        record.push(words as u64 | u64::from(notice.kind) << 16 | (notice.key.len() as u64) << 32 | by << 48);
        let Obj { id, addr } = notice.container;
        record.extend([id.0, addr.0, notice.at, notice.removed, notice.added]);
        for part in notice.key.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            record.push(u64::from_le_bytes(word));
        }
        let before = self.ring().staged_end();
        self.announced.get_or_insert(before);
        self.ring().stage(&record);
        fail_point!("feed.staged");
    }

    fn ring(&self) -> Ring<'_> {
        self.read.pager.shm().ring()
    }

    /// Publish the records of the change that was committed.
    #[cold]
    pub(super) fn publish_notices(&mut self) {
        self.ring().publish();
        fail_point!("feed.published");
        self.publishes = true;
    }

    /// Drop the records of an operation that was undone: those from this position on.
    #[cold]
    pub(super) fn discard_notices(&self, at: u64) {
        self.ring().discard_from(at);
    }
}

impl Pager {
    /// Wake the processes that wait for changes. The caller has released the latch.
    #[cold]
    pub(crate) fn wake_feeds(&self) {
        let sleepers = self.shm().ring_sleepers();
        sleepers.futex.fetch_add(1, Ordering::SeqCst);
        sleepers.wake(i32::MAX);
    }

    /// Announce changes of the container from now on. Each call needs one of `unwatch`.
    pub(crate) fn watch(&self, id: ObjectId, wait: &mut Wait<'_>) -> Result<()> {
        self.outside_sections()?;
        let bucket = bucket(id);
        self.with_latch(wait, || {
            if self.add_watch(bucket) {
                self.shm().watch(self.process(), bucket);
            }
            Ok(())
        })
    }

    /// Undo one call of `watch`. If the latch is not to be had in time, changes are still announced, which only costs
    /// time, until the process ends.
    pub(crate) fn unwatch(&self, id: ObjectId, wait: &mut Wait<'_>) {
        let bucket = bucket(id);
        let _ = self.with_latch(wait, || {
            if self.remove_watch(bucket) {
                self.shm().watch_no_more(self.process(), [bucket]);
            }
            Ok(())
        });
    }

    /// Announce changes of every container from now on. Each call needs one of `unwatch_all`.
    pub(crate) fn watch_all(&self, wait: &mut Wait<'_>) -> Result<()> {
        self.outside_sections()?;
        self.with_latch(wait, || {
            for bucket in 0..BUCKETS {
                if self.add_watch(bucket) {
                    self.shm().watch(self.process(), bucket);
                }
            }
            Ok(())
        })
    }

    /// Undo one call of `watch_all`; see `unwatch`.
    pub(crate) fn unwatch_all(&self, wait: &mut Wait<'_>) {
        let _ = self.with_latch(wait, || {
            let ended = (0..BUCKETS).filter(|b| self.remove_watch(*b));
            self.shm().watch_no_more(self.process(), ended);
            Ok(())
        });
    }

    /// Return what names this process among the store's users. It differs in a forked child, which watches nothing.
    pub(crate) fn member(&self) -> Result<u64> {
        self.slot()?;
        Ok(self.member_word())
    }

    /// Return the number by which records name this process.
    pub(crate) fn process_number(&self) -> u16 {
        // Slots are fewer than 128.
        self.process() as u16
    }

    /// Return the end of the feed.
    pub(crate) fn feed_end(&self) -> u64 {
        self.shm().ring().end()
    }

    /// Copy the records after `from` to `into`, which is empty.
    pub(crate) fn feed(&self, from: u64, into: &mut Vec<u64>) -> Found {
        self.shm().ring().read(from, into)
    }

    /// Sleep for at most `slice` while the feed ends at `end`.
    pub(crate) fn await_feed(&self, end: u64, slice: Duration) {
        let ready = || self.feed_end() != end;
        self.shm().ring_sleepers().sleep_unless(slice, ready);
    }
}
