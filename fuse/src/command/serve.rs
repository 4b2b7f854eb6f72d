//! Serving a mounted store: open the store, mount it, answer requests, and close.
//!
//! 1. The process unmounts its mount only on a signal: after an unmount by another program, another filesystem may be
//!    at the mount point.

use super::exit::{EX_FAIL, EX_SYSTEM, Failure};
use super::monitor::Monitor;
use super::mounting::{self, How};
use crate::command::arguments::settings::Options;
use crate::fs::context::{Config, lock};
use crate::fs::error::errno;
use crate::fs::known::forgetting::{IsMonitored, Kernel};
use crate::fs::tree::filesystem::Fs;
use crate::kernel::sys;
use crate::protocol::dispatch;
use crate::views::mounted::Mounted;
use crate::watch::Watch;
use fuser::SessionACL;
use persist_core::store::{Durability, Store};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often unused views of snapshots are looked for, while there is anything to do.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// How often the store is maintained, in multiples of `TIDY_EVERY`.
const MAINTAIN_EVERY: u32 = 3;
/// The age of a change that no helper of the store has made durable: then the mount does.
const UNDURABLE: Duration = Duration::from_secs(2);
/// Threads that answer requests.
const WORKERS: usize = 4;

/// Open the store, mount it, and answer requests until it is unmounted. `ready` is called when the mount works.
pub(crate) fn serve(options: &Options, ready: impl FnOnce(())) -> Result<(), Failure> {
    sys::block_end_signals().map_err(|e| Failure::new(EX_SYSTEM, format!("blocking signals: {e}")))?;
    sys::return_freed_memory();
    let mut first = options.of_store(options.access());
    first.create = options.create;
    let store = Store::open(&options.store, &first).map_err(|e| Failure::new(EX_FAIL, e))?;
    let (uid, gid) = sys::ids();
    let config = Config {
        exact: options.exact,
        infer: options.infer,
        lockwait: options.lockwait,
        uid: options.uid.unwrap_or(uid),
        gid: options.gid.unwrap_or(gid),
        umask: options.umask,
        mountpoint: options.mountpoint.clone(),
    };
    let filesystem = Fs::new(store, config);
    filesystem.keep_log(true);
    let opening = {
        let (options, mounted) = (options.clone(), identity(&options.store));
        move |access| {
            if identity(&options.store) == mounted {
                return Ok(options.of_store(access));
            }
            log::error!(
                "{}: this is not the file that is mounted",
                options.store.display()
            );
            errno(libc::ESTALE)
        }
    };
    let filesystem = Arc::new(Mounted::new(filesystem, options.access(), Box::new(opening)));
    let mounted = mounting::mount(options)
        .map_err(|e| Failure::new(EX_FAIL, format!("mounting {}: {e}", options.mountpoint.display())));
    let device = match mounted {
        Ok(device) => device,
        Err(failure) => {
            filesystem.shutdown();
            return Err(failure);
        }
    };
    let told = device.try_clone();
    let session = dispatch::session(filesystem.clone(), device, WORKERS, users(options)).map_err(|e| {
        let _ = mounting::unmount(&options.mountpoint, How::Lazily);
        filesystem.shutdown();
        Failure::new(EX_FAIL, format!("starting FUSE: {e}"))
    })?;
    let watch = start_watch(options, &filesystem);
    start_helpers(options, &filesystem, watch.clone())?;
    if let Err(e) = start_leases(options, &filesystem, told) {
        log::warn!("the kernel keeps nothing of the mount, which is slower: {e}");
    }
    ready(());
    let result = session.run();
    stop_watch(&watch);
    filesystem.leases().end();
    filesystem.shutdown();
    result.map_err(|e| Failure::new(EX_SYSTEM, format!("FUSE: {e}")))
}

/// What tells a file from every other.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// The users whose requests are answered.
fn users(options: &Options) -> SessionACL {
    match (options.allow_other, options.allow_root) {
        (true, _) => SessionACL::All,
        (false, true) => SessionACL::RootAndOwner,
        (false, false) => SessionACL::Owner,
    }
}

