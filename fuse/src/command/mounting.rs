//! Mounting and unmounting: by mount(2) as root, otherwise through fusermount3.
//!
//! The FUSE library does not do this, for two reasons. The type of the filesystem is `fuse.persist`. No mount is
//! unmounted twice: after an unmount by another program, another filesystem may be mounted there.

use crate::command::arguments::settings::Options;
use crate::kernel::mounts::KIND;
use crate::kernel::sys;
use nix::mount::MsFlags;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// Mount the store. Returns the descriptor on which the kernel sends requests.
pub(crate) fn mount(options: &Options) -> io::Result<OwnedFd> {
    if sys::is_root() {
        by_kernel(options)
    } else {
        by_fusermount(options)
    }
}

fn by_kernel(options: &Options) -> io::Result<OwnedFd> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(|e| io::Error::new(e.kind(), format!("/dev/fuse: {e} (is the fuse module loaded?)")))?;
    let (uid, gid) = sys::ids();
    let mut data = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={gid}",
        device.as_raw_fd()
    );
    for (on, text) in [
        (options.allow_other || options.allow_root, ",allow_other"),
        (options.default_permissions, ",default_permissions"),
    ] {
        if on {
            data.push_str(text);
        }
    }
    sys::mount(
        options.store.as_os_str(),
        &options.mountpoint,
        KIND,
        options.flags,
        &data,
    )?;
    Ok(device.into())
}

fn by_fusermount(options: &Options) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    sys::make_inheritable(theirs.as_fd())?;
    // A comma or backslash in the name would end the option.
    let name = options
        .store
        .display()
        .to_string()
        .replace('\\', "\\\\")
        .replace(',', "\\,");
    let mut list = vec![format!("fsname={name}"), "subtype=persist".to_owned()];
    list.extend(options.generic.iter().cloned());
    // The kernel knows allow_other only. Which requests are answered is decided by `protocol::dispatch`.
    if options.allow_other || options.allow_root {
        list.push("allow_other".into());
    }
    if options.default_permissions {
        list.push("default_permissions".into());
    }
    let child = Command::new("fusermount3")
        .args(["-o", &list.join(","), "--"])
        .arg(&options.mountpoint)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| io::Error::new(e.kind(), format!("fusermount3 (from the package fuse3): {e}")))?;
    drop(theirs);
    let received = sys::receive_fd(&ours);
    let output = child.wait_with_output()?;
    match received {
        Ok(fd) if output.status.success() => Ok(fd),
        _ => Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
    }
}

/// Change the flags of an existing mount.
pub(crate) fn remount(options: &Options, flags: MsFlags) -> io::Result<()> {
    sys::mount(
        options.store.as_os_str(),
        &options.mountpoint,
        KIND,
        flags | MsFlags::MS_REMOUNT,
        "",
    )
}

/// How to unmount.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum How {
    /// Only if the mount is not in use.
    Unused,
    /// Now; the mount ends when it is no longer in use.
    Lazily,
    /// Only if it is not in use, but without the mount's process: its requests end with an error.
    ByForce,
}

/// Unmount.
pub(crate) fn unmount(mountpoint: &Path, how: How) -> io::Result<()> {
    if sys::is_root() {
        return sys::unmount(mountpoint, how == How::Lazily, how == How::ByForce);
    }
    let mut command = Command::new("fusermount3");
    command.arg("-u").arg("-q");
    if how == How::Lazily {
        command.arg("-z");
    }
    match command.arg("--").arg(mountpoint).status()?.success() {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EBUSY)),
    }
}
