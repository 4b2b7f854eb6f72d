//! Texts of dates, times and timedeltas.

/// The value of a text of `count` digits.
fn digits(text: &str, count: usize) -> Option<u32> {
    (text.len() == count && text.bytes().all(|c| c.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

pub(super) fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else {
        return false;
    };
    let (Some(year), Some(month), Some(day)) = (digits(year, 4), digits(month, 2), digits(day, 2)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        1..=12 => 31,
        _ => return false,
    };
    year > 0 && (1..=last).contains(&day)
}

/// `12:00:00`, `12:00:00.000001`.
fn is_clock(text: &str) -> bool {
    let (seconds, micros) = match text.split_once('.') {
        Some((seconds, micros)) => (seconds, Some(micros)),
        None => (text, None),
    };
    let parts: Vec<&str> = seconds.split(':').collect();
    let [h, m, s] = parts[..] else {
        return false;
    };
    digits(h, 2).is_some_and(|h| h < 24)
        && digits(m, 2).is_some_and(|m| m < 60)
        && digits(s, 2).is_some_and(|s| s < 60)
        && micros.is_none_or(|micros| digits(micros, 6).is_some_and(|n| n > 0))
}

/// `+01:00`, `-00:00:00.000001`: less than a day.
fn is_offset(text: &str) -> bool {
    let clock = match text.len() {
        5 => format!("{text}:00"),
        _ if text.ends_with(":00") => return false,
        _ => text.to_owned(),
    };
    is_clock(&clock)
}

/// A datetime (`dated`) or time, with its zone.
pub(super) fn is_zoned(text: &str, dated: bool) -> bool {
    let (iso, mut tags) = text.split_at(text.find('[').unwrap_or(text.len()));
    let clock = match (dated, iso.split_once('T')) {
        (true, Some((date, clock))) if is_date(date) => clock,
        (false, None) => iso,
        _ => return false,
    };
    let offset = clock.find(['+', '-']).map(|at| &clock[at..]);
    let naive = &clock[..clock.len() - offset.map_or(0, str::len)];
    if !is_clock(naive) || offset.is_some_and(|offset| !is_offset(&offset[1..]) || is_minus_zero(offset)) {
        return false;
    }
    let mut seen = 0;
    while let Some(rest) = tags.strip_prefix('[') {
        let Some((tag, rest)) = rest.split_once(']') else {
            return false;
        };
        let rank = match tag.strip_prefix("name=") {
            _ if tag == "fold=1" => 3,
            Some(name) => {
                if offset.is_none() || name.contains('[') || name.chars().any(char::is_control) {
                    return false;
                }
                2
            }
            None => {
                let sign = |c: char| c.is_ascii_alphanumeric() || "_+/.-".contains(c);
                if tag.is_empty() || !tag.chars().all(sign) {
                    return false;
                }
                1
            }
        };
        // A zone has a name of its own or one in the database, not both.
        if rank <= seen || seen == 1 && rank == 2 {
            return false;
        }
        (seen, tags) = (rank, rest);
    }
    tags.is_empty()
}

fn is_minus_zero(offset: &str) -> bool {
    offset.starts_with('-') && offset.bytes().all(|c| matches!(c, b'-' | b'0' | b':' | b'.'))
}

pub(super) fn is_delta(text: &str) -> bool {
    let Some((days, rest)) = text.strip_prefix('P').and_then(|rest| rest.split_once("DT")) else {
        return false;
    };
    let Some(seconds) = rest.strip_suffix('S') else {
        return false;
    };
    let (seconds, micros) = match seconds.split_once('.') {
        Some((seconds, micros)) => (seconds, Some(micros)),
        None => (seconds, None),
    };
    let canonical = |text: &str| text.parse::<i64>().ok().filter(|n| n.to_string() == text);
    canonical(days).is_some_and(|days| (-999_999_999..=999_999_999).contains(&days))
        && canonical(seconds).is_some_and(|seconds| (0..86_400).contains(&seconds))
        && micros.is_none_or(|micros| digits(micros, 6).is_some_and(|n| n > 0))
}
