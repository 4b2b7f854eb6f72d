//! Memory of the store that is free or is to be freed: what a change frees with what it takes, and how a large change
//! waits until there is room.

pub(super) mod debt;
mod freeing;
mod room;
