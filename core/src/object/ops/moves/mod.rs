//! Operations that move or rewrite what is stored: a part of a value, a value to another entry or container, a
//! container of another kind.

pub(in crate::object::ops) mod adopt;
pub(in crate::object::ops) mod convert;
pub(in crate::object::ops) mod edit;
pub(in crate::object::ops) mod exchange;
pub(in crate::object::ops) mod rename;
