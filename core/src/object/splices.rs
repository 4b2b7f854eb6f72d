//! The log of splices: which items were lately inserted into lists and removed from them. A door that shows items under
//! names of their own (the mount) reads here what the other doors did to a list since it last looked.
//!
//! The log is kept while the superblock refers to it (`start`, `stop`). It lies in ordinary pages, so it is undone with
//! the operation that wrote it, and every section sees the log of the state that it sees.
//!
//! The directory, to which the superblock refers:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | `base`: the first count of every bucket, different in each log |
//! | 8 | 8 * `BUCKETS` | addresses of the buckets (0: empty); a list belongs to bucket id mod `BUCKETS` |
//!
//! A bucket:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | `count`: `base` + the number of operations recorded |
//! | 8 | 8 | `seq`: the number of records ever written |
//! | 16 | 32 * `RECORDS` | a ring of records; record n has the place n mod `RECORDS` |
//!
//! A record: list id, index, items removed, items inserted (8 bytes each).
//!
//! Invariants:
//! 1. Applied in order, the records of a list since a `Cursor` turn the list of that moment into the present one, as
//!    far as the places of its items are concerned. An item whose value was replaced keeps its place.
//! 2. The annex of a list has the count of its bucket after the list's last splice (`graph::stamp`). So a cursor that
//!    the records of other lists have overtaken still tells whether its own list changed.
//! 3. The newest record grows while the same list continues to grow or shrink at the same place (`joined`). A cursor
//!    holds the newest record that it has seen, so that it can tell by how much.

use crate::error::{Error, Result};
use crate::heap;
use crate::ids::{Addr, Obj, ObjectId};
use crate::object::graph;
use crate::page::access::{Pages, PagesMut};
use crate::page::superblock as sb;
use std::cmp::Ordering;

const BUCKETS: u64 = 15;
const DIRECTORY: usize = 8 + 8 * BUCKETS as usize;
/// Records of a bucket (few in tests, so that they are overwritten).
const RECORDS: u64 = if cfg!(test) { 6 } else { 62 };
const HEAD: u64 = 16;
const RECORD: u64 = 32;
const BUCKET: usize = (HEAD + RECORD * RECORDS) as usize;
const COUNT: u64 = 0;
const SEQ: u64 = 8;

/// A change of the places of a list's items: at `at`, `removed` items left, and `inserted` items came in their place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Splice {
    /// The index of the first item concerned.
    pub at: u64,
    /// How many items were removed.
    pub removed: u64,
    /// How many items were inserted.
    pub inserted: u64,
}

/// How far a reader has read the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    count: u64,
    seq: u64,
    last: (u64, Splice),
}

/// What happened to the places of a list's items since a cursor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Since {
    /// Nothing.
    Same,
    /// These changes, in this order.
    Spliced(Vec<Splice>, Cursor),
    /// Changes that the log no longer has.
    Lost(Cursor),
    /// No log is kept.
    Off,
}

fn directory<P: Pages>(p: &P) -> Result<Option<Addr>> {
    let at = Addr(p.u64_at(sb::SPLICES)?);
    Ok((!at.is_null()).then_some(at))
}

fn slot(directory: Addr, list: ObjectId) -> Addr {
    directory + (8 + 8 * (list.0 % BUCKETS))
}

fn place(bucket: Addr, n: u64) -> Addr {
    bucket + (HEAD + RECORD * (n % RECORDS))
}

fn record_at<P: Pages>(p: &P, bucket: Addr, n: u64) -> Result<(u64, Splice)> {
    let at = place(bucket, n);
    let (index, removed, inserted) = (p.u64_at(at + 8)?, p.u64_at(at + 16)?, p.u64_at(at + 24)?);
    let splice = Splice {
        at: index,
        removed,
        inserted,
    };
    Ok((p.u64_at(at)?, splice))
}

/// Return whether a log is kept.
pub fn is_kept<P: Pages>(p: &P) -> Result<bool> {
    Ok(directory(p)?.is_some())
}

