//! Identifying the store's sidecar: the store file itself names it, whatever path it is opened by.
//!
//! 1. A sidecar is found by the store's path. A file that was renamed, or that has a second name, may have two, each
//!    left by processes that were killed before a checkpoint, and each matches the last checkpoint. So the process that
//!    makes one first writes its nonce into an extended attribute of the store file, and a sidecar that the file does
//!    not name is not used. A copy of a file has another inode, which no sidecar matches.
//! 2. The attribute also holds the session's boot and attachment of the disk, and the sidecar's path. A process that
//!    uses another name finds the sidecar left there, and refuses to revert to the last checkpoint silently. Only a
//!    missing file counts as empty: a file that cannot be read is an error.
//! 3. The sidecar of another file that was found under this store's name was set aside (`aside`).
//! 4. Nothing here need be durable: a sidecar is valid for one boot. If the filesystem has no attributes, or the
//!    attribute was removed, sidecars are identified by the checkpoint alone.
//!
//! The attribute `user.persist.session`:
//!
//! | OFFSET | SIZE | FIELD |
//! | --- | --- | --- |
//! | 0 | 8 | nonce of the sidecar |
//! | 8 | 8 | checksum of boot and attachment in which it was made |
//! | 16 | rest | its absolute path; nothing if that did not fit |

use crate::error::{Error, Result, refused};
use crate::page::format::meta::Meta;
use crate::page::session::header::{self, Named};
use crate::page::shared::header::identity::Identity;
use crate::page::shared::header::live::Live;
use crate::page::shared::header::next_checkpoint::{BUILDING, NextCheckpoint, WRITING, WRITTEN};
use crate::page::shared::header::poison::poison_of;
use crate::page::shared::header::seal::is_sealed;
use crate::page::shared::layout;
use crate::page::shared::regions::free_pages::list_len_of;
use crate::page::shared::shm::nonce_of;
use crate::raw::boot;
use crate::raw::files::file;
use std::ffi::{CStr, OsStr};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const NAME: &CStr = c"user.persist.session";
const HEAD: usize = 16;

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn read(store: &File) -> Result<Option<Vec<u8>>> {
    file::attribute(store, NAME).map_err(|e| Error::io("cannot read the store file's attribute", e))
}

/// Return the current boot and attachment of the file's disk, as one checksum.
fn now(store: &File) -> Result<u64> {
    let place = [
        boot::boot_id()?.to_le_bytes(),
        boot::attachment(store)?.to_le_bytes(),
    ];
    Ok(xxh3_64(&place.concat()))
}

/// Name a new sidecar in the store file, before it is ready, so that any other one is already out of use.
pub(in crate::page) fn name(store: &File, nonce: u64, sidecar: &Path) -> Result<()> {
    let head = [nonce.to_le_bytes(), now(store)?.to_le_bytes()].concat();
    let whole = [&head, sidecar.as_os_str().as_bytes()].concat();
    // A long path may not fit into the inode.
    let done = file::set_attribute(store, NAME, &whole).or_else(|_| file::set_attribute(store, NAME, &head));
    done.map_err(|e| file::no_space("the store file's attribute", e))
}

/// Return whether the store file names a sidecar of this boot and this attachment of its disk, or None if it names
/// none.
pub(in crate::page) fn names_current_sidecar(store: &File) -> Result<Option<bool>> {
    let Some(then) = read(store)?.and_then(|a| word(&a, 8)) else {
        return Ok(None);
    };
    Ok(Some(then == now(store)?))
}

/// Return whether the store file names this sidecar, or none of this boot.
pub(in crate::page) fn is_named(store: &File, nonce: u64) -> Result<bool> {
    let Some(attribute) = read(store)? else {
        return Ok(true);
    };
    Ok(word(&attribute, 0).is_none_or(|named| named == nonce))
}

/// Return the name under which a sidecar with this nonce is kept when its store name belongs to another file.
pub(in crate::page) fn preserved_path(sidecar: &Path, nonce: u64) -> PathBuf {
    let mut name = sidecar.as_os_str().to_owned();
    name.push(format!(".{nonce:016x}"));
    PathBuf::from(name)
}

/// Before a sidecar is made: refuse if the one that the store file names lies under another name and has changes that
/// no checkpoint contains.
pub(in crate::page) fn check_named_sidecar(
    store: &File,
    path: &Path,
    sidecar: &Path,
    meta: &Meta,
) -> Result<()> {
    let Some(attribute) = read(store)?.filter(|a| a.len() > HEAD) else {
        return Ok(());
    };
    if word(&attribute, 8) != Some(now(store)?) {
        return Ok(());
    }
    let named = Path::new(OsStr::from_bytes(&attribute[HEAD..])).to_owned();
    let mut places = Vec::new();
    if named != sidecar {
        places.push(named.clone());
    }
    if let Some(nonce) = word(&attribute, 0) {
        places.push(preserved_path(&named, nonce));
    }
    for other in places {
        if is_sidecar_with_changes(&other, store, path, word(&attribute, 0), meta)? {
            return Err(refused(
                path,
                format!(
                    "it had another name when processes that used it were killed, and what they completed since the \
                     last checkpoint is in {}; rename that to {} to go on, or remove it to open the last checkpoint",
                    other.display(),
                    sidecar.display()
                ),
            ));
        }
    }
    Ok(())
}

/// Return whether a file is the sidecar with this nonce, matches the last checkpoint, and holds changes after it. It
/// may be any file: only its header is read.
fn is_sidecar_with_changes(
    other: &Path,
    store: &File,
    path: &Path,
    nonce: Option<u64>,
    meta: &Meta,
) -> Result<bool> {
    let cannot = |e: io::Error| {
        refused(
            path,
            format!(
                "it had another name when processes that used it ended, and what they completed since the last \
                 checkpoint may be in {}, which cannot be read ({e}): nothing was changed; fix the cause of \
                 that error, or remove that file to open the last checkpoint",
                other.display()
            ),
        )
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(other);
    let file = match file {
        Ok(file) => file,
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(false),
        Err(e) => return Err(cannot(e)),
    };
    if !file.metadata().map_err(cannot)?.is_file() {
        return Ok(false);
    }
    let head = match header::header(&file).map_err(cannot)? {
        Named::Whole(head) => head,
        Named::Not(_) => return Ok(false),
    };
    let known = Identity::of(&head);
    let id = file::identity(store).map_err(|e| Error::io("fstat", e))?;
    let is_it = Some(nonce_of(&head)) == nonce && known.is_of(id.dev, id.ino, meta.uuid);
    if !is_it || is_sealed(&head) {
        return Ok(false);
    }
    if known.layout != layout::LAYOUT {
        return Ok(true);
    }
    let (list, next) = (Live::of(&head).list(), NextCheckpoint::of(&head));
    let has_changes = list_len_of(&head, list) > 0
        || matches!(next.phase(), BUILDING | WRITING | WRITTEN) && next.epoch() >= meta.checkpoint;
    Ok(poison_of(&head) == 0 && has_changes)
}