/// Return what tells whether a monitor runs.
fn monitored(monitor: Monitor) -> IsMonitored {
    let monitor = Mutex::new(monitor);
    Box::new(move || lock(&monitor).is_running())
}

/// Let the kernel keep what leases cover, and start the thread that gives leases up. The environment variable
/// PERSIST_LEASES turns this off (`off`), or leases at once again what was wanted (`eager`): for tests. With
/// `allow_root` the mount refuses other users itself, and the kernel would show them what it keeps: it keeps nothing.
fn start_leases(options: &Options, filesystem: &Arc<Mounted>, device: io::Result<OwnedFd>) -> io::Result<()> {
    let mode = std::env::var_os("PERSIST_LEASES").unwrap_or_default();
    if mode == "off" || options.allow_root {
        return Ok(());
    }
    let device = device?;
    let monitor = match Monitor::start(&options.mountpoint) {
        Ok(Some(monitor)) => Some(monitor),
        Ok(None) => {
            log::info!(
                "the kernel keeps no names: no process may abort the connection, because {} is not mounted",
                "/sys/fs/fuse/connections"
            );
            None
        }
        Err(e) => {
            log::warn!("the kernel keeps no names: starting persist-monitor: {e}");
            None
        }
    };
    let pid = monitor.as_ref().map(Monitor::pid);
    let kernel = Kernel::new(device, monitor.map(monitored), mode == "eager");
    if !filesystem.leases().start(kernel)? {
        log::info!("the kernel keeps nothing: two other mounts do, or the store cannot be changed");
        return Ok(());
    }
    if let Some(pid) = pid {
        let filesystem = filesystem.clone();
        let waiting = std::thread::Builder::new().name("monitor".into());
        let started = waiting.spawn(move || {
            sys::wait_for_end_of_child(pid);
            filesystem.leases().notice_monitor();
        });
        if let Err(e) = started {
            log::warn!(
                "the end of persist-monitor is noticed with the next request only: starting a thread: {e}"
            );
        }
    }
    Ok(())
}

/// Start the replay of changes for inotify. The mount works without.
fn start_watch(options: &Options, filesystem: &Arc<Mounted>) -> Option<Arc<Watch>> {
    match Watch::start(filesystem.clone(), &options.mountpoint) {
        Ok(watch) => Some(Arc::new(watch)),
        Err(e) => {
            log::warn!("changes by other programs give no inotify events: {e}");
            None
        }
    }
}

fn stop_watch(watch: &Option<Arc<Watch>>) {
    if let Some(watch) = watch {
        watch.stop();
    }
}

/// Start the thread that unmounts on a signal and the thread that makes changes durable.
fn start_helpers(
    options: &Options,
    filesystem: &Arc<Mounted>,
    watch: Option<Arc<Watch>>,
) -> Result<(), Failure> {
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
            stop_watch(&watch);
            if mounting::unmount(&mountpoint, How::Unused).is_ok() {
                return;
            }
            // The mount is in use. It is unmounted lazily, and everything written so far is stored.
            if let Err(e) = mounting::unmount(&mountpoint, How::Lazily) {
                log::error!("unmounting {}: {e}", mountpoint.display());
            }
            // A thread that waits in the kernel would keep the process alive.
            ending.leases().end();
            ending.shutdown();
            std::process::exit(0);
        }),
    )?;
    // A store that is read-only at present has no changes to make durable.
    let (durable, timed) = (options.durability != Durability::None, filesystem.clone());
    let store = options.store.clone();
    spawn(
        "sync",
        Box::new(move || {
            let mut maintained = 0;
            for turn in 0u32.. {
                std::thread::sleep(TIDY_EVERY);
                timed.expire_views();
                if turn.is_multiple_of(MAINTAIN_EVERY) {
                    maintained = timed.change_count();
                    timed.tidy();
                }
                if durable
                    && timed.undurable_age() >= Some(UNDURABLE)
                    && let Err(e) = timed.sync()
                {
                    if e.is_closed() {
                        return;
                    }
                    log::error!("making changes durable: {}", e.message(&store));
                }
                timed.rest(maintained);
            }
        }),
    )?;
    Ok(())
}
