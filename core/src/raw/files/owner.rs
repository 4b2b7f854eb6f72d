//! The access rights of a file: its owner, group, mode and access list, applied to another file.
//!
//! 1. A file gets them before it has its name, so a user without access can never open it. The umask does not
//!    apply.
//! 2. Only root can change the owner; another user's new file stays that user's. It gets the wanted group, the group's
//!    permissions and the access list if the kernel lets this user set that group. Otherwise it gets no access list,
//!    and the group gets no permission that all others do not have.
//! 3. The group and access list that a new file inherited from its directory are replaced too.

use crate::raw::files::file;
use std::ffi::CStr;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

const ACCESS_LIST: &CStr = c"system.posix_acl_access";

/// The owner, group and mode of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

impl Owner {
    pub(crate) fn of(data: &Metadata) -> Owner {
        Owner {
            uid: data.uid(),
            gid: data.gid(),
            mode: data.mode() & 0o777,
        }
    }
}

/// Return this process's effective user, which the kernel checks.
pub(crate) fn user() -> u32 {
    // SAFETY: a plain system call, which cannot fail.
    unsafe { libc::geteuid() }
}

/// Return the access list of a file. None if it has no list beyond its mode. A list is a version word, then
/// entries of 8 bytes: tag, permissions, id.
pub(crate) fn access_list(file: &File) -> io::Result<Option<Vec<u8>>> {
    file::attribute(file, ACCESS_LIST)
}

/// Give a file that this process owns an owner, group, mode and access list.
pub(crate) fn give(new: &File, want: Owner, list: Option<Vec<u8>>) -> io::Result<()> {
    let made = Owner::of(&new.metadata()?);
    if user() == 0 {
        if (made.uid, made.gid) != (want.uid, want.gid) {
            fchown(new, Some(want.uid), Some(want.gid))?;
        }
    } else if made.gid != want.gid {
        // A user outside the group cannot set it; the group then gets no more than all others have (below).
        let _ = fchown(new, None, Some(want.gid));
    }
    let is_groups = new.metadata()?.gid() == want.gid;
    let mut mode = want.mode;
    if !is_groups {
        mode &= !0o070 | (mode & 0o007) << 3;
    }
    // The group part of the mode is the mask of an access list: grant nothing through it until the right list
    // is set.
    new.set_permissions(Permissions::from_mode(mode & !0o070))?;
    match list.filter(|_| is_groups) {
        Some(list) => file::set_attribute(new, ACCESS_LIST, &list),
        None => {
            file::remove_attribute(new, ACCESS_LIST)?;
            new.set_permissions(Permissions::from_mode(mode))
        }
    }
}

/// Give a new file the access rights of the old file that it replaces.
pub(crate) fn copy_rights(new: &File, old: &File) -> io::Result<()> {
    give(new, Owner::of(&old.metadata()?), access_list(old)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const LIST: &CStr = ACCESS_LIST;

    /// Return a list with these permissions of its owner, user 1001, user 1002, the group, the mask and all
    /// others.
    pub(crate) fn list(permissions: [u16; 6]) -> Vec<u8> {
        let none = u32::MAX;
        let tags = [
            (1u16, none),
            (2, 1001),
            (2, 1002),
            (4, none),
            (16, none),
            (32, none),
        ];
        let entries = tags.iter().zip(permissions).flat_map(|((tag, id), permission)| {
            [
                &tag.to_le_bytes()[..],
                &permission.to_le_bytes(),
                &id.to_le_bytes(),
            ]
            .concat()
        });
        2u32.to_le_bytes().into_iter().chain(entries).collect()
    }

    #[test]
    fn a_file_that_takes_the_place_of_another_has_its_users() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_permissions(Permissions::from_mode(mode)).unwrap();
            file
        };
        for mode in [0o600, 0o640, 0o664, 0o444, 0o000] {
            let (old, new) = (make("old", mode), make("new", 0o646));
            if user() == 0 {
                fchown(&old, Some(4242), Some(4343)).unwrap();
            }
            copy_rights(&new, &old).unwrap();
            let of = |file: &File| Owner::of(&file.metadata().unwrap());
            assert_eq!(of(&new), of(&old), "{mode:o}");
            std::fs::remove_file(dir.path().join("old")).unwrap();
            std::fs::remove_file(dir.path().join("new")).unwrap();
        }
        let (old, new) = (make("old", 0o600), make("new", 0o666));
        file::set_attribute(&old, LIST, &list([6, 4, 6, 4, 6, 0])).unwrap();
        let Some(wanted) = access_list(&old).unwrap() else {
            return; // The filesystem has no access lists.
        };
        copy_rights(&new, &old).unwrap();
        assert_eq!(access_list(&new).unwrap().unwrap(), wanted);
        // An inherited list is removed.
        let plain = make("plain", 0o640);
        copy_rights(&new, &plain).unwrap();
        assert_eq!(access_list(&new).unwrap(), None);
        assert_eq!(new.metadata().unwrap().mode() & 0o777, 0o640);
    }
}
