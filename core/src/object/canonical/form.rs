//! A form, and its bytes.

/// What equal values have in common.
#[derive(PartialEq, Debug)]
pub(crate) enum Form {
    /// An int: sign and magnitude.
    Int(bool, Vec<u8>),
    /// A float that is not integral: its bits.
    Float(u64),
    /// Anything else.
    Other(Vec<u8>),
}

/// Append bytes behind a tag and their length.
pub(super) fn sized(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Return the bytes of a form.
pub(super) fn bytes_of(form: Form) -> Vec<u8> {
    let mut out = Vec::new();
    match form {
        Form::Int(negative, magnitude) => sized(&mut out, if negative { b'-' } else { b'+' }, &magnitude),
        Form::Float(bits) => sized(&mut out, b'f', &bits.to_le_bytes()),
        Form::Other(bytes) => return bytes,
    }
    out
}
