//! Check the file: its meta pages, the page tables of both checkpoints and of the snapshots, and the checksum
//! of every page they reach.

use super::report::{Report, Watch};
use super::state::State;
use crate::error::{Error, Result};
use crate::page::format::image::{DAMAGED, Image, Source};
use crate::store::Snapshot;

/// Pages between two calls of the watch.
const STEP: u64 = 256;

/// Check a file and everything in its newest checkpoint.
pub(super) fn check(source: &Source, report: &mut Report, watch: &mut dyn Watch) -> Result<()> {
    let newest = source.newest()?;
    report.checkpoint = newest;
    report.file_pages = source.pages();
    for i in 0..2usize {
        // The first checkpoint of a store has no predecessor.
        if let Some(why) = source.meta_fault(i)
            && newest != 1
        {
            let what = format!("meta page {i}: {why}; checkpoint {newest} is valid");
            report.find("file", what, Some(i as u64 * 4096), None);
        }
    }
    let image = source.image(newest)?;
    pages(&image, None, report, watch);
    if let Some(&older) = source.checkpoints().get(1) {
        if older + 1 != newest {
            let what = format!("checkpoint {older} is not the one before checkpoint {newest}");
            report.find("file", what, Some(older % 2 * 4096), None);
        }
        pages(&source.image(older)?, Some(&image), report, watch);
    }
    match source.snapshots() {
        Ok(all) => {
            for snapshot in all {
                // A snapshot that is being dropped is not checked.
                if let Some((kept, _claim)) = source.snapshot(&snapshot)? {
                    pages(&kept, Some(&image), report, watch);
                }
            }
        }
        Err(e) => report.fault("file", &e, None),
    }
    report.pages = image.count();
    State::new(&image, report, watch).check();
    Ok(())
}

/// Check a snapshot, which cannot be dropped during the check, and everything in it.
pub(super) fn check_snapshot(
    source: &Source,
    snapshot: &Snapshot,
    report: &mut Report,
    watch: &mut dyn Watch,
) -> Result<()> {
    report.checkpoint = snapshot.checkpoint;
    report.file_pages = source.pages();
    let Some((image, _claim)) = source.snapshot(snapshot)? else {
        return Err(Error::NoSnapshot {
            name: snapshot.name.clone(),
        });
    };
    pages(&image, None, report, watch);
    report.pages = image.count();
    State::new(&image, report, watch).check();
    Ok(())
}

/// Check the page table and the pages of a checkpoint, except those that it shares with another.
fn pages(image: &Image<'_>, seen: Option<&Image<'_>>, report: &mut Report, watch: &mut dyn Watch) {
    let number = image.checkpoint();
    let (faults, count) = image.faults();
    for fault in faults {
        let what = format!("{} (checkpoint {number}, page {})", fault.what, fault.page);
        report.find("pages", what, Some(fault.offset), None);
    }
    report.total += count - faults.len() as u64;
    watch.begin("pages", image.count());
    for n in 0..image.count() {
        if n % STEP == STEP - 1 {
            watch.advance(STEP);
        }
        if seen.is_some_and(|seen| seen.shares(image, n)) {
            continue;
        }
        if let Some(offset) = image.damaged(n) {
            let page = image.nth(n).unwrap_or_default();
            let what = format!("{DAMAGED} (checkpoint {number}, page {})", page.0);
            report.find("pages", what, Some(offset), None);
        }
    }
    watch.advance(image.count() % STEP);
}
