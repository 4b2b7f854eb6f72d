//! The content of any kind of container, as the graph needs it: walk, find a child, and empty in steps.
//!
//! The words of a list are its items and, after them, the reference to its waiting entries (`annex`), which counts
//! as no entry.

use super::annex;
use crate::error::Result;
use crate::ids::Addr;
use crate::object::header::{self, Kind};
use crate::object::word::Word;
use crate::object::{dict, entries, list};
use crate::page::access::{Pages, PagesMut};

/// The place of a container in its parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Under the key with this word.
    Key(Word),
    /// At this index of a list.
    Index(u64),
    /// The waiting entries of a list.
    Waiting,
}

/// Return whether a container refers to nothing.
pub(super) fn is_empty<P: Pages>(p: &P, h: Addr) -> Result<bool> {
    Ok(len(p, h)? == 0 && annex::waiting(p, h)?.is_null())
}

/// Return the number of entries.
pub(super) fn len<P: Pages>(p: &P, h: Addr) -> Result<u64> {
    match header::kind(p, h)? {
        Kind::List => list::len(p, h),
        Kind::Dict | Kind::Object => entries::len(p, h),
    }
}

/// Append the value words of up to `max` entries from `cursor` (0: the start) to `out`, and advance the
/// cursor. Fewer than `max` means the end.
pub(super) fn words<P: Pages>(
    p: &P,
    h: Addr,
    cursor: &mut u64,
    max: usize,
    out: &mut Vec<Word>,
) -> Result<()> {
    if header::kind(p, h)? == Kind::List {
        let before = out.len();
        list::scan(p, h, *cursor, max, out)?;
        let found = out.len() - before;
        *cursor += found as u64;
        if found < max && *cursor == list::len(p, h)? {
            let waiting = annex::waiting(p, h)?;
            *cursor += 1;
            if !waiting.is_null() {
                out.push(Word::container(waiting));
            }
        }
        return Ok(());
    }
    for _ in 0..max {
        let Some((next, _, word)) = entries::next(p, h, *cursor)? else {
            break;
        };
        *cursor = next;
        out.push(word);
    }
    Ok(())
}

/// Remove up to about `max` entries; append their value words to `out`. Return true if the container is empty
/// and its body freed.
pub(super) fn drain<W: PagesMut>(w: &mut W, h: Addr, max: usize, out: &mut Vec<Word>) -> Result<bool> {
    match header::kind(w, h)? {
        Kind::List => {
            let waiting = annex::waiting(w, h)?;
            if !waiting.is_null() {
                annex::set_waiting(w, h, Addr::NULL)?;
                out.push(Word::container(waiting));
            }
            list::drain(w, h, max, out)
        }
        Kind::Dict | Kind::Object => entries::drain(w, h, max, out),
    }
}

/// Return a place of `child` in `h`: that of the hint, or the first one found among about `max` entries. The
/// result depends only on the state and the hint.
pub(super) fn find<P: Pages>(p: &P, h: Addr, child: Addr, hint: u64, max: usize) -> Result<Option<Place>> {
    if header::kind(p, h)? == Kind::List {
        if annex::waiting(p, h)? == child {
            return Ok(Some(Place::Waiting));
        }
        return Ok(list::find_child(p, h, child, hint, max as u64)?.map(Place::Index));
    }
    if let Some(key) = entries::find_child(p, h, hint, child)? {
        return Ok(Some(Place::Key(key)));
    }
    Ok(match entries::scan_child(p, h, child, 0, max)? {
        dict::Scan::Found(key) => Some(Place::Key(key)),
        dict::Scan::More(_) | dict::Scan::End => None,
    })
}
