//! Backups and restores that fail: damage, killed processes, broken pipes, full disks. No partial result is left, and
//! the next attempt succeeds.
//!
//! The test of the full disk mounts a small tmpfs, which requires root; PERSIST_NO_MOUNT=1 skips it.

use super::common::scratch;
use super::shapes::{self, damage::Image};
use super::{at, chain, full, get, open, put_back, set, sound, temporary};
use persist_core::Error;
use persist_core::backup::{self, Input, Options, Restoring, backup_to, restore};
use persist_core::check::check;
use persist_core::store::{In, Value};
use std::path::PathBuf;
use std::process::Command;

/// Damage in the original's pages: no backup, and no remaining files.
#[test]
fn a_damaged_store_gives_no_backup() {
    use std::os::unix::fs::FileExt;
    let dir = scratch();
    let (path, _) = chain(dir.path(), 1);
    let victim = {
        let s = at(&path, "s0");
        let all: Vec<u64> = s.pages(None).unwrap().map(|v| v.unwrap().physical).collect();
        all[all.len() / 2]
    };
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xee; 32], victim * 4096 + 50).unwrap();
    let to = dir.path().join("to");
    let e = backup_to(&path, &to, &Options::default(), &mut ()).unwrap_err();
    assert!(
        matches!(e, Error::Corrupt { at, .. } if at == victim * 4096),
        "{e}"
    );
    assert!(!to.exists());
    let mut stream = Vec::new();
    backup::backup(&path, &mut stream, &Options::default(), &mut ()).unwrap_err();
    let inputs = vec![Input::stream("what came", stream.as_slice())];
    let e = restore(inputs, &to, &Restoring::default(), &mut ()).unwrap_err();
    assert!(e.to_string().contains("what came: it is cut short"), "{e}");
    assert!(!to.exists());
    assert_eq!(temporary(&open(&path)), 0);
}

/// A store whose graph is damaged, but whose pages are whole, is backed up. The restore refuses it, unless its check is
/// switched off.
#[test]
fn a_damaged_graph_is_restored_only_without_the_check() {
    let dir = scratch();
    let path = dir.path().join("cyclic");
    shapes::make("cyclic", &path);
    let store = open(&path);
    let Some(Value::Obj(hub)) = get(&store, "hub") else {
        panic!("the shape has a hub")
    };
    store.close().unwrap();
    drop(store);
    let mut image = Image::load(&path);
    image.copy_newest_over_previous();
    // One reference more than there are.
    let count = image.word(hub.addr.0);
    image.set_word(hub.addr.0, count + (1 << 32));
    let _ = std::fs::remove_file(dir.path().join("cyclic-shm"));
    image.save(&path);

    let (copy, to) = (dir.path().join("copy"), dir.path().join("to"));
    full(&path, &copy);
    let e = put_back(std::slice::from_ref(&copy), &to)
        .unwrap_err()
        .to_string();
    assert!(
        e.contains("damaged, as its original was: references: a reference count of"),
        "{e}"
    );
    assert!(e.contains("--no-check") && !to.exists(), "{e}");
    let mut unchecked = Restoring::default();
    unchecked.check = false;
    restore(vec![Input::file(&copy)], &to, &unchecked, &mut ()).unwrap();
    let report = check(&to, &mut ()).unwrap();
    assert_eq!(report.total, 1, "{:?}", report.findings);
    assert!(
        report.findings[0].what.contains("a reference count of"),
        "{:?}",
        report.findings
    );
}

/// Killed at any of its steps: there is no partial file, the store is sound, and the next backup removes what is left.
#[test]
fn a_killed_backup_leaves_nothing_half_done() {
    let dir = scratch();
    let (path, _) = chain(dir.path(), 2);
    let to = dir.path().join("to");
    let cli = env!("CARGO_BIN_EXE_persist");
    let steps = [
        "backup.taken=1",
        "backup.walked=1",
        "backup.pages=1",
        "backup.records=1",
        "backup.written=1",
        "place.flushed=1",
        "backup.named=1",
        "snapshot.catalogue=1",
        "snapshot.flipped=2",
        "snapshot.dropped=1",
    ];
    let (mut left, mut killed) = (0, 0);
    for step in steps {
        for since in [None, Some("s0")] {
            let mut command = Command::new(cli);
            command.arg("backup").args([&path, &to]).env("PERSIST_FAIL", step);
            if let Some(since) = since {
                command.args(["--since", since]);
            }
            let out = command.output().unwrap();
            let what = format!("{step}, since {since:?}: {out:?}");
            if out.status.success() {
                // This kind of backup does not have this step.
                assert!(step.contains("pages") || step.contains("records"), "{what}");
            } else {
                assert_eq!(
                    std::os::unix::process::ExitStatusExt::signal(&out.status),
                    Some(9),
                    "{what}"
                );
                killed += 1;
                let store = open(&path);
                left += temporary(&store);
                store.close().unwrap();
            }
            sound(&path, &what);
            if to.exists() {
                let mut chain = vec![to.clone()];
                if since.is_some() {
                    chain.insert(0, dir.path().join("0.backup"));
                }
                let again = dir.path().join("again");
                put_back(&chain, &again).unwrap_or_else(|e| panic!("{what}: {e}"));
                std::fs::remove_file(&again).unwrap();
                std::fs::remove_file(&to).unwrap();
            }
            full(&path, &to);
            sound(&to, &what);
            std::fs::remove_file(&to).unwrap();
            assert_eq!(temporary(&open(&path)), 0, "{what}");
        }
    }
    assert!(killed >= 17 && left >= 10, "{killed} killed, {left} left");
    let names = std::fs::read_dir(dir.path()).unwrap();
    for name in names {
        let name = name.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('.'), "{name}");
    }
}

