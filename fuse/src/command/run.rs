//! The mount command: check the paths, go into the background, serve.
//!
//! 1. The process forks before it starts a thread or opens the store. The parent waits for the child's result, so that
//!    a failed mount fails on the command line.

use super::exit::{EX_FAIL, EX_SYSTEM, Failure};
use super::logger::LOGGER;
use super::remount::remount;
use super::serve::serve;
use crate::command::arguments::settings::Options;
use crate::kernel::{mounts, sys};
use nix::unistd::ForkResult;
use std::io::{self, Read, Write};

/// Mount a store according to the options.
pub(crate) fn run(options: &mut Options) -> Result<(), Failure> {
    let at =
        |what: &std::path::Path, e: std::io::Error| Failure::new(EX_FAIL, format!("{}: {e}", what.display()));
    // Make both paths absolute before the working directory changes.
    options.mountpoint = options.mountpoint.canonicalize().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            let what = format!(
                "the mountpoint {} does not exist: make this directory",
                options.mountpoint.display()
            );
            Failure::new(EX_FAIL, what)
        }
        _ => at(&options.mountpoint, e),
    })?;
    options.store = std::path::absolute(&options.store).map_err(|e| at(&options.store, e))?;
    if options.remount {
        return remount(options);
    }
    match std::fs::metadata(&options.mountpoint) {
        Ok(there) if there.is_dir() => refuse_own_mount(options, &there)?,
        Ok(_) => {
            let what = format!(
                "the mountpoint {} is not a directory: choose another place",
                options.mountpoint.display()
            );
            return Err(Failure::new(EX_FAIL, what));
        }
        Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => {
            let what = "the process of the mount that is there has died: umount it first";
            return Err(at(&options.mountpoint, std::io::Error::other(what)));
        }
        Err(e) => return Err(at(&options.mountpoint, e)),
    }
    refuse_missing_store(options)?;
    if options.fake {
        return Ok(());
    }
    if options.foreground {
        return serve(options, |_| {});
    }
    let (mut reader, mut writer) =
        std::io::pipe().map_err(|e| Failure::new(EX_SYSTEM, format!("pipe: {e}")))?;
    match sys::fork().map_err(|e| Failure::new(EX_SYSTEM, format!("fork: {e}")))? {
        ForkResult::Parent { .. } => {
            drop(writer);
            let mut verdict = [0u8; 1];
            match reader.read_exact(&mut verdict) {
                Ok(()) if verdict[0] == 0 => Ok(()),
                // The child has printed the reason.
                Ok(()) => Err(Failure(verdict[0], String::new())),
                Err(_) => Err(Failure::new(EX_SYSTEM, "the mount's process died")),
            }
        }
        ForkResult::Child => {
            drop(reader);
            sys::new_session();
            let mut verdict = |code: u8| {
                // The parent may have ended. The mount does not depend on it.
                let _ = writer.write_all(&[code]);
            };
            let result = serve(options, |()| {
                LOGGER.use_syslog();
                let _ = std::env::set_current_dir("/");
                verdict(0);
                let _ = sys::leave_terminal();
            });
            if let Err(Failure(code, message)) = &result {
                sys::write_stderr(&format!("mount.persist: {message}\n"));
                verdict(*code);
                return Err(Failure(*code, String::new()));
            }
            result
        }
    }
}

/// A store is not mounted over its own mount, or on a directory that it shows.
fn refuse_own_mount(options: &Options, directory: &std::fs::Metadata) -> Result<(), Failure> {
    let fails = |what: String| Failure::new(EX_FAIL, what);
    let found = mounts::holding(&options.store, directory)
        .map_err(|e| fails(format!("/proc/self/mountinfo: {e}")))?;
    let Some(mount) = found else { return Ok(()) };
    let (store, place, here) = (
        options.store.display(),
        mount.point.display(),
        options.mountpoint.display(),
    );
    Err(fails(if mount.point == options.mountpoint {
        format!("{store} is mounted on {place} already: umount it first, or choose another directory")
    } else {
        format!("{here} belongs to the mount of {store} on {place}: choose a directory outside of it")
    }))
}

/// A missing store is made only if that was asked for: a mistyped path must not become a new store.
fn refuse_missing_store(options: &Options) -> Result<(), Failure> {
    let store = options.store.display();
    match std::fs::metadata(&options.store) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => match (options.create, options.read_only) {
            (true, false) => Ok(()),
            (true, true) => {
                let what = format!("{store} does not exist, and a read-only mount makes no store");
                Err(Failure::new(EX_FAIL, what))
            }
            (false, _) => {
                let what = format!("{store} does not exist; the mount option create makes a new store");
                Err(Failure::new(EX_FAIL, what))
            }
        },
        // Opening says what is wrong.
        _ => Ok(()),
    }
}
