//! Dicts whose keys are kept in order (class `builtin::SORTED`): a hidden list (`graph::annex`) has the keys of all
//! entries, each with a word of its own, in ascending order.
//!
//! 1. The list is there as long as the class is. Every operation that adds or removes an entry changes both, so that
//!    one is never without the other.
//! 2. Keys that have no order among each other (`key::order`) cannot be in one such dict.

use super::entry::reading;
use crate::error::{Error, Result};
use crate::ids::{Addr, Obj};
use crate::object::graph;
use crate::object::header::{self, Kind};
use crate::object::key;
use crate::object::value::{Key, Value};
use crate::object::{builtin, class as classes, dict, list, scalar};
use crate::page::access::{Pages, PagesMut};
use std::cmp::Ordering;

const NOT_SORTED: Error = Error::WrongKind {
    what: "not a sorted dict",
};

#[cold]
fn no_order(key: &Key<'_>, there: Option<&Key<'_>>) -> Error {
    let name = key::type_name(key);
    Error::NoOrder {
        what: match there {
            Some(there) if key::order(key, key).is_some() => format!(
                "keys of a sorted dict must have an order among each other: '{name}' and '{}' have none",
                key::type_name(there)
            ),
            _ => format!("keys of a sorted dict must have an order among each other: '{name}' has none"),
        },
    }
}

/// The position of a key in the list: before the keys that are equal to it, or after them.
fn find<P: Pages>(p: &P, order: Addr, key: &Key<'_>, after: bool) -> Result<u64> {
    let (mut low, mut high) = (0, list::len(p, order)?);
    if high == 0 && key::order(key, key).is_none() {
        return Err(no_order(key, None));
    }
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(word) = list::get(p, order, middle)? else {
            return Err(Error::corrupt("a list with fewer items than it counts", order));
        };
        let there = scalar::decode(p, word)?;
        let there = there.as_key()?;
        let compared = key::order(&there, key).ok_or_else(|| no_order(key, Some(&there)))?;
        if compared == Ordering::Less || after && compared == Ordering::Equal {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// A key is added to a dict, which may be sorted.
#[inline]
pub(super) fn added<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>) -> Result<()> {
    let order = graph::order(w, h)?;
    if order.is_null() {
        return Ok(());
    }
    insert(w, order, key)
}

fn insert<W: PagesMut>(w: &mut W, order: Addr, key: &Key<'_>) -> Result<()> {
    let at = find(w, order, key, false)?;
    let word = key::encode(w, key)?;
    list::insert(w, order, at, word)
}

/// A key was removed from a dict, which may be sorted.
#[inline]
pub(super) fn removed<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>) -> Result<()> {
    let order = graph::order(w, h)?;
    if order.is_null() {
        return Ok(());
    }
    let at = find(w, order, key, false)?;
    match list::get(w, order, at)? {
        Some(word) if key::eq(w, word, key)? => {}
        _ => {
            return Err(Error::corrupt(
                "a sorted dict without one of its keys in order",
                h,
            ));
        }
    }
    let word = list::remove(w, order, at)?;
    key::free(w, word)
}

/// All entries were removed from a dict, which may be sorted.
pub(super) fn emptied<W: PagesMut>(w: &mut W, h: Addr) -> Result<()> {
    if graph::order(w, h)?.is_null() {
        return Ok(());
    }
    end(w, h)?;
    begin(w, h).map(drop)
}

fn begin<W: PagesMut>(w: &mut W, h: Addr) -> Result<Addr> {
    let order = graph::create(w, Kind::List, 0)?.addr;
    graph::set_order(w, h, order)?;
    graph::retain(w, order, h, u64::MAX)?;
    Ok(order)
}

/// Keep no order any more.
pub(super) fn end<W: PagesMut>(w: &mut W, h: Addr) -> Result<()> {
    let order = graph::order(w, h)?;
    if order.is_null() {
        return Ok(());
    }
    graph::set_order(w, h, Addr::NULL)?;
    graph::release(w, order, h)
}

/// Keep the keys of a dict in order from now on.
pub(super) fn start<W: PagesMut>(w: &mut W, h: Addr) -> Result<()> {
    if !graph::order(w, h)?.is_null() {
        return Ok(());
    }
    let order = begin(w, h)?;
    let mut cursor = 0;
    while let Some((next, word, _)) = dict::next(w, h, cursor)? {
        cursor = next;
        let key = scalar::decode(w, word)?;
        insert(w, order, &key.as_key()?)?;
    }
    Ok(())
}

fn order_of<P: Pages>(p: &P, obj: Obj) -> Result<Addr> {
    reading(p, obj)?;
    let order = graph::order(p, obj.addr)?;
    if order.is_null() {
        Err(NOT_SORTED)
    } else {
        Ok(order)
    }
}

/// See `Reader::sorted_position`.
pub fn sorted_position<P: Pages>(p: &P, obj: Obj, key: &Key<'_>, after: bool) -> Result<u64> {
    find(p, order_of(p, obj)?, key, after)
}

/// See `Reader::sorted_keys`.
pub fn sorted_keys<P: Pages>(p: &P, obj: Obj, start: u64, max: usize, out: &mut Vec<Value>) -> Result<()> {
    let mut words = Vec::new();
    list::scan(p, order_of(p, obj)?, start, max, &mut words)?;
    for word in words {
        out.push(scalar::decode(p, word)?);
    }
    Ok(())
}

/// Check that the keys in order are those of the dict at `h`; for the checker.
pub fn verify<P: Pages>(p: &P, h: Addr) -> Result<()> {
    let (order, class) = (graph::order(p, h)?, graph::class(p, h)?);
    let is_sorted = header::kind(p, h)? == Kind::Dict
        && !class.is_null()
        && classes::is_named(p, class, builtin::SORTED)?;
    if is_sorted == order.is_null() {
        return Err(Error::corrupt(
            "a sorted dict without its keys in order, or another container with them",
            h,
        ));
    }
    if order.is_null() {
        return Ok(());
    }
    let wrong = || Error::corrupt("a sorted dict whose keys in order are not its keys", h);
    if list::len(p, order)? != dict::len(p, h)? {
        return Err(wrong());
    }
    let (mut at, mut words, mut last): (u64, Vec<_>, Option<Value>) = (0, Vec::new(), None);
    loop {
        words.clear();
        list::scan(p, order, at, 512, &mut words)?;
        if words.is_empty() {
            return Ok(());
        }
        at += words.len() as u64;
        for &word in &words {
            let value = scalar::decode(p, word)?;
            let key = value.as_key()?;
            let ascends = match &last {
                Some(last) => key::order(&last.as_key()?, &key) == Some(Ordering::Less),
                None => true,
            };
            if !ascends || dict::get(p, h, &key)?.is_none() {
                return Err(wrong());
            }
            last = Some(value);
        }
    }
}
