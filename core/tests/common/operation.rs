//! Operations: run on a store, and repeated on the model.

use super::model::{Body, Dict, Model, Node};
use super::value::{Val, as_value};
use persist_core::store::door::{Edit, MetadataOf};
use persist_core::store::{In, Obj, Result, Step, Writer};

/// The kind of a new value.
#[derive(Clone, Debug)]
pub enum New {
    Val(Val),
    Dict(Vec<(Val, Val)>),
    Object(&'static str, Vec<(Val, Val)>),
    List(Vec<Val>),
}

/// One operation.
#[derive(Clone, Debug)]
pub enum Op {
    Set(u64, Val, New),
    Remove(u64, Val),
    Clear(u64),
    Insert(u64, usize, New),
    SetItem(u64, usize, New),
    RemoveItems(u64, usize, usize),
    /// Many entries at once.
    Fill(u64, Vec<(Val, Val)>),
    /// Many removals at once.
    Drain(u64, Vec<Val>),
    Extend(u64, usize, Vec<Val>),
    /// Move an entry to another dict or key.
    Rename(u64, Val, u64, Val),
    /// Change a part of a str or bytes in place: the bytes from an offset on, and the length.
    Edit(u64, Val, usize, Vec<u8>, Option<usize>),
    /// Set or remove the metadata of an entry.
    Note(u64, Val, Option<Vec<u8>>),
}

impl Model {
    /// Run the operation in a write section. Returns the containers that it created.
    pub fn run(&self, w: &mut Writer<'_>, op: &Op) -> Result<Vec<Obj>> {
        let mut made = Vec::new();
        let put = |w: &mut Writer<'_>, new: &New, made: &mut Vec<Obj>| -> Result<Option<Obj>> {
            let o = match new {
                New::Val(_) => return Ok(None),
                New::Dict(entries) => {
                    let o = w.new_dict()?;
                    entries
                        .iter()
                        .try_for_each(|(k, v)| w.set(o, &k.as_key(), &v.as_in(self, &[])))?;
                    o
                }
                New::Object(class, entries) => {
                    let o = w.new_object(class)?;
                    entries
                        .iter()
                        .try_for_each(|(k, v)| w.set(o, &k.as_key(), &v.as_in(self, &[])))?;
                    o
                }
                New::List(items) => {
                    let o = w.new_list()?;
                    for (i, v) in items.iter().enumerate() {
                        w.insert(o, i as u64, &v.as_in(self, &[]))?;
                    }
                    o
                }
            };
            made.push(o);
            Ok(Some(o))
        };
        let obj = |id: &u64| self.obj(*id, &[]);
        match op {
            Op::Set(d, k, new) => {
                let o = put(w, new, &mut made)?;
                w.set(obj(d), &k.as_key(), &input(self, new, o))?;
            }
            Op::Remove(d, k) => assert!(w.remove(obj(d), &k.as_key())?, "nothing to remove"),
            Op::Clear(c) => w.clear(obj(c))?,
            Op::Insert(l, at, new) => {
                let o = put(w, new, &mut made)?;
                w.insert(obj(l), *at as u64, &input(self, new, o))?;
            }
            Op::SetItem(l, at, new) => {
                let o = put(w, new, &mut made)?;
                w.set_item(obj(l), *at as u64, &input(self, new, o))?;
            }
            Op::RemoveItems(l, from, to) => w.remove_items(obj(l), *from as u64, *to as u64)?,
            Op::Fill(d, entries) => {
                entries
                    .iter()
                    .try_for_each(|(k, v)| w.set(obj(d), &k.as_key(), &v.as_in(self, &[])))?;
            }
            Op::Drain(d, keys) => {
                for k in keys {
                    assert!(w.remove(obj(d), &k.as_key())?, "nothing to remove");
                }
            }
            Op::Extend(l, at, items) => {
                for (i, v) in items.iter().enumerate() {
                    w.insert(obj(l), (at + i) as u64, &v.as_in(self, &[]))?;
                }
            }
            Op::Rename(from, k, to, k2) => {
                w.rename(
                    obj(from),
                    &Step::Key(as_value(k)),
                    obj(to),
                    &Step::Key(as_value(k2)),
                )?;
            }
            Op::Edit(d, k, offset, bytes, len) => {
                let change = Edit {
                    offset: *offset as u64,
                    bytes,
                    len: len.map(|n| n as u64),
                    no_newline: None,
                };
                w.edit(obj(d), &Step::Key(as_value(k)), &change)?;
            }
            Op::Note(d, k, note) => {
                w.set_metadata(obj(d), &MetadataOf::Key(k.as_key()), note.as_deref())?;
            }
        }
        Ok(made)
    }

