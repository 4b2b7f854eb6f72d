//! The content of any kind of container, as the graph needs it: walk, find a child, and empty in steps.
//!
//! The words of a container are those of its entries and, after them, the references to its hidden containers
//! (`annex`), which do not count as entries.

use super::annex;
use crate::error::Result;
use crate::ids::Addr;
use crate::object::header::{self, Kind};
use crate::object::word::Word;
use crate::object::{dict, entries, list};
use crate::page::access::{Pages, PagesMut};

/// The cursor after the last entry of a dict or object. Entries have smaller ones.
const END: u64 = u64::MAX;

/// The place of a container in its parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Under the key with this word.
    Key(Word),
    /// At this index of a list.
    Index(u64),
    /// The annex: it is a hidden container.
    Hidden,
}

/// Return whether a container refers to nothing.
pub(super) fn is_empty<P: Pages>(p: &P, h: Addr) -> Result<bool> {
    Ok(len(p, h)? == 0 && annex::hidden(p, h)?.iter().all(|hidden| hidden.is_null()))
}

/// Return the number of entries.
pub(super) fn len<P: Pages>(p: &P, h: Addr) -> Result<u64> {
    match header::kind(p, h)? {
        Kind::List => list::len(p, h),
        Kind::Dict | Kind::Object => entries::len(p, h),
    }
}

/// Append the value words of up to `max` entries from `cursor` (0: the start) to `out`, and advance the cursor. Fewer
/// than `max` means the end. The hidden containers come with the last entries, beyond `max` if need be.
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
            *cursor += 1;
            push_hidden(p, h, out)?;
        }
        return Ok(());
    }
    if *cursor == END {
        return Ok(());
    }
    for _ in 0..max {
        let Some((next, _, word)) = entries::next(p, h, *cursor)? else {
            *cursor = END;
            return push_hidden(p, h, out);
        };
        *cursor = next;
        out.push(word);
    }
    Ok(())
}

fn push_hidden<P: Pages>(p: &P, h: Addr, out: &mut Vec<Word>) -> Result<()> {
    let hidden = annex::hidden(p, h)?
        .into_iter()
        .filter(|hidden| !hidden.is_null());
    out.extend(hidden.map(Word::container));
    Ok(())
}

/// Remove up to about `max` entries; append their value words to `out`. Return true if the container is empty
/// and its body freed.
pub(super) fn drain<W: PagesMut>(w: &mut W, h: Addr, max: usize, out: &mut Vec<Word>) -> Result<bool> {
    let [waiting, metadata, order] = annex::hidden(w, h)?;
    if !waiting.is_null() {
        annex::set_waiting(w, h, Addr::NULL)?;
        out.push(Word::container(waiting));
    }
    if !metadata.is_null() {
        annex::set_metadata(w, h, Addr::NULL)?;
        out.push(Word::container(metadata));
    }
    if !order.is_null() {
        annex::set_order(w, h, Addr::NULL)?;
        out.push(Word::container(order));
    }
    match header::kind(w, h)? {
        Kind::List => list::drain(w, h, max, out),
        Kind::Dict | Kind::Object => entries::drain(w, h, max, out),
    }
}

/// Return a place of `child` in `h`: that of the hint, or the first one found among about `max` entries. The
/// result depends only on the state and the hint.
pub(super) fn find<P: Pages>(p: &P, h: Addr, child: Addr, hint: u64, max: usize) -> Result<Option<Place>> {
    if !child.is_null() && annex::hidden(p, h)?.contains(&child) {
        return Ok(Some(Place::Hidden));
    }
    if header::kind(p, h)? == Kind::List {
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
