//! Check the containers: their headers, bodies and values, beginning at the root and at the containers that
//! wait to be freed.

use super::sparse::PerContainer;
use super::state::{Note, State};
use crate::error::{Error, Result};
use crate::ids::Addr;
use crate::object::header::{self, Kind, UNSHARED};
use crate::object::ops::verify_sorted;
use crate::object::salvage::{self, Lost, Piece};
use crate::object::word::Word;
use crate::object::{blob, class, dict, entries, graph as objects, list, path, scalar, splices};
use crate::page::access::Pages;
use crate::page::superblock as sb;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

/// Return a hash of a parent's address, under a random key of this process. Sums of these hashes represent
/// sets of parents.
pub(super) fn stamp(parent: Addr) -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    KEY.get_or_init(RandomState::new).hash_one(parent.0)
}

impl State<'_, '_> {
    /// Find all containers and check the content of each.
    pub(super) fn graph(&mut self) {
        self.class_table();
        self.dying_blobs();
        self.splices();
        let root = self.root;
        match objects::identity(self.p, root) {
            Ok(_) if PerContainer::<Note>::fits(root) => self.visit(root),
            Ok(_) => self
                .report
                .find("objects", "a root that is not a container", Some(root.0), None),
            Err(e) => {
                self.torn = true;
                self.report.fault("objects", &e, Some("root".to_owned()));
            }
        }
        let p = self.p;
        let mut found = Vec::new();
        let listed = &mut self.listed;
        let members = objects::members(p, &mut |h| {
            if !PerContainer::<Note>::fits(h) || !listed.add(h) {
                return Err(Error::corrupt("a list of containers that does not end", h));
            }
            found.push(h);
            Ok(())
        });
        if let Err(e) = members {
            self.torn = true;
            self.report.fault("references", &e, None);
        }
        found.into_iter().for_each(|h| self.visit(h));
        while let Some(h) = self.next() {
            self.container(h);
        }
    }

    fn visit(&mut self, h: Addr) {
        let note = self.containers.at(h);
        if !std::mem::replace(&mut note.found, true) {
            self.waiting.push(h);
        }
    }

    fn next(&mut self) -> Option<Addr> {
        loop {
            while let Some(h) = self.waiting.pop() {
                if !std::mem::replace(&mut self.containers.at(h).done, true) {
                    return Some(h);
                }
            }
            if !self.waiting.refill(&self.containers, |n| n.found && !n.done) {
                return None;
            }
        }
    }

    /// Check a container's header, back references, body and values.
    fn container(&mut self, h: Addr) {
        self.report.containers += 1;
        let identity = match objects::identity(self.p, h) {
            Ok(identity) => identity,
            Err(e) => return self.fault("objects", &e, h),
        };
        let mut checked = self.own_segments(h);
        if checked.is_ok() {
            checked = self.body(h, identity.kind);
        }
        let sound = checked.is_ok();
        if let Err(e) = &checked {
            self.fault("objects", e, h);
        }
        if identity.kind == Kind::Object {
            let record = self.p.u64_at(h + header::CLASS_OR_LEN).unwrap_or(0);
            if !self.classes.has(Addr(record)) {
                self.find("classes", "an object of a class that the store does not know", h);
            }
        }
        if let Ok(record) = objects::class(self.p, h)
            && !record.is_null()
            && (identity.kind == Kind::Object || !self.classes.has(record))
        {
            self.find(
                "classes",
                "a container of a class that the store does not know",
                h,
            );
        }
        let parent = match objects::holder(self.p, h) {
            Ok(parent) if parent != h => {
                self.refer(parent, h, h, "");
                parent
            }
            _ => h,
        };
        // Keys that an object shares belong to its class.
        let own_keys = identity.kind == Kind::Dict || identity.flags & UNSHARED != 0;
        let (n, whole) = self.content(h, identity.kind, own_keys, parent);
        match objects::hidden(self.p, h) {
            Ok(hidden) => {
                for (at, what) in hidden
                    .into_iter()
                    .zip([" (waiting entries)", " (metadata)", " (order)"])
                {
                    if !at.is_null() {
                        self.report.references += 1;
                        self.refer(at, parent, h, what);
                    }
                }
            }
            Err(e) => self.fault("objects", &e, h),
        }
        if sound
            && whole
            && let Err(e) = verify_sorted(self.p, h)
        {
            self.fault("objects", &e, h);
        }
        self.torn |= !whole || !sound;
        match objects::len(self.p, h) {
            Ok(len) if len != n => {
                let what = format!("a container that says it has {len} entries and has {n}");
                self.find("objects", what, h);
            }
            Ok(_) => {}
            Err(e) if sound => self.fault("objects", &e, h),
            Err(_) => {}
        }
    }

    fn own_segments(&mut self, h: Addr) -> Result<()> {
        for (at, is_dict) in objects::own_segments(self.p, h)? {
            self.claim(at, if at == h || is_dict { header::SIZE } else { 16 })?;
            if is_dict {
                self.dict_body(at)?;
            }
        }
        Ok(())
    }

    fn dict_body(&mut self, h: Addr) -> Result<()> {
        let (p, limit) = (self.p, self.report.segments);
        dict::verify(p, h, limit, &mut |at, used| self.claim(at, used))
    }

    fn body(&mut self, h: Addr, kind: Kind) -> Result<()> {
        let (p, limit) = (self.p, self.report.segments);
        match kind {
            Kind::List => list::segments(p, h, &mut |at| self.claim(at, 1)),
            Kind::Dict | Kind::Object => entries::verify(p, h, limit, &mut |at, used| self.claim(at, used)),
        }
    }

