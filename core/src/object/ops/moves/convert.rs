//! Convert a container to another kind in place.

use crate::error::{Error, Result};
use crate::heap;
use crate::ids::{Addr, Obj};
use crate::object::class::attr;
use crate::object::graph::{self, rehint};
use crate::object::header::{self, Kind};
use crate::object::ops::announce;
use crate::object::ops::change::spliced;
use crate::object::ops::entry::changing;
use crate::object::ops::entry::touch;
use crate::object::ops::metadata;
use crate::object::ops::sorted;
use crate::object::value::{Key, Value};
use crate::object::word::Word;
use crate::object::{dict, entries, key as keys, list, scalar};
use crate::page::access::{Pages, PagesMut};

/// Entries moved at a time.
const CHUNK: usize = 1024;

/// See `Writer::convert`. To and from a list the entries move one by one, so the time is proportional to
/// their number; to a list, so is the memory (16 bytes each).
pub fn convert<W: PagesMut>(w: &mut W, obj: Obj, kind: Kind, class: &str) -> Result<()> {
    let old = changing(w, obj, None)?;
    let h = obj.addr;
    if kind != Kind::Dict && h == graph::root(w)? {
        return Err(Error::invalid("the root is always a dict"));
    }
    if old == kind && kind != Kind::Object {
        return Ok(());
    }
    if !graph::waiting(w, h)?.is_null() {
        return Err(Error::invalid("a list beside which entries wait stays a list"));
    }
    w.changing_all()?;
    touch(w, obj)?;
    announce::any(w, obj);
    let listed = (old == Kind::List) != (kind == Kind::List);
    let records = if listed {
        metadata::take_all(w, h, old, index_of)?
    } else {
        metadata::Records::default()
    };
    if old == Kind::List {
        spliced(w, obj, 0, list::len(w, h)?, 0)?;
    }
    if old != kind && !graph::class(w, h)?.is_null() {
        sorted::end(w, h)?;
        graph::set_class(w, h, Addr::NULL)?;
    }
    convert_body(w, obj, old, kind, class)?;
    if kind == Kind::List {
        spliced(w, obj, 0, 0, list::len(w, h)?)?;
    }
    metadata::put_all(w, h, kind, records, key_of)
}

/// Return the key that an index becomes in a dict or object.
fn key_of(kind: Kind, index: u64) -> Value {
    match (kind, i64::try_from(index)) {
        (Kind::Dict, Ok(n)) => Value::Int(n),
        _ => Value::Str {
            bytes: index.to_string().into_bytes().into(),
            no_newline: false,
        },
    }
}

fn convert_body<W: PagesMut>(w: &mut W, obj: Obj, old: Kind, kind: Kind, class: &str) -> Result<()> {
    let h = obj.addr;
    match (old, kind) {
        (Kind::Dict, Kind::Dict) | (Kind::List, Kind::List) => Ok(()),
        (Kind::Object, Kind::Object) => attr::set_class(w, h, class),
        (Kind::Dict, Kind::Object) => attr::from_dict(w, h, class),
        (Kind::Object, Kind::Dict) => attr::to_dict(w, h),
        (Kind::Dict, Kind::List) => to_list(w, h),
        (Kind::Object, Kind::List) => {
            as_items(w, h)?;
            attr::to_dict(w, h)?;
            to_list(w, h)
        }
        (Kind::List, Kind::Dict) => from_list(w, h, kind),
        (Kind::List, Kind::Object) => {
            from_list(w, h, kind)?;
            attr::from_dict(w, h, class)
        }
    }
}

/// Move a container's body to a temporary header that nothing refers to, and make the container an empty one
/// of another kind.
fn take_body<W: PagesMut>(w: &mut W, h: Addr, kind: Kind) -> Result<Addr> {
    let mut old = w.bytes(h, header::SIZE)?.to_vec();
    old[header::ID as usize..header::BODY as usize].fill(0);
    old[header::EXTRA as usize..header::CLASS_OR_LEN as usize].fill(0);
    let source = heap::alloc(w, header::SIZE)?;
    w.init(source, header::SIZE)?.copy_from_slice(&old);
    w.set_bytes(h, &[kind as u8])?;
    w.set_bytes(h + header::FORM, &[0; 2])?;
    w.set_u64(h + header::BODY, 0)?;
    w.set_u64(h + header::CLASS_OR_LEN, 0)?;
    Ok(source)
}

/// Free a body whose words were moved elsewhere.
fn free_body<W: PagesMut>(w: &mut W, source: Addr, kind: Kind) -> Result<()> {
    let mut words = Vec::new();
    loop {
        words.clear();
        let done = match kind {
            Kind::List => list::drain(w, source, CHUNK, &mut words)?,
            Kind::Dict | Kind::Object => dict::drain(w, source, CHUNK, &mut words)?,
        };
        if done {
            return heap::free(w, source);
        }
    }
}

/// Return the entries of a dict or object, sorted by their keys, which must be 0..n.
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

/// Return the index that a key denotes: an int, or a str in the form of an int.
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

fn to_list<W: PagesMut>(w: &mut W, h: Addr) -> Result<()> {
    let items = as_items(w, h)?;
    let source = take_body(w, h, Kind::List)?;
    let mut words = Vec::with_capacity(CHUNK.min(items.len()));
    for chunk in items.chunks(CHUNK) {
        words.clear();
        words.extend(chunk.iter().map(|&(_, word)| word));
        list::extend(w, h, &words)?;
        for &(index, word) in chunk {
            rehint_word(w, word, h, index)?;
        }
    }
    free_body(w, source, Kind::Dict)
}

/// Convert a list to a dict with int keys, or with str keys if it will become an object.
fn from_list<W: PagesMut>(w: &mut W, h: Addr, kind: Kind) -> Result<()> {
    let source = take_body(w, h, Kind::Dict)?;
    let (mut at, mut words) = (0u64, Vec::new());
    loop {
        words.clear();
        list::scan(w, source, at, CHUNK, &mut words)?;
        if words.is_empty() {
            return free_body(w, source, Kind::List);
        }
        for &word in &words {
            let text = at.to_string();
            let key = match (kind, i64::try_from(at)) {
                (Kind::Dict, Ok(n)) => Key::Int(n),
                _ => Key::Str(text.as_bytes()),
            };
            let hash = keys::hash(w.hash_seed(), &key);
            dict::set_hashed(w, h, &key, hash, word)?;
            rehint_word(w, word, h, hash)?;
            at += 1;
        }
    }
}

fn rehint_word<W: PagesMut>(w: &mut W, word: Word, parent: Addr, hint: u64) -> Result<()> {
    match word.as_container() {
        Some(child) => rehint(w, child, parent, hint),
        None => Ok(()),
    }
}
