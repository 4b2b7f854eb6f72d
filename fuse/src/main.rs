//! mount.persist: a persist store as a filesystem. `mount-persist STORE MOUNTPOINT [-o options]`.
//!
//! 1. The process forks before it starts a thread or opens the store. The parent waits for the
//!    child's verdict, so a mount that fails fails on the command line.
//! 2. Exit codes are mount(8)'s: 0, 1 (wrong usage), 2 (the system failed), 32 (the mount failed).
//! 3. What is mounted here is unmounted here only on a signal: after an umount from outside, the
//!    place is not ours any more.

// A mutex held through a `match` by accident would stop the mount.
#![warn(clippy::significant_drop_in_scrutinee)]

mod adapter;
mod dispatch;
mod fs;
mod mount;
mod mounted;
mod options;
mod replies;
mod sys;
mod umount;
mod views;

use fs::Fs;
use mounted::Mounted;
use options::Options;
use persist_core::store::{Durability, Options as StoreOptions, Store};
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Wrong usage.
const EX_USAGE: u8 = 1;
/// The system failed.
const EX_SYSTEM: u8 = 2;
/// The mount failed.
const EX_FAIL: u8 = 32;
/// How often views of snapshots are looked at that nobody uses.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// How often changes are made durable, in such turns.
const SYNC_EVERY: u32 = 3;
/// Threads that answer requests.
const WORKERS: usize = 4;

static LOGGER: Logger = Logger {
    to_syslog: AtomicBool::new(false),
};

/// Messages go to standard error, and to the system log once the process is in the background.
struct Logger {
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
            let priority = match record.level() {
                log::Level::Error => libc::LOG_ERR,
                log::Level::Warn => libc::LOG_WARNING,
                log::Level::Info => libc::LOG_INFO,
                _ => libc::LOG_DEBUG,
            };
            sys::syslog(priority, &format!("mount.persist: {}", record.args()));
        } else {
            sys::say(&format!("mount.persist: {}\n", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Why there is no mount: the exit code and the message.
struct Failure(u8, String);

impl Failure {
    fn new(code: u8, what: impl std::fmt::Display) -> Failure {
        Failure(code, what.to_string())
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|name| umount::is_called(&name)) {
        return umount::run(args);
    }
    let mut options = match options::parse(args) {
        Ok(options) => options,
        Err(message) => {
            sys::say(&if message.ends_with('\n') {
                message
            } else {
                format!("mount.persist: {message}\n")
            });
            return ExitCode::from(EX_USAGE);
        }
    };
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(if options.verbose {
            log::LevelFilter::Info
        } else {
            log::LevelFilter::Warn
        });
    }
    match run(&mut options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, message)) => {
            if !message.is_empty() {
                sys::say(&format!("mount.persist: {message}\n"));
            }
            ExitCode::from(code)
        }
    }
}

fn run(options: &mut Options) -> Result<(), Failure> {
    let at =
        |what: &std::path::Path, e: std::io::Error| Failure::new(EX_FAIL, format!("{}: {e}", what.display()));
    // Both paths absolute, before the working directory changes.
    options.mountpoint = options
        .mountpoint
        .canonicalize()
        .map_err(|e| at(&options.mountpoint, e))?;
    options.store = std::path::absolute(&options.store).map_err(|e| at(&options.store, e))?;
    if options.remount {
        return mount::remount(options).map_err(|e| at(&options.mountpoint, e));
    }
    match std::fs::metadata(&options.mountpoint) {
        Ok(there) if there.is_dir() => {}
        Ok(_) => {
            let what = format!("{} is no directory", options.mountpoint.display());
            return Err(Failure::new(EX_FAIL, what));
        }
        Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => {
            let what = "the process of the mount that is there has died: umount it first";
            return Err(at(&options.mountpoint, std::io::Error::other(what)));
        }
        Err(e) => return Err(at(&options.mountpoint, e)),
    }
    if options.foreground {
        return serve(options, |_| {});
    }
    let (reader, writer) = sys::pipe().map_err(|e| Failure::new(EX_SYSTEM, format!("pipe: {e}")))?;
    match sys::fork().map_err(|e| Failure::new(EX_SYSTEM, format!("fork: {e}")))? {
        sys::Fork::Parent => {
            drop(writer);
            let mut verdict = [0u8; 1];
            match std::fs::File::from(reader).read_exact(&mut verdict) {
                Ok(()) if verdict[0] == 0 => Ok(()),
                // The child has said why.
                Ok(()) => Err(Failure(verdict[0], String::new())),
                Err(_) => Err(Failure::new(EX_SYSTEM, "the mount's process died")),
            }
        }
        sys::Fork::Child => {
            drop(reader);
            sys::new_session();
            let mut pipe = std::fs::File::from(writer);
            let mut verdict = |code: u8| {
                // The parent may be gone; the mount stands all the same.
                let _ = pipe.write_all(&[code]);
            };
            let result = serve(options, |()| {
                LOGGER.to_syslog.store(true, Ordering::Relaxed);
                let _ = std::env::set_current_dir("/");
                verdict(0);
                let _ = sys::leave_terminal();
            });
            if let Err(Failure(code, message)) = &result {
                sys::say(&format!("mount.persist: {message}\n"));
                verdict(*code);
                return Err(Failure(*code, String::new()));
            }
            result
        }
    }
}