    /// Walk the content, which belongs to `parent`. Return the number of entries, and whether all could be
    /// read.
    fn content(&mut self, h: Addr, kind: Kind, own_keys: bool, parent: Addr) -> (u64, bool) {
        let (p, mut n, mut whole) = (self.p, 0, true);
        let mut walked = std::mem::take(&mut self.walked);
        let done = salvage::content(p, h, kind, &mut |at| walked.add(at), &mut |piece| {
            match piece {
                Piece::Entry(key, value) => {
                    n += 1;
                    if own_keys {
                        self.scalar(key, h, "a key");
                    }
                    self.value(value, h, parent, || path::key(p, Some(kind), key));
                }
                Piece::Item(i, value) => {
                    n += 1;
                    self.value(value, h, parent, || format!("[{i}]"));
                }
                Piece::Lost(lost) => {
                    whole = false;
                    self.lost(h, kind, &lost);
                }
            }
            Ok(())
        });
        self.walked = walked;
        (n, whole && done.is_ok())
    }

    fn lost(&mut self, h: Addr, kind: Kind, lost: &Lost) {
        let what = match (kind, lost.count) {
            (Kind::List, 1..) => format!(
                "{}: items {} to {} cannot be read",
                lost.what,
                lost.index,
                lost.index.saturating_add(lost.count - 1)
            ),
            _ => format!("{}: a part of its entries cannot be read", lost.what),
        };
        let path = path::of(self.p, h);
        self.report.find("objects", what, Some(lost.at.0), path);
    }

    fn value(&mut self, word: Word, h: Addr, parent: Addr, step: impl Fn() -> String) {
        match word.as_container() {
            Some(child) => {
                self.report.references += 1;
                self.refer(child, parent, h, step);
            }
            None => self.scalar(word, h, step),
        }
    }

    /// Count the reference from `parent` to `child`, in `h` at `step`.
    fn refer(&mut self, child: Addr, parent: Addr, h: Addr, step: impl Step) {
        let known = self.containers.get(child).is_some_and(|note| note.found);
        if !known || !PerContainer::<Note>::fits(child) {
            let is = match objects::identity(self.p, child) {
                Ok(_) if PerContainer::<Note>::fits(child) => Ok(()),
                Ok(_) => Err(Error::corrupt("no container where one is referred to", child)),
                Err(e) => Err(e),
            };
            if let Err(e) = is {
                self.torn = true;
                let path = path::of(self.p, h).map(|path| path + &step.text());
                return self.report.fault("objects", &e, path);
            }
            self.visit(child);
        }
        let note = self.containers.at(child);
        note.refs = note.refs.saturating_add(1);
        note.parents = note.parents.wrapping_add(stamp(parent));
    }

    /// Check a scalar's word, its segments and its content.
    fn scalar(&mut self, word: Word, h: Addr, step: impl Step) {
        let p = self.p;
        let checked = scalar::segments(p, word, &mut |at, used| self.claim(at, used))
            .and_then(|()| scalar::verify(p, word));
        if let Err(e) = checked {
            self.torn |= word.as_scalar().is_some();
            let path = path::of(p, h).map(|path| path + &step.text());
            self.report.fault("objects", &e, path);
        }
    }

    /// Check the dict from names to class records, and the records.
    fn class_table(&mut self) {
        let p = self.p;
        let table = match p.u64_at(sb::CLASSES) {
            Ok(0) | Err(_) => return,
            Ok(at) => Addr(at),
        };
        let mut checked = self.claim(table, header::SIZE);
        if checked.is_ok() {
            checked = self.dict_body(table);
        }
        if let Err(e) = checked {
            self.torn = true;
            self.report.fault("classes", &e, None);
        }
        let mut walked = std::mem::take(&mut self.walked);
        let done = salvage::content(p, table, Kind::Dict, &mut |at| walked.add(at), &mut |piece| {
            match piece {
                Piece::Entry(key, value) => {
                    self.scalar(key, table, "");
                    self.class(value, table)
                }
                _ => self.torn = true,
            }
            Ok(())
        });
        self.walked = walked;
        debug_assert!(done.is_ok());
    }

    fn class(&mut self, word: Word, table: Addr) {
        self.report.classes += 1;
        let p = self.p;
        let record = match class::record_of(word, table) {
            Ok(record) => record,
            Err(e) => return self.report.fault("classes", &e, None),
        };
        let checked = class::verify_record(p, record, &mut |at, used| self.claim(at, used));
        match checked {
            Ok(()) => {
                self.classes.add(record);
            }
            Err(e) => {
                // Its objects are covered by this finding, and need none of their own.
                self.classes.add(record);
                self.torn = true;
                self.report.fault("classes", &e, None);
            }
        }
    }

    /// Claim the segments of the log of splices.
    fn splices(&mut self) {
        let p = self.p;
        if let Err(e) = splices::segments(p, &mut |at, used| self.claim(at, used)) {
            self.torn = true;
            self.report.fault("heap", &e, None);
        }
    }

    /// Check the large values that are being freed.
    fn dying_blobs(&mut self) {
        let p = self.p;
        let mut next = p.u64_at(sb::BLOBS).map(Addr);
        loop {
            let done = match next {
                Ok(Addr::NULL) => return,
                Ok(at) => blob::segments(p, at, &mut |at, used| self.claim(at, used)).map(|()| at),
                Err(e) => Err(e),
            };
            next = match done {
                Ok(at) => p.u64_at(at + blob::LINK).map(Addr),
                Err(e) => {
                    self.torn = true;
                    return self.report.fault("heap", &e, None);
                }
            };
        }
    }
}

/// A place in a container, which is named only if a finding needs it.
pub(super) trait Step {
    fn text(&self) -> String;
}

impl Step for &str {
    fn text(&self) -> String {
        (*self).to_owned()
    }
}

impl<F: Fn() -> String> Step for F {
    fn text(&self) -> String {
        self()
    }
}
