//! Change single entries of containers, and empty containers.

use super::announce;
use super::entry::{
    NO_KEYS, changing, encode, locate, lookup_key, out_of_range, takes_key, touch, wants_list,
};
use super::metadata;
use super::sorted;
use crate::error::{Error, Result};
use crate::ids::{Addr, Obj};
use crate::object::class::attr;
use crate::object::graph::{self, release_word, retain};
use crate::object::header::{self, Kind};
use crate::object::splices::{self, Splice};
use crate::object::value::{In, Key};
use crate::object::word::Word;
use crate::object::{builtin, class as classes, dict, entries, key as keys, list};
use crate::page::access::PagesMut;

/// The most entries that `clear` removes one by one; more are detached as a whole and freed in steps. (Few in
/// tests, to cover both paths.)
const AT_ONCE: u64 = if cfg!(test) { 3 } else { 256 };
/// Items removed from a list at a time.
const CHUNK: usize = 4096;

/// See `Writer::new_dict`.
pub fn new_dict<W: PagesMut>(w: &mut W) -> Result<Obj> {
    graph::create(w, Kind::Dict, 0)
}

/// See `Writer::new_list`.
pub fn new_list<W: PagesMut>(w: &mut W) -> Result<Obj> {
    graph::create(w, Kind::List, 0)
}

/// See `Writer::new_object`.
pub fn new_object<W: PagesMut>(w: &mut W, class: &str) -> Result<Obj> {
    let record = classes::record(w, class)?;
    graph::create(w, Kind::Object, record.0)
}

/// See `Writer::set_class`.
pub fn set_class<W: PagesMut>(w: &mut W, obj: Obj, class: Option<&str>) -> Result<()> {
    let kind = changing(w, obj, None)?;
    if kind == Kind::Object {
        return Err(Error::WrongKind {
            what: "the class of an object is set by a conversion",
        });
    }
    if obj.addr == graph::root(w)? {
        return Err(Error::invalid("the root is always a dict without a class"));
    }
    let record = match class {
        Some(class) => classes::record(w, class)?,
        None => Addr::NULL,
    };
    if graph::class(w, obj.addr)? == record {
        return Ok(());
    }
    touch(w, obj)?;
    match class {
        Some(builtin::SORTED) if kind == Kind::Dict => sorted::start(w, obj.addr)?,
        _ => sorted::end(w, obj.addr)?,
    }
    graph::set_class(w, obj.addr, record)?;
    announce::any(w, obj);
    Ok(())
}

/// Count the reference of a word that is about to be stored.
#[inline]
pub(super) fn retain_word<W: PagesMut>(w: &mut W, word: Word, parent: Addr, hint: u64) -> Result<()> {
    match word.as_container() {
        Some(child) => retain(w, child, parent, hint),
        None => Ok(()),
    }
}

/// See `Writer::set`. Replacing an inline value by another is two logged words and no allocation.
#[inline]
pub fn set<W: PagesMut>(w: &mut W, obj: Obj, key: &Key<'_>, value: &In<'_>) -> Result<()> {
    let cached = lookup_key(obj, key);
    if let Some(cached) = cached
        && let Some([at, hash]) = w.lookups().find(cached)
    {
        // The structure is unchanged, so container and entry are where they were.
        w.changing(obj, Some(hash))?;
        return replace(w, obj, key, hash, Addr(at), value);
    }
    let hash = keys::hash(w.hash_seed(), key);
    let kind = changing(w, obj, Some(hash))?;
    takes_key(kind, key)?;
    if let Some((at, _)) = locate(w, kind, obj, key, hash)? {
        if let Some(cached) = cached {
            w.lookups().insert(cached, [at.0, hash], || w.holds());
        }
        return replace(w, obj, key, hash, at, value);
    }
    let word = encode(w, value)?;
    touch(w, obj)?;
    retain_word(w, word, obj.addr, hash)?;
    match kind {
        // The object may have to leave the key table of its class.
        Kind::Object => attr::set_hashed(w, obj.addr, key, hash, word).map(drop),
        _ => {
            sorted::added(w, obj.addr, key)?;
            dict::add(w, obj.addr, key, hash, word)
        }
    }?;
    announce::entry(w, obj, key, false, true);
    Ok(())
}

/// Replace the value of the entry at `at`.
#[inline]
fn replace<W: PagesMut>(
    w: &mut W,
    obj: Obj,
    key: &Key<'_>,
    hash: u64,
    at: Addr,
    value: &In<'_>,
) -> Result<()> {
    let word = encode(w, value)?;
    touch(w, obj)?;
    retain_word(w, word, obj.addr, hash)?;
    let old = Word(w.u64_at(at)?);
    w.set_value(at, word.0)?;
    announce::entry(w, obj, key, true, true);
    release_word(w, old, obj.addr)
}

