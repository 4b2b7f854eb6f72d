//! Containers that can be read, but that no readable container refers to.

use super::super::state::pages_in_use;
use super::fill::new_container;
use super::{Made, Salvage};
use crate::check::sparse::PerContainer;
use crate::error::Result;
use crate::heap;
use crate::ids::{Addr, Obj};
use crate::object::graph::{self, Identity};
use crate::object::header::{self, DETACHED, DOOMED, DRAINED, EMPTIED, UNSHARED};
use crate::page::access::Pages;
use crate::store::{In, Key};

/// The entry of the root that receives them.
const NAME: &str = "lost+found";

impl Salvage<'_, '_> {
    /// Search the heap for them.
    pub(super) fn find_unreferenced(&mut self) -> Result<()> {
        let mut into = None;
        // First those whose home is lost, with what hangs below them; then the rest: homes that form a cycle.
        for all in [false, true] {
            for n in 0..pages_in_use(self.p) {
                let segments = self
                    .p
                    .nth(n)
                    .and_then(|page| heap::page_segments(self.p, page).ok());
                for s in segments.unwrap_or_default() {
                    if !s.allocated || s.size != header::SIZE || self.is_made(s.addr) {
                        continue;
                    }
                    let Some(identity) = self.is_plausible(s.addr) else {
                        continue;
                    };
                    if all || self.is_top(&identity) {
                        self.keep(s.addr, &identity, &mut into)?;
                        self.fill_all()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Return the header in a segment, if it is that of a container in use. A string of the same size does
    /// not look like one: its text would have to be a small number, then addresses.
    fn is_plausible(&self, h: Addr) -> Option<Identity> {
        let p = self.p;
        let identity = graph::identity(p, h).ok()?;
        let dead = DOOMED | DRAINED | DETACHED;
        let segment = |at| {
            p.u64_at(h + at)
                .is_ok_and(|at| at == 0 || heap::size_of(p, Addr(at)).is_ok())
        };
        let (home, _) = identity.home?;
        let alive = identity.flags & dead == 0
            && identity.flags & !(UNSHARED | EMPTIED) == 0
            && (1..p.next_id()).contains(&identity.id)
            && identity.refs > 0
            && PerContainer::<Made>::fits(home)
            && segment(header::BODY)
            && segment(header::EXTRA);
        alive.then_some(identity)
    }

    /// Return whether a container is the topmost one that can be reached: its home cannot be read, or was
    /// read and no longer contains it. A container below garbage is garbage too.
    fn is_top(&self, identity: &Identity) -> bool {
        let Some((home, _)) = identity.home else {
            return false;
        };
        self.is_made(home) || heap::size_of(self.p, home).is_err() || graph::identity(self.p, home).is_err()
    }

    fn is_made(&self, h: Addr) -> bool {
        self.made.get(h).is_some_and(|made| made.id != 0)
    }

    fn keep(&mut self, h: Addr, identity: &Identity, into: &mut Option<Obj>) -> Result<()> {
        let class = self.class(h, identity.kind);
        let (root, kind) = (self.new.root(), identity.kind);
        let key = format!("#{}", identity.id);
        let had = *into;
        let (dict, new) = self.change(|w| {
            let dict = match had {
                Some(dict) => dict,
                None => {
                    let mut name = NAME.to_owned();
                    while w.contains(root, &Key::Str(name.as_bytes()))? {
                        name.push('+');
                    }
                    let dict = w.new_dict()?;
                    w.set(root, &Key::Str(name.as_bytes()), &In::Obj(dict))?;
                    dict
                }
            };
            let new = new_container(w, kind, class.as_deref())?;
            w.set(dict, &Key::Str(key.as_bytes()), &In::Obj(new))?;
            Ok((dict, new))
        })?;
        *into = Some(dict);
        self.done.found += 1;
        self.note_made(h, new);
        Ok(())
    }
}
