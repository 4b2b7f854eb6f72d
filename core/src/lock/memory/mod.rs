//! The words of the lock table: their places, their storage, and one operation on them with an undo log of its own.

pub(in crate::lock) mod layout;
pub(in crate::lock) mod op;
pub(in crate::lock) mod words;