/// See `Writer::remove`.
pub fn remove<W: PagesMut>(w: &mut W, obj: Obj, key: &Key<'_>) -> Result<bool> {
    let hash = keys::hash(w.hash_seed(), key);
    let kind = changing(w, obj, Some(hash))?;
    match (kind, key) {
        (Kind::Object, Key::Str(_)) | (Kind::Dict, _) => {}
        (Kind::Object, _) => return Ok(false),
        (Kind::List, _) => return Err(NO_KEYS),
    }
    let Some(old) = entries::remove_hashed(w, obj.addr, key, hash)? else {
        return Ok(false);
    };
    touch(w, obj)?;
    release_word(w, old, obj.addr)?;
    if graph::has_annex(w, obj.addr)? {
        metadata::removed(w, obj.addr, kind, key)?;
        sorted::removed(w, obj.addr, key)?;
    }
    announce::entry(w, obj, key, true, false);
    Ok(true)
}

/// See `Writer::clear`. Takes about the same time at every size.
pub fn clear<W: PagesMut>(w: &mut W, obj: Obj) -> Result<()> {
    let kind = changing(w, obj, None)?;
    if kind != Kind::List {
        w.changing_all()?;
    }
    touch(w, obj)?;
    empty(w, obj, kind)
}

/// Record that items of a list came and went. Their metadata follows.
#[inline]
pub(super) fn spliced<W: PagesMut>(w: &mut W, obj: Obj, at: u64, removed: u64, inserted: u64) -> Result<()> {
    metadata::spliced(w, obj.addr, at, removed, inserted)?;
    announce::items(w, obj, at, removed, inserted);
    let splice = Splice {
        at,
        removed,
        inserted,
    };
    splices::record(w, obj, splice)
}

fn empty<W: PagesMut>(w: &mut W, obj: Obj, kind: Kind) -> Result<()> {
    let h = obj.addr;
    metadata::emptied(w, h, kind)?;
    sorted::emptied(w, h)?;
    let len = if kind == Kind::List {
        let len = list::len(w, h)?;
        spliced(w, obj, 0, len, 0)?;
        len
    } else {
        announce::any(w, obj);
        entries::len(w, h)?
    };
    if len > AT_ONCE {
        let form = match kind {
            Kind::Dict => dict::form_when_empty(w, h)?,
            Kind::List | Kind::Object => 0,
        };
        graph::detach(w, h)?;
        return match form {
            0 => Ok(()),
            form => w.set_bytes(h + header::FORM, &form.to_le_bytes()),
        };
    }
    let mut words = Vec::new();
    let max = AT_ONCE as usize;
    let done = match kind {
        Kind::List => list::drain(w, h, max, &mut words)?,
        Kind::Dict | Kind::Object => entries::drain(w, h, max, &mut words)?,
    };
    if !done {
        return Err(Error::corrupt("a container with more entries than it counts", h));
    }
    for word in words {
        release_word(w, word, h)?;
    }
    Ok(())
}

/// See `Writer::set_item`.
#[inline]
pub fn set_item<W: PagesMut>(w: &mut W, obj: Obj, index: u64, value: &In<'_>) -> Result<()> {
    wants_list(changing(w, obj, None)?)?;
    let len = list::len(w, obj.addr)?;
    if index >= len {
        return Err(out_of_range(index, len));
    }
    let word = encode(w, value)?;
    touch(w, obj)?;
    retain_word(w, word, obj.addr, index)?;
    let old = list::set(w, obj.addr, index, word)?;
    announce::items(w, obj, index, 1, 1);
    release_word(w, old, obj.addr)
}

/// See `Writer::insert`.
#[inline]
pub fn insert<W: PagesMut>(w: &mut W, obj: Obj, index: u64, value: &In<'_>) -> Result<()> {
    wants_list(changing(w, obj, None)?)?;
    let len = list::len(w, obj.addr)?;
    if index > len {
        return Err(out_of_range(index, len));
    }
    let word = encode(w, value)?;
    touch(w, obj)?;
    retain_word(w, word, obj.addr, index)?;
    list::insert(w, obj.addr, index, word)?;
    spliced(w, obj, index, 0, 1)
}

/// See `Writer::remove_items`. `end` may lie beyond the list's.
pub fn remove_items<W: PagesMut>(w: &mut W, obj: Obj, start: u64, end: u64) -> Result<()> {
    let kind = changing(w, obj, None)?;
    wants_list(kind)?;
    let len = list::len(w, obj.addr)?;
    if start > len {
        return Err(out_of_range(start, len));
    }
    let mut end = end.min(len);
    if start >= end {
        return Ok(());
    }
    touch(w, obj)?;
    if start == 0 && end == len {
        return empty(w, obj, kind);
    }
    spliced(w, obj, start, end - start, 0)?;
    let mut words = Vec::new();
    while start < end {
        words.clear();
        let n = list::remove_range(w, obj.addr, start, end, CHUNK, &mut words)?;
        if n == 0 {
            return Err(Error::corrupt("a list with fewer items than it counts", obj.addr));
        }
        end = end.saturating_sub(n);
        for &word in &words {
            release_word(w, word, obj.addr)?;
        }
    }
    Ok(())
}

/// See `Writer::set_mtime`.
pub fn set_mtime<W: PagesMut>(w: &mut W, obj: Obj, ns: u64) -> Result<()> {
    changing(w, obj, None)?;
    announce::metadata(w, obj);
    w.set_u64(obj.addr + header::MTIME, ns)
}
