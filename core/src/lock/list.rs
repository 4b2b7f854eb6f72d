//! The content of the table: all holds and waiters, and the processes that they belong to.

use crate::error::Result;
use crate::lock::memory::layout::{BUCKET_COUNT, BUCKETS, hi, lo};
use crate::lock::memory::op::{Hold, Link, Lockable, Op};
use crate::lock::{Listed, Owner, Owners, Table};

impl Table<'_> {
    /// Return all holds and all waiters.
    pub fn list(&self) -> Result<Vec<Listed>> {
        self.check_complete()?;
        let op = Op::new(self);
        let mut all = Vec::new();
        for thin in self.thin_locks() {
            let thin = thin?;
            all.push(Listed {
                holder: thin.holder(),
                count: thin.count(),
                since: None,
            });
        }
        for at in BUCKETS..BUCKETS + BUCKET_COUNT {
            let mut l: Lockable = Link(lo(op.load(at)?));
            while !l.is_none() {
                let mut h: Hold = Link(op.lo(l, 3)?);
                while !h.is_none() {
                    let (lock, change) = op.modes(h)?;
                    let (levels, entries, changes) = (op.get(h, 3)?, op.get(h, 4)?, op.get(h, 5)?);
                    let sum = |word: u64| lo(word).saturating_add(hi(word));
                    if lock != 0 {
                        let count = if levels != 0 { sum(levels) } else { sum(entries) };
                        all.push(Listed {
                            holder: op.describe_hold(h, false)?,
                            count,
                            since: None,
                        });
                    }
                    if change != 0 {
                        let count = sum(changes);
                        all.push(Listed {
                            holder: op.describe_hold(h, true)?,
                            count,
                            since: None,
                        });
                    }
                    h = Link(op.lo(h, 0)?);
                }
                let mut w = op.first_waiter(l)?;
                while !w.is_none() {
                    let since = Some(op.get(w, 4)?);
                    all.push(Listed {
                        holder: op.describe_waiter(w)?,
                        count: 0,
                        since,
                    });
                    w = op.next_waiter(w)?;
                }
                l = Link(op.lo(l, 0)?);
            }
        }
        Ok(all)
    }

    /// Return one owner of every process that holds or waits for anything.
    pub fn processes(&self) -> Result<Owners> {
        let mut some = Owners::new();
        let thin = self.thin_locks().map(|thin| thin.map(|thin| thin.owner));
        for owner in self.owners()?.into_iter().map(Ok).chain(thin) {
            let owner = owner?;
            if !some.iter().any(|o: &Owner| o.same_process(&owner)) {
                some.push(owner);
            }
        }
        Ok(some)
    }
}
