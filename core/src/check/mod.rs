//! The checker: verifies every invariant of a store, from the bytes of the file up to the reference counts,
//! and reports what is wrong and where. Salvage (`salvage`) copies the readable parts of a damaged store.
//!
//! ```
//! use persist_core::check::check;
//! use persist_core::store::{Options, Store};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("a.store");
//! Store::open(&path, &Options::default())?.close()?;
//! let report = check(&path, &mut ())?;
//! assert!(report.is_sound());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! 1. It works on a checkpoint's image (`page::format::image`), which does not change; a store in use is
//!    checkpointed first. It writes nothing but that checkpoint.
//! 2. It continues after a finding. It skips what the finding makes unreadable, and reports the consequences
//!    (segments not reached, references not counted) as one finding, not as thousands.
//! 3. Nothing recurses on data from the file, every walk takes at most as many steps as the store has parts,
//!    and memory is a small fraction of the file: bitmaps and counters, no sets of addresses.
//!
//! | PART | WHAT |
//! | --- | --- |
//! | `file` | meta pages, page tables, checksums |
//! | `state` | superblock, free pages, heap |
//! | `graph` | containers, their bodies and values, classes |
//! | `counts` | reference counts, homes, ids, segments that nothing refers to |
//! | `salvage` | copying the readable parts of a damaged store into a new one |
//! | `path` | the path of a container from the root |

mod counts;
mod file;
mod graph;
mod report;
mod salvage;
mod sparse;
mod state;

use crate::error::{Error, Result};
#[doc(hidden)]
pub use crate::page::format::image::Source;
use crate::store::{Options, Store};
pub use report::{Finding, Report, Watch};
#[doc(hidden)]
pub use salvage::salvage_from;
pub use salvage::{Salvaged, salvage};
use std::path::Path;

/// The name of a snapshot that a check takes for itself: this prefix and the process id.
const TEMPORARY: &str = ".check-";

/// Check the store at a path, in use or not. A store that cannot be opened is checked too.
///
/// # Errors
/// `Error::NotAStore`, `Error::Refused`, `Error::Io`: nothing could be checked.
pub fn check(path: &Path, watch: &mut dyn Watch) -> Result<Report> {
    // The check must not turn a file that is not a store into one.
    Source::look(path)?;
    let options = Options {
        create: false,
        ..Options::default()
    };
    match Store::open_to_examine(path, &options) {
        Ok(store) => {
            let mut report = check_store(&store, watch);
            if let Ok(report) = &mut report {
                resolve_kept(&store, report);
            }
            store.close()?;
            report
        }
        Err(
            e @ (Error::Corrupt { .. } | Error::Damaged { .. } | Error::NotAStore { .. } | Error::Gone(_)),
        ) => {
            let source = Source::exclusive(path)?;
            let mut report = Report::default();
            report.fault("file", &e, None);
            if let Error::Damaged { kept, .. } = e {
                report.kept = Some(kept);
            }
            file::check(&source, &mut report, watch)?;
            Ok(report)
        }
        // The file is read-only, or lies on a read-only filesystem.
        Err(Error::Io { source, .. })
            if matches!(
                source.raw_os_error(),
                Some(libc::EACCES | libc::EPERM | libc::EROFS)
            ) =>
        {
            check_unlocked(path, watch)
        }
        Err(e) => Err(e),
    }
}

/// Handle the checkpoint from before a recovery from dead processes (`page::checkpoint::before_recovery`):
/// drop it if the store is sound, and report its name otherwise.
fn resolve_kept(store: &Store, report: &mut Report) {
    let pager = store.pager();
    if !report.is_sound() {
        report.kept = pager.kept_checkpoint_name();
    } else if pager.has_kept()
        && let Err(e) = pager.drop_kept()
    {
        log::warn!("{}: {e}", store.path().display());
    }
}

/// How many times a check starts over because writers replaced the checkpoint that it was reading.
const TRIES: usize = 5;

/// Check the newest checkpoint of a store that this process cannot lock.
fn check_unlocked(path: &Path, watch: &mut dyn Watch) -> Result<Report> {
    for _ in 0..TRIES {
        let source = Source::unlocked(path)?;
        let mut report = Report::default();
        file::check(&source, &mut report, watch)?;
        if report.is_sound() || source.is_still_there() {
            return Ok(report);
        }
    }
    Err(Error::Refused {
        path: path.to_owned(),
        why: "writers replace the checkpoint while it is read; check a snapshot, or have a user check it that may \
              write it"
            .to_owned(),
    })
}

/// Check the newest checkpoint of a file that is locked against all other processes.
///
/// # Errors
/// `Error::NotAStore` if it has no checkpoint.
#[doc(hidden)]
pub fn check_file(source: &Source, watch: &mut dyn Watch) -> Result<Report> {
    let mut report = Report::default();
    file::check(source, &mut report, watch)?;
    Ok(report)
}

/// Check the current state of an open store, making a checkpoint if anything changed since the last one.
/// While other processes use the store, the check takes a snapshot and drops it at the end, so that they can
/// make checkpoints. For an open snapshot, check that snapshot.
///
/// # Errors
/// Those of a checkpoint; `Error::Invalid` inside a transaction.
pub fn check_store(store: &Store, watch: &mut dyn Watch) -> Result<Report> {
    let mut report = Report::default();
    if store.opened_snapshot().is_some() {
        let pager = store.pager();
        pager.with_snapshot(|source, snapshot| file::check_snapshot(source, snapshot, &mut report, watch))?;
        return Ok(report);
    }
    drop_stale_snapshots(store);
    if store.stat()?.processes > 1 && !store.pager().is_read_only() {
        let name = format!("{TEMPORARY}{}", std::process::id());
        match store.snapshot(&name) {
            Ok(_) => {
                let done = store.open_snapshot(&name).and_then(|frozen| {
                    let report = check_store(&frozen, watch);
                    frozen.close()?;
                    report
                });
                store.drop_snapshot(&name)?;
                return done;
            }
            // There is no room for another snapshot: check without one, and checkpoints wait.
            Err(Error::NoSpace { .. } | Error::TooMany { .. } | Error::SnapshotExists { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    if !store.pager().is_read_only() {
        store.sync()?;
    }
    let pager = store.pager();
    pager.with_image(|source| file::check(source, &mut report, watch))?;
    Ok(report)
}

/// Drop the snapshots of checks whose processes have ended.
fn drop_stale_snapshots(store: &Store) {
    for snapshot in store.snapshots().unwrap_or_default() {
        let pid = snapshot
            .name
            .strip_prefix(TEMPORARY)
            .and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // A process that has it open keeps it; the next check tries again.
            let _ = store.drop_snapshot(&snapshot.name);
        }
    }
}
