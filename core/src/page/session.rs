//! Which sidecar is the store's: the store file itself names it, whatever path it is opened by.
//!
//! 1. A sidecar is found by the store's path. A file that was renamed, or that has a second name, may have
//!    two, each left by processes that were killed before a checkpoint, and each fits the last checkpoint. So
//!    who makes one first writes its nonce into an extended attribute of the store file, and a sidecar that the
//!    file does not name is not used. A copy of a file has another inode, which no sidecar fits.
//! 2. With it go the boot and the sidecar's path: whoever comes by another name finds what was left there, and
//!    refuses to go back to the last checkpoint in silence.
//! 3. Nothing here need be durable: a sidecar counts for one boot. Where the filesystem keeps no attributes,
//!    or somebody removed this one, sidecars are told by the checkpoint alone.
//!
//! The attribute `user.persist.session`:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | nonce of the sidecar |
//! | 8 | 8 | boot in which it was made |
//! | 16 | rest | its absolute path; nothing if that did not fit |

use super::identify::refused;
use super::meta::Meta;
use super::runner::{BUILDING, WRITING, WRITTEN};
use super::shm::{self, Shm, at};
use crate::error::{Error, Result};
use crate::raw::{file, process};
use std::ffi::{CStr, OsStr};
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const NAME: &CStr = c"user.persist.session";
const HEAD: usize = 16;

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn read(store: &File) -> Result<Option<Vec<u8>>> {
    file::attribute(store, NAME).map_err(|e| Error::io("cannot read the store file's attribute", e))
}

/// Names a new sidecar in the store file: before it is ready, so that another one is out of use by then.
pub(super) fn name(store: &File, nonce: u64, sidecar: &Path) -> Result<()> {
    let head = [nonce.to_le_bytes(), process::boot_id().to_le_bytes()].concat();
    let whole = [&head, sidecar.as_os_str().as_bytes()].concat();
    // A long path may find no room beside the inode.
    let done = file::set_attribute(store, NAME, &whole).or_else(|_| file::set_attribute(store, NAME, &head));
    done.map_err(|e| file::no_space("the store file's attribute", e))
}

/// Whether the store file names this sidecar, or none.
pub(super) fn is_named(store: &File, sidecar: &Shm) -> Result<bool> {
    let named = read(store)?.and_then(|a| word(&a, 0));
    Ok(named.is_none_or(|nonce| nonce == sidecar.get(at::NONCE)))
}

/// Before a sidecar is made: refuses if the one that the store file names lies under another name, with changes
/// that no checkpoint has.
pub(super) fn nothing_left_elsewhere(store: &File, path: &Path, sidecar: &Path, meta: &Meta) -> Result<()> {
    let Some(attribute) = read(store)?.filter(|a| a.len() > HEAD) else {
        return Ok(());
    };
    let other = Path::new(OsStr::from_bytes(&attribute[HEAD..]));
    if other == sidecar || word(&attribute, 8) != Some(process::boot_id()) {
        return Ok(());
    }
    match left_in(other, store, word(&attribute, 0), meta) {
        Some(true) => Err(refused(
            path,
            format!(
                "it had another name when processes that used it were killed, and what they completed since the \
                 last checkpoint is in {}; rename that to {} to go on, or remove it to open the last checkpoint",
                other.display(),
                sidecar.display()
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether a file is the sidecar with this nonce, fits the last checkpoint, and holds changes after it. It may
/// be anything: only its header is read.
fn left_in(other: &Path, store: &File, nonce: Option<u64>, meta: &Meta) -> Option<bool> {
    let other = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(other)
        .ok()
        .filter(|f| f.metadata().is_ok_and(|m| m.is_file()))?;
    let mut header = [0; shm::META_IMAGE];
    other.read_exact_at(&mut header, 0).ok()?;
    let get = |at: usize| word(&header, at);
    let id = file::identity(store).ok()?;
    let is_it = get(at::NONCE) == nonce
        && get(at::MAGIC) == Some(shm::MAGIC)
        && get(at::LAYOUT) == Some(shm::LAYOUT)
        && get(at::READY) == Some(1)
        && get(at::POISON) == Some(0)
        && (get(at::DEV), get(at::INO)) == (Some(id.dev), Some(id.ino))
        && (get(at::UUID), get(at::UUID + 8)) == (Some(meta.uuid[0]), Some(meta.uuid[1]));
    let list = get(at::EPOCH)? as usize % 3;
    let has_changes = get(at::LIST_LEN + 8 * list)? > 0
        || matches!(get(at::CK_PHASE)?, BUILDING | WRITING | WRITTEN)
            && get(at::CK_EPOCH)? >= meta.checkpoint;
    Some(is_it && has_changes)
}
