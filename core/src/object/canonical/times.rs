//! The moments that texts of datetimes and times name: `2026-11-30T12:00:00.5+01:00[name=CET][fold=1]`.
//!
//! As in Python, the fold does not count, and one with an offset never equals one without.

use super::form::sized;

const SECOND: i64 = 1_000_000;

/// Return the form of a datetime; None if it has a zone by name.
pub(super) fn datetime(text: &str) -> Option<Vec<u8>> {
    let (date, clock) = text.split_once('T')?;
    let mut parts = date.split('-');
    let mut next = |len| digits(parts.next()?, len);
    let (year, month, day) = (next(4)?, next(2)?, next(2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    made(b'd', days(year, month, day) * 86_400 * SECOND, clock)
}

/// Return the form of a time; None if it has a zone by name.
pub(super) fn time(text: &str) -> Option<Vec<u8>> {
    made(b'h', 0, text)
}

fn made(tag: u8, base: i64, text: &str) -> Option<Vec<u8>> {
    let (iso, tags) = text.split_at(text.find('[').unwrap_or(text.len()));
    let is_fixed = tags
        .split_terminator(']')
        .all(|tag| tag.starts_with("[name=") || tag == "[fold=1" || tag == "[UTC");
    if !is_fixed {
        return None;
    }
    let mut out = Vec::new();
    match iso.find(['+', '-']) {
        None => sized(&mut out, tag, &(base + micros(iso)?).to_le_bytes()),
        Some(at) => {
            let offset = micros(&iso[at + 1..])?;
            let offset = if iso[at..].starts_with('-') {
                -offset
            } else {
                offset
            };
            let moment = base + micros(&iso[..at])? - offset;
            sized(&mut out, tag + 1, &moment.to_le_bytes());
        }
    }
    Some(out)
}

/// Microseconds of `12:00`, `12:00:00` and `12:00:00.000001`.
fn micros(text: &str) -> Option<i64> {
    let (clock, part) = text.split_once('.').unwrap_or((text, "000000"));
    let mut parts = clock.split(':');
    let hours = digits(parts.next()?, 2)?;
    let minutes = digits(parts.next()?, 2)?;
    let seconds = parts.next().map_or(Some(0), |text| digits(text, 2))?;
    let rest = digits(part, 6)?;
    parts
        .next()
        .is_none()
        .then_some(((hours * 60 + minutes) * 60 + seconds) * SECOND + rest)
}

fn digits(text: &str, len: usize) -> Option<i64> {
    (text.len() == len && text.bytes().all(|c| c.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Days since the year 0 of the proleptic Gregorian calendar; the year begins with March, so that a leap day ends it.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month < 3);
    let month = (month + 9) % 12;
    year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (month * 153 + 2) / 5
        + day
}
