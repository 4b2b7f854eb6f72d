//! The text of a str: generalized UTF-8, checked in parts.

use crate::error::{Error, Result};
use crate::page::access::PagesMut;

/// Message for bytes that cannot become a str.
pub const NOT_TEXT: &str = "a str that is not UTF-8 (nor surrogates as three bytes each)";

/// Bytes of text checked at a time, with a call of `yield_to_readers` after each part.
pub(super) const CHECKED: usize = 256 * 1024;

/// Return the number of bytes at the end that may be the beginning of a character.
pub(super) fn unfinished(bytes: &[u8]) -> usize {
    let last = bytes.iter().rev().take(3).position(|&b| b >= 0xC0);
    match last.map(|i| (i + 1, bytes[bytes.len() - i - 1])) {
        Some((n, lead)) => {
            let whole = if lead >= 0xF0 {
                4
            } else if lead >= 0xE0 {
                3
            } else {
                2
            };
            if n < whole { n } else { 0 }
        }
        None => 0,
    }
}

/// Return whether the bytes are generalized UTF-8: surrogates as three bytes each, paired or not.
#[must_use]
pub fn is_text(bytes: &[u8]) -> bool {
    if bytes.is_ascii() {
        return true;
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        match text_prefix(rest) {
            Some(n) => rest = &rest[n..],
            None => return false,
        }
    }
    true
}

pub(super) fn check_text<W: PagesMut>(w: &mut W, bytes: &[u8]) -> Result<()> {
    let (mut at, mut next_yield) = (0, CHECKED / 2);
    while at < bytes.len() {
        let Some(n) = text_prefix(&bytes[at..]) else {
            return Err(Error::invalid(NOT_TEXT));
        };
        at += n;
        if at >= next_yield {
            next_yield = at + CHECKED / 2;
            w.yield_to_readers()?;
        }
    }
    Ok(())
}

/// Return the length (not 0) of the text at the beginning; None if the bytes do not begin with text.
fn text_prefix(bytes: &[u8]) -> Option<usize> {
    let part = &bytes[..bytes.len().min(CHECKED)];
    let Err(e) = std::str::from_utf8(part) else {
        return Some(part.len());
    };
    let n = e.valid_up_to();
    match bytes[n..] {
        [0xED, 0xA0..=0xBF, 0x80..=0xBF, ..] => Some(n + 3),
        // The end of the part cuts a character.
        _ => (n > 0 && e.error_len().is_none() && part.len() < bytes.len()).then_some(n),
    }
}
