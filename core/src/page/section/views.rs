//! Taking, reading and ending views of a moment (`moment`, which has the invariants).

use crate::error::{Error, Result};
use crate::page::pager::Pager;
use crate::page::pager::state::undo_index::Tag;
use crate::page::section::moment::{Started, View};
use crate::page::section::read::{Protection, ReadSection, Shown};
use crate::page::shared::layout::VIEW_SLOTS;
use crate::page::shared::regions::views::{Moment, owner_word};
use crate::page::sync::wait::{Wait, WaitLoop};
use crate::raw::failpoint::fail_point;
use std::collections::HashMap;
use std::time::Duration;

/// Number of attempts to take a view before the caller waits between two.
const ATTEMPTS: usize = 16;

/// A slot that is freed again if the view is not completed.
struct Claim<'p> {
    pager: &'p Pager,
    slot: usize,
    owner: u64,
    done: bool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.pager.shm().end_view(self.slot, self.owner);
        }
    }
}

impl Pager {
    /// Take a view of this moment. Its cost does not depend on the size of the store: it grows with the pages that an
    /// open transaction has changed.
    pub(crate) fn take_view(&self, wait: &mut Wait<'_>) -> Result<View> {
        if self.is_frozen() {
            return Err(Error::invalid(
                "an opening that never changes has no views of a moment",
            ));
        }
        self.outside_sections()?;
        for _ in 0..ATTEMPTS {
            if let Some(view) = self.try_take_view(wait)? {
                return Ok(view);
            }
        }
        let mut waiting = WaitLoop::new(wait, self.bound());
        loop {
            let slice = waiting.slice("a moment to take a view of", || {
                "writers that change the store all the time".to_owned()
            })?;
            std::thread::sleep(slice.min(Duration::from_millis(1)));
            if let Some(view) = self.try_take_view(&mut Wait::default())? {
                return Ok(view);
            }
        }
    }

    fn try_take_view(&self, wait: &mut Wait<'_>) -> Result<Option<View>> {
        let section = self.read(wait)?;
        let owner = owner_word(self.process() as u16, self.generation());
        let slot = self.shm().claim_view(owner).ok_or(Error::TooMany {
            what: "views of a moment",
            limit: VIEW_SLOTS,
        })?;
        let mut claim = Claim {
            pager: self,
            slot,
            owner,
            done: false,
        };
        fail_point!("view.claimed");
        let beside = section.protection() != Protection::Mark;
        let tag = Tag::now(self.shm());
        let epoch = self.shm().live().epoch();
        let entries = self.shm().list_len((epoch % 3) as usize);
        let moment = Moment {
            epoch,
            entries: if beside { 0 } else { entries },
        };
        let (limit, cuts) = (self.shm().live().logical(), self.shm().list_cuts());
        let kept = self.shm().kept_range().end;
        let number = self.shm().begin_view(slot, moment);
        fail_point!("view.begun");
        let is_changing = beside || self.shm().undo_len() != 0;
        let holds = section.holds();
        drop(section);
        if !holds || self.shm().live().epoch() != epoch {
            return Ok(None);
        }
        let mut images = HashMap::new();
        if is_changing {
            match self.images_of(tag, beside.then_some(epoch))? {
                Some(copied) => images = copied,
                None => return Ok(None),
            }
        }
        self.check_open()?;
        claim.done = true;
        let started = Started {
            slot,
            number,
            owner,
            moment,
            limit,
            kept,
            cuts,
        };
        Ok(Some(View::new(started, images)))
    }

    /// Enter as a reader of a view.
    pub(crate) fn read_view<'p>(&'p self, view: &'p View) -> Result<ReadSection<'p>> {
        self.outside_sections()?;
        let slot = self.slot()?;
        self.shm().enter_beside(slot);
        let mut section = ReadSection::new(self, slot, Protection::None, false);
        if self.is_closed() {
            return Err(Error::Closed);
        }
        view.check(self)?;
        section.show(Shown::View(view));
        Ok(section)
    }

    /// End a view. In a forked child only the child's use of it ends.
    pub(crate) fn end_view(&self, view: &View) {
        if let Some((slot, owner)) = view.end().filter(|_| !self.is_closed()) {
            self.shm().end_view(slot, owner);
        }
    }

    /// End the views of all processes: the space of their pages is needed.
    pub(crate) fn expel_views(&self) {
        if self.shm().newest_view() != 0 {
            log::warn!(
                "{}: the views of a moment are ended: there is no space",
                self.path().display()
            );
            self.shm().expel_views();
        }
    }
}
