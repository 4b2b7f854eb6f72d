//! Making a sidecar, and judging one that an earlier session of the store has left.
//!
//! 1. A process that is alone with the store makes a sidecar, or takes over the existing one (`takeover`). A process
//!    that is not alone uses the one that the others use, or none.
//! 2. A left sidecar may hold the only copy of the changes completed since the last checkpoint. So only "not found"
//!    means that there is none. It is removed only if it was read and proved stale; every other case is an error that
//!    changes nothing and names the file and the remedy.
//! 3. A sidecar appears under its name when it is complete, with its final owner and mode (`raw::files::side_files`).
//!    So a truncated or unready sidecar was damaged.
//! 4. A sidecar that may have been put there by a user without write access to the store, or that is not a regular
//!    file, is an error.
//!
//! | FOUND | MEANS |
//! | --- | --- |
//! | nothing | none |
//! | another boot, another attachment of the disk | stale: uncheckpointed changes are lost, as in a power failure |
//! | the attachment can be told now, and could not then, or the reverse | error, unless it is sealed and could not then |
//! | blank, short or damaged; the store names a sidecar of an earlier boot or attachment | stale: it is torn |
//! | blank, short or damaged otherwise | error |
//! | of another file, sealed | stale: a checkpoint of that file holds all of it |
//! | of another file, not sealed | set aside: renamed, so that the other file's users find it |
//! | not the one that the store names (`naming`) | stale: a later session was made |
//! | of another layout, or another checkpoint | stale if it is sealed, else an error |
//! | poisoned, or its log was not yet replayed | stale: nothing after the checkpoint counts |
//! | all other cases | taken over |

use crate::error::{Error, Result, refused, remedy};
use crate::ids::PAGE_SIZE;
use crate::page::format::meta::Meta;
use crate::page::recovery::takeover::unusable;
use crate::page::redo::words::{REPLAY, log_replay_of};
use crate::page::session::header::{Named, header, is_current};
use crate::page::session::naming;
use crate::page::shared::header::identity::Identity;
use crate::page::shared::header::{poison, seal};
use crate::page::shared::layout::{self, MAX_PAGES, Region};
use crate::page::shared::paths::sidecar_path;
use crate::page::shared::shm::{self, Shm};
use crate::raw::boot;
use crate::raw::files::file;
use crate::raw::files::side_files;
use crate::raw::process;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Open the sidecar: the one in use, or, if alone, a usable old one or a new one.
pub(in crate::page) fn open_sidecar(
    path: &Path,
    file: &File,
    meta: &Meta,
    meta_sum: u64,
    alone: bool,
) -> Result<Shm> {
    let name = sidecar_path(path);
    let found = side_files::open(&name, file);
    if !alone {
        return join(path, file, meta, &name, found);
    }
    let cannot = |what: &str, e: io::Error| {
        let todo = remedy(&e);
        Error::io(
            format!(
                "cannot {what} the sidecar {}, which may hold what was completed since the last checkpoint: \
                 nothing was changed; {todo}",
                name.display()
            ),
            e,
        )
    };
    let found = found.map_err(|e| match e {
        Ok(why) => unusable(path, &name, &why, meta.checkpoint),
        Err(e) => cannot("open", e),
    })?;
    let Some(side) = found else {
        naming::check_named_sidecar(file, path, &name, meta)?;
        return make(file, &name, meta, meta_sum, false);
    };
    let left = judge(path, file, &side, meta, meta_sum).map_err(|e| match e {
        Error::Io { what, source } if what == READING => cannot("read", source),
        e => e,
    })?;
    let stale = match left {
        Left::Foreign(nonce) => {
            preserve(&name, nonce)?;
            false
        }
        // The processes that use it have locked another lock file, which was removed since.
        _ if shm::is_file_in_use(&side)? => {
            return Err(refused(
                path,
                "other processes use it, but its lock file was removed; close it everywhere first",
            ));
        }
        Left::Usable => {
            return Shm::map_checked(side)?
                .ok_or_else(|| unusable(path, &name, "was cut short", meta.checkpoint));
        }
        Left::Lost if Shm::map_checked(side)?.is_none() => {
            return Err(unusable(path, &name, "was cut short", meta.checkpoint));
        }
        Left::Stale | Left::Lost => true,
    };
    naming::check_named_sidecar(file, path, &name, meta)?;
    make(file, &name, meta, meta_sum, stale)
}

