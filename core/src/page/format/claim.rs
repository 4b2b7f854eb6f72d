//! The claim on a snapshot: a shared lock on a byte of the store file, one byte for each checkpoint number, that keeps
//! the snapshot from being dropped while it is open.

use crate::error::{Error, Result};
use crate::page::format::catalogue::{self, Snapshot};
use crate::page::shared::users::slots::BYTE_PRESENCE;
use crate::raw::files::file;
use crate::raw::files::file::Ofd;
use crate::raw::files::held;
use crate::raw::files::held::Descriptor;
use crate::raw::process::Unshared;
use std::time::Duration;

/// First of the bytes that show open snapshots: one for each checkpoint number.
pub(in crate::page) const BYTE_CLAIM: u64 = BYTE_PRESENCE + (1 << 32);

pub(crate) fn no_snapshot(name: &str) -> Error {
    Error::NoSnapshot {
        name: name.to_owned(),
    }
}

/// Lock the byte that shows that a snapshot is open, shared. Return None if the snapshot is being dropped.
pub(crate) fn claim(file: &impl Descriptor, checkpoint: u64) -> Result<Option<Unshared>> {
    let own = file::reopen(file, false).map_err(|e| Error::io("cannot reopen the store file", e))?;
    let own = Unshared::new(own);
    Ok(file::ofd_lock(&own, BYTE_CLAIM + checkpoint, Ofd::Shared)?.then_some(own))
}

/// Return the snapshot of this name (and checkpoint, if given), locked.
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
            // With the byte locked, check that the snapshot still exists.
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
