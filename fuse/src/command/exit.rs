//! Exit codes, as mount(8) wants them.

/// Wrong usage.
pub(crate) const EX_USAGE: u8 = 1;
/// The system failed.
pub(crate) const EX_SYSTEM: u8 = 2;
/// The mount failed.
pub(crate) const EX_FAIL: u8 = 32;
/// Why there is no mount: the exit code and the message.
pub(crate) struct Failure(pub(crate) u8, pub(crate) String);

impl Failure {
    /// A failure with a message.
    pub(crate) fn new(code: u8, what: impl std::fmt::Display) -> Failure {
        Failure(code, what.to_string())
    }
}
