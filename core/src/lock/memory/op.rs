//! One operation on the table's words: checked reads with a budget of steps, undo-logged stores, and the
//! pools of records.
//!
//! Invariants:
//! 1. An undo record is complete before `UNDO_LEN` counts it, and is counted before the store it covers. All
//!    stores are `Release`, so they become visible in program order.
//! 2. One store of 0 to `UNDO_LEN` commits. Replay goes backward and stores 0 last, so it can be killed and
//!    repeated.
//! 3. A record taken from a pool is filled without undo (except word 0, the link of the free list): if the
//!    mutation is undone, the record is free again. This does not hold once the mutation has freed a record,
//!    since it might be the same one.

use crate::error::{Error, Result};
use crate::lock::memory::layout::{
    BASE, CAP, COUNTERS, HOLD, LOCKABLE, OWNER, POOL_FREE, POOL_HIGH, POOL_NAME, POOL_USED, POOLS, RECORD,
    THIN, UNDO, UNDO_CAP, UNDO_LEN, WAITER, WAITING, WORDS, hi, lo, pack,
};
use crate::lock::memory::words::{Words, corrupt};
use std::cell::Cell;
use std::sync::atomic::Ordering;

/// A link to a record of pool `P`: its number plus 1, or 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::lock) struct Link<const P: usize>(pub(in crate::lock) u32);

pub(in crate::lock) type Lockable = Link<LOCKABLE>;
pub(in crate::lock) type Hold = Link<HOLD>;
pub(in crate::lock) type OwnerRec = Link<OWNER>;
pub(in crate::lock) type Waiter = Link<WAITER>;

impl<const P: usize> From<u32> for Link<P> {
    #[inline]
    fn from(link: u32) -> Self {
        Link(link)
    }
}

impl<const P: usize> Link<P> {
    pub(in crate::lock) const NONE: Self = Link(0);

    #[inline]
    pub(in crate::lock) fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// The most loads of one operation. The largest valid one (a reach over 1024 waiters in one queue) makes some
/// millions.
const STEPS: u32 = 1 << 24;

/// An operation in progress.
pub(in crate::lock) struct Op<'t, 'a> {
    pub(in crate::lock) words: &'t Words<'a>,
    undo: usize,
    freed: bool,
    steps: Cell<u32>,
}

impl<'t, 'a> Op<'t, 'a> {
    pub(in crate::lock) fn new(words: &'t Words<'a>) -> Op<'t, 'a> {
        Op {
            words,
            undo: 0,
            freed: false,
            steps: Cell::new(STEPS),
        }
    }

    /// Load a word.
    #[inline]
    pub(in crate::lock) fn load(&self, word: usize) -> Result<u64> {
        let left = self.steps.get();
        if left == 0 {
            return Err(corrupt(
                "a cycle in the lock table (close the store everywhere), word",
                word,
            ));
        }
        self.steps.set(left - 1);
        match self.words.words.get(word) {
            Some(cell) => Ok(cell.load(Ordering::Relaxed)),
            None => Err(corrupt(
                "a bad index in the lock table (close the store everywhere), word",
                word,
            )),
        }
    }

    /// Store a word. The old value can be restored until `commit`.
    #[inline]
    pub(in crate::lock) fn put(&mut self, word: usize, value: u64) -> Result<()> {
        let old = self.load(word)?;
        if old == value {
            return Ok(());
        }
        self.log(word, old)?;
        self.words.store(word, value)
    }

    /// Increment or decrement a counter. The old value can be restored until `commit`.
    pub(in crate::lock) fn count(&mut self, counter: usize, up: bool) -> Result<()> {
        let Some(cell) = self.words.counts.get(counter) else {
            return Err(corrupt(
                "a bad counter of the lock table (close the store everywhere), number",
                counter,
            ));
        };
        let old = cell.load(Ordering::Relaxed);
        let new = if up {
            old.checked_add(1)
        } else {
            old.checked_sub(1)
        };
        match new {
            Some(new) if old < THIN && new < THIN => self.set_count(counter, new),
            _ => Err(corrupt(
                "a wrong counter of the lock table (close the store everywhere), number",
                counter,
            )),
        }
    }

    /// Store a counter. The old value can be restored until `commit`.
    pub(in crate::lock) fn set_count(&mut self, counter: usize, value: u32) -> Result<()> {
        let old = self
            .words
            .counts
            .get(counter)
            .map_or(0, |c| c.load(Ordering::Relaxed));
        self.log(WORDS + counter, u64::from(old))?;
        self.words.store_count(counter, value)
    }

    #[inline]
    fn log(&mut self, word: usize, old: u64) -> Result<()> {
        if self.undo >= UNDO_CAP {
            return Err(corrupt(
                "the lock table's undo log overflows (close the store everywhere), word",
                word,
            ));
        }
        let at = UNDO + 2 * self.undo;
        self.words.store(at, word as u64)?;
        self.words.store(at + 1, old)?;
        self.undo += 1;
        self.words.store(UNDO_LEN, self.undo as u64)
    }

    /// Make all stores so far final.
    #[inline]
    pub(in crate::lock) fn commit(&mut self) -> Result<()> {
        if self.undo != 0 {
            self.words.store(UNDO_LEN, 0)?;
            self.undo = 0;
        }
        self.freed = false;
        Ok(())
    }

