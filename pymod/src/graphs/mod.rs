//! Whole graphs: `copy_in` stores one (`plan`: its form without Python), `copy_out` copies one out of the store.

pub(crate) mod copy_in;
pub(crate) mod copy_out;
mod pins;
pub(crate) mod plan;
