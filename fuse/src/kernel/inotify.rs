//! Which inodes of a filesystem are watched by inotify: `/proc/PID/fdinfo` says it of each inotify descriptor.
//!
//! A process that ends, or that this one may not inspect, watches nothing as far as can be seen. Any other error says
//! nothing of what is watched: it is returned.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// Where the kernel's number of a device has its major number (`MKDEV`); `stat` shows another form.
const MAJOR_SHIFT: u32 = 20;

/// The kernel's number of a device, as `fdinfo` shows it.
pub(crate) fn kernel_device(device: u64) -> u64 {
    u64::from(libc::major(device)) << MAJOR_SHIFT | u64::from(libc::minor(device))
}

/// The inodes of a device that a process (or the one of this thread) watches. `device` is the kernel's number.
pub(crate) fn watched_by(pid: u32, device: u64) -> io::Result<HashSet<u64>> {
    let mut found = HashSet::new();
    let process = Path::new("/proc").join(pid.to_string());
    let Some(descriptors) = visible(fs::read_dir(process.join("fd")))? else {
        return Ok(found);
    };
    for descriptor in descriptors {
        let Some(descriptor) = visible(descriptor)? else {
            break;
        };
        let to = visible(fs::read_link(descriptor.path()))?.unwrap_or_default();
        let name = to.as_os_str().as_encoded_bytes();
        if name.starts_with(b"anon_inode:inotify") {
            let info = process.join("fdinfo").join(descriptor.file_name());
            visible(read_info(&info, device, &mut found))?;
        }
    }
    Ok(found)
}

/// None for what has ended or been closed by now, and for what this process may not inspect.
fn visible<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(seen) => Ok(Some(seen)),
        Err(e) => match e.raw_os_error() {
            // The path of an open file may be too long to be read.
            Some(libc::ENOENT | libc::ESRCH | libc::EACCES | libc::EPERM | libc::ENAMETOOLONG) => Ok(None),
            // By now the number is that of another file, whose text is none.
            None => Ok(None),
            Some(_) => Err(e),
        },
    }
}

fn read_info(path: &Path, device: u64, found: &mut HashSet<u64>) -> io::Result<()> {
    for line in BufReader::new(fs::File::open(path)?).lines() {
        found.extend(inode_of(&line?, device));
    }
    Ok(())
}

/// The inode of a line `inotify wd:1 ino:9e7e sdev:800013 mask:...`, if it is one of the device.
fn inode_of(line: &str, device: u64) -> Option<u64> {
    let mut fields = line.strip_prefix("inotify ")?.split(' ');
    let mut value = |name: &str| {
        let text = fields.find_map(|field| field.strip_prefix(name))?;
        u64::from_str_radix(text, 16).ok()
    };
    let ino = value("ino:")?;
    (value("sdev:")? == device).then_some(ino)
}

/// The processes that are visible.
pub(crate) fn processes() -> io::Result<Vec<u32>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        all.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    Ok(all)
}

/// The number of the process or thread that was started last. It differs after another was started.
pub(crate) fn last_started() -> io::Result<u32> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let last = text.split_ascii_whitespace().next_back();
    last.and_then(|word| word.parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/loadavg says {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn lines_of_other_devices_and_other_text_name_no_inode() {
        let line = "inotify wd:1 ino:9e7e sdev:3c mask:800afce ignored_mask:0 fhandle-bytes:8";
        assert_eq!(inode_of(line, 0x3c), Some(0x9e7e));
        assert_eq!(inode_of(line, 0x3d), None);
        for line in ["", "pos:\t0", "inotify wd:1", "inotify wd:1 ino:x sdev:3c"] {
            assert_eq!(inode_of(line, 0x3c), None, "{line}");
        }
    }

    #[test]
    fn a_watch_of_this_process_is_found() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let metadata = dir.path().metadata()?;
        let device = kernel_device(metadata.dev());
        let me = std::process::id();
        assert!(processes()?.contains(&me) && last_started()? > 0);
        assert!(!watched_by(me, device)?.contains(&metadata.ino()));
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(dir.path(), AddWatchFlags::IN_CREATE)?;
        // Filesystems with subvolumes show another device in stat.
        let found = watched_by(me, device)?;
        assert!(found.contains(&metadata.ino()) || found.is_empty(), "{found:?}");
        drop(inotify);
        assert!(!watched_by(me, device)?.contains(&metadata.ino()));
        Ok(())
    }

    #[test]
    fn only_what_is_gone_or_hidden_counts_as_nothing() {
        for code in [
            libc::ENOENT,
            libc::ESRCH,
            libc::EACCES,
            libc::EPERM,
            libc::ENAMETOOLONG,
        ] {
            let none = visible::<()>(Err(io::Error::from_raw_os_error(code)));
            assert!(matches!(none, Ok(None)), "{code}");
        }
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EIO] {
            let error = visible::<()>(Err(io::Error::from_raw_os_error(code)));
            assert_eq!(error.err().and_then(|e| e.raw_os_error()), Some(code));
        }
    }
}