/// Join the sidecar that the other processes use, in the state it was `found` in.
fn join(
    path: &Path,
    file: &File,
    meta: &Meta,
    name: &Path,
    found: std::result::Result<Option<File>, std::result::Result<String, io::Error>>,
) -> Result<Shm> {
    let (why, todo) = match found {
        Ok(Some(side)) => return join_file(path, side, file, meta),
        Ok(None) => ("it is not there".to_owned(), "close it everywhere first"),
        Err(Ok(why)) => (
            format!("it {why}"),
            "find out what it is, and close the store everywhere before you remove it",
        ),
        Err(Err(e)) => (e.to_string(), remedy(&e)),
    };
    Err(refused(
        path,
        format!(
            "others use it, but its sidecar {} cannot be opened ({why}); {todo}",
            name.display()
        ),
    ))
}

fn join_file(path: &Path, side: File, file: &File, meta: &Meta) -> Result<Shm> {
    let shm = Shm::map_checked(side)?.ok_or_else(|| {
        refused(
            path,
            "its sidecar was cut short, or belongs to another version of persist, while others use it; close \
             it everywhere first",
        )
    })?;
    // A sidecar by another name of the file, or left from an earlier use, also belongs to it.
    if !crate::page::session::header::belongs(&shm, file, meta)? || !shm.is_in_use()? {
        return Err(refused(
            path,
            "others use it through another sidecar; close it everywhere first",
        ));
    }
    Ok(shm)
}

/// The meaning of a file under the sidecar's name for a process that is alone with the store.
enum Left {
    Usable,
    Stale,
    /// Its users met a page that could not be reached. If the page was the store's, they got an error, and the changes
    /// they had completed since the last checkpoint may be torn. If it was the sidecar's, the sidecar is incomplete,
    /// and the next opening reports that.
    Lost,
    /// It belongs to another file, and has this nonce.
    Foreign(u64),
}

const READING: &str = "the sidecar";

/// Judge a sidecar by the table above. It changes nothing.
fn judge(path: &Path, file: &File, side: &File, meta: &Meta, meta_sum: u64) -> Result<Left> {
    let name = sidecar_path(path);
    let bad = |why: &str| unusable(path, &name, why, meta.checkpoint);
    let reading = |e| Error::io(READING, e);
    let head = match header(side).map_err(reading)? {
        Named::Whole(head) => head,
        Named::Not(why) => {
            return match naming::names_current_sidecar(file)? {
                // The store was used in this boot and on this attachment of the disk, through a complete sidecar; or
                // the time of its use is unknown.
                Some(true) | None => Err(bad(why)),
                Some(false) => Ok(Left::Stale),
            };
        }
    };
    let known = Identity::of(&head);
    if known.boot != boot::boot_id()? {
        return Ok(Left::Stale);
    }
    match (known.attached, boot::attachment(file)?) {
        (theirs, ours) if theirs == ours => {}
        // What a clean close has left is in the checkpoint.
        (0, _) if seal::is_sealed(&head) => {}
        (0, _) => {
            return Err(bad(
                "was made where the attachment of the disk could not be told (diskseq in /sys/dev/block), which this \
                 process can",
            ));
        }
        (_, 0) => {
            return Err(bad(
                "was made where the attachment of the disk could be told (diskseq in /sys/dev/block), which this \
                 process cannot",
            ));
        }
        _ => {
            log::warn!(
                "{}: its disk was detached and attached since it was used: it opens at checkpoint {}",
                path.display(),
                meta.checkpoint
            );
            return Ok(Left::Stale);
        }
    }
    let sealed = seal::is_sealed(&head);
    let id = file::identity(file).map_err(|e| Error::io("fstat", e))?;
    let nonce = shm::nonce_of(&head);
    if !known.is_of(id.dev, id.ino, meta.uuid) {
        return Ok(if sealed { Left::Stale } else { Left::Foreign(nonce) });
    }
    if !naming::is_named(file, nonce)? {
        return Ok(Left::Stale);
    }
    if known.layout != layout::LAYOUT {
        return match sealed {
            true => Ok(Left::Stale),
            false => Err(bad(&format!(
                "was left by another version of persist (layout {}, this build has {}): open the store with that \
                 version and close it",
                known.layout as u32,
                layout::LAYOUT as u32
            ))),
        };
    }
    match poison::poison_of(&head) {
        0 => {}
        // A flush failed: an error has reported that changes completed since then may be lost.
        poison::FLUSH => {
            rewrite_newest_meta(file, meta)?;
            return Ok(Left::Stale);
        }
        poison::UNDOABLE | poison::LOST => return Ok(Left::Lost),
        _ => return Err(bad("is damaged (poison)")),
    }
    match log_replay_of(&head) {
        0 => {}
        REPLAY => return Ok(Left::Stale),
        _ => return Err(bad("is damaged (replay)")),
    }
    if !is_current(&head, meta, meta_sum) {
        return match sealed {
            true => Ok(Left::Stale),
            false => Err(bad(
                "goes on from another checkpoint than the newest of the store",
            )),
        };
    }
    Ok(Left::Usable)
}

