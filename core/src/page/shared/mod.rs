//! The sidecar `FILE-shm`: the shared, volatile memory of all processes that have the store open, and the byte locks
//! that decide which of them are alive.
//!
//! Owns the layout (`layout`), the mapping and its growth (`shm`), the table of words (`word`), the words that several
//! wings need (`header`), the regions with the undo log, the free map and the dirty lists (`regions`), and the slots of
//! processes and threads with their pins and byte locks (`users`).
//!
//! 1. Each word is private to the file of its protocol, in this wing or above it; other files call its methods. Every
//!    word taken over from an earlier session is checked before use (`recovery::takeover`).
//! 2. Liveness is decided by kernel locks on bytes of the lock file (`lock_file`, `probe`), never by a pid.

pub(in crate::page) mod header;
pub(crate) mod layout;
pub(in crate::page) mod paths;
pub(in crate::page) mod regions;
pub(in crate::page) mod shm;
pub(in crate::page) mod users;
pub(in crate::page) mod word;
