//! The identity that a sidecar is bound to: the boot of the machine, and the attachment of the disk that
//! holds the file.
//!
//! 1. All processes that may share a store read the same two numbers, in every mount or process namespace. So
//!    neither is derived from a mount number, which differs between namespaces.
//! 2. A number that cannot be read is an error, and not replaced by another value: otherwise processes that
//!    can and that cannot read it would take each other's sidecars for stale ones.
//! 3. The attachment is the kernel's sequence number of the block device (`diskseq`). It changes when a disk
//!    is removed and reattached, or when a loop device gets another file. For a filesystem of several
//!    devices, one number is computed from all of them. 0 means that the filesystem has no known block device
//!    (tmpfs, overlay), that `/sys` is missing, or that the kernel is older than 5.15.

use crate::error::{Error, Result};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Return the number from this environment variable, for tests.
fn pretended(variable: &str) -> Option<u64> {
    if cfg!(any(test, feature = "testing")) {
        return std::env::var(variable).ok()?.parse().ok();
    }
    None
}

/// Return a number that identifies this boot of the machine; not 0.
pub(crate) fn boot_id() -> Result<u64> {
    if let Some(id) = pretended("PERSIST_BOOT") {
        return Ok(id);
    }
    let cannot = |why: &str, source: io::Error| {
        Error::io(
            format!(
                "cannot tell which boot of the machine this is, since {BOOT_ID} {why}; a store that processes have \
                 left could not be told from one of before a restart: make /proc readable, or raise the limit that \
                 the error names"
            ),
            source,
        )
    };
    let text = std::fs::read_to_string(BOOT_ID).map_err(|e| cannot("cannot be read", e))?;
    match boot_number(&text) {
        Some(id) => Ok(id),
        None => Err(cannot(
            "holds no boot id",
            io::Error::from_raw_os_error(libc::EINVAL),
        )),
    }
}

fn boot_number(text: &str) -> Option<u64> {
    let text = text.trim();
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
        && text.bytes().any(|b| b != b'0' && b != b'-');
    is_uuid.then(|| xxh3_64(text.as_bytes()).max(1))
}

/// Return a number that identifies this attachment of the disk that holds a file; 0: unknown.
pub(crate) fn attachment(file: &File) -> Result<u64> {
    if let Some(id) = pretended("PERSIST_DISKSEQ") {
        return Ok(id);
    }
    attachment_of(file).map_err(|e| {
        Error::io(
            "cannot tell which attachment of its disk the store lies on (diskseq in /sys/dev/block); make /sys \
             readable, or raise the limit that the error names",
            e,
        )
    })
}

fn attachment_of(file: &File) -> io::Result<u64> {
    let dev = file.metadata()?.dev();
    let (major, minor) = (libc::major(dev), libc::minor(dev));
    if major != 0 {
        let seq = sequence(Path::new(&format!("/sys/dev/block/{major}:{minor}")))?;
        return Ok(seq.map_or(0, |seq| named(&[(dev, seq)])));
    }
    let Some(uuid) = btrfs_uuid(file) else {
        return Ok(0);
    };
    let mut all = Vec::new();
    let devices = match std::fs::read_dir(format!("/sys/fs/btrfs/{uuid}/devices")) {
        Ok(devices) => devices,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    for device in devices {
        if let Some(seq) = sequence(&device?.path())? {
            all.push((0, seq));
        }
    }
    all.sort_unstable();
    Ok(if all.is_empty() { 0 } else { named(&all) })
}

fn named(all: &[(u64, u64)]) -> u64 {
    let bytes: Vec<u8> = all
        .iter()
        .flat_map(|(dev, seq)| [dev.to_le_bytes(), seq.to_le_bytes()].concat())
        .collect();
    xxh3_64(&bytes).max(1)
}

/// Return the sequence number of a block device, by its directory in `/sys`. A partition has that of its
/// disk.
fn sequence(device: &Path) -> io::Result<Option<u64>> {
    for place in [PathBuf::from("diskseq"), Path::new("..").join("diskseq")] {
        match std::fs::read_to_string(device.join(place)) {
            Ok(text) => {
                let number = text.trim().parse();
                return number
                    .map(Some)
                    .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
            }
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// Return the uuid of the Btrfs that holds a file; None for other filesystems.
fn btrfs_uuid(file: &File) -> Option<String> {
    const FS_INFO: u64 = 0x8400_941f;
    let mut info = [0u8; 1024];
    // SAFETY: the kernel writes at most 1024 bytes, the size encoded in the request's number.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), FS_INFO as _, info.as_mut_ptr()) };
    if done != 0 {
        return None;
    }
    let hex: String = info[16..32].iter().map(|b| format!("{b:02x}")).collect();
    Some(format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_a_uuid_or_an_error() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        let good = "0f1c2e3d-4b5a-4678-9abc-def012345678";
        assert!(boot_number(good).is_some());
        assert_eq!(boot_number(good), boot_number(&format!("{good}\n")));
        for bad in ["", "\n", "0", &good[1..], "00000000-0000-0000-0000-000000000000"] {
            assert_eq!(boot_number(bad), None, "{bad:?}");
        }
    }

    /// A path that cannot exist is not taken for a device without a number.
    #[test]
    fn an_attachment_is_the_same_each_time() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(attachment(&file).unwrap(), attachment(&file).unwrap());
        assert_eq!(sequence(Path::new("/sys/dev/block/none")).unwrap(), None);
        assert_ne!(named(&[(1, 2)]), named(&[(1, 3)]));
    }
}
