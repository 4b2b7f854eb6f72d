//! Pins: the containers that this process refers to, so that no process frees them.
//!
//! 1. The counts belong to this process. The set of pinned ids is a table in the sidecar that every process can read:
//!    open addressing, `EMPTY` = 0, `GONE` = all ones.
//! 2. An id is added, and the table rebuilt, only inside a read section; other processes look it up only inside write
//!    sections. A stopped reader may be in the middle of a rebuild. So a rebuild sets `EVERYTHING` before it clears the
//!    table, and each rebuild leaves another number in that word. A lookup reads the number before and after: an id not
//!    found in a table that changed in between counts as pinned. Removal is one store, at any time.
//! 3. A table that cannot grow further sets a flag (`PinOverflow`). Everything then counts as pinned as long as this
//!    process lives: freeing is postponed, and nothing is lost.
//! 4. The table ends with its process (`slots`).
//! 5. An id is visible to every writer before its reader checks whether its section still holds (`gate`). So either the
//!    writer that revoked the section saw the pin, or the section is invalid and the pin is released (`section`).
//! 6. A reader of the committed state pins beside a writer or a transaction. A container that the writer found
//!    unpinned, and frees with its commit, is gone although it was pinned later (`Error::Gone`).

use crate::error::Result;
use crate::ids::{IdHasher, ObjectId};
use crate::page::shared::layout;
use crate::page::shared::shm::Shm;
use crate::page::shared::users::slots::P;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

const EMPTY: u64 = 0;
const GONE: u64 = u64::MAX;
const LEAST: usize = 512;
/// A larger table does not stay nearly empty: a few ids spread over the room of many cost a cache miss each.
const ROOMY: usize = 4 * LEAST;
const MOST: usize = layout::PINS_SIZE / 8;
/// In `PinOverflow`: everything counts as pinned. The bits above it count the rebuilds.
const EVERYTHING: u64 = 1;

#[derive(Debug, Default)]
pub(crate) struct Local {
    counts: HashMap<u64, u32, BuildHasherDefault<IdHasher>>,
    /// Number of places in the shared table that are not `EMPTY`.
    used: usize,
}

/// This process's pins.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    local: Mutex<Local>,
}

fn table(shm: &Shm, process: usize, capacity: usize) -> &[AtomicU64] {
    shm.pin_table(process, capacity)
}

