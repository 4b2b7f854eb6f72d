//! Files that become unreadable while they are mapped: truncated by another program, or on a disk that reports errors.
//! The process that accesses such a page gets an error that names the file and the place, and survives. No process
//! reads wrong data. Durable content opens again.
//!
//! The test of a failing disk mounts a filesystem on a loop device, which requires root. Without root the test fails,
//! unless PERSIST_NO_MOUNT=1 allows skipping it.

mod common;
mod support;

use common::{Model, Op, Rng, Val, compare, scratch, step};
use persist_core::store::{Actor, Error, LockMode, LockTarget, Result, Store, Wait};
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::plain::{self, get, set, sidecar, try_open};
use support::{again, process, sys};

fn open(path: &Path) -> Store {
    plain::open(path, 2)
}

fn cut(path: &Path, len: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(len).unwrap();
}

/// A store of many pages, synced, and its content.
fn filled(path: &Path, seed: u64) -> (Store, Model) {
    let store = open(path);
    let mut model = Model::read(&store).unwrap();
    let mut rng = Rng(seed);
    for _ in 0..150 {
        step(&store, &mut model, &mut rng, 800_000).unwrap();
    }
    // At least 60 pages of it are in use, whatever the random operations left.
    let entry = |n: i64| (Val::Int(1 << 40 | n), Val::Str(vec![b'x'; 100], false));
    let fill = Op::Fill(model.root, (0..2500).map(entry).collect());
    let made = store
        .write(Actor::Thread, &mut Wait::default(), |w| model.run(w, &fill))
        .unwrap();
    model.apply(&fill, &made);
    store.sync().unwrap();
    (store, model)
}

/// Assert the error of an access that the disk could not answer.
fn is_lost<T: std::fmt::Debug>(done: Result<T>, file: &Path, what: &str) {
    match done {
        Err(e @ Error::Io { .. }) if e.errno() == libc::EIO => {
            let text = e.to_string();
            assert!(
                text.contains(&format!("{}: ", file.display())) && text.contains("at byte"),
                "{what}: {text}"
            );
        }
        other => panic!("{what}: {other:?}"),
    }
}

/// Every result of a read is right, or an error.
fn right_or_error(store: &Store, model: &Model, what: &str) -> bool {
    match Model::read(store) {
        Ok(found) => {
            assert_eq!(found.text(), model.text(), "{what}");
            true
        }
        Err(_) => false,
    }
}

#[test]
fn a_store_that_was_cut_short_is_an_error_for_all_and_for_good() {
    for pages in [0, 1, 2, 40] {
        let what = format!("cut to {pages} pages");
        let dir = scratch();
        let path = dir.path().join("a.store");
        let (store, model) = filled(&path, 1);
        let other = open(&path);
        let whole = std::fs::read(&path).unwrap();
        cut(&path, pages * 4096);
        is_lost(Model::read(&store), &path, &what);
        is_lost(set(&store, "x", 1), &path, &what);
        is_lost(store.begin(&mut Wait::default()), &path, &what);
        is_lost(store.sync(), &path, &what);
        is_lost(store.stat().map(drop), &path, &what);
        // An opening that has not met the error yet reads right data or meets the error now. It must not write, because
        // it cannot see what is lost.
        right_or_error(&other, &model, &what);
        match set(&other, "x", 1) {
            Err(Error::Poisoned { .. } | Error::Io { .. }) => {}
            done => panic!("{what}: {done:?}"),
        }
        assert!(other.sync().is_err(), "{what}");
        drop(store);
        drop(other);
        // The file is restored.
        std::fs::write(&path, &whole).unwrap();
        let store = open(&path);
        compare(&store, &model, &what);
        set(&store, "x", 1).unwrap();
        store.check().unwrap();
        store.close().unwrap();
    }
}

/// A change that meets a missing page is undone, in a transaction too.
#[test]
fn a_change_that_needs_a_missing_page_is_not_made() {
    for transaction in [false, true] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let (store, model) = filled(&path, 2);
        let whole = std::fs::read(&path).unwrap();
        if transaction {
            store.begin(&mut Wait::default()).unwrap();
            set(&store, "first", 1).unwrap();
        }
        cut(&path, 40 * 4096);
        let mut changed = 0;
        let failed = loop {
            match set(&store, &format!("key {changed}"), 1) {
                Ok(()) => changed += 1,
                Err(e) => break e,
            }
            assert!(changed < 100_000);
        };
        is_lost(Err::<(), _>(failed), &path, "a change");
        if transaction {
            assert!(store.commit().is_err());
        }
        assert!(store.sync().is_err());
        let _ = store.close();
        drop(store);
        std::fs::write(&path, &whole).unwrap();
        let store = open(&path);
        compare(&store, &model, "the last checkpoint");
        store.close().unwrap();
    }
}

