//! Names in the directory of a list: indices, and the temporary names of files that will be renamed.

/// The index that a name in a list denotes: decimal without leading zeros.
pub(crate) fn index_of(name: &[u8]) -> Option<u64> {
    if name.is_empty() || name.len() > 18 || (name[0] == b'0' && name.len() > 1) {
        return None;
    }
    name.iter().try_fold(0u64, |n, c| {
        c.is_ascii_digit().then(|| n * 10 + u64::from(c - b'0'))
    })
}

/// True for names that editors and copy tools give to files before they rename them: in a list such files are kept
/// beside the items. (`.x.swp`, `.0.AbCdEf`, `0~`, `sedAbCdEf`, perl's `XXAbCdEf`, `#0#`)
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    let random = |prefix: &[u8]| {
        name.strip_prefix(prefix)
            .is_some_and(|r| r.len() == 6 && r.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_'))
    };
    name.starts_with(b".")
        || name.ends_with(b"~")
        || name.ends_with(b".tmp")
        || name.ends_with(b".bak")
        || (name.starts_with(b"#") && name.ends_with(b"#"))
        || random(b"sed")
        || random(b"XX")
        || random(b"tmp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_and_temporary_names() {
        assert_eq!(index_of(b"0"), Some(0));
        assert_eq!(index_of(b"123"), Some(123));
        for bad in ["", "01", "-1", "1a", "9999999999999999999"] {
            assert_eq!(index_of(bad.as_bytes()), None);
        }
        for name in [".0.AbCdEf", ".0.swp", "0~", "sedAb12Ef", "XXq_w1e2"] {
            assert!(is_temporary(name.as_bytes()), "{name}");
        }
        for name in ["0", "4913", "name", "sediment", "sed"] {
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
    }
}
