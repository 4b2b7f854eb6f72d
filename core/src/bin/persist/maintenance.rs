//! Maintenance of a store: statistics, garbage, space, locks.

use super::check::Bar;
use super::{Failure, read};
use persist_core::check::Watch;
use persist_core::store::Store;
use std::io::Write;

/// Run `persist stat`.
pub(super) fn stat(store: &Store, out: &mut impl Write) -> Result<(), Failure> {
    let s = store.stat()?;
    let page = persist_core::store::door::PAGE_SIZE as u64;
    for (name, figure) in [
        ("last checkpoint", s.checkpoint),
        ("file bytes", s.file_pages.saturating_mul(page)),
        ("free bytes", s.free_pages.saturating_mul(page)),
        ("logical bytes", s.logical_pages.saturating_mul(page)),
        ("changed bytes since", s.dirty_pages.saturating_mul(page)),
        ("processes", s.processes),
        ("waiting to be freed", s.orphans),
    ] {
        writeln!(out, "{name:<20} {figure}")?;
    }
    let age = s.undurable_age.map_or_else(
        || "none".to_owned(),
        |age| format!("{:.3} seconds old", age.as_secs_f64()),
    );
    writeln!(out, "{:<20} {age}", "oldest not durable")?;
    let root = read(store, |r| r.len(store.root()))?;
    writeln!(out, "{:<20} {root}", "entries of the root")?;
    Ok(store.close()?)
}

/// Run `persist gc`.
pub(super) fn gc(store: &Store, out: &mut impl Write) -> Result<(), Failure> {
    let freed = store.gc()?;
    store.close()?;
    writeln!(out, "{freed} containers freed")?;
    Ok(())
}

/// Run `persist compact`.
pub(super) fn compact(store: Store, out: &mut impl Write) -> Result<(), Failure> {
    store.gc()?;
    let mut bar = Bar::new();
    bar.begin("compact", store.stat()?.logical_pages);
    let done = store.compact(&mut |pages| bar.advance(pages));
    drop(bar);
    let (before, after) = done?;
    writeln!(out, "{before} bytes before, {after} after")?;
    Ok(())
}

/// Run `persist locks`.
pub(super) fn locks(store: &Store, out: &mut impl Write) -> Result<(), Failure> {
    for l in store.locks()? {
        let what = l.path.unwrap_or_else(|| match l.key_hash {
            Some(hash) => format!("object {}, the entry with hash {hash:016x}", l.object.0),
            None => format!("object {}", l.object.0),
        });
        let state = if l.waiting { "awaited" } else { "held" };
        writeln!(
            out,
            "{what:<46} {:<4} {state:<8} x{:<4} {}",
            l.mode, l.count, l.owner
        )?;
    }
    Ok(store.close()?)
}
