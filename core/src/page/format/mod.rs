//! Formats of the store file and of the redo log's file, and reading them without a sidecar.
//!
//! Owns the meta pages, the page table, the snapshot catalogue, the log's header and records; walking and building page
//! tables as streams; reading a checkpoint from the file alone; claims on snapshots, and keeping all users from a file.
//! This wing never writes to a store in use.

pub(in crate::page) mod catalogue;
pub(in crate::page) mod claim;
pub mod image;
pub(crate) mod keep;
pub(in crate::page) mod log_file;
pub(in crate::page) mod log_record;
pub(crate) mod meta;
pub(in crate::page) mod newest;
pub(crate) mod page_table;
pub(crate) mod walk;