/// Keep a log from now on. Nothing happens if one is kept.
pub fn start<W: PagesMut>(w: &mut W) -> Result<()> {
    if is_kept(w)? {
        return Ok(());
    }
    // An id is never issued twice, and no bucket counts so far that two logs have a count in common.
    let base = w.next_id()?.0 << 40;
    let at = heap::alloc(w, DIRECTORY)?;
    let bytes = w.init(at, DIRECTORY)?;
    bytes.fill(0);
    bytes[..8].copy_from_slice(&base.to_le_bytes());
    w.set_u64(sb::SPLICES, at.0)
}

/// Keep no log any more, and free it.
pub fn stop<W: PagesMut>(w: &mut W) -> Result<()> {
    let mut all = Vec::new();
    segments(w, &mut |at, _| {
        all.push(at);
        Ok(())
    })?;
    w.set_u64(sb::SPLICES, 0)?;
    all.into_iter().try_for_each(|at| heap::free(w, at))
}

/// Call `f` with the segments of the log and the bytes used of each.
pub fn segments<P: Pages>(p: &P, f: &mut dyn FnMut(Addr, usize) -> Result<()>) -> Result<()> {
    let Some(directory) = directory(p)? else {
        return Ok(());
    };
    f(directory, DIRECTORY)?;
    for n in 0..BUCKETS {
        let bucket = Addr(p.u64_at(directory + (8 + 8 * n))?);
        if !bucket.is_null() {
            f(bucket, BUCKET)?;
        }
    }
    Ok(())
}

/// Record a change of the places of a list's items, if a log is kept.
#[inline]
pub fn record<W: PagesMut>(w: &mut W, list: Obj, splice: Splice) -> Result<()> {
    match directory(w)? {
        Some(directory) => record_in(w, directory, list, splice),
        None => Ok(()),
    }
}

fn record_in<W: PagesMut>(w: &mut W, directory: Addr, list: Obj, splice: Splice) -> Result<()> {
    let slot = slot(directory, list.id);
    let mut bucket = Addr(w.u64_at(slot)?);
    if bucket.is_null() {
        let base = w.u64_at(directory)?;
        bucket = heap::alloc(w, BUCKET)?;
        let bytes = w.init(bucket, BUCKET)?;
        bytes.fill(0);
        bytes[..8].copy_from_slice(&base.to_le_bytes());
        w.set_u64(slot, bucket.0)?;
    }
    let seq = w.u64_at(bucket + SEQ)?;
    let newest = match seq.checked_sub(1) {
        Some(n) => Some((n, record_at(w, bucket, n)?)),
        None => None,
    };
    let grown = match newest {
        Some((n, (id, last))) if id == list.id.0 => joined(last, splice).map(|both| (n, both)),
        _ => None,
    };
    let (n, splice) = grown.unwrap_or((seq, splice));
    let mut bytes = [0; RECORD as usize];
    for (b, word) in bytes
        .chunks_exact_mut(8)
        .zip([list.id.0, splice.at, splice.removed, splice.inserted])
    {
        b.copy_from_slice(&word.to_le_bytes());
    }
    w.set_bytes(place(bucket, n), &bytes)?;
    let mut head = [0; HEAD as usize];
    let count = w.u64_at(bucket + COUNT)?.wrapping_add(1);
    head[..8].copy_from_slice(&count.to_le_bytes());
    head[8..].copy_from_slice(&(seq + u64::from(grown.is_none())).to_le_bytes());
    w.set_bytes(bucket, &head)?;
    graph::set_stamp(w, list.addr, count)
}

/// Return one splice for two that follow each other, if they only insert, or only remove, at one place.
fn joined(last: Splice, new: Splice) -> Option<Splice> {
    let inserts = last.removed == 0 && new.removed == 0;
    let removes = last.inserted == 0 && new.inserted == 0;
    if inserts && last.at.checked_add(last.inserted) == Some(new.at) {
        return Some(Splice {
            inserted: last.inserted.checked_add(new.inserted)?,
            ..last
        });
    }
    let adjoins = new.at == last.at || new.at.checked_add(new.removed) == Some(last.at);
    (removes && adjoins).then_some(Splice {
        at: new.at,
        removed: last.removed.checked_add(new.removed)?,
        inserted: 0,
    })
}

