//! Files beside a store (`FILE-lock`, `FILE-shm`, `FILE-wal`). They are created with their final owner and
//! mode, and used only if a user with write permission on the store created them.
//!
//! 1. A file has its final owner, group, mode and access list before it has its name. The umask does not
//!    apply.
//! 2. Only users that may write the store can open the file: each class of users has read and write
//!    permission if it has write permission on the store, and none otherwise. So a user that may only read
//!    the store can neither read the file nor lock a byte of it.
//! 3. A file that already has the name is used only if it is a regular file (with one name, unless it is the
//!    store owner's; one with more keeps its mode), and its owner is the store's owner, root, this process's
//!    user, or another user that may write the store. Symbolic links are not followed.

use crate::raw::files::owner;
use crate::raw::files::owner::Owner;
use crate::raw::files::owner::user;
use crate::raw::files::unnamed::Unnamed;
use crate::raw::process;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Return read and write permission for each class of users that may write.
fn writers_only(mode: u32) -> u32 {
    let writers = mode & 0o222;
    writers | writers << 1
}

/// Return the store's access list, with read and write permission in each entry that has write permission
/// and none in the others. None if the store has no list.
fn writers_list(store: &File) -> io::Result<Option<Vec<u8>>> {
    let mut list = owner::access_list(store)?;
    for entry in list
        .iter_mut()
        .filter_map(|l| l.get_mut(4..))
        .flat_map(|l| l.chunks_exact_mut(8))
    {
        entry[2] = if entry[2] & 2 != 0 { 6 } else { 0 };
    }
    Ok(list)
}

/// Give a file of this process the owner, group, mode and access list that files beside the store have.
fn set_rights(new: &File, store: &File) -> io::Result<()> {
    let of = Owner::of(&store.metadata()?);
    let want = Owner {
        mode: writers_only(of.mode),
        ..of
    };
    owner::give(new, want, writers_list(store)?)
}

/// Create an empty file that will become `target`, beside this store.
pub(crate) fn new(target: &Path, store: &File) -> io::Result<Unnamed> {
    let new = Unnamed::new(target, 0o600)?;
    set_rights(new.file(), store)?;
    Ok(new)
}

/// Open a file beside the store for reading and writing. None: it does not exist. `Err(Ok(why))`: it must not
/// be used, with the reason.
pub(crate) fn open(name: &Path, store: &File) -> Result<Option<File>, Result<String, io::Error>> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(name);
    let found = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => {
            return Err(Ok("is a symbolic link, not a regular file".to_owned()));
        }
        Err(e) => return Err(Err(e)),
    };
    if let Some(why) = refusal(name, &found, store).map_err(Err)? {
        return Err(Ok(why));
    }
    adjust(&found, store);
    Ok(Some(found))
}

/// Return the reason why a file beside the store must not be used, if there is one.
fn refusal(name: &Path, found: &File, store: &File) -> io::Result<Option<String>> {
    let (data, of) = (found.metadata()?, store.metadata()?);
    if !data.is_file() {
        return Ok(Some("is not a regular file".to_owned()));
    }
    if data.nlink() > 1 && data.uid() != of.uid() {
        return Ok(Some(
            "has more than one name (hard links), and may belong to something else".to_owned(),
        ));
    }
    let owner = data.uid();
    let known = owner == of.uid() || owner == 0 || owner == user() || of.mode() & 0o002 != 0;
    if known || (of.mode() & 0o020 != 0 && seems_in_group(owner, of.gid(), data.gid(), name)) {
        return Ok(None);
    }
    Ok(Some(format!(
        "belongs to user {owner}, which may not write the store"
    )))
}

/// Return whether a user is in the store's group: by the system's user database, or because the user was able
/// to give its file that group in a directory where other users cannot place a file.
fn seems_in_group(user: u32, group: u32, given: u32, name: &Path) -> bool {
    let closed = || {
        let dir = name.parent().unwrap_or(Path::new("/"));
        std::fs::metadata(dir).is_ok_and(|d| d.mode() & 0o002 == 0)
    };
    process::is_in_group(user, group) || (given == group && closed())
}

/// Adapt the file to the store's current owner and mode, as far as this process may.
fn adjust(found: &File, store: &File) {
    let (Ok(data), Ok(of)) = (found.metadata(), store.metadata()) else {
        return;
    };
    let (have, of) = (Owner::of(&data), Owner::of(&of));
    let me = user();
    let right = have.gid == of.gid && have.mode == writers_only(of.mode) && (have.uid == of.uid || me != 0);
    if !right && data.nlink() == 1 && (me == 0 || me == have.uid) {
        let _ = set_rights(found, store);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::files::file;
    use crate::raw::files::owner::tests::LIST;
    use crate::raw::files::owner::tests::list;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_beside_a_store_is_for_its_writers() {
        for (store, beside) in [
            (0o600, 0o600),
            (0o644, 0o600),
            (0o664, 0o660),
            (0o660, 0o660),
            (0o666, 0o666),
            (0o444, 0),
            (0o646, 0o606),
            (0o222, 0o666),
        ] {
            assert_eq!(writers_only(store), beside, "{store:o}");
        }
    }

    #[test]
    fn a_new_file_is_dressed_before_it_has_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let store = File::create(&path).unwrap();
        store.set_permissions(Permissions::from_mode(0o664)).unwrap();
        let target = dir.path().join("a-lock");
        let made = new(&target, &store).unwrap();
        assert_eq!(made.file().metadata().unwrap().mode() & 0o777, 0o660);
        assert!(!target.exists());
        made.link(&target).unwrap();
        let again = new(&target, &store).unwrap().link(&target).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
        let other = new(&target, &store).unwrap();
        let id = file::identity(other.file()).unwrap();
        other.replace(&target).unwrap();
        let found = open(&target, &store).unwrap().unwrap();
        assert_eq!(file::identity(&found).unwrap(), id);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn links_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let store = File::create(dir.path().join("a")).unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("other"), "precious").unwrap();
        std::os::unix::fs::symlink(at("other"), at("link")).unwrap();
        let why = |name: &str| open(&at(name), &store).unwrap_err().unwrap();
        assert!(why("link").contains("symbolic link"));
        assert!(open(&at("none"), &store).unwrap().is_none());
    }

    /// Users whose write permission comes from an access list get it beside the store too.
    #[test]
    fn an_access_list_is_taken_over_for_its_writers() {
        let dir = tempfile::tempdir().unwrap();
        let store = File::create(dir.path().join("a")).unwrap();
        file::set_attribute(&store, LIST, &list([6, 4, 6, 4, 6, 4])).unwrap();
        if owner::access_list(&store).unwrap().is_none() {
            return; // The filesystem has no access lists.
        }
        let beside = new(&dir.path().join("b"), &store).unwrap();
        let made = owner::access_list(beside.file()).unwrap().unwrap();
        let permissions: Vec<u8> = made[4..].chunks_exact(8).map(|e| e[2]).collect();
        assert_eq!(permissions, [6, 0, 6, 0, 6, 0]);
    }
}
