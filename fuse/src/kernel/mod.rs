//! The kernel's other edges: system calls that the standard library lacks, and `/proc`.

pub(crate) mod processes;
#[allow(unsafe_code)]
pub(crate) mod sys;
