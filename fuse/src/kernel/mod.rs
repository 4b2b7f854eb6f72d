//! Other interfaces of the kernel: system calls that the standard library lacks, the mount's own ioctl, `/proc`.

pub(crate) mod access;
pub(crate) mod inotify;
#[allow(unsafe_code)]
pub(crate) mod lock_flags;
pub(crate) mod mounts;
pub(crate) mod processes;
#[allow(unsafe_code)]
pub(crate) mod sys;
