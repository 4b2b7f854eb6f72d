//! Serving a mounted store: open the store, mount it, answer requests, and close.
//!
//! 1. The process unmounts its mount only on a signal: after an unmount by another program, another filesystem may be
//!    at the mount point.

use super::exit::{EX_FAIL, EX_SYSTEM, Failure};
use super::mounting;
use super::settings::Options;
use crate::fs::context::Config;
use crate::fs::tree::filesystem::Fs;
use crate::kernel::sys;
use crate::protocol::dispatch;
use crate::views::mounted::Mounted;
use persist_core::store::{Durability, Options as StoreOptions, Store};
use std::sync::Arc;
use std::time::Duration;

/// How often unused views of snapshots are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// How often changes are made durable, in multiples of `TIDY_EVERY`.
const SYNC_EVERY: u32 = 3;
/// Threads that answer requests.
const WORKERS: usize = 4;

/// Open the store, mount it, and answer requests until it is unmounted. `ready` is called when the mount works.
pub(crate) fn serve(options: &Options, ready: impl FnOnce(())) -> Result<(), Failure> {
    sys::block_end_signals().map_err(|e| Failure::new(EX_SYSTEM, format!("blocking signals: {e}")))?;
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
    let config = Config {
        exact: options.exact,
        infer: options.infer,
        lockwait: options.lockwait,
        uid: options.uid.unwrap_or(uid),
        gid: options.gid.unwrap_or(gid),
        umask: options.umask,
        mountpoint: options.mountpoint.clone(),
    };
    let filesystem = Fs::new(store.clone(), config);
    filesystem.keep_log(true);
    let filesystem = Arc::new(Mounted::new(filesystem));
    let mounted = mounting::mount(options)
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
            let _ = mounting::unmount(&options.mountpoint, true);
            filesystem.shutdown();
            Failure::new(EX_FAIL, format!("starting FUSE: {e}"))
        })?;
    start_helpers(options, &filesystem, &store)?;
    ready(());
    let result = session.run();
    filesystem.shutdown();
    result.map_err(|e| Failure::new(EX_SYSTEM, format!("FUSE: {e}")))
}

/// Start the thread that unmounts on a signal and the thread that makes changes durable.
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
            if mounting::unmount(&mountpoint, false).is_ok() {
                return;
            }
            // The mount is in use. It is unmounted lazily, and everything written so far is stored.
            if let Err(e) = mounting::unmount(&mountpoint, true) {
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
                    timed.expire_views();
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