/// Return by how much the record `now` has grown since it was `then`; None if it has not grown from that.
fn growth(then: Splice, now: Splice) -> Option<Splice> {
    if then.removed == 0 && now.removed == 0 && then.at == now.at {
        return Some(Splice {
            at: then.at.checked_add(then.inserted)?,
            removed: 0,
            inserted: now.inserted.checked_sub(then.inserted)?,
        });
    }
    let removes = then.inserted == 0 && now.inserted == 0 && now.at <= then.at;
    removes.then_some(Splice {
        at: now.at,
        removed: now.removed.checked_sub(then.removed)?,
        inserted: 0,
    })
}

/// Return what happened to a list since a cursor. `Error::Busy` means that the cursor is newer than the section's
/// state.
pub fn since<P: Pages>(p: &P, list: Obj, cursor: &Cursor) -> Result<Since> {
    let Some(directory) = directory(p)? else {
        return Ok(Since::Off);
    };
    let base = p.u64_at(directory)?;
    let bucket = Addr(p.u64_at(slot(directory, list.id))?);
    let next = end(p, bucket, base)?;
    match next.count.cmp(&cursor.count) {
        Ordering::Equal => return Ok(Since::Same),
        // This section reads a committed state that is older than the cursor's.
        Ordering::Less => return Err(Error::Busy(list.id)),
        Ordering::Greater => {}
    }
    let of_this_log = cursor.count >= base && cursor.seq <= next.seq;
    if !of_this_log {
        return Ok(Since::Lost(next));
    }
    if graph::stamp(p, list.addr)? <= cursor.count {
        return Ok(Since::Spliced(Vec::new(), next));
    }
    // The record that the cursor has seen last must be there too: it may have grown.
    if next.seq - cursor.seq.saturating_sub(1) > RECORDS {
        return Ok(Since::Lost(next));
    }
    let list = list.id;
    let mut splices = Vec::new();
    if let Some(n) = cursor.seq.checked_sub(1) {
        let (id, now) = record_at(p, bucket, n)?;
        if id == list.0 && (id, now) != cursor.last {
            match growth(cursor.last.1, now) {
                Some(more) if cursor.last.0 == id => splices.push(more),
                _ => return Ok(Since::Lost(next)),
            }
        }
    }
    for n in cursor.seq..next.seq {
        let (id, splice) = record_at(p, bucket, n)?;
        if id == list.0 {
            splices.push(splice);
        }
    }
    Ok(Since::Spliced(splices, next))
}

