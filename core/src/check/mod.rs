//! The checker: verifies every invariant of a store, from the bytes of the file up to the reference counts,
//! and says what is wrong and where. Salvage (`salvage`) gets out of a damaged store what can be got.
//!
//! 1. It works on a checkpoint's image (`page::format::image`) and so on something that nobody changes; a store in
//!    use is checkpointed first. It writes nothing but that checkpoint.
//! 2. It goes on after a finding. What the finding makes unreadable is left out, and what follows from that
//!    (segments not reached, references not counted) is told as one finding, not as thousands.
//! 3. Nothing recurses by what a file says, every walk takes at most as many steps as the store has parts,
//!    and memory grows with the file by a fraction of it: bitmaps and counters, no sets of addresses.
//!
//! | PART | WHAT |
//! | --- | --- |
//! | `file` | meta pages, page tables, checksums |
//! | `state` | superblock, free pages, heap |
//! | `graph` | containers, their bodies and values, classes |
//! | `counts` | reference counts, homes, ids, segments that nothing refers to |
//! | `salvage` | what can be got out of a damaged store, into a new one |
//! | `path` | where a container is, seen from the root |

mod counts;
mod file;
mod graph;
mod report;
pub mod salvage;
mod sparse;
mod state;

use crate::error::{Error, Result};
pub use crate::page::format::image::Source;
use crate::store::{Options, Store};
pub use report::{Finding, Report, Watch};
use std::path::Path;

/// How the snapshots that a check takes for itself are called: this and the process's number.
const TEMPORARY: &str = ".check-";

/// Checks the store at a path, in use or not. One that cannot be opened is checked all the same.
///
/// # Errors
/// `Error::NotAStore`, `Error::Refused`, `Error::Io`: nothing could be checked.
pub fn check(path: &Path, watch: &mut dyn Watch) -> Result<Report> {
    // What is no store is not to become one by being looked at.
    Source::look(path)?;
    let options = Options {
        create: false,
        ..Options::default()
    };
    match Store::open(path, &options) {
        Ok(store) => {
            let mut report = check_store(&store, watch);
            if let Ok(report) = &mut report {
                settle_kept(&store, report);
            }
            store.close()?;
            report
        }
        Err(
            e @ (Error::Corrupt { .. } | Error::Damaged { .. } | Error::NotAStore { .. } | Error::Gone(_)),
        ) => {
            let source = Source::alone(path)?;
            let mut report = Report::default();
            report.met("file", &e, None);
            if let Error::Damaged { kept, .. } = e {
                report.kept = Some(kept);
            }
            file::check(&source, &mut report, watch)?;
            Ok(report)
        }
        // It may only be read, or lies on a filesystem that may.
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

/// The state before what dead processes left (`page::checkpoint::before_recovery`): dropped if the store is sound,
/// named if it is not.
fn settle_kept(store: &Store, report: &mut Report) {
    let pager = store.pager();
    if !report.is_sound() {
        report.kept = pager.way_back();
    } else if pager.has_kept()
        && let Err(e) = pager.drop_kept()
    {
        log::warn!("{}: {e}", store.path().display());
    }
}

/// How often a check begins again because writers replaced the checkpoint that it was reading.
const TRIES: usize = 5;

/// Checks the newest checkpoint of a store that this process cannot lock.
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

/// Checks a file that is kept from everybody: its newest checkpoint.
///
/// # Errors
/// `Error::NotAStore` if it has none.
pub fn check_file(source: &Source, watch: &mut dyn Watch) -> Result<Report> {
    let mut report = Report::default();
    file::check(source, &mut report, watch)?;
    Ok(report)
}

/// Checks an open store: as it is now, for which a checkpoint is made if anything changed since the last. While
/// others use it, what is checked is a snapshot, taken for this and dropped at the end, so that they are not kept
/// from making checkpoints. Of an opening of a snapshot, that.
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
    drop_left_overs(store);
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
            // No room for one more: then without, and checkpoints wait.
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

/// Snapshots of checks whose processes are gone.
fn drop_left_overs(store: &Store) {
    for snapshot in store.snapshots().unwrap_or_default() {
        let pid = snapshot
            .name
            .strip_prefix(TEMPORARY)
            .and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Whoever has it open keeps it; the next check looks again.
            let _ = store.drop_snapshot(&snapshot.name);
        }
    }
}
