//! Filesystems that are read-only, or not known to be local; directories that give their group or an access list to new
//! files.

use super::{STRANGER, beside, for_all_users, is_root, locked_by_a_reader, mode, place, read_only};
use crate::common::scratch;
use crate::support::again;
use crate::support::plain::{get, open, set};
use persist_core::store::{Actor, Error, Options, Store, Wait};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A mount, until it is dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// None: there is no permission to mount, and the caller of the tests allows skipping them.
    fn new(args: &[&str], and_then: &[&str]) -> Option<Mounted> {
        let dir = tempfile::Builder::new()
            .prefix("persist-place")
            .tempdir()
            .unwrap();
        let mount = |args: &[&str]| Command::new("mount").args(args).arg(dir.path()).output().unwrap();
        let done = mount(args);
        if !done.status.success() {
            let may = std::env::var_os("PERSIST_NO_MOUNT").is_some_and(|v| v == "1");
            assert!(
                may,
                "cannot mount (run as root, or set PERSIST_NO_MOUNT=1): {done:?}"
            );
            println!("not tried: a store on another mount: no permission to mount");
            return None;
        }
        let mounted = Mounted(dir);
        if !and_then.is_empty() {
            let done = Command::new("mount")
                .args(and_then)
                .arg(mounted.0.path())
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
        }
        Some(mounted)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("a.store")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn names(dir: &Path) -> Vec<String> {
    let all = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = all
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The last checkpoint is shown, then each later one of writers that reach the store by another mount. No file is
/// created beside the store.
#[test]
fn a_store_on_a_read_only_filesystem_is_read() {
    let (dir, path) = place();
    let store = open(&path, 20);
    set(&store, "n", 1).unwrap();
    store.snapshot("s").unwrap();
    set(&store, "n", 2).unwrap();
    store.close().unwrap();
    drop(store);
    for end in ["-lock", "-shm"] {
        std::fs::remove_file(beside(&path, end)).unwrap();
    }
    let from = dir.path().to_str().unwrap();
    let Some(mounted) = Mounted::new(&["--bind", from], &["-o", "remount,bind,ro"]) else {
        return;
    };
    let there = mounted.path();
    let e = Store::open(&there, &Options::default()).unwrap_err();
    assert_eq!(e.errno(), libc::EROFS, "{e}");
    let reader = read_only(&there).unwrap();
    assert_eq!(get(&reader, "n").unwrap(), Some(2));
    assert!(matches!(set(&reader, "n", 9), Err(Error::ReadOnly)));
    reader.check().unwrap();
    let old = Options {
        snapshot: Some("s".to_owned()),
        ..Options::default()
    };
    assert_eq!(get(&Store::open(&there, &old).unwrap(), "n").unwrap(), Some(1));
    let done = Command::new(env!("CARGO_BIN_EXE_persist"))
        .arg("check")
        .arg(&there)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(names(dir.path()), ["a.store"]);
    let store = open(&path, 20);
    for n in 3..9 {
        set(&store, "n", n).unwrap();
        store.sync().unwrap();
        assert_eq!(get(&reader, "n").unwrap(), Some(n));
        set(&store, "n", 100).unwrap();
    }
    store.close().unwrap();
    reader.close().unwrap();
}

/// Files that are created beside a store have the store's group, whatever group the directory gives to new files.
#[test]
fn a_directory_that_gives_its_group_changes_nothing() {
    if !is_root() {
        return; // Only root can become another user.
    }
    for (group, store_mode, want) in [
        (STRANGER, 0o664, 0o660),
        (0, 0o664, 0o660),
        (STRANGER, 0o644, 0o600),
    ] {
        let (dir, path) = place();
        chown(dir.path(), None, Some(STRANGER)).unwrap();
        mode(dir.path(), 0o2775);
        open(&path, 20).close().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().gid(), STRANGER);
        for end in ["-lock", "-shm"] {
            std::fs::remove_file(beside(&path, end)).unwrap();
        }
        mode(&path, store_mode);
        chown(&path, None, Some(group)).unwrap();
        open(&path, 20).close().unwrap();
        for end in ["-lock", "-shm"] {
            let data = std::fs::metadata(beside(&path, end)).unwrap();
            assert_eq!(
                (data.uid(), data.gid(), data.mode() & 0o7777),
                (0, group, want),
                "{end} of {store_mode:o}"
            );
        }
        if (group, store_mode) != (STRANGER, 0o664) {
            continue;
        }
        // A user of the group writes, and creates the files; then the owner uses them.
        for end in ["-lock", "-shm"] {
            std::fs::remove_file(beside(&path, end)).unwrap();
        }
        let bin = tempfile::tempdir().unwrap();
        mode(bin.path(), 0o755);
        let mut member = for_all_users(&again("neighbour"), bin.path());
        member.env("PERSIST_STORE", &path).env("PERSIST_DO", "write");
        let done = member.uid(STRANGER + 1).gid(STRANGER).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let data = std::fs::metadata(beside(&path, "-lock")).unwrap();
        assert_eq!(
            (data.uid(), data.gid(), data.mode() & 0o7777),
            (STRANGER + 1, STRANGER, 0o660)
        );
        let store = open(&path, 20);
        assert_eq!(get(&store, "n").unwrap(), Some(3));
        store.close().unwrap();
    }
}

/// They do not have the access list that the directory gives to new files either.
#[test]
fn a_directory_that_gives_an_access_list_changes_nothing() {
    let (dir, path) = place();
    open(&path, 20).close().unwrap();
    for end in ["-lock", "-shm"] {
        std::fs::remove_file(beside(&path, end)).unwrap();
    }
    mode(&path, 0o660);
    if !set_list(dir.path(), c"system.posix_acl_default", &list(6)) {
        println!("not tried: default access lists: the filesystem keeps none");
        return;
    }
    open(&path, 20).close().unwrap();
    for end in ["-lock", "-shm"] {
        let file = beside(&path, end);
        assert_eq!(get_list(&file), None, "{end}");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o660, "{end}");
    }
}