/// Keep the sidecar of another file, whose users find it by its nonce (`naming`).
fn preserve(name: &Path, nonce: u64) -> Result<()> {
    let aside = naming::preserved_path(name, nonce);
    log::warn!(
        "{} is the sidecar of another store file, and holds changes of it: it is kept as {}",
        name.display(),
        aside.display()
    );
    std::fs::rename(name, &aside).map_err(|e| {
        Error::io(
            format!("cannot rename {} to {}", name.display(), aside.display()),
            e,
        )
    })
}

/// After a failed flush: the kernel may show a meta page that it has stopped writing. The newest is written once more
/// before anything builds on it. If that write is lost, the other one remains valid, because no page was reused since.
fn rewrite_newest_meta(file: &File, meta: &Meta) -> Result<()> {
    let again = || -> io::Result<()> {
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

/// Make a sidecar, name it in the store, and put it under its name, replacing a stale one if there is one.
fn make(file: &File, name: &Path, meta: &Meta, meta_sum: u64, stale: bool) -> Result<Shm> {
    let cannot = |e| Error::io(format!("cannot make the sidecar {}", name.display()), e);
    let new = side_files::new(name, file).map_err(cannot)?;
    file::in_place(new.file());
    let side = new.file().try_clone().map_err(cannot)?;
    let shm = fill(side, file, meta, meta_sum)?;
    naming::name(file, shm::nonce_of(&shm), name)?;
    shm.seal();
    match stale {
        true => new.replace(name),
        false => new.link(name),
    }
    .map_err(cannot)?;
    Ok(shm)
}

/// Fill the sidecar of a store in which nothing has changed since its newest checkpoint.
fn fill(side: File, file: &File, meta: &Meta, meta_sum: u64) -> Result<Shm> {
    let id = file::identity(file).map_err(|e| Error::io("fstat", e))?;
    let (boot, attached) = (boot::boot_id()?, boot::attachment(file)?);
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
    // The space that removing something and a checkpoint need if the disk is full by then.
    shm.ensure(Region::Undo, 64 * 1024)?;
    for list in 0..3 {
        shm.ensure(Region::List(list), 16 * 1024)?;
    }
    shm.ensure(Region::FreeMap, (pages as usize).div_ceil(64) * 8)?;
    shm.ensure(Region::Table, (meta.logical as usize).max(512) * 8)?;
    shm.identify(&Identity {
        layout: layout::LAYOUT,
        boot,
        dev: id.dev,
        ino: id.ino,
        uuid: meta.uuid,
        attached,
        ready: true,
    });
    shm.live().set_epoch(meta.checkpoint + 1);
    shm.create_undo();
    shm.live().set_logical(meta.logical);
    shm.live().set_next_id(meta.next_id);
    shm.begin_rebuild(meta, pages);
    shm.space().set_file_pages(pages);
    shm.space()
        .set_free(if meta.logical == 0 { pages - 2 } else { 0 });
    // It is not known whether the file's content was ever flushed.
    shm.last_checkpoint().set_unflushed(true);
    shm.build_on(meta, meta_sum, &Meta::before(file, meta)?);
    shm.begin_log(meta.log);
    shm.sign();
    Ok(shm)
}
