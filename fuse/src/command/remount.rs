//! `-o remount`: change the options of the kernel of a mount that is there, and tell its process.
//!
//! 1. The store is open for writing before the kernel admits changes, and until it admits none.
//! 2. A remount that fails leaves the kernel's options as they were, as far as `ro` and `rw` are concerned.

use super::exit::{EX_FAIL, EX_USAGE, Failure};
use super::mounting;
use crate::command::arguments::settings::Options;
use crate::kernel::mounts::{self, is_same_file};
use crate::kernel::sys;
use nix::mount::MsFlags;
use std::fs::File;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// The kernel refuses a read-only remount while a file is open for writing. The replay of a change for inotify opens
/// one for some microseconds.
const BUSY_MOST: Duration = Duration::from_secs(1);
const TRY_EVERY: Duration = Duration::from_millis(1);

/// Change the options of the mount.
pub(crate) fn remount(options: &Options) -> Result<(), Failure> {
    let place = options.mountpoint.display();
    let failed = |what: String| Failure::new(EX_FAIL, format!("remounting {place}: {what}"));
    if !sys::is_root() {
        return Err(Failure::new(
            EX_USAGE,
            format!("remounting {place}: only root may do this"),
        ));
    }
    match mounts::at(&options.mountpoint).map_err(|e| failed(e.to_string()))? {
        None => return Err(failed("no store is mounted there".into())),
        Some(there) if !is_same_file(&there.source, &options.store) => {
            let (is, named) = (there.source.display(), options.store.display());
            return Err(failed(format!("the store there is {is}, not {named}")));
        }
        Some(_) => {}
    }
    if options.fake {
        return Ok(());
    }
    let control = File::open(options.mountpoint.join(".persist/stat"))
        .map_err(|e| failed(format!("asking the mount's process: {e}")))?;
    let announce = || {
        options.access().send(&control).map_err(|e| {
            let why = match e.raw_os_error() {
                Some(libc::EBUSY) => ": locks are held or awaited through this mount (`persist locks STORE`)",
                Some(libc::ESTALE) => ": another file is at the path of the store",
                Some(libc::EROFS) => ": it is a snapshot, or on a read-only filesystem",
                Some(libc::ENOTTY) => {
                    ": the mount's process is of a version without remounts: umount, mount again"
                }
                _ => "",
            };
            failed(format!("opening the store: {e}{why}"))
        })
    };
    let kernel =
        |flags| when_not_busy(|| mounting::remount(options, flags)).map_err(|e| failed(e.to_string()));
    if !options.read_only {
        announce()?;
        return kernel(options.flags);
    }
    kernel(options.flags)?;
    announce().inspect_err(|_| {
        // An error of this second change would hide the first.
        let _ = kernel(options.flags - MsFlags::MS_RDONLY);
    })
}

/// Try again for a while what fails because the mount is in use.
fn when_not_busy(f: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match f() {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && begun.elapsed() < BUSY_MOST => {
                thread::sleep(TRY_EVERY);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn nothing_is_mounted_there() {
        let home = std::env::temp_dir();
        let options = Options::new(PathBuf::from("/no.store"), home);
        let failure = remount(&options);
        assert!(failure.is_err_and(|Failure(code, text)| code == EX_FAIL
            && text.contains("no store is mounted")
            || code == EX_USAGE && text.contains("only root")));
    }
}