/// Return the cursor at the end of a bucket.
fn end<P: Pages>(p: &P, bucket: Addr, base: u64) -> Result<Cursor> {
    if bucket.is_null() {
        return Ok(Cursor {
            count: base,
            ..Cursor::default()
        });
    }
    let seq = p.u64_at(bucket + SEQ)?;
    let newest = seq
        .checked_sub(1)
        .ok_or_else(|| Error::corrupt("a log of lists without the records it counts", bucket))?;
    Ok(Cursor {
        count: p.u64_at(bucket + COUNT)?,
        seq,
        last: record_at(p, bucket, newest)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::graph::testing::GraphMem;
    use proptest::prelude::*;

    use crate::object::header::Kind;

    /// A store with a log, the list of the test, a list in the same bucket, and one in another.
    fn lists() -> (GraphMem, Obj, [Obj; 2]) {
        let mut m = GraphMem::new();
        let made: Vec<Obj> = (0..=BUCKETS)
            .map(|_| graph::create(&mut m, Kind::List, 0).unwrap())
            .collect();
        assert_eq!(made[0].id.0 % BUCKETS, made[BUCKETS as usize].id.0 % BUCKETS);
        (m, made[0], [made[BUCKETS as usize], made[1]])
    }

    fn splice(at: u64, removed: u64, inserted: u64) -> Splice {
        Splice {
            at,
            removed,
            inserted,
        }
    }

    fn cursor(p: &GraphMem, list: Obj) -> Cursor {
        match since(p, list, &Cursor::default()).unwrap() {
            Since::Lost(cursor) | Since::Spliced(_, cursor) => cursor,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_recorded_without_a_log() {
        let (mut m, list, _) = lists();
        record(&mut m, list, splice(0, 0, 1)).unwrap();
        assert_eq!(since(&m, list, &Cursor::default()).unwrap(), Since::Off);
        m.commit();
        let before = m.segments();
        start(&mut m).unwrap();
        record(&mut m, list, splice(0, 0, 1)).unwrap();
        // The directory, a bucket, and the annex of the list.
        assert_eq!(m.segments(), before + 3);
        let old = cursor(&m, list);
        stop(&mut m).unwrap();
        m.commit();
        assert_eq!(m.segments(), before + 1);
        start(&mut m).unwrap();
        assert!(
            matches!(since(&m, list, &old).unwrap(), Since::Lost(_)),
            "a cursor of another log"
        );
    }

    #[test]
    fn a_rollback_takes_the_records_back() {
        let (mut m, list, _) = lists();
        start(&mut m).unwrap();
        record(&mut m, list, splice(0, 0, 1)).unwrap();
        m.commit();
        let seen = cursor(&m, list);
        record(&mut m, list, splice(1, 0, 1)).unwrap();
        let newer = cursor(&m, list);
        record(&mut m, list, splice(0, 1, 0)).unwrap();
        m.heap.rollback();
        assert_eq!(since(&m, list, &seen).unwrap(), Since::Same);
        assert!(matches!(since(&m, list, &newer), Err(Error::Busy(_))));
    }

    #[test]
    fn many_changes_of_other_lists_lose_nothing() {
        let (mut m, list, others) = lists();
        start(&mut m).unwrap();
        record(&mut m, list, splice(0, 0, 1)).unwrap();
        let seen = cursor(&m, list);
        for n in 0..RECORDS * 3 {
            record(&mut m, others[0], splice(n % 2, 0, 1)).unwrap();
        }
        let Since::Spliced(nothing, next) = since(&m, list, &seen).unwrap() else {
            panic!("the list did not change");
        };
        assert!(nothing.is_empty());
        record(&mut m, list, splice(0, 1, 0)).unwrap();
        assert!(matches!(since(&m, list, &seen).unwrap(), Since::Lost(_)));
        let Since::Spliced(splices, _) = since(&m, list, &next).unwrap() else {
            panic!("the record is there");
        };
        assert_eq!(splices, [splice(0, 1, 0)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever is recorded, a reader ends with the true places, or knows that it has lost them.
        #[test]
        fn a_reader_follows(ops in proptest::collection::vec((0u8..8, 0u64..4, 0u64..3), 1..60)) {
            let (mut m, l, others) = lists();
            start(&mut m).unwrap();
            let (mut list, mut fresh) = ((0..5u64).collect::<Vec<_>>(), 100);
            let (mut shown, mut seen) = (list.clone(), cursor(&m, l));
            for (what, at, n) in ops {
                let at = match what {
                    0 | 1 => list.len() as u64,
                    _ => at.min(list.len() as u64),
                };
                match what {
                    0..=2 => {
                        record(&mut m, l, splice(at, 0, n)).unwrap();
                        for i in 0..n {
                            list.insert((at + i) as usize, fresh);
                            fresh += 1;
                        }
                    }
                    3..=5 => {
                        let n = n.min(list.len() as u64 - at);
                        record(&mut m, l, splice(at, n, 0)).unwrap();
                        list.drain(at as usize..(at + n) as usize);
                    }
                    6 => record(&mut m, others[(at % 2) as usize], splice(at, n, 1)).unwrap(),
                    _ => {
                        match since(&m, l, &seen).unwrap() {
                            Since::Same => {}
                            Since::Spliced(splices, next) => {
                                for s in splices {
                                    shown.splice(
                                        s.at as usize..(s.at + s.removed) as usize,
                                        std::iter::repeat_n(u64::MAX, s.inserted as usize),
                                    );
                                }
                                // What is new to the reader has no name yet.
                                prop_assert_eq!(shown.len(), list.len());
                                for (old, now) in shown.iter_mut().zip(&list) {
                                    prop_assert!(*old == *now || *old == u64::MAX);
                                    *old = *now;
                                }
                                seen = next;
                            }
                            Since::Lost(next) => {
                                shown.clone_from(&list);
                                seen = next;
                            }
                            Since::Off => panic!("the log is kept"),
                        }
                        prop_assert_eq!(since(&m, l, &seen).unwrap(), Since::Same);
                    }
                }
            }
        }
    }
}
