//! mount.persist: a persist store as a filesystem. `mount-persist STORE MOUNTPOINT [-o options]`.
//!
//! A folder imports only folders before it:
//!
//! - `kernel`: system calls, and information from `/proc` about processes. The only unsafe code.
//! - `fs`: the filesystem over a store, without a kernel.
//! - `views`: the mounted store, and its snapshots under `/.persist/snapshots`.
//! - `protocol`: requests and answers in FUSE's types.
//! - `watch`: inotify events for changes that other processes make in the store.
//! - `command`: the command line, going into the background, mounting and unmounting.

// A mutex that is accidentally held through a `match` would block the mount.
#![warn(clippy::significant_drop_in_scrutinee)]
#![deny(unsafe_code)]

mod command;
mod fs;
mod kernel;
mod protocol;
mod views;
mod watch;

use command::arguments::options;
use command::exit::{self, Failure};
use command::logger::LOGGER;
use command::{monitor, run, umount};
use kernel::sys;
use std::process::ExitCode;
use watch::replayer;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if umount::is_called(&name) {
        return umount::run(args);
    }
    if monitor::is_called(&name) {
        return monitor::run(args);
    }
    if replayer::is_called(&name) {
        return replayer::run(args);
    }
    let mut options = match options::parse(args) {
        Ok(options) => options,
        Err(told) => return exit::usage(&told),
    };
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(if options.verbose {
            log::LevelFilter::Info
        } else {
            log::LevelFilter::Warn
        });
    }
    match run::run(&mut options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, message)) => {
            if !message.is_empty() {
                sys::write_stderr(&format!("mount.persist: {message}\n"));
            }
            ExitCode::from(code)
        }
    }
}
