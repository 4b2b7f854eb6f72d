//! A file that replaces another has its owner, mode and access list: a user can read and write the new file exactly if
//! the user could do so with the old one.

use super::places::{get_list, list, set_list};
use super::{STRANGER, beside, is_root, mode, place};
use crate::support::plain::{get, open, set};
use persist_core::backup::{self, Input, Restoring, backup_to, restore};
use persist_core::check::salvage;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// Owner, group, mode and access list.
type Users = (u32, u32, u32, Option<Vec<u8>>);

fn users(path: &Path) -> Users {
    let data = std::fs::metadata(path).unwrap();
    (data.uid(), data.gid(), data.mode() & 0o7777, get_list(path))
}

/// Restrict a file in one of the ways tested here. False: this way is not possible here.
fn restrict(path: &Path, how: usize) -> bool {
    match how {
        0 => mode(path, 0o600),
        1 => mode(path, 0o664),
        2 if is_root() => {
            mode(path, 0o640);
            chown(path, Some(STRANGER), Some(STRANGER + 1)).unwrap();
        }
        3 => return set_list(path, c"system.posix_acl_access", &list(4)),
        _ => return false,
    }
    true
}

#[test]
fn what_replaces_a_backup_or_a_store_is_for_the_same_users() {
    for how in 0..4 {
        let (dir, path) = place();
        let copy = dir.path().join("copy");
        let store = open(&path, 20);
        set(&store, "n", 1).unwrap();
        std::fs::write(&copy, "an old one").unwrap();
        if !restrict(&copy, how) {
            continue;
        }
        let before = users(&copy);
        let mut options = backup::Options::default();
        options.force = true;
        backup_to(&path, &copy, &options, &mut ()).unwrap();
        assert_eq!(users(&copy), before, "backup {how}");
        set(&store, "n", 2).unwrap();
        store.close().unwrap();
        drop(store);
        restrict(&path, how);
        let before = users(&path);
        let mut options = Restoring::default();
        options.force = true;
        restore(vec![Input::file(&copy)], &path, &options, &mut ()).unwrap();
        assert_eq!(users(&path), before, "restore {how}");
        let store = open(&path, 20);
        assert_eq!(get(&store, "n").unwrap(), Some(1));
        store.compact(&mut |_| ()).unwrap();
        assert_eq!(users(&path), before, "compaction {how}");
    }
}

/// A salvaged store that will replace the damaged one.
#[test]
fn a_salvaged_store_is_for_the_users_of_the_damaged_one() {
    for how in 0..4 {
        let (dir, path) = place();
        let store = open(&path, 20);
        set(&store, "n", 1).unwrap();
        store.close().unwrap();
        drop(store);
        if !restrict(&path, how) {
            continue;
        }
        let new = dir.path().join("new.store");
        salvage(&path, &new, &mut ()).unwrap();
        assert_eq!(users(&new), users(&path), "{how}");
        for end in ["-lock", "-shm"] {
            let (uid, gid, ..) = users(&beside(&new, end));
            assert_eq!((uid, gid), (users(&path).0, users(&path).1), "{end} {how}");
        }
        assert_eq!(get(&open(&new, 20), "n").unwrap(), Some(1));
    }
}
