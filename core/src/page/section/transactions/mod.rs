//! Transactions of several write sections, and their blocks. The state is in `pager::state`.

pub(in crate::page) mod open_blocks;
pub(in crate::page) mod transaction;
