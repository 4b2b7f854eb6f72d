//! Fill a container of the new store with the readable content of the old one, in batches of operations.

use super::scalars::Held;
use super::{Made, Salvage};
use crate::check::sparse::PerContainer;
use crate::error::{Error, Result};
use crate::ids::{Addr, Obj};
use crate::object::builtin::SORTED;
use crate::object::header::{self, DOOMED, DRAINED, Kind};
use crate::object::salvage::{Lost, Piece, content};
use crate::object::value::{In, Key, Value};
use crate::object::word::Word;
use crate::object::{class, graph, path};
use crate::page::access::Pages;
use crate::store::{Actor, Wait, Writer};
use std::collections::HashMap;

/// The approximate limits of entries and bytes written in one operation.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 << 20;

/// The place of an entry.
enum To {
    Key(Held),
    /// The end of the list.
    End,
    /// An existing item.
    Index(u64),
}

/// The value of an entry.
enum What {
    Scalar(Held),
    Made(Obj),
    /// A container of the old store that is to be created, its kind and class.
    New(Addr, Kind, Option<String>),
}

/// A container that is being filled.
struct Target {
    /// Its address in the old store.
    h: Addr,
    kind: Kind,
    new: Obj,
    /// Items so far, if it is a list.
    items: u64,
    /// The entries for the next operation.
    entries: Vec<(To, What)>,
    /// Their size in bytes.
    bytes: usize,
}

impl Target {
    fn push(&mut self, to: To, what: What) {
        if let To::Key(held) = &to {
            self.bytes += held.size();
        }
        if let What::Scalar(held) = &what {
            self.bytes += held.size();
        }
        self.entries.push((to, what));
    }
}

impl Salvage<'_, '_> {
    /// Fill a container that was created. With `owing`, add the references that were omitted then.
    pub(super) fn fill(&mut self, h: Addr, owing: bool) -> Result<()> {
        let (Some(new), Ok(identity)) = (self.made.at(h).obj(), graph::identity(self.p, h)) else {
            return Ok(());
        };
        let mut target = Target {
            h,
            kind: identity.kind,
            new,
            items: 0,
            entries: Vec::new(),
            bytes: 0,
        };
        // Keys that an object shares belong to its class.
        let own_keys = identity.kind == Kind::Dict || identity.flags & header::UNSHARED != 0;
        let p = self.p;
        let mut walked = std::mem::take(if owing { &mut self.again } else { &mut self.walked });
        let (mut segments, mut lost, mut n) = (1, None, 0);
        let mut fresh = |at| {
            segments += 1;
            walked.add(at)
        };
        content(p, h, identity.kind, &mut fresh, &mut |piece| {
            n += 1;
            match piece {
                Piece::Entry(key, value) => self.entry(&mut target, key, value, own_keys, owing)?,
                Piece::Item(index, value) => self.item(&mut target, index, value, owing)?,
                Piece::Lost(what) => {
                    n -= 1;
                    if what.count > 0 && !owing {
                        self.lose_items(h, &what);
                        n += what.count;
                    }
                    lost = Some(what);
                }
            }
            if target.entries.len() >= BATCH || target.bytes >= BATCH_BYTES {
                self.write(&mut target)?;
            }
            Ok(())
        })?;
        self.write(&mut target)?;
        *(if owing { &mut self.again } else { &mut self.walked }) = walked;
        if !owing {
            self.lose_hidden(h);
            self.watch.advance(segments);
            if let Some(lost) = lost {
                self.lose_remaining(h, &lost, n);
            }
        }
        if !owing && identity.kind == Kind::Dict && self.class(h, Kind::Dict).as_deref() == Some(SORTED) {
            match self.change(|w| w.set_class(new, Some(SORTED))) {
                Err(Error::WrongKind { what }) => {
                    let path = self.path(h);
                    self.lose(path, format!("it is not sorted any more ({what})"));
                }
                done => done?,
            }
        }
        let mtime = p.u64_at(h + header::MTIME)?;
        self.change(|w| w.set_mtime(new, mtime))
    }