#[test]
fn a_killed_restore_leaves_nothing_half_done() {
    let dir = scratch();
    let (_, files) = chain(dir.path(), 3);
    let to = dir.path().join("to");
    for force in [false, true] {
        for step in [
            "restore.copied=1",
            "restore.applied=1",
            "restore.applied=30",
            "restore.complete=1",
            "place.flushed=1",
            "restore.named=1",
        ] {
            let what = format!("{step}, force {force}");
            if force {
                put_back(&files[..1], &to).unwrap();
            }
            let mut command = Command::new(env!("CARGO_BIN_EXE_persist"));
            command
                .arg("restore")
                .args(&files)
                .arg(&to)
                .env("PERSIST_FAIL", step);
            if force {
                command.arg("--force");
            }
            let out = command.output().unwrap();
            assert_eq!(
                std::os::unix::process::ExitStatusExt::signal(&out.status),
                Some(9),
                "{what}: {out:?}"
            );
            let is_named = step == "restore.named=1";
            assert_eq!(to.exists(), force || is_named, "{what}");
            if to.exists() {
                sound(&to, &what);
                let store = open(&to);
                assert_eq!(
                    get(&store, "n"),
                    Some(Value::Int(if is_named { 2 } else { 0 })),
                    "{what}"
                );
                store.close().unwrap();
                drop(store);
                std::fs::remove_file(&to).unwrap();
                let _ = std::fs::remove_file(dir.path().join("to-shm"));
            }
        }
    }
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        left.iter().all(|n| !n.to_string_lossy().starts_with('.')),
        "{left:?}"
    );
}

/// Backups through pipes, during writes. If the other end of the pipe is closed, the command reports it and leaves
/// nothing.
#[test]
fn pipes() {
    let dir = scratch();
    let (path, _) = chain(dir.path(), 1);
    let cli = env!("CARGO_BIN_EXE_persist");
    let sh = |script: &str| {
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("set -o pipefail; {script}")])
            .env("P", cli)
            .current_dir(dir.path());
        command.output().unwrap()
    };
    let script = "
        $P backup a - --snapshot one | cat | $P restore - b &&
        $P backup a - --since one --snapshot two > two.inc &&
        $P backup a - --at one > one.full && cat two.inc | $P restore one.full - c &&
        $P backup a - --at two | $P restore - two.inc d";
    let out = sh(script);
    assert!(!out.status.success());
    assert!(
        String::from_utf8_lossy(&out.stderr).contains("lead to"),
        "{out:?}"
    );
    for name in ["b", "c"] {
        sound(&dir.path().join(name), name);
        assert_eq!(get(&open(&dir.path().join(name)), "n"), Some(Value::Int(0)));
    }
    assert!(!dir.path().join("d").exists());
    // The reader ends early.
    let out = sh("$P backup a - --snapshot three | head -c 10000 > /dev/null");
    assert!(!out.status.success(), "{out:?}");
    assert!(
        String::from_utf8_lossy(&out.stderr).contains("cannot write the backup"),
        "{out:?}"
    );
    let store = open(&path);
    let names: Vec<String> = store.snapshots().unwrap().into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["s0", "one", "two"]);
    // The writer ends early: the incomplete input is not a backup.
    let out = sh("$P backup a - | head -c 100000 | $P restore - e");
    assert!(!out.status.success() && !dir.path().join("e").exists(), "{out:?}");
    assert!(
        String::from_utf8_lossy(&out.stderr).contains("cut short"),
        "{out:?}"
    );
    assert_eq!(temporary(&store), 0);
}

/// A small filesystem. None: the test may be skipped.
fn small_disk(kib: usize) -> Option<(tempfile::TempDir, impl Drop)> {
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let dir = tempfile::Builder::new().prefix("persist-full").tempdir().unwrap();
    let done = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "persist-test"])
        .arg(dir.path())
        .output()
        .unwrap();
    if !done.status.success() && std::env::var_os("PERSIST_NO_MOUNT").is_some_and(|v| v == "1") {
        eprintln!("left out: no permission to mount a tmpfs");
        return None;
    }
    assert!(done.status.success(), "cannot mount a tmpfs: {done:?}");
    let mounted = Mounted(dir.path().to_owned());
    Some((dir, mounted))
}

#[test]
fn a_full_disk_at_the_target() {
    let dir = scratch();
    let (path, files) = chain(dir.path(), 3);
    let Some((small, _mounted)) = small_disk(64) else {
        return;
    };
    let to = small.path().join("to");
    let e = backup_to(&path, &to, &Options::default(), &mut ()).unwrap_err();
    assert!(matches!(e, Error::NoSpace { .. }), "{e}");
    let e = put_back(&files, &to).unwrap_err();
    assert!(matches!(e, Error::NoSpace { .. }), "{e}");
    assert_eq!(std::fs::read_dir(small.path()).unwrap().count(), 0);
    let store = open(&path);
    assert_eq!(temporary(&store), 0);
    set(&store, "n", &In::Int(9));
    full(&path, &dir.path().join("elsewhere"));
    sound(&dir.path().join("elsewhere"), "elsewhere");
}
