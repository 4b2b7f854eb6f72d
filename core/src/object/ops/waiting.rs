//! The waiting entries of a list: a dict beside its items, which only the mount shows (`graph::annex`).

use super::announce;
use super::entry::{changing, reading, wants_list};
use super::metadata;
use crate::error::{Error, Result};
use crate::ids::{Addr, Obj};
use crate::object::graph;
use crate::object::header::{self, Kind};
use crate::object::splices::{self, Cursor, Since, Splice};
use crate::page::access::{Pages, PagesMut};

/// See `Reader::waiting`.
pub fn waiting<P: Pages>(p: &P, list: Obj) -> Result<Option<Obj>> {
    reading(p, list)?;
    let dict = graph::waiting(p, list.addr)?;
    if dict.is_null() {
        return Ok(None);
    }
    header::obj(p, dict).map(Some)
}

/// See `Reader::list_of_waiting`.
pub fn list_of_waiting<P: Pages>(p: &P, dict: Obj) -> Result<Option<Obj>> {
    if reading(p, dict)? != Kind::Dict {
        return Ok(None);
    }
    let Some((home, _)) = graph::identity(p, dict.addr)?.home else {
        return Ok(None);
    };
    if graph::waiting(p, home)? != dict.addr {
        return Ok(None);
    }
    header::obj(p, home).map(Some)
}

/// See `Writer::make_waiting`.
pub fn make_waiting<W: PagesMut>(w: &mut W, list: Obj) -> Result<Obj> {
    wants_list(changing(w, list, None)?)?;
    if let Some(dict) = waiting(w, list)? {
        return Ok(dict);
    }
    let dict = graph::create(w, Kind::Dict, 0)?;
    graph::set_waiting(w, list.addr, dict.addr)?;
    graph::retain(w, dict.addr, list.addr, u64::MAX)?;
    Ok(dict)
}

/// See `Writer::drop_waiting`.
pub fn drop_waiting<W: PagesMut>(w: &mut W, list: Obj) -> Result<()> {
    wants_list(changing(w, list, None)?)?;
    let dict = graph::waiting(w, list.addr)?;
    if dict.is_null() {
        return Ok(());
    }
    if graph::len(w, dict)? > 0 {
        return Err(Error::invalid("entries wait beside this list"));
    }
    graph::set_waiting(w, list.addr, Addr::NULL)?;
    graph::release(w, dict, list.addr)
}

/// See `Writer::reordered`.
pub fn reordered<W: PagesMut>(w: &mut W, list: Obj, start: u64, end: u64) -> Result<()> {
    wants_list(changing(w, list, None)?)?;
    let n = end.saturating_sub(start);
    let splice = Splice {
        at: start,
        removed: n,
        inserted: n,
    };
    metadata::spliced(w, list.addr, start, n, n)?;
    announce::items(w, list, start, n, n);
    splices::record(w, list, splice)
}

/// See `Reader::spliced`.
pub fn spliced<P: Pages>(p: &P, list: Obj, cursor: &Cursor) -> Result<Since> {
    reading(p, list)?;
    let since = splices::since(p, list, cursor)?;
    // What is learned here is kept beyond the section.
    if p.holds() {
        Ok(since)
    } else {
        Err(Error::Busy(list.id))
    }
}
