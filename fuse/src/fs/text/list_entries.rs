//! Names in the directory of a list: numbers, places (`@0`, `@-1`), and the temporary names of files that will be
//! renamed.

use super::keys::OwnedKey;

/// The number that a name in a list denotes: decimal without leading zeros.
pub(crate) fn number_of(name: &[u8]) -> Option<u64> {
    if name.is_empty() || name.len() > 18 || (name[0] == b'0' && name.len() > 1) {
        return None;
    }
    name.iter().try_fold(0u64, |n, c| {
        c.is_ascii_digit().then(|| n * 10 + u64::from(c - b'0'))
    })
}

/// The index that a name like `@0` denotes, or the one counted from the end (`@-1`: the last item).
pub(crate) fn place_of(name: &[u8]) -> Option<i64> {
    let rest = name.strip_prefix(b"@")?;
    let (sign, digits) = match rest.strip_prefix(b"-") {
        Some(digits) => (-1, digits),
        None => (1, rest),
    };
    let n = i64::try_from(number_of(digits)?).ok()?;
    (sign > 0 || n > 0).then_some(sign * n)
}

/// True for names that editors and other tools give to files before they rename them, and to backups: in a list such
/// files are kept beside the items. (`.x.swp`, `.0.AbCdEf`, `0~`, `0.bak`, `sedAbCdEf`, perl's `XXAbCdEf`, `#0#`, and
/// the names of `mktemp` and of Python's `tempfile`)
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    let random = |prefix: &[u8], len: usize| {
        name.strip_prefix(prefix)
            .is_some_and(|r| r.len() == len && r.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_'))
    };
    let suffixes: [&[u8]; 5] = [b"~", b".tmp", b".bak", b".orig", b".swp"];
    name.starts_with(b".")
        || suffixes.iter().any(|s| name.ends_with(s))
        || (name.starts_with(b"#") && name.ends_with(b"#"))
        || random(b"sed", 6)
        || random(b"XX", 6)
        || random(b"tmp", 6)
        || random(b"tmp", 8)
        || random(b"tmp.", 10)
}

/// The name of an entry beside a list, by its key in the dict of waiting entries: a number for an item, a text for a
/// temporary file.
pub(crate) fn name_beside(key: &OwnedKey) -> Vec<u8> {
    match key {
        OwnedKey::Int(n) => n.to_string().into_bytes(),
        OwnedKey::Str(text) => text.clone(),
        other => super::names::name_of(other),
    }
}

/// The key of a waiting item in the dict of waiting entries.
pub(crate) fn key_beside(number: u64) -> OwnedKey {
    // A number has at most 18 digits.
    OwnedKey::Int(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_places_and_temporary_names() {
        assert_eq!(number_of(b"0"), Some(0));
        assert_eq!(number_of(b"123"), Some(123));
        for bad in ["", "01", "-1", "1a", "9999999999999999999"] {
            assert_eq!(number_of(bad.as_bytes()), None);
        }
        assert_eq!(place_of(b"@0"), Some(0));
        assert_eq!(place_of(b"@12"), Some(12));
        assert_eq!(place_of(b"@-1"), Some(-1));
        for bad in ["@", "@-0", "@-", "@01", "0", "@x", "@@1"] {
            assert_eq!(place_of(bad.as_bytes()), None, "{bad}");
        }
        for name in [
            ".0.AbCdEf",
            ".0.swp",
            "0~",
            "sedAb12Ef",
            "XXq_w1e2",
            "tmp.AbCdEfGhIj",
            "tmpab_cdefg",
            "0.orig",
        ] {
            assert!(is_temporary(name.as_bytes()), "{name}");
        }
        for name in ["0", "4913", "name", "sediment", "sed", "tmp", "tmpdir"] {
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
    }
}
