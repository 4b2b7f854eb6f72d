//! Other interfaces of the kernel: system calls that the standard library lacks, and `/proc`.

pub(crate) mod processes;
#[allow(unsafe_code)]
pub(crate) mod sys;
