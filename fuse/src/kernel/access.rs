//! The ioctl by which the command `mount -o remount` tells the mount's process how the kernel now shows the mount.

use super::sys;
use std::fs::File;
use std::io;

/// How a mount may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Access {
    /// Changes are refused.
    pub(crate) read_only: bool,
    /// Each change is durable when its call returns.
    pub(crate) sync: bool,
}

impl Access {
    /// Tell the process of the mount to which the file belongs. Returns when the process has opened the store so.
    pub(crate) fn send(self, file: &File) -> io::Result<()> {
        sys::set_access(file, u32::from(self.read_only) | u32::from(self.sync) << 1)
    }

    /// The access that an ioctl tells; None if it is another ioctl.
    pub(crate) fn decode(request: u32, data: &[u8]) -> Option<Access> {
        let word = u32::from_ne_bytes(data.try_into().ok()?);
        (u64::from(request) == sys::SET_ACCESS && word < 4).then_some(Access {
            read_only: word & 1 != 0,
            sync: word & 2 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_request_is_decoded() {
        let request = sys::SET_ACCESS as u32;
        assert_eq!(
            Access::decode(request, &3u32.to_ne_bytes()),
            Some(Access {
                read_only: true,
                sync: true
            })
        );
        assert_eq!(Access::decode(request, &4u32.to_ne_bytes()), None);
        assert_eq!(Access::decode(request, &[]), None);
        assert_eq!(Access::decode(request + 1, &0u32.to_ne_bytes()), None);
    }
}
