//! Compaction: the file shrinks and nothing else changes. After a kill at any step, either the old or the new file is
//! complete.

mod shapes;

use persist_core::check::check;
use persist_core::store::{Actor, In, Key, Options, Store, Value, Wait};
use shapes::same::assert_same;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn open(path: &Path) -> Store {
    Store::open(
        path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap()
}

fn set(store: &Store, n: i64) {
    let root = store.root();
    let done = store.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(root, &Key::Str(b"n"), &In::Int(n))
    });
    done.unwrap();
}

fn n_of(store: &Store) -> Option<Value> {
    store
        .read(&mut Wait::default(), |r| r.get(store.root(), &Key::Str(b"n")))
        .unwrap()
}

/// A store of a shape, and a copy of it that does not change.
fn pair(dir: &Path, shape: &str) -> (PathBuf, Store) {
    let (path, copy) = (dir.join(shape), dir.join(format!("{shape}.copy")));
    shapes::make(shape, &path);
    let store = open(&path);
    store.gc().unwrap();
    store.close().unwrap();
    std::fs::copy(&path, &copy).unwrap();
    (path, open(&copy))
}

fn is_sound(path: &Path) {
    assert_eq!(check(path, &mut ()).unwrap().findings, []);
    let store = open(path);
    store.check_pages().unwrap();
    store.check().unwrap();
    store.close().unwrap();
}

#[test]
fn the_file_shrinks_and_nothing_else_changes() {
    let dir = tempfile::tempdir().unwrap();
    for shape in shapes::ALL {
        let (path, copy) = pair(dir.path(), shape);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let mut written = 0;
        let (before, after) = open(&path).compact(&mut |pages| written += pages).unwrap();
        let meta = path.metadata().unwrap();
        assert_eq!(
            (meta.len(), meta.permissions().mode() & 0o777),
            (after, 0o640),
            "{shape}"
        );
        assert_eq!(written * 4096 + 2 * 4096, after);
        assert!(after < before, "{shape}: {before} to {after}");
        assert!(
            shape != &"freed" || after * 4 < before,
            "most of it was free: {before} to {after}"
        );
        is_sound(&path);
        let store = open(&path);
        assert_same(&store, &copy);
        // The store continues to work.
        for n in 0..200 {
            set(&store, n);
            if n % 50 == 0 {
                store.sync().unwrap();
                store.check_pages().unwrap();
            }
        }
        store.close().unwrap();
        is_sound(&path);
        assert!(!dir.path().join(format!("{shape}-compact")).exists());
    }
}

#[test]
fn while_it_is_in_use_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    shapes::make("small", &path);
    let other = open(&path);
    let refused = open(&path).compact(&mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
    let handle = other.clone();
    let refused = other.compact(&mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("only handle"), "{refused}");
    set(&handle, 1);
    handle.close().unwrap();
    is_sound(&path);
    // A second name would still refer to the old file.
    std::fs::hard_link(&path, dir.path().join("b.store")).unwrap();
    let refused = open(&path).compact(&mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("hard links"), "{refused}");
    std::fs::remove_file(dir.path().join("b.store")).unwrap();
    // A symbolic link stays a symbolic link.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    open(&link).compact(&mut |_| {}).unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    is_sound(&path);
}

#[test]
fn snapshots_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    shapes::make("large_dict", &path);
    let store = open(&path);
    for n in 0..5 {
        set(&store, n);
        store.snapshot(&format!("at {n}")).unwrap();
    }
    shapes::nested(&store, 200);
    store.close().unwrap();
    open(&path).compact(&mut |_| {}).unwrap();
    is_sound(&path);
    let store = open(&path);
    for n in 0..5 {
        let kept = store.open_snapshot(&format!("at {n}")).unwrap();
        assert_eq!(n_of(&kept), Some(Value::Int(n)));
        kept.check().unwrap();
        kept.close().unwrap();
    }
    // Snapshots are dropped one after the other, between changes: shared pages stay as long as they are needed.
    for n in [2, 0, 4, 1, 3] {
        store.drop_snapshot(&format!("at {n}")).unwrap();
        set(&store, 10 + n);
        store.sync().unwrap();
        store.check_pages().unwrap();
    }
    store.close().unwrap();
    is_sound(&path);
    let (_, small) = open(&path).compact(&mut |_| {}).unwrap();
    assert!(small < 1_500_000, "{small}");
    is_sound(&path);
}

/// Compact the store; the parent kills this process on the way.
#[test]
#[ignore = "a part of `killed_anywhere`"]
fn child() {
    let path = PathBuf::from(std::env::var("PERSIST_COMPACT").unwrap());
    open(&path).compact(&mut |_| {}).unwrap();
}

#[test]
fn killed_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = pair(dir.path(), "freed");
    let run = |fail: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child", "--ignored", "--test-threads=1", "-q"])
            .env("PERSIST_COMPACT", &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(fail) = fail {
            command.env("PERSIST_FAIL", fail);
        }
        command.spawn().unwrap()
    };
    let same = || {
        is_sound(&path);
        let store = open(&path);
        assert_same(&store, &copy);
        store.close().unwrap();
    };
    let first = path.metadata().unwrap().len();
    for step in [
        "checkpoint",
        "compact.copied",
        "compact.flushed",
        "compact.exclusive",
        "compact.renamed",
    ] {
        let status = run(Some(&format!("{step}=1"))).wait().unwrap();
        assert!(!status.success(), "{step} was not passed");
        let renamed = step == "compact.renamed";
        assert_eq!(path.metadata().unwrap().len() < first, renamed, "{step}");
        same();
    }
    for i in 0..12u64 {
        let mut child = run(None);
        std::thread::sleep(Duration::from_micros(i * i * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        eprintln!("round {i}");
        same();
    }
    assert!(run(None).wait().unwrap().success());
    same();
}
