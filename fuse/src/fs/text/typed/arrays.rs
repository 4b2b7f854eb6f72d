//! Files of numpy's format `.npy`.

use std::collections::HashSet;

/// The most levels of records in records.
const DEPTH: usize = 8;

/// True for a file of the format `.npy` in C order, without objects, whose shape and size agree.
pub(super) fn is_array(file: &[u8]) -> bool {
    fn header(file: &[u8]) -> Option<(&str, usize)> {
        let rest = file.strip_prefix(b"\x93NUMPY")?;
        let (len, at): (usize, usize) = match rest.get(..2)? {
            [1, 0] => (
                usize::from(u16::from_le_bytes(rest.get(2..4)?.try_into().ok()?)),
                4,
            ),
            [2, 0] => (u32::from_le_bytes(rest.get(2..6)?.try_into().ok()?) as usize, 6),
            _ => return None,
        };
        let text = std::str::from_utf8(rest.get(at..at.checked_add(len)?)?).ok()?;
        (len <= 10_000).then_some((text, rest.len() - at - len))
    }
    fn agrees(text: &str, data: usize) -> Option<bool> {
        let rest = text.strip_prefix("{'descr': ")?;
        let (size, rest) = described(rest, DEPTH)?;
        let rest = rest.strip_prefix(", 'fortran_order': False, 'shape': (")?;
        let (shape, end) = rest.split_once(')')?;
        if !(end.starts_with(", }") && end[3..].trim().is_empty()) {
            return None;
        }
        Some(items(shape)?.checked_mul(size)? == data)
    }
    header(file).and_then(|(text, data)| agrees(text, data)) == Some(true)
}

/// The number of items of a shape.
fn items(shape: &str) -> Option<usize> {
    let mut count: usize = 1;
    for n in shape.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        count = count.checked_mul(n.parse().ok().filter(|_| n.bytes().all(|c| c.is_ascii_digit()))?)?;
    }
    Some(count)
}

/// The bytes of an item whose type is described at the beginning, and what follows: `'<f8'`, or the fields of a record,
/// `[('a', '<i4'), ('b', '<f8', (2, 3))]`.
fn described(text: &str, depth: usize) -> Option<(usize, &str)> {
    if let Some(rest) = text.strip_prefix('\'') {
        let (plain, rest) = rest.split_once('\'')?;
        return Some((item_size(plain)?, rest));
    }
    let mut rest = text.strip_prefix('[').filter(|_| depth > 0)?;
    let (mut total, mut names) = (0usize, HashSet::new());
    loop {
        let (name, after) = rest.strip_prefix("('")?.split_once('\'')?;
        let after = after.strip_prefix(", ")?;
        // Padding has no name.
        let is_padding = name.is_empty() && after.starts_with("'|V");
        if name.contains('\\') || !is_padding && (name.is_empty() || !names.insert(name)) {
            return None;
        }
        let (mut size, mut after) = described(after, depth - 1)?;
        if let Some(shaped) = after.strip_prefix(", (") {
            let (shape, end) = shaped.split_once(')')?;
            (size, after) = (size.checked_mul(items(shape)?)?, end);
        }
        total = total.checked_add(size)?;
        rest = after.strip_prefix(')')?;
        match rest.strip_prefix(", ") {
            Some(next) => rest = next,
            None => return Some((total, rest.strip_prefix(']')?)),
        }
    }
}

/// The bytes of an item of a plain type of numpy.
fn item_size(descr: &str) -> Option<usize> {
    let body = descr.strip_prefix(['<', '>', '|'])?;
    let kind = body.chars().next()?;
    let rest = &body[1..];
    let (n, unit) = rest.split_at(rest.find('[').unwrap_or(rest.len()));
    if n.is_empty() || !n.bytes().all(|c| c.is_ascii_digit()) || n.len() > 9 {
        return None;
    }
    let size: usize = n.parse().ok()?;
    let good = match kind {
        'b' => size == 1,
        'i' | 'u' => matches!(size, 1 | 2 | 4 | 8),
        'f' => matches!(size, 2 | 4 | 8 | 16),
        'c' => matches!(size, 8 | 16 | 32),
        'M' | 'm' => size == 8,
        'S' | 'V' | 'U' => true,
        _ => false,
    };
    let units = [
        "", "[Y]", "[M]", "[W]", "[D]", "[h]", "[m]", "[s]", "[ms]", "[us]", "[ns]", "[ps]", "[fs]", "[as]",
    ];
    let counted = unit.replacen(|c: char| c.is_ascii_digit(), "", 4);
    let unit_good = unit.is_empty() || matches!(kind, 'M' | 'm') && units.contains(&&*counted);
    let one = if kind == 'U' { 4 } else { 1 };
    (good && unit_good).then(|| size.checked_mul(one)).flatten()
}