#[test]
fn a_sidecar_that_was_cut_short_is_an_error_and_the_last_checkpoint_opens() {
    for (n, len) in [
        0, 1, 4096, 0x2000, 0x12000, 0x14000, 0x20000, 0x100000, 0x21_0000, 0x22_0000,
    ]
    .into_iter()
    .chain([0x32_0000, 0x72_0000, 0x92_0000, 0xb2_0000, 0xd2_0000, 0xd6_0000])
    .enumerate()
    {
        let what = format!("cut to {len:#x}");
        let dir = scratch();
        let path = dir.path().join("a.store");
        let (store, model) = filled(&path, 3 + n as u64);
        let side = sidecar(&path);
        let had = std::fs::metadata(&side).unwrap().len();
        cut(&side, len);
        let mut met = !right_or_error(&store, &model, &what);
        // An entry that cannot be read must not be locked, changed or made durable by accident.
        let whole = LockTarget {
            obj: store.root(),
            key: None,
        };
        met |= store
            .lock(Actor::Thread, whole, LockMode::Exclusive, &mut Wait::never())
            .is_err();
        let changed = set(&store, "x", 1);
        met |= changed.is_err();
        if store.begin(&mut Wait::default()).is_ok() {
            met |= set(&store, "y", 1).is_err() | store.commit().is_err();
        }
        met |= store.sync().is_err();
        assert!(
            met || len >= had.min(0x30_0000),
            "{what}: no call reported the error"
        );
        if met && len < 0x22_0000 {
            assert!(Model::read(&store).is_err(), "{what}: reading continues");
        }
        let _ = store.close();
        drop(store);
        if len < had {
            // The sidecar held completed changes: they are not discarded without an error.
            match plain::try_open(&path, 5) {
                Ok(store) => drop(store),
                Err(e) => {
                    assert!(e.to_string().contains(&side.display().to_string()), "{what}: {e}");
                    assert!(matches!(e, Error::Refused { .. }), "{what}: {e}");
                    std::fs::remove_file(&side).unwrap();
                }
            }
        }
        let store = open(&path);
        if met {
            let found = Model::read(&store).unwrap();
            let with_x = {
                let mut m = model.clone();
                let op = common::Op::Set(
                    m.root,
                    common::Val::Str(b"x".into(), false),
                    common::New::Val(common::Val::Int(1)),
                );
                m.apply(&op, &[]);
                m
            };
            assert!([model.text(), with_x.text()].contains(&found.text()), "{what}");
        }
        set(&store, "after", 1).unwrap();
        store.check().unwrap();
        store.close().unwrap();
    }
}

/// A partial change that can no longer be undone is not shown to any reader.
#[test]
fn a_change_that_cannot_be_undone_is_not_shown() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let (store, model) = filled(&path, 4);
    let other = open(&path);
    store.begin(&mut Wait::default()).unwrap();
    for i in 0..2000 {
        set(&store, &format!("key {i}"), i).unwrap();
    }
    // The undo log is lost, and the header that requires it stays.
    cut(&sidecar(&path), 0x22_0000);
    assert!(set(&store, "one more", 1).is_err());
    assert!(store.rollback().is_err());
    for s in [&store, &other] {
        assert!(get(s, "key 1").is_err());
        assert!(set(s, "x", 1).is_err());
        assert!(s.sync().is_err());
    }
    drop((store, other));
    // The sidecar held the changes completed since the last checkpoint: they are not discarded without an error.
    let e = try_open(&path, 2).unwrap_err().to_string();
    assert!(e.contains("a.store-shm was cut short"), "{e}");
    std::fs::remove_file(sidecar(&path)).unwrap();
    let store = open(&path);
    compare(&store, &model, "the last checkpoint");
    store.close().unwrap();
}

#[test]
fn threads_that_read_at_the_same_time_get_right_values_or_errors() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let (store, model) = filled(&path, 5);
    let met = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let until = std::time::Instant::now() + Duration::from_secs(120);
                let mut turns = 0;
                while right_or_error(&store, &model, "at the same time") {
                    turns += 1;
                    assert!(std::time::Instant::now() < until, "no error in {turns} turns");
                }
                met.store(true, Ordering::SeqCst);
                for _ in 0..100 {
                    is_lost(get(&store, "x"), &path, "afterwards");
                }
            });
        }
        std::thread::sleep(Duration::from_millis(5));
        cut(&path, 20 * 4096);
    });
    assert!(met.load(Ordering::SeqCst));
}

