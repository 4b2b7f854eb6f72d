//! Logical page 0, the superblock: the roots of all structures in logical pages. It is an ordinary page (copied on
//! write, undo-logged), so its fields change atomically with all other pages.
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | `MAGIC` |
//! | 8 | 8 | `NEXT_PAGE`: the lowest logical page never used |
//! | 16 | 8 | `FREE_PAGE`: first trunk page of the list of freed pages (page number, 0: none) |
//! | 24 | 8 | `FREE_PAGES`: how many pages are free, trunk pages and those named in them |
//! | 64 | 8 | `ROOT`: address of the root dict's header |
//! | 72 | 8 | `CLASSES`: address of the class table (object manager) |
//! | 80 | 8 | `ORPHANS`: first container of the orphan list |
//! | 88 | 8 | `ORPHAN_COUNT` |
//! | 96 | 8 | `SUSPECTS`: containers the cycle collector has to look at (object manager) |
//! | 104 | 8 | `SUSPECT_COUNT` |
//! | 112 | 8 | `EFFORT`: the cycle collector's budget for one suspect, as a power of two |
//! | 120 | 8 | `BLOBS`: first of the large values being freed in steps (linked through `blob::LINK`) |
//! | 128 | 8 | `SPLICES`: the log of splices, 0 while none is kept (object manager) |
//! | 256 | 512 | `HEAP`: the heap manager's list heads, one u64 per size class |

//! A trunk page is a free page that lists other free pages. The free pages it lists have no content of their own:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | the next trunk page (0: none) |
//! | 8 | 8 | `TRUNK_COUNT`: n |
//! | 16 | 8 n | `TRUNK_NAMES`: the numbers of n free pages |

use crate::ids::{Addr, PAGE_SIZE};

/// Value of the first word of logical page 0.
pub const MAGIC_VALUE: u64 = u64::from_le_bytes(*b"prstsupr");
/// See the table above.
pub const MAGIC: Addr = Addr(0);
/// See the table above.
pub const NEXT_PAGE: Addr = Addr(8);
/// See the table above.
pub const FREE_PAGE: Addr = Addr(16);
/// See the table above.
pub const FREE_PAGES: Addr = Addr(24);
/// See the table above.
pub const ROOT: Addr = Addr(64);
/// See the table above.
pub const CLASSES: Addr = Addr(72);
/// See the table above.
pub const ORPHANS: Addr = Addr(80);
/// See the table above.
pub const ORPHAN_COUNT: Addr = Addr(88);
/// See the table above.
pub const SUSPECTS: Addr = Addr(96);
/// See the table above.
pub const SUSPECT_COUNT: Addr = Addr(104);
/// See the table above.
pub const EFFORT: Addr = Addr(112);
/// See the table above.
pub const BLOBS: Addr = Addr(120);
/// See the table above.
pub const SPLICES: Addr = Addr(128);
/// See the table above.
pub const HEAP: Addr = Addr(256);
/// Word of a trunk page: see above.
pub const TRUNK_COUNT: u64 = 8;
/// Word of a trunk page: see above.
pub const TRUNK_NAMES: u64 = 16;
/// Number of free pages that one trunk page can list.
pub const TRUNK_MAX: u64 = (PAGE_SIZE as u64 - TRUNK_NAMES) / 8;
/// Words in the heap manager's part.
pub const HEAP_WORDS: usize = 64;