    /// Report what is beside the entries of a container: it is not copied.
    fn lose_hidden(&mut self, h: Addr) {
        // The order of its keys follows from them.
        let Ok([waiting, metadata, _]) = graph::hidden(self.p, h) else {
            let path = self.path(h);
            return self.lose(path, "what is beside the entries is lost".to_owned());
        };
        if !waiting.is_null() {
            let n = graph::len(self.p, waiting).map_or("some".to_owned(), |n| n.to_string());
            let path = self.path(h);
            self.lose(path, format!("{n} entries that wait beside the list are lost"));
        }
        if !metadata.is_null() {
            let path = self.path(h);
            self.lose(
                path,
                "modes, owners, times and attributes that tools set are lost".to_owned(),
            );
        }
    }

    fn lose_items(&mut self, h: Addr, lost: &Lost) {
        let path = self.path(h);
        let end = lost.index.saturating_add(lost.count);
        let what = format!("items {} to {} are lost ({})", lost.index, end - 1, lost.what);
        self.lose(path, what);
    }

    /// Report how many entries are missing, if known; `n` entries were read or are already reported.
    fn lose_remaining(&mut self, h: Addr, lost: &Lost, n: u64) {
        let known = graph::len(self.p, h)
            .ok()
            .filter(|&len| len <= self.p.logical().saturating_mul(512));
        let what = match known.and_then(|len| len.checked_sub(n)) {
            Some(0) if lost.count > 0 => return,
            Some(0) | None => format!("entries may be lost ({})", lost.what),
            Some(missing) => format!("{missing} entries are lost ({})", lost.what),
        };
        let path = self.path(h);
        self.lose(path, what);
    }

    pub(super) fn path(&self, h: Addr) -> String {
        path::of(self.p, h).unwrap_or_else(|| format!("(object at {:#x})", h.0))
    }

