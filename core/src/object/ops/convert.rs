//! Turning a container into another kind in place.

use super::change::set_class;
use super::{STR_ONLY, changing, key_of, touch};
use crate::error::{Error, Result};
use crate::heap;
use crate::ids::{Addr, Obj};
use super::shim as classes;
use crate::object::dict as entries;
use crate::object::graph::{self, rehint};
use crate::object::header::{self, Kind, UNSHARED};
use crate::object::value::{Key, Value};
use crate::object::word::Word;
use crate::object::{key as keys, list, scalar};
use crate::page::access::{Pages, PagesMut};

/// Entries moved at a time.
const CHUNK: usize = 1024;

/// See `Writer::convert`. The entries move one by one, so it takes time in proportion to their
/// number; towards a list, memory too (16 bytes each).
pub fn convert<W: PagesMut>(w: &mut W, obj: Obj, kind: Kind, class: &str) -> Result<()> {
    let old = changing(w, obj, None)?;
    if old == kind {
        if kind == Kind::Object {
            touch(w, obj)?;
            set_class(w, obj, class)?;
        }
        return Ok(());
    }
    let h = obj.addr;
    if h == graph::root(w)? {
        return Err(Error::invalid("the root is always a dict"));
    }
    // All that can be refused is refused before anything changes.
    let items = if kind == Kind::List { as_items(w, h)? } else { Vec::new() };
    if kind == Kind::Object && old == Kind::Dict {
        all_str(w, h)?;
    }
    let word = if kind == Kind::Object { classes::record(w, class)?.0 } else { 0 };
    touch(w, obj)?;
    let source = take_body(w, h)?;
    w.set_bytes(h, &[kind as u8])?;
    w.set_u64(h + header::CLASS_OR_LEN, word)?;
    match (old, kind) {
        (_, Kind::List) => fill_list(w, h, &items)?,
        (Kind::List, _) => from_list(w, h, kind, source)?,
        _ => from_entries(w, h, source)?,
    }
    // What is left of the old body are words that live on in the new one.
    let mut words = Vec::new();
    loop {
        words.clear();
        let done = match old {
            Kind::List => list::drain(w, source, CHUNK, &mut words)?,
            Kind::Dict | Kind::Object => entries::drain(w, source, CHUNK, &mut words)?,
        };
        if done {
            return heap::free(w, source);
        }
    }
}

/// Moves a container's body to a header of its own, which nothing else knows.
fn take_body<W: PagesMut>(w: &mut W, h: Addr) -> Result<Addr> {
    let old = w.bytes(h, header::SIZE)?.to_vec();
    let source = heap::alloc(w, header::SIZE)?;
    let b = w.init(source, header::SIZE)?;
    b.copy_from_slice(&old);
    b[header::ID as usize..header::BODY as usize].fill(0);
    b[header::EXTRA as usize..header::CLASS_OR_LEN as usize].fill(0);
    w.set_bytes(h + 1, &[old[1] & !UNSHARED])?;
    w.set_bytes(h + header::FORM, &[0; 2])?;
    w.set_u64(h + header::BODY, 0)?;
    Ok(source)
}

/// The entries of a dict or object in the order of their keys, which must be 0..n.
fn as_items<P: Pages>(p: &P, h: Addr) -> Result<Vec<(u64, Word)>> {
    let mut items = Vec::new();
    let (mut cursor, mut sorted) = (0, true);
    while let Some((next, key, word)) = entries::next(p, h, cursor)? {
        cursor = next;
        let index = index_of(&scalar::decode(p, key)?)?;
        sorted &= index == items.len() as u64;
        items.push((index, word));
    }
    if !sorted {
        items.sort_unstable_by_key(|&(index, _)| index);
    }
    if items.iter().zip(0..).any(|(&(index, _), i)| index != i) {
        return Err(not_indices());
    }
    Ok(items)
}

fn not_indices() -> Error {
    Error::invalid("only a container whose keys are 0, 1, 2 and so on can become a list")
}

/// The index that a key means: an int, or a str as an int is written.
fn index_of(key: &Value) -> Result<u64> {
    match key {
        Value::Int(n) => u64::try_from(*n).map_err(|_| not_indices()),
        Value::Str { bytes, .. } => {
            let canonical = bytes.first() != Some(&b'0') || bytes.len() == 1;
            match std::str::from_utf8(bytes) {
                Ok(text) if canonical && bytes.iter().all(u8::is_ascii_digit) => {
                    text.parse().map_err(|_| not_indices())
                }
                _ => Err(not_indices()),
            }
        }
        _ => Err(not_indices()),
    }
}

fn all_str<P: Pages>(p: &P, h: Addr) -> Result<()> {
    let mut cursor = 0;
    while let Some((next, key, _)) = entries::next(p, h, cursor)? {
        cursor = next;
        if !keys::is_text(p, key)? {
            return Err(STR_ONLY);
        }
    }
    Ok(())
}

fn fill_list<W: PagesMut>(w: &mut W, h: Addr, items: &[(u64, Word)]) -> Result<()> {
    let mut words = Vec::with_capacity(CHUNK.min(items.len()));
    for chunk in items.chunks(CHUNK) {
        words.clear();
        words.extend(chunk.iter().map(|&(_, word)| word));
        list::extend(w, h, &words)?;
        for &(index, word) in chunk {
            rehint_word(w, word, h, index)?;
        }
    }
    Ok(())
}

fn from_list<W: PagesMut>(w: &mut W, h: Addr, kind: Kind, source: Addr) -> Result<()> {
    let (mut at, mut words) = (0u64, Vec::new());
    loop {
        words.clear();
        list::scan(w, source, at, CHUNK, &mut words)?;
        if words.is_empty() {
            return Ok(());
        }
        for &word in &words {
            let text = at.to_string();
            let key = match (kind, i64::try_from(at)) {
                (Kind::Dict, Ok(n)) => Key::Int(n),
                _ => Key::Str(text.as_bytes()),
            };
            add(w, h, &key, word)?;
            at += 1;
        }
    }
}

fn from_entries<W: PagesMut>(w: &mut W, h: Addr, source: Addr) -> Result<()> {
    let mut cursor = 0;
    while let Some((next, key, word)) = entries::next(w, source, cursor)? {
        cursor = next;
        let key = scalar::decode(w, key)?;
        add(w, h, &key_of(&key)?, word)?;
    }
    Ok(())
}

fn add<W: PagesMut>(w: &mut W, h: Addr, key: &Key<'_>, word: Word) -> Result<()> {
    let hash = keys::hash(w.hash_seed(), key);
    if entries::set_hashed(w, h, key, hash, word)?.is_some() {
        return Err(Error::corrupt("a container that has a key twice", h));
    }
    rehint_word(w, word, h, hash)
}

fn rehint_word<W: PagesMut>(w: &mut W, word: Word, parent: Addr, hint: u64) -> Result<()> {
    match word.as_container() {
        Some(child) => rehint(w, child, parent, hint),
        None => Ok(()),
    }
}
