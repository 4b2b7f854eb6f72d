//! Exit codes, as mount(8) wants them.

use std::process::ExitCode;

/// Wrong usage.
const EX_USAGE: u8 = 1;
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

/// Print what the command line got wrong, or the help or version it asked for, and return the exit code.
pub(crate) fn told(told: &clap::Error) -> ExitCode {
    // A closed standard error is no reason to fail in another way.
    let _ = told.print();
    if told.use_stderr() {
        ExitCode::from(EX_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}