    fn entry(&mut self, target: &mut Target, key: Word, value: Word, own: bool, owing: bool) -> Result<()> {
        let place = |salvage: &Self| {
            let step = path::key(salvage.p, Some(target.kind), key);
            salvage.path(target.h) + &step
        };
        if owing && value.as_container().is_none() {
            return Ok(());
        }
        let held = match self.scalar(key, own && !owing) {
            Ok(held) => held,
            Err(e) => {
                let path = place(self);
                self.lose(path, format!("an entry is lost with its key ({})", why(&e)));
                return Ok(());
            }
        };
        if target.kind == Kind::Object && !matches!(held.as_key(), Some(Key::Str(_))) {
            let path = place(self);
            self.lose(path, "an attribute is lost whose name is not a str");
            return Ok(());
        }
        match self.value(target.h, value, owing) {
            Ok(None) => {}
            Ok(Some(what)) => target.push(To::Key(held), what),
            Err(e) if !owing => {
                let path = place(self);
                self.lose(path, format!("its value is lost ({})", why(&e)));
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn item(&mut self, target: &mut Target, index: u64, value: Word, owing: bool) -> Result<()> {
        let at = target.items;
        target.items += 1;
        match self.value(target.h, value, owing) {
            Ok(None) => {}
            Ok(Some(what)) if owing => target.push(To::Index(at), what),
            Ok(Some(what)) => target.push(To::End, what),
            Err(e) if !owing => {
                let path = format!("{}[{index}]", self.path(target.h));
                self.lose(path, format!("it is lost, and None in its place ({})", why(&e)));
                target.push(To::End, What::Scalar(Held::Value(Value::None)));
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// Return the value of a word in the new store. `owing`: only if it was omitted before (otherwise None).
    fn value(&mut self, h: Addr, word: Word, owing: bool) -> Result<Option<What>> {
        let Some(child) = word.as_container() else {
            return if owing {
                Ok(None)
            } else {
                self.scalar(word, true).map(|held| Some(What::Scalar(held)))
            };
        };
        let identity = graph::identity(self.p, child)?;
        if !PerContainer::<Made>::fits(child) || identity.flags & (DOOMED | DRAINED) != 0 {
            return Err(Error::corrupt("no container where one is referred to", child));
        }
        let at_home = identity.home.is_none_or(|(home, _)| home == h);
        match self.made.at(child).obj() {
            Some(_) if owing && at_home => Ok(None),
            Some(new) => Ok(Some(What::Made(new))),
            None if at_home || owing => {
                let class = self.class(child, identity.kind);
                Ok(Some(What::New(child, identity.kind, class)))
            }
            None => {
                let made = self.made.at(h);
                if !std::mem::replace(&mut made.owing, true) {
                    self.owing.push(h);
                }
                Ok(Some(What::Scalar(Held::Value(Value::None))))
            }
        }
    }

    /// Return the name of a container's class; None for a dict or list without one.
    pub(super) fn class(&mut self, h: Addr, kind: Kind) -> Option<String> {
        let record = match kind {
            Kind::Object => self.p.u64_at(h + header::CLASS_OR_LEN),
            Kind::Dict | Kind::List => graph::class(self.p, h).map(|record| record.0),
        };
        if kind != Kind::Object && matches!(record, Ok(0)) {
            return None;
        }
        let name = record.and_then(|record| {
            if let Some(name) = self.classes.get(&record) {
                return Ok(name.clone());
            }
            let name = class::name(self.p, Addr(record))?;
            self.classes.insert(record, name.clone());
            Ok(name)
        });
        match name {
            Ok(name) => Some(name),
            Err(e) => {
                let path = self.path(h);
                self.lose(path, format!("the name of its class is lost ({})", why(&e)));
                None
            }
        }
    }

    /// Write the waiting entries.
    fn write(&mut self, target: &mut Target) -> Result<()> {
        let entries = std::mem::take(&mut target.entries);
        target.bytes = 0;
        if entries.is_empty() {
            return Ok(());
        }
        let into = target.new;
        let made = self.change(|w| {
            let mut made: HashMap<u64, Obj> = HashMap::new();
            for (to, what) in &entries {
                let value = match what {
                    What::Scalar(held) => match held.as_in() {
                        Some(value) => value,
                        None => continue,
                    },
                    What::Made(obj) => In::Obj(*obj),
                    What::New(old, kind, class) => In::Obj(match made.get(&old.0) {
                        Some(&obj) => obj,
                        None => {
                            let obj = new_container(w, *kind, class.as_deref())?;
                            made.insert(old.0, obj);
                            obj
                        }
                    }),
                };
                match to {
                    To::Key(key) => match key.as_key() {
                        Some(key) => w.set(into, &key, &value)?,
                        None => continue,
                    },
                    To::End => {
                        let end = w.len(into)?;
                        w.insert(into, end, &value)?;
                    }
                    To::Index(i) => w.set_item(into, *i, &value)?,
                }
            }
            Ok(made)
        })?;
        self.done.entries += entries
            .iter()
            .filter(|(to, _)| !matches!(to, To::Index(_)))
            .count() as u64;
        for (old, new) in made {
            self.note_made(Addr(old), new);
        }
        Ok(())
    }

    /// Record that a container was created and must be filled.
    pub(super) fn note_made(&mut self, old: Addr, new: Obj) {
        self.done.containers += 1;
        let made = self.made.at(old);
        (made.addr, made.id) = (new.addr.0, new.id.0);
        self.waiting.push(old);
    }

    /// Run an operation on the new store.
    pub(super) fn change<R>(&self, f: impl FnMut(&mut Writer<'_>) -> Result<R>) -> Result<R> {
        self.new.write(Actor::Thread, &mut Wait::default(), f)
    }
}

pub(super) fn new_container(w: &mut Writer<'_>, kind: Kind, class: Option<&str>) -> Result<Obj> {
    let new = match kind {
        Kind::Dict => w.new_dict()?,
        Kind::List => w.new_list()?,
        Kind::Object => return w.new_object(class.unwrap_or("")),
    };
    // A sorted dict gets its class at the end: until then, any key may be in it.
    if class.is_some() && class != Some(SORTED) {
        w.set_class(new, class)?;
    }
    Ok(new)
}

/// Return a short text for an error.
fn why(e: &Error) -> String {
    match e {
        Error::Corrupt { what, .. } => (*what).to_owned(),
        e => e.to_string(),
    }
}
