//! Which entries refer to a container: all of its references, not only its home.

use super::entry::reading;
use crate::error::Result;
use crate::ids::Obj;
use crate::object::header::{self, Kind};
use crate::object::value::Step;
use crate::object::word::Word;
use crate::object::{entries, graph, list, scalar};
use crate::page::access::Pages;

/// See `Reader::referrers`.
pub fn referrers<P: Pages>(p: &P, obj: Obj, max: usize) -> Result<Vec<Obj>> {
    reading(p, obj)?;
    let mut parents = Vec::new();
    graph::back_references(p, obj.addr, &mut |parent, _| {
        if parents.len() < max {
            parents.push(parent);
        }
    })?;
    parents.into_iter().map(|parent| header::obj(p, parent)).collect()
}

/// See `Reader::references`.
pub fn references<P: Pages>(
    p: &P,
    parent: Obj,
    child: Obj,
    cursor: &mut u64,
    max: usize,
    out: &mut Vec<Step>,
) -> Result<bool> {
    let word = Word::container(child.addr);
    if reading(p, parent)? == Kind::List {
        let mut words = Vec::new();
        list::scan(p, parent.addr, *cursor, max, &mut words)?;
        let here = words.iter().zip(*cursor..).filter(|(w, _)| **w == word);
        out.extend(here.map(|(_, index)| Step::Index(index)));
        *cursor += words.len() as u64;
        return Ok(words.len() == max);
    }
    for _ in 0..max {
        let Some((next, key, value)) = entries::next(p, parent.addr, *cursor)? else {
            return Ok(false);
        };
        *cursor = next;
        if value == word {
            out.push(Step::Key(scalar::decode(p, key)?));
        }
    }
    Ok(true)
}
