//! The sidecar's making, and its taking over from an earlier session of the store.
//!
//! 1. A process that is alone with the store makes a sidecar, or takes over the one that dead processes left.
//!    A process that is not alone uses the one that the others use, or none.
//! 2. A sidecar that was left is taken over only if it is complete, of this layout, store, boot and checkpoint,
//!    and the one that the store file names (`session`).

use super::identify::{belongs, is_current, refused};
use super::meta::Meta;
use super::session;
use super::shm::{self, MAX_PAGES, Region, Shm, at};
use crate::error::{Error, Result};
use crate::ids::PAGE_SIZE;
use crate::raw::{file, process};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The path of a store's sidecar.
pub(super) fn sidecar_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-shm");
    PathBuf::from(name)
}

/// Opens the sidecar: the one in use, or alone a usable old one, or a new one.
pub(super) fn open_sidecar(path: &Path, file: &File, meta: &Meta, meta_sum: u64, alone: bool) -> Result<Shm> {
    let name = sidecar_path(path);
    let open = |create: bool| {
        use std::os::unix::fs::OpenOptionsExt;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .mode(0o666)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&name)
    };
    if !alone {
        let side = open(false).map_err(|e| {
            refused(
                path,
                format!(
                    "others use it, but its sidecar {} cannot be opened ({e}); close it everywhere first",
                    name.display()
                ),
            )
        })?;
        let shm = Shm::map_checked(side)?.ok_or_else(|| {
            refused(
                path,
                "its sidecar was cut short, or belongs to another version of persist, while others use it; close \
                 it everywhere first",
            )
        })?;
        // One by another name of the file, or left over from an earlier use, belongs to it too.
        if !belongs(&shm, file, meta)? || !shm.is_in_use()? {
            return Err(refused(
                path,
                "others use it through another sidecar; close it everywhere first",
            ));
        }
        return Ok(shm);
    }
    if let Ok(side) = open(false)
        && let Some(shm) = Shm::map_checked(side)?
        && belongs(&shm, file, meta)?
        && shm.get(at::BOOT) == process::boot_id()
    {
        let usable = shm.get(at::POISON) == 0 && shm.is_replayed() && is_current(&shm, meta, meta_sum);
        if usable && session::is_named(file, &shm)? {
            return Ok(shm);
        }
        if shm.get(at::POISON) == 1 {
            write_again(file, meta)?;
        }
    }
    session::nothing_left_elsewhere(file, path, &name, meta)?;
    match std::fs::remove_file(&name) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => {
            return Err(Error::io(
                format!("cannot replace the sidecar {}", name.display()),
                e,
            ));
        }
    }
    let side = open(true).map_err(|e| Error::io(format!("cannot make the sidecar {}", name.display()), e))?;
    // Who may open the store may open its sidecar.
    if let Ok(m) = file.metadata() {
        let _ = side.set_permissions(m.permissions());
    }
    file::in_place(&side);
    let shm = make_sidecar(side, file, meta, meta_sum)?;
    session::name(file, shm.get(at::NONCE), &name)?;
    shm.set(at::READY, 1);
    Ok(shm)
}

/// After a flush that failed: the kernel may show a meta page that it has given up writing. The newest is
/// written once more before anything builds on it; if it gets lost on the way, the other one stands, since
/// nothing was reused meanwhile.
fn write_again(file: &File, meta: &Meta) -> Result<()> {
    let again = || -> std::io::Result<()> {
        let at = meta.checkpoint % 2 * PAGE_SIZE as u64;
        let mut page = [0u8; PAGE_SIZE];
        file.read_exact_at(&mut page, at)?;
        file::write_meta(file, &page, at)?;
        file::flush(file)
    };
    again().map_err(|e| Error::Poisoned {
        why: format!("a flush failed before, and fails again: {e}"),
    })
}

/// A sidecar that is complete but for being ready.
fn make_sidecar(side: File, file: &File, meta: &Meta, meta_sum: u64) -> Result<Shm> {
    let id = file::identity(file).map_err(|e| Error::io("fstat", e))?;
    let mut shm = Shm::map(side)?;
    shm.allocate_fixed()?;
    shm.name_session(process::random_u64());
    let pages = file.metadata().map_err(|e| Error::io("fstat", e))?.len() / PAGE_SIZE as u64;
    if pages > MAX_PAGES {
        return Err(Error::Corrupt {
            what: "the file is larger than a store can be (pages)",
            at: pages,
        });
    }
    // What removing something and a checkpoint need on a disk that is full by then.
    shm.ensure(Region::Undo, 64 * 1024)?;
    for list in 0..3 {
        shm.ensure(Region::List(list), 16 * 1024)?;
    }
    shm.ensure(Region::FreeMap, (pages as usize).div_ceil(64) * 8)?;
    shm.ensure(Region::Table, (meta.logical as usize).max(512) * 8)?;
    // The checkpoint before it, if it is there: it may have to be fallen back to.
    let old = Meta::read(file, (meta.checkpoint + 1) % 2).filter(|m| m.checkpoint + 1 == meta.checkpoint);
    let (old, old_catalogue) = old.map_or_else(Default::default, |m| (m.tree(), m.catalogue));
    for (word, value) in [
        (at::LAYOUT, shm::LAYOUT),
        (at::BOOT, process::boot_id()),
        (at::DEV, id.dev),
        (at::INO, id.ino),
        (at::UUID, meta.uuid[0]),
        (at::UUID + 8, meta.uuid[1]),
        (at::EPOCH, meta.checkpoint + 1),
        (at::DURABLE, meta.checkpoint),
        (at::ROOT, u64::from(meta.root) | u64::from(meta.height) << 32),
        (at::ROOT_SUM, meta.root_sum),
        (at::META_SUM, meta_sum),
        (at::CATALOGUE, meta.catalogue.word()),
        (at::CATALOGUE_SUM, meta.catalogue.sum),
        (
            at::OLD_ROOT,
            u64::from(old.root.phys) | u64::from(old.height) << 32,
        ),
        (at::OLD_ROOT_SUM, old.root.sum),
        (at::OLD_CATALOGUE, old_catalogue.word()),
        (at::OLD_CATALOGUE_SUM, old_catalogue.sum),
        (at::FILE_PAGES, pages),
        (at::CURSOR, 2),
        (at::LOGICAL, meta.logical),
        (at::NEXT_ID, meta.next_id),
        // Nobody here knows whether what the file holds was ever flushed.
        (at::UNFLUSHED, 1),
        // A new store has nothing to be looked for: all of its pages but the metas are free.
        (at::REBUILD_FROM, meta.checkpoint),
        (at::REBUILD_BELOW, if meta.logical == 0 { 0 } else { pages }),
        (at::FREE_COUNT, if meta.logical == 0 { pages - 2 } else { 0 }),
        (at::MAGIC, shm::MAGIC),
    ] {
        shm.set(word, value);
    }
    shm.begin_log(meta.log);
    Ok(shm)
}
