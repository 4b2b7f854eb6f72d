//! Dict bodies against a list of pairs as the model.

mod cases;
mod model;

use super::*;
use crate::heap::testing::HeapMem;
use crate::heap::{self, is_heap_page, page_segments};
use crate::ids::PageNo;
use crate::object::header::{self, Kind};
use std::collections::HashSet;

const LIMIT: u64 = 1 << 20;

fn container(w: &mut HeapMem, kind: Kind) -> Addr {
    let h = heap::alloc(w, header::SIZE).unwrap();
    let b = w.init(h, header::SIZE).unwrap();
    b.fill(0);
    b[0] = kind as u8;
    h
}

fn allocated(w: &HeapMem) -> HashSet<Addr> {
    (1..w.u64_at(crate::page::superblock::NEXT_PAGE).unwrap())
        .filter(|&n| is_heap_page(w, PageNo(n)))
        .flat_map(|n| page_segments(w, PageNo(n)).unwrap())
        .filter(|s| s.allocated)
        .map(|s| s.addr)
        .collect()
}

fn int(n: u64) -> Word {
    Word::int(n as i64).unwrap()
}

/// Key number n: of several types and sizes.
fn with_key<R>(n: u64, f: impl FnOnce(&Key<'_>) -> R) -> R {
    match n % 4 {
        0 => f(&Key::Int(n as i64)),
        1 => f(&Key::Str(format!("{n}").as_bytes())),
        2 => f(&Key::Str(format!("a name of number {n}").as_bytes())),
        _ => f(&Key::Bytes(&n.to_be_bytes())),
    }
}