/// SIGBUS faults that do not belong to a store end the process, or go to the previous handler.
#[test]
fn other_faults_are_left_to_others() {
    for (task, expected) in [
        ("default", None),
        ("handler", Some(7)),
        ("raised", None),
        ("killed", None),
    ] {
        let dir = scratch();
        let status = again("fault_of_its_own")
            .env("PERSIST_DIR", dir.path())
            .env("PERSIST_DO", task)
            .output()
            .unwrap()
            .status;
        match expected {
            Some(code) => assert_eq!(status.code(), Some(code), "{task}"),
            None => assert_eq!(status.signal(), Some(libc::SIGBUS), "{task}"),
        }
    }
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn fault_of_its_own() {
    let (Ok(dir), Ok(task)) = (std::env::var("PERSIST_DIR"), std::env::var("PERSIST_DO")) else {
        return;
    };
    sys::no_core();
    let dir = PathBuf::from(dir);
    match task.as_str() {
        "handler" => sys::exit_on_bus(),
        _ => sys::default_bus(),
    }
    let (store, _) = filled(&dir.join("a.store"), 7);
    // First the process survives a fault of its own store.
    cut(&dir.join("a.store"), 0);
    assert!(Model::read(&store).is_err());
    match task.as_str() {
        "killed" => {
            process::signal(std::process::id() as i32, libc::SIGBUS);
            // The signal may have gone to another thread of this process.
            std::thread::sleep(Duration::from_secs(120));
        }
        "raised" => {
            // Ignored once, because it may belong to an access, which is then tried again.
            sys::raise(libc::SIGBUS);
            sys::raise(libc::SIGBUS);
        }
        _ => sys::touch_missing_page(&dir.join("other")),
    }
    std::process::exit(1);
}

/// A filesystem on a loop device whose backing file can be truncated.
struct Loop {
    dir: tempfile::TempDir,
    point: PathBuf,
}

fn run(program: &str, args: &[&std::ffi::OsStr]) -> std::result::Result<String, String> {
    let done = Command::new(program)
        .args(args)
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&done.stderr)))
    }
}

impl Loop {
    fn new() -> Option<Loop> {
        let dir = tempfile::tempdir().unwrap();
        let (image, point) = (dir.path().join("image"), dir.path().join("point"));
        std::fs::File::create(&image).unwrap().set_len(48 << 20).unwrap();
        std::fs::create_dir(&point).unwrap();
        let made = run(
            "mkfs.ext4",
            &[
                "-q".as_ref(),
                "-O".as_ref(),
                "^has_journal".as_ref(),
                "-b".as_ref(),
                "4096".as_ref(),
                image.as_ref(),
            ],
        )
        .and_then(|_| {
            run(
                "mount",
                &["-o".as_ref(), "loop".as_ref(), image.as_ref(), point.as_ref()],
            )
        });
        match made {
            Ok(_) => Some(Loop { dir, point }),
            Err(e) if std::env::var_os("PERSIST_NO_MOUNT").is_some_and(|v| v == "1") => {
                eprintln!("left out: {e}");
                None
            }
            Err(e) => panic!("{e} (run as root, or set PERSIST_NO_MOUNT=1 to leave this out)"),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}

/// The file keeps its length, but its blocks cannot be read.
#[test]
fn a_disk_that_cannot_read_is_an_error() {
    let Some(disk) = Loop::new() else { return };
    let path = disk.point.join("a.store");
    let (store, model) = filled(&path, 8);
    let other = open(&path);
    let image = disk.dir.path().join("image");
    // Write everything to the disk and out of memory; then the disk loses everything from the middle of the store on.
    // Nothing must be left that closing, or the helper that frees containers, would put into a further checkpoint: the
    // repair below restores the disk to this checkpoint.
    store.gc().unwrap();
    store.sync().unwrap();
    run("sync", &["-f".as_ref(), path.as_ref()]).unwrap();
    let all = std::fs::read(&image).unwrap();
    let first = u64::from(sys::block_of(&path, 60));
    cut(&image, first * 4096);
    // Mapped pages stay: what was read is still right. A new opening maps the file again.
    right_or_error(&store, &model, "still in memory");
    drop((store, other));
    sys::forget_pages(&path);
    let met = match try_open(&path, 2) {
        Ok(store) => {
            let met = !right_or_error(&store, &model, "on the failing disk");
            if met {
                let e = Model::read(&store).unwrap_err();
                assert_eq!(e.errno(), libc::EIO, "{e}");
            }
            // The fault of a reader does not poison the store for others: the file has its length.
            let _ = store.close();
            met
        }
        Err(e) => {
            assert_eq!(e.errno(), libc::EIO, "{e}");
            true
        }
    };
    assert!(met, "the disk answered after all");
    // The disk is repaired.
    std::fs::write(&image, &all).unwrap();
    sys::forget_pages(&path);
    let store = open(&path);
    compare(&store, &model, "repaired");
    store.close().unwrap();
    drop(store);
}