fn start(id: u64, capacity: usize) -> usize {
    (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (capacity - 1)
}

/// Add an id to the table. Return false if it was there.
fn insert(table: &[AtomicU64], id: u64) {
    let mut i = start(id, table.len());
    for _ in 0..table.len() {
        if table[i].load(Ordering::Relaxed) == EMPTY {
            table[i].store(id, Ordering::Release);
            return;
        }
        i = (i + 1) & (table.len() - 1);
    }
}

fn find(table: &[AtomicU64], id: u64) -> Option<usize> {
    let mut i = start(id, table.len());
    for _ in 0..table.len() {
        match table[i].load(Ordering::Acquire) {
            EMPTY => return None,
            found if found == id => return Some(i),
            _ => i = (i + 1) & (table.len() - 1),
        }
    }
    None
}

/// Make everything count as pinned by this process.
pub(crate) fn overflow(shm: &Shm, p: usize) {
    shm.process_word(p, P::PinOverflow)
        .fetch_or(EVERYTHING, Ordering::SeqCst);
}

/// Write a process's table with room for twice its pins. Called inside a section.
pub(crate) fn write_table(shm: &Shm, local: &Local, p: usize) {
    let want = (local.counts.len() * 2 + 1).next_power_of_two().max(LEAST);
    if want > MOST {
        return overflow(shm, p);
    }
    let bytes = shm.process_word(p, P::PinBytes);
    if (bytes.load(Ordering::Relaxed) as usize) < want * 8 {
        if shm.ensure_pins(p, want * 8).is_err() {
            // Reading continues on a full disk; containers freed in this time are freed later.
            return overflow(shm, p);
        }
        bytes.store(want as u64 * 8, Ordering::Relaxed);
    }
    let state = shm.process_word(p, P::PinOverflow);
    let before = state.load(Ordering::Relaxed);
    state.store(before | EVERYTHING, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    let table = table(shm, p, want);
    for w in table {
        w.store(EMPTY, Ordering::Relaxed);
    }
    for id in local.counts.keys() {
        insert(table, *id);
    }
    shm.process_word(p, P::PinMask)
        .store(want as u64, Ordering::Release);
    state.store((before & !EVERYTHING) + 2, Ordering::SeqCst);
}

impl Pins {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Return the number of pinned containers.
    pub(crate) fn count(&self) -> usize {
        self.lock().counts.len()
    }

    /// Increment a container's pin count. Called inside a read (or write) section.
    pub(crate) fn pin(&self, shm: &Shm, p: usize, id: ObjectId) -> Result<()> {
        let mut local = self.lock();
        let count = local.counts.entry(id.0).or_insert(0);
        *count += 1;
        if *count == 1 {
            if let Err(e) = self.publish(shm, &mut local, p, id.0) {
                local.counts.remove(&id.0);
                return Err(e);
            }
            // Invariant 5. The fence is under the mutex, so another thread that finds the id counted also finds it
            // visible.
            fence(Ordering::SeqCst);
        }
        Ok(())
    }

    fn publish(&self, shm: &Shm, local: &mut Local, p: usize, id: u64) -> Result<()> {
        let capacity = shm.process_word(p, P::PinMask).load(Ordering::Relaxed) as usize;
        let roomy = capacity > ROOMY && local.counts.len() < capacity / 16;
        if roomy || (local.used + 1) * 4 > capacity * 3 {
            return self.rebuild(shm, local, p);
        }
        insert(table(shm, p, capacity), id);
        local.used += 1;
        Ok(())
    }

    /// Rewrite the table with room for twice its pins.
    fn rebuild(&self, shm: &Shm, local: &mut Local, p: usize) -> Result<()> {
        write_table(shm, local, p);
        local.used = local.counts.len();
        Ok(())
    }

    /// Decrement a container's pin count. Return true if none is left in this process.
    pub(crate) fn unpin(&self, shm: &Shm, p: usize, id: ObjectId) -> bool {
        let mut local = self.lock();
        match local.counts.get_mut(&id.0) {
            Some(n) if *n > 1 => {
                *n -= 1;
                false
            }
            Some(_) => {
                local.counts.remove(&id.0);
                if local.counts.capacity() > ROOMY && local.counts.len() < local.counts.capacity() / 8 {
                    let room = local.counts.len() * 2;
                    local.counts.shrink_to(room);
                }
                let capacity = shm.process_word(p, P::PinMask).load(Ordering::Relaxed) as usize;
                if capacity > 0 {
                    let table = table(shm, p, capacity);
                    if let Some(i) = find(table, id.0) {
                        table[i].store(GONE, Ordering::Release);
                    }
                }
                true
            }
            None => false,
        }
    }

    /// Return whether any process pins the container. Called inside a write section.
    pub(crate) fn is_pinned(&self, shm: &Shm, id: ObjectId) -> bool {
        (0..shm.process_slots()).any(|p| {
            if shm.process_word(p, P::State).load(Ordering::Acquire) == 0 {
                return false;
            }
            let state = shm.process_word(p, P::PinOverflow);
            let before = state.load(Ordering::Acquire);
            if before & EVERYTHING != 0 {
                return true;
            }
            let capacity = shm.process_word(p, P::PinMask).load(Ordering::Acquire) as usize;
            if capacity.is_power_of_two() && find(table(shm, p, capacity), id.0).is_some() {
                return true;
            }
            fence(Ordering::Acquire);
            state.load(Ordering::Relaxed) != before
        })
    }

    /// Give a forked child, which has its parent's proxies, its own table.
    pub(crate) fn after_fork(&self, shm: &Shm, p: usize) -> Result<()> {
        let mut local = self.lock();
        local.used = 0;
        if local.counts.is_empty() {
            return Ok(());
        }
        self.rebuild(shm, &mut local, p)
    }
}
