//! Exit codes, as mount(8) defines them.

use std::process::ExitCode;

/// Wrong usage, or no permission.
pub(crate) const EX_USAGE: u8 = 1;
/// The system failed.
pub(crate) const EX_SYSTEM: u8 = 2;
/// The mount failed.
pub(crate) const EX_FAIL: u8 = 32;
/// Why the mount failed: the exit code and the message.
pub(crate) struct Failure(pub(crate) u8, pub(crate) String);

impl Failure {
    /// A failure with a message.
    pub(crate) fn new(code: u8, what: impl std::fmt::Display) -> Failure {
        Failure(code, what.to_string())
    }
}

/// Print the error of the command line, or the help or version text that it asks for, and return the exit code.
pub(crate) fn usage(usage: &clap::Error) -> ExitCode {
    // An error of standard error (it may be closed) does not change the exit code.
    let _ = usage.print();
    if usage.use_stderr() {
        ExitCode::from(EX_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}
