//! Snapshots: `snapshot`, `snapshots`, `drop-snapshot`.

use super::Failure;
use persist_core::store::Store;
use persist_core::store::door::PAGE_SIZE;
use std::io::Write;

/// Run `persist snapshot`.
pub(super) fn take(store: &Store, name: &str, out: &mut impl Write) -> Result<(), Failure> {
    let taken = store.snapshot(name)?;
    store.close()?;
    writeln!(out, "checkpoint {}", taken.checkpoint)?;
    Ok(())
}

/// Run `persist snapshots`.
pub(super) fn list(store: &Store, out: &mut impl Write) -> Result<(), Failure> {
    for s in store.snapshots()? {
        writeln!(
            out,
            "{:<32} {:>10} {} {:>14}",
            s.name,
            s.checkpoint,
            utc(s.time / 1_000_000_000),
            s.pages.saturating_mul(PAGE_SIZE as u64)
        )?;
    }
    Ok(store.close()?)
}

/// Run `persist drop-snapshot`.
pub(super) fn drop(store: &Store, name: &str) -> Result<(), Failure> {
    store.drop_snapshot(name)?;
    Ok(store.close()?)
}

/// Return the date and time of day for seconds since 1970. (Counts days from March of year 0, 146097 to 400
/// years.)
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (
        day - (153 * month + 2) / 5 + 1,
        if month < 10 { month + 3 } else { month - 9 },
    );
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z",
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