/// Opens the store, mounts it, and answers until it is unmounted. `ready` is called once it works.
fn serve(options: &Options, ready: impl FnOnce(())) -> Result<(), Failure> {
    sys::block_end_signals();
    let store_options = StoreOptions {
        read_only: options.read_only,
        create: options.create,
        durability: options.durability,
        max_age: options.max_age,
        lock_timeout: options.lockwait,
        snapshot: options.snapshot.clone(),
        ..StoreOptions::default()
    };
    let store = Store::open(&options.store, &store_options).map_err(|e| Failure::new(EX_FAIL, e))?;
    let (uid, gid) = sys::ids();
    let config = fs::Config {
        exact: options.exact,
        infer: options.infer,
        lockwait: options.lockwait,
        uid: options.uid.unwrap_or(uid),
        gid: options.gid.unwrap_or(gid),
        umask: options.umask,
        mountpoint: options.mountpoint.clone(),
    };
    let filesystem = Arc::new(Mounted::new(Fs::new(store.clone(), config)));
    let mounted = mount::mount(options)
        .map_err(|e| Failure::new(EX_FAIL, format!("mounting {}: {e}", options.mountpoint.display())));
    let device = match mounted {
        Ok(device) => device,
        Err(failure) => {
            filesystem.shutdown();
            return Err(failure);
        }
    };
    let session =
        dispatch::session(filesystem.clone(), device, WORKERS, options.allow_other).map_err(|e| {
            let _ = mount::unmount(&options.mountpoint, true);
            filesystem.shutdown();
            Failure::new(EX_FAIL, format!("starting FUSE: {e}"))
        })?;
    start_helpers(options, &filesystem, &store)?;
    ready(());
    let result = session.run();
    filesystem.shutdown();
    result.map_err(|e| Failure::new(EX_SYSTEM, format!("FUSE: {e}")))
}

/// The thread that unmounts on a signal, and the one that makes changes durable.
fn start_helpers(options: &Options, filesystem: &Arc<Mounted>, store: &Store) -> Result<(), Failure> {
    let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new()
            .name(name.into())
            .spawn(body)
            .map_err(|e| Failure::new(EX_SYSTEM, format!("starting a thread: {e}")))
    };
    let (mountpoint, ending) = (options.mountpoint.clone(), filesystem.clone());
    spawn(
        "signals",
        Box::new(move || {
            sys::wait_for_end_signal();
            if mount::unmount(&mountpoint, false).is_ok() {
                return;
            }
            // In use: it goes all the same, with everything written so far.
            if let Err(e) = mount::unmount(&mountpoint, true) {
                log::error!("unmounting {}: {e}", mountpoint.display());
            }
            ending.shutdown();
            std::process::exit(0);
        }),
    )?;
    let (durable, store, timed) = (
        options.durability != Durability::None && !options.read_only,
        store.clone(),
        filesystem.clone(),
    );
    spawn(
        "sync",
        Box::new(move || {
            let mut synced = store.change_count();
            loop {
                for _ in 0..SYNC_EVERY {
                    std::thread::sleep(TIDY_EVERY);
                    timed.tidy_views();
                }
                timed.tidy();
                let now = store.change_count();
                if durable && now != synced {
                    match timed.sync() {
                        Ok(()) => synced = now,
                        Err(e) if e.is_closed() => return,
                        Err(e) => log::error!("making changes durable: errno {}", e.errno()),
                    }
                }
            }
        }),
    )?;
    Ok(())
}