    /// Repeat the operation on the model. `made` is the result of `run`.
    pub fn apply(&mut self, op: &Op, made: &[Obj]) {
        let put = |m: &mut Model, new: &New| -> Val {
            let (class, body) = match new {
                New::Val(v) => return v.clone(),
                New::List(items) => (None, Body::List(items.clone())),
                New::Dict(entries) | New::Object(_, entries) => {
                    let mut d = Dict::default();
                    entries.iter().for_each(|(k, v)| d.set(k.clone(), v.clone()));
                    let class = if let New::Object(class, _) = new {
                        Some((*class).to_owned())
                    } else {
                        None
                    };
                    (class, Body::Dict(d))
                }
            };
            m.nodes.insert(
                made[0].id.0,
                Node {
                    obj: made[0],
                    class,
                    body,
                },
            );
            Val::Obj(made[0].id.0)
        };
        match op {
            Op::Set(d, k, new) => {
                let v = put(self, new);
                self.dict(*d).set(k.clone(), v);
            }
            Op::Remove(d, k) => self.dict(*d).remove(k),
            Op::Clear(c) => match &mut self.node(*c).body {
                Body::Dict(d) => *d = Dict::default(),
                Body::List(l) => l.clear(),
            },
            Op::Insert(l, at, new) => {
                let v = put(self, new);
                self.list(*l).insert(*at, v);
            }
            Op::SetItem(l, at, new) => {
                let v = put(self, new);
                self.list(*l)[*at] = v;
            }
            Op::RemoveItems(l, from, to) => drop(self.list(*l).drain(from..to)),
            Op::Fill(d, entries) => {
                let d = self.dict(*d);
                entries.iter().for_each(|(k, v)| d.set(k.clone(), v.clone()));
            }
            Op::Drain(d, keys) => {
                let d = self.dict(*d);
                keys.iter().for_each(|k| d.remove(k));
            }
            Op::Extend(l, at, items) => {
                self.list(*l).splice(at..at, items.iter().cloned());
            }
            Op::Rename(from, k, to, k2) => {
                if from == to && k == k2 {
                    return;
                }
                let d = self.dict(*from);
                let v = d.index.get(k).and_then(|at| d.order.get(at)).map(|e| e.1.clone());
                let note = d.notes.get(k).cloned();
                d.remove(k);
                if let Some(v) = v {
                    let d = self.dict(*to);
                    d.set(k2.clone(), v);
                    match note {
                        Some(note) => d.notes.insert(k2.clone(), note),
                        None => d.notes.remove(k2),
                    };
                }
            }
            Op::Note(d, k, note) => {
                let d = self.dict(*d);
                match note {
                    Some(note) => d.notes.insert(k.clone(), note.clone()),
                    None => d.notes.remove(k),
                };
            }
            Op::Edit(d, k, offset, bytes, len) => {
                let d = self.dict(*d);
                let old = d.index.get(k).and_then(|at| d.order.get(at)).map(|e| e.1.clone());
                if let Some(mut value) = old {
                    if let Val::Str(content, _) | Val::Bytes(content) = &mut value {
                        let end = offset + bytes.len();
                        let len = len.unwrap_or(content.len().max(end));
                        content.resize(content.len().max(end), 0);
                        content[*offset..end].copy_from_slice(bytes);
                        content.resize(len, 0);
                    }
                    d.set(k.clone(), value);
                }
            }
        }
        self.prune();
    }
}

fn input<'a>(m: &Model, new: &'a New, made: Option<Obj>) -> In<'a> {
    match (new, made) {
        (New::Val(v), _) => v.as_in(m, &[]),
        (_, Some(o)) => In::Obj(o),
        (_, None) => In::None,
    }
}
