//! The logger: standard error or the system log.

use crate::kernel::sys;
use nix::syslog::Severity;
use std::sync::atomic::{AtomicBool, Ordering};

/// The logger of the process.
pub(crate) static LOGGER: Logger = Logger {
    to_syslog: AtomicBool::new(false),
};

/// Messages go to standard error, and to the system log once the process is in the background.
pub(crate) struct Logger {
    to_syslog: AtomicBool,
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if self.to_syslog.load(Ordering::Relaxed) {
            let severity = match record.level() {
                log::Level::Error => Severity::LOG_ERR,
                log::Level::Warn => Severity::LOG_WARNING,
                log::Level::Info => Severity::LOG_INFO,
                _ => Severity::LOG_DEBUG,
            };
            sys::syslog(severity, &format!("mount.persist: {}", record.args()));
        } else {
            sys::write_stderr(&format!("mount.persist: {}\n", record.args()));
        }
    }

    fn flush(&self) {}
}

impl Logger {
    /// Send messages to the system log from now on.
    pub(crate) fn use_syslog(&self) {
        self.to_syslog.store(true, Ordering::Relaxed);
    }
}
