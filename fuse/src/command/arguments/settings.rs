//! The settings that the command line asks for.

use crate::kernel::access::Access;
use nix::mount::MsFlags;
use persist_core::store::{Durability, Options as StoreOptions};
use std::path::PathBuf;
use std::time::Duration;

/// The settings that the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) store: PathBuf,
    pub(crate) mountpoint: PathBuf,
    pub(crate) foreground: bool,
    /// `-f`: check everything, and do not mount.
    pub(crate) fake: bool,
    pub(crate) verbose: bool,
    /// `-s`: ignore unknown options.
    pub(crate) sloppy: bool,
    pub(crate) exact: bool,
    pub(crate) infer: bool,
    pub(crate) lockwait: Duration,
    pub(crate) durability: Durability,
    /// The maximal age of changes that a power failure may lose.
    pub(crate) max_age: Option<Duration>,
    pub(crate) create: bool,
    pub(crate) read_only: bool,
    /// The snapshot to mount.
    pub(crate) snapshot: Option<String>,
    pub(crate) remount: bool,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) umask: u16,
    pub(crate) allow_other: bool,
    pub(crate) allow_root: bool,
    pub(crate) default_permissions: bool,
    /// Flags of mount(2).
    pub(crate) flags: MsFlags,
    /// The options that fusermount3 also accepts.
    pub(crate) generic: Vec<String>,
}

impl Options {
    /// The defaults.
    pub(crate) fn new(store: PathBuf, mountpoint: PathBuf) -> Options {
        Options {
            store,
            mountpoint,
            foreground: false,
            fake: false,
            verbose: false,
            sloppy: false,
            exact: false,
            infer: false,
            lockwait: Duration::from_secs(5),
            durability: Durability::Checkpoint,
            max_age: StoreOptions::default().max_age,
            create: false,
            read_only: false,
            snapshot: None,
            remount: false,
            uid: None,
            gid: None,
            umask: 0o022,
            allow_other: false,
            allow_root: false,
            default_permissions: false,
            flags: MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            generic: Vec::new(),
        }
    }

    /// How the mount may be used.
    pub(crate) fn access(&self) -> Access {
        Access {
            read_only: self.read_only,
            sync: self
                .flags
                .intersects(MsFlags::MS_SYNCHRONOUS | MsFlags::MS_DIRSYNC),
        }
    }

    /// How to open the store of a mount that may be used in this way.
    pub(crate) fn of_store(&self, access: Access) -> StoreOptions {
        StoreOptions {
            read_only: access.read_only,
            durability: if access.sync {
                Durability::Commit
            } else {
                self.durability
            },
            max_age: self.max_age,
            lock_timeout: self.lockwait,
            snapshot: self.snapshot.clone(),
            create: false,
            ..StoreOptions::default()
        }
    }

    /// Set a flag of mount(2) by the name that fusermount3 also accepts.
    pub(crate) fn generic(&mut self, name: &str, flag: MsFlags) {
        self.flags.insert(flag);
        self.generic.push(name.to_owned());
    }
}
