//! The page manager.
pub mod access;
pub mod mem;
pub mod superblock;
