//! Whether a content that comes in pieces is text. A piece may begin or end inside a character.

/// A scan of a content from its beginning.
#[derive(Clone, Debug)]
pub(crate) struct TextScan {
    /// The number of bytes so far.
    seen: u64,
    /// The beginning of a character that the last piece cut.
    cut: Vec<u8>,
    is_text: bool,
}

impl Default for TextScan {
    fn default() -> TextScan {
        TextScan {
            seen: 0,
            cut: Vec::new(),
            is_text: true,
        }
    }
}

impl TextScan {
    /// Add the next piece.
    pub(crate) fn feed(&mut self, piece: &[u8]) {
        self.seen += piece.len() as u64;
        let mut rest = piece;
        while self.is_text && !self.cut.is_empty() {
            let Some((byte, after)) = rest.split_first() else {
                return;
            };
            rest = after;
            self.cut.push(*byte);
            match std::str::from_utf8(&self.cut) {
                Ok(_) => self.cut.clear(),
                Err(e) => self.is_text = e.error_len().is_none(),
            }
        }
        if self.is_text
            && let Err(e) = std::str::from_utf8(rest)
        {
            self.is_text = e.error_len().is_none();
            self.cut = rest[e.valid_up_to()..].to_vec();
        }
    }

    /// The number of bytes so far.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// True if the pieces so far can not be the beginning of a text.
    pub(crate) fn is_refuted(&self) -> bool {
        !self.is_text
    }

    /// True if the content is text.
    pub(crate) fn is_text(&self) -> bool {
        self.is_text && self.cut.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scanned(content: &[u8], cuts: &[usize]) -> TextScan {
        let mut scan = TextScan::default();
        let mut rest = content;
        for cut in cuts {
            let (piece, after) = rest.split_at(rest.len().min(*cut));
            scan.feed(piece);
            rest = after;
        }
        scan.feed(rest);
        assert_eq!(scan.seen(), content.len() as u64);
        scan
    }

    proptest! {
        #[test]
        fn a_text_in_pieces_is_text(text: String, cuts in prop::collection::vec(0usize..5, 0..40)) {
            let scan = scanned(text.as_bytes(), &cuts);
            prop_assert!(scan.is_text() && !scan.is_refuted());
        }

        #[test]
        fn it_agrees_with_a_look_at_the_whole(
            text in "[aä€𐍈]{0,12}",
            at in 0usize..48,
            byte: u8,
            cuts in prop::collection::vec(0usize..5, 0..40),
        ) {
            let mut content = text.into_bytes();
            let n = content.len().max(1);
            if let Some(changed) = content.get_mut(at % n) {
                *changed = byte;
            }
            let scan = scanned(&content, &cuts);
            prop_assert_eq!(scan.is_text(), std::str::from_utf8(&content).is_ok());
            prop_assert!(!scan.is_refuted() || !scan.is_text());
        }
    }
}