/// An access list that gives user `STRANGER` these rights, and lets the owner and the group read and write.
pub(crate) fn list(stranger: u16) -> Vec<u8> {
    let none = u32::MAX;
    let entries = [
        (1u16, 6u16, none),
        (2, stranger, STRANGER),
        (4, 6, none),
        (16, 6, none),
        (32, 0, none),
    ];
    let entries = entries.into_iter().flat_map(|(tag, permission, id)| {
        [
            &tag.to_le_bytes()[..],
            &permission.to_le_bytes(),
            &id.to_le_bytes(),
        ]
        .concat()
    });
    2u32.to_le_bytes().into_iter().chain(entries).collect()
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// False: the filesystem does not support access lists.
pub(crate) fn set_list(path: &Path, name: &std::ffi::CStr, list: &[u8]) -> bool {
    // SAFETY: the path and the name are C strings; the value is readable and has the given length.
    let done = unsafe {
        libc::setxattr(
            c_path(path).as_ptr(),
            name.as_ptr(),
            list.as_ptr().cast(),
            list.len(),
            0,
        )
    };
    let error = std::io::Error::last_os_error();
    assert!(
        done == 0 || error.raw_os_error() == Some(libc::EOPNOTSUPP),
        "{error}"
    );
    done == 0
}

pub(crate) fn get_list(path: &Path) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    // SAFETY: the path and the name are C strings; the value is writable and has the given length.
    let len = unsafe {
        libc::getxattr(
            c_path(path).as_ptr(),
            c"system.posix_acl_access".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    (len >= 0).then(|| value[..len as usize].to_vec())
}

/// A filesystem that is not on the list of local ones, and on which files can be created (a FUSE mount: `tests/mount`).
#[test]
fn a_filesystem_that_is_not_known_is_refused() {
    let Some(mounted) = Mounted::new(&["-t", "hugetlbfs", "persist-test"], &[]) else {
        return;
    };
    let options = |any_filesystem| Options {
        any_filesystem,
        ..Options::default()
    };
    let e = Store::open(mounted.path(), &options(false)).unwrap_err();
    assert!(matches!(e, Error::Refused { .. }), "{e}");
    assert!(
        e.to_string().contains("0x958458f6") && e.to_string().contains("any_filesystem"),
        "{e}"
    );
    assert_eq!(std::fs::metadata(mounted.path()).map(|m| m.len()).unwrap_or(0), 0);
    assert!(!beside(&mounted.path(), "-lock").exists());
    // Files of this filesystem cannot be written; this error comes from another check.
    let e = Store::open(mounted.path(), &options(true)).unwrap_err();
    assert!(!e.to_string().contains("any_filesystem"), "{e}");
    let dir = scratch();
    let local = Store::open(dir.path().join("a.store"), &options(false)).unwrap();
    local
        .write(Actor::Thread, &mut Wait::default(), |_| Ok(()))
        .unwrap();
    local.close().unwrap();
}

/// A snapshot that a user with read permission holds open cannot be dropped, as README says. The error comes at once.
#[test]
fn a_reader_can_keep_a_snapshot() {
    if !is_root() {
        return; // Only root can become another user.
    }
    let (_dir, path, hostile) = locked_by_a_reader();
    let store = open(&path, 20);
    store.snapshot("s").unwrap();
    let begun = Instant::now();
    let e = store.drop_snapshot("s").unwrap_err();
    assert!(matches!(e, Error::InUse { .. }), "{e}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    drop(hostile);
    store.drop_snapshot("s").unwrap();
    store.close().unwrap();
}
