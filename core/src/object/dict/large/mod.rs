//! The large dict body: a record, an entry log in insertion order, and a hash index. All are trees of segments, so a
//! change touches a few of them.

pub(in crate::object::dict) mod body;
pub(in crate::object::dict) mod bucket;
pub(in crate::object::dict) mod index;
pub(in crate::object::dict) mod index_walk;
pub(in crate::object::dict) mod leaf;
pub(in crate::object::dict) mod log;
pub(in crate::object::dict) mod record;
