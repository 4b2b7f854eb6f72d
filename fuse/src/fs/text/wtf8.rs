//! The bytes of a str: UTF-8 that may also contain lone surrogates.

/// True for UTF-8 that may also contain lone surrogates as their three bytes.
pub(crate) fn is_wtf8(mut bytes: &[u8]) -> bool {
    loop {
        match std::str::from_utf8(bytes) {
            Ok(_) => return true,
            Err(e) => {
                let rest = &bytes[e.valid_up_to()..];
                let surrogate =
                    rest.len() >= 3 && rest[0] == 0xED && rest[1] & 0xE0 == 0xA0 && rest[2] & 0xC0 == 0x80;
                if !surrogate {
                    return false;
                }
                bytes = &rest[3..];
            }
        }
    }
}
