//! The claim on a snapshot: a shared lock on a byte of the store file, one byte for each checkpoint number, that keeps
//! the snapshot from being dropped while it is open.

use crate::error::{Error, Result};
use crate::page::format::catalogue::{self, Snapshot};
use crate::page::shared::slots::BYTE_PRESENCE;
use crate::raw::file::{self, Ofd};
use crate::raw::held::{self, Descriptor};
use crate::raw::process::Unshared;
use std::time::Duration;

/// First of the bytes that say that a snapshot is open: one for each checkpoint number.
pub(in crate::page) const BYTE_CLAIM: u64 = BYTE_PRESENCE + (1 << 32);

pub(crate) fn no_snapshot(name: &str) -> Error {
    Error::NoSnapshot {
        name: name.to_owned(),
    }
}

/// Locks the byte that says that a snapshot is open, shared. None if it is being dropped.
pub(crate) fn claim(file: &impl Descriptor, checkpoint: u64) -> Result<Option<Unshared>> {
    let own = file::reopen(file, false).map_err(|e| Error::io("cannot reopen the store file", e))?;
    let own = Unshared::new(own);
    Ok(file::ofd_lock(&own, BYTE_CLAIM + checkpoint, Ofd::Shared)?.then_some(own))
}

/// The snapshot of this name (and checkpoint, if given), locked.
pub(in crate::page) fn claim_listed(
    file: &impl Descriptor,
    name: &str,
    checkpoint: Option<u64>,
) -> Result<(Snapshot, Unshared)> {
    let listed = || -> Result<Snapshot> {
        let (_, all) = catalogue::newest(&*held::ours(file, "cannot read the list of snapshots")?)?;
        all.into_iter()
            .find(|s| s.name == name && checkpoint.is_none_or(|c| c == s.checkpoint))
            .ok_or_else(|| no_snapshot(name))
    };
    for _ in 0..1000 {
        let found = listed()?;
        if let Some(lock) = claim(file, found.checkpoint)? {
            // With the byte in hand: is it still there?
            if listed()? == found {
                return Ok((found, lock));
            }
            continue;
        }
        // It is being dropped.
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Error::InUse {
        what: format!("the snapshot {name:?}"),
        holder: "a process that is dropping it".to_owned(),
    })
}