    /// Restore the values from before the first store.
    #[cold]
    pub(in crate::lock) fn rollback(&mut self) -> Result<()> {
        self.undo = 0;
        self.freed = false;
        self.words.replay()
    }

    /// Return the word index of a record's field.
    #[inline]
    fn at<const P: usize>(link: Link<P>, field: usize) -> Result<usize> {
        let number = link.0.wrapping_sub(1) as usize;
        if number >= CAP[P] {
            return Err(corrupt(
                "a bad link in the lock table (close the store everywhere), link",
                link.0 as usize,
            ));
        }
        Ok(BASE[P] + number * RECORD + field)
    }

    #[inline]
    pub(in crate::lock) fn get<const P: usize>(&self, link: Link<P>, field: usize) -> Result<u64> {
        self.load(Self::at(link, field)?)
    }

    #[inline]
    pub(in crate::lock) fn lo<const P: usize>(&self, link: Link<P>, field: usize) -> Result<u32> {
        Ok(lo(self.get(link, field)?))
    }

    #[inline]
    pub(in crate::lock) fn hi<const P: usize>(&self, link: Link<P>, field: usize) -> Result<u32> {
        Ok(hi(self.get(link, field)?))
    }

    #[inline]
    pub(in crate::lock) fn set<const P: usize>(
        &mut self,
        link: Link<P>,
        field: usize,
        value: u64,
    ) -> Result<()> {
        self.put(Self::at(link, field)?, value)
    }

    #[inline]
    pub(in crate::lock) fn set_lo<const P: usize>(
        &mut self,
        link: Link<P>,
        field: usize,
        value: u32,
    ) -> Result<()> {
        let word = Self::at(link, field)?;
        self.put(word, pack(value, hi(self.load(word)?)))
    }

    #[inline]
    pub(in crate::lock) fn set_hi<const P: usize>(
        &mut self,
        link: Link<P>,
        field: usize,
        value: u32,
    ) -> Result<()> {
        let word = Self::at(link, field)?;
        self.put(word, pack(lo(self.load(word)?), value))
    }

    /// Take a record from a pool and fill it.
    pub(in crate::lock) fn alloc<const P: usize>(&mut self, mut words: [u64; RECORD]) -> Result<Link<P>> {
        let pool = POOLS + 4 * P;
        let used = self.load(pool + POOL_USED)?;
        let free = (CAP[P] as u64).saturating_sub(used);
        // Every waiter may need two holds and an entry when it is granted (invariant 5 of the module).
        let kept = match P {
            LOCKABLE => self.load(WAITING)?,
            HOLD => self.load(WAITING)?.saturating_mul(2),
            _ => 0,
        };
        if free <= kept {
            return Err(Error::TooMany {
                what: POOL_NAME[P],
                limit: CAP[P],
            });
        }
        let first = self.load(pool + POOL_FREE)?;
        let link = if first != 0 {
            let link = Link::<P>(lo(first));
            let next = self.lo(link, 0)?;
            self.put(pool + POOL_FREE, u64::from(next))?;
            link
        } else {
            let high = self.load(pool + POOL_HIGH)?;
            let link = Link::<P>(high.saturating_add(1).min(u64::from(u32::MAX)) as u32);
            Self::at(link, 0)?;
            self.put(pool + POOL_HIGH, high + 1)?;
            link
        };
        self.put(pool + POOL_USED, used + 1)?;
        if P == WAITER {
            words[5] = self.get(link, 5)?.wrapping_add(1);
        }
        self.set(link, 0, words[0])?;
        for (field, value) in words.into_iter().enumerate().skip(1) {
            if self.freed {
                self.set(link, field, value)?;
            } else {
                self.words.store(Self::at(link, field)?, value)?;
            }
        }
        Ok(link)
    }

    /// Return a record to its pool.
    pub(in crate::lock) fn free<const P: usize>(&mut self, link: Link<P>) -> Result<()> {
        let pool = POOLS + 4 * P;
        let first = self.load(pool + POOL_FREE)?;
        let used = self.load(pool + POOL_USED)?;
        self.set(link, 0, u64::from(lo(first)))?;
        self.put(pool + POOL_FREE, u64::from(link.0))?;
        self.put(pool + POOL_USED, used.saturating_sub(1))?;
        self.freed = true;
        Ok(())
    }
}

impl Words<'_> {
    /// Restore the values from before an unfinished mutation. May be killed and repeated.
    #[cold]
    pub(in crate::lock) fn replay(&self) -> Result<()> {
        let op = Op::new(self);
        let len = op.load(UNDO_LEN)?;
        if len > UNDO_CAP as u64 {
            return Err(corrupt(
                "the lock table's undo log is damaged (close the store everywhere), word",
                UNDO_LEN,
            ));
        }
        for record in (0..len as usize).rev() {
            let word = op.load(UNDO + 2 * record)? as usize;
            let old = op.load(UNDO + 2 * record + 1)?;
            if (WORDS..WORDS + COUNTERS).contains(&word) {
                self.store_count(word - WORDS, old as u32)?;
            } else if word != UNDO_LEN && !(UNDO..UNDO + 2 * UNDO_CAP).contains(&word) {
                self.store(word, old)?;
            } else {
                return Err(corrupt(
                    "the lock table's undo log is damaged (close the store everywhere), word",
                    word,
                ));
            }
        }
        if len != 0 {
            self.store(UNDO_LEN, 0)?;
        }
        Ok(())
    }
}
