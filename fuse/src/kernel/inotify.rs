//! Which inodes of a filesystem are watched by inotify: `/proc/PID/fdinfo` says it of each inotify descriptor.
//!
//! A process that ends, or that this one may not inspect, watches nothing as far as can be seen.

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
pub(crate) fn watched_by(pid: u32, device: u64) -> HashSet<u64> {
    let mut found = HashSet::new();
    let process = Path::new("/proc").join(pid.to_string());
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return found;
    };
    for descriptor in descriptors.flatten() {
        let inotify = fs::read_link(descriptor.path()).is_ok_and(|to| {
            to.as_os_str()
                .as_encoded_bytes()
                .starts_with(b"anon_inode:inotify")
        });
        if inotify {
            // The descriptor may be closed by now.
            let _ = read_info(
                &process.join("fdinfo").join(descriptor.file_name()),
                device,
                &mut found,
            );
        }
    }
    found
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
pub(crate) fn processes() -> Vec<u32> {
    let Ok(all) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The number of the process or thread that was started last. It differs after another was started.
pub(crate) fn last_started() -> Option<u32> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().next_back()?.parse().ok()
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
        assert!(processes().contains(&me) && last_started().is_some());
        assert!(!watched_by(me, device).contains(&metadata.ino()));
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(dir.path(), AddWatchFlags::IN_CREATE)?;
        // Filesystems with subvolumes show another device in stat.
        let found = watched_by(me, device);
        assert!(found.contains(&metadata.ino()) || found.is_empty(), "{found:?}");
        drop(inotify);
        assert!(!watched_by(me, device).contains(&metadata.ino()));
        Ok(())
    }
}
