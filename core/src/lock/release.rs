//! Release everything that ended owners held: tasks, threads, processes.

use crate::error::Result;
use crate::lock::memory::layout::{CAP, OWNER, OWNER_BUCKET_COUNT, OWNER_BUCKETS, lo};
use crate::lock::memory::op::{Link, Op, OwnerRec};
use crate::lock::memory::words::corrupt;
use crate::lock::rules::grant::HoldPart;
use crate::lock::table::Table;
use crate::lock::{Owner, Wakes};

impl Table<'_> {
    /// Release everything of an ended owner: waits, locks, reservations.
    pub fn release_owner(&self, owner: &Owner, wakes: &mut Wakes) -> Result<()> {
        self.finish_earlier(wakes)?;
        self.drop_waits(owner, wakes)?;
        self.drop_all(owner, HoldPart::All, wakes)
    }

    /// Release everything of an ended thread and its tasks. May be killed and called again.
    pub fn release_thread(&self, thread: &Owner, wakes: &mut Wakes) -> Result<()> {
        self.finish_earlier(wakes)?;
        self.release_those(|o| o == thread || o.same_thread(thread), wakes)
    }

    /// Release everything of a dead process. May be killed and called again.
    pub fn release_process(&self, slot: u16, generation: u32, wakes: &mut Wakes) -> Result<()> {
        self.finish_earlier(wakes)?;
        self.forget_claims(slot, generation)?;
        self.release_those(|o| o.slot == slot && o.generation == generation, wakes)
    }

    fn release_those(&self, which: impl Fn(&Owner) -> bool, wakes: &mut Wakes) -> Result<()> {
        // Nothing waits for a thin lock, so these may be released first.
        self.drop_thins(&which)?;
        let mut owners = self.owners()?;
        owners.retain(which);
        // Remove the waits first, so that no lock passes from one dead owner to the next.
        for owner in &owners {
            self.drop_waits(owner, wakes)?;
        }
        for owner in &owners {
            self.drop_all(owner, HoldPart::All, wakes)?;
        }
        Ok(())
    }

    pub(in crate::lock) fn owners(&self) -> Result<Vec<Owner>> {
        let op = Op::new(self);
        let mut all = Vec::new();
        for at in OWNER_BUCKETS..OWNER_BUCKETS + OWNER_BUCKET_COUNT {
            let mut o: OwnerRec = Link(lo(op.load(at)?));
            while !o.is_none() {
                if all.len() >= CAP[OWNER] {
                    return Err(corrupt(
                        "a cycle in the lock table (close the store everywhere), word",
                        at,
                    ));
                }
                all.push(op.owner(o)?);
                o = Link(op.lo(o, 0)?);
            }
        }
        Ok(all)
    }
}
