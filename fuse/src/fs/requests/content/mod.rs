//! Requests about the content of files.
//!
//! - `open`, `read`, `write`, `allocate`, `close`: the requests. `load`: the content of a file.
//! - `commit`: storing written data. `in_place`: a write that is stored at once. `drafts`: long contents that are built
//!   aside. `cut`: a character that a buffer cuts. `unstored`: reports of writes that failed at close.

mod allocate;
pub(crate) mod close;
pub(crate) mod commit;
mod cut;
mod drafts;
pub(crate) mod in_place;
pub(crate) mod load;
pub(crate) mod open;
pub(crate) mod read;
mod unstored;
pub(crate) mod write;
