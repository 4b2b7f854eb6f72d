//! Telling the kernel to forget what it keeps.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The kernel's codes for what it is to forget.
const INVAL_INODE: i32 = 2;
const INVAL_ENTRY: i32 = 3;
/// Let an entry expire, and leave it in use.
const EXPIRE_ONLY: u32 = 1;

/// What the kernel keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kept<'a> {
    /// An entry of a directory, or that there is none: the directory's inode, and the name.
    Entry(u64, &'a [u8]),
    /// The attributes of an inode.
    Attributes(u64),
}

/// Tells whether the monitor of the mount runs.
pub(crate) type IsMonitored = Box<dyn Fn() -> bool + Send + Sync>;

/// The kernel's side of a mount.
pub(crate) struct Kernel {
    device: File,
    is_monitored: Option<IsMonitored>,
    /// Lease again at once what was wanted. For tests.
    pub(crate) is_eager: bool,
}

impl Kernel {
    /// `device` is a descriptor of the connection.
    pub(crate) fn new(device: OwnedFd, is_monitored: Option<IsMonitored>, is_eager: bool) -> Arc<Kernel> {
        Arc::new(Kernel {
            device: device.into(),
            is_monitored,
            is_eager,
        })
    }

    /// Return whether a process aborts the connection when this one dies.
    pub(crate) fn is_monitored(&self) -> bool {
        self.is_monitored.as_ref().is_some_and(|is| is())
    }

    /// Tell the kernel to forget something. What it does not keep it has forgotten, and so has an ended mount.
    pub(crate) fn forget(&self, what: Kept<'_>) -> io::Result<()> {
        let mut body = Vec::with_capacity(64);
        let code = match what {
            Kept::Attributes(ino) => {
                body.extend(ino.to_ne_bytes());
                // Attributes without content.
                body.extend((-1i64).to_ne_bytes());
                body.extend(0i64.to_ne_bytes());
                INVAL_INODE
            }
            Kept::Entry(parent, name) => {
                body.extend(parent.to_ne_bytes());
                body.extend((name.len() as u32).to_ne_bytes());
                body.extend(EXPIRE_ONLY.to_ne_bytes());
                body.extend_from_slice(name);
                body.push(0);
                INVAL_ENTRY
            }
        };
        let mut message = Vec::with_capacity(body.len() + 16);
        message.extend((body.len() as u32 + 16).to_ne_bytes());
        message.extend(code.to_ne_bytes());
        message.extend(0u64.to_ne_bytes());
        message.extend(body);
        match (&self.device).write(&message).map_err(|e| (e.raw_os_error(), e)) {
            Ok(_) | Err((Some(libc::ENOENT | libc::ENODEV | libc::ENOTCONN), _)) => Ok(()),
            Err((_, e)) => Err(e),
        }
    }
}
