//! A full disk: the operation that finds it full is rolled back completely and returns an error. Reading continues,
//! removing and `sync` work, freed space can be written again, and the store opens as before.
//!
//! `sweep`: each operation that takes space, with every number of pages left for it.
//!
//! Each test mounts its own small tmpfs, which requires root. Without root they fail, unless PERSIST_NO_MOUNT=1 allows
//! skipping them.

#[path = "../common/mod.rs"]
mod common;
mod helper;
mod refused;
mod sweep;

use common::{Model, New, Op, Rng, Val, compare, step, time};
use persist_core::store::{Actor, Durability, Error, In, Key, Options, Result, Store, Wait};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// A small filesystem.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// Mount by the system call: a `mount` command would be a child that holds a copy of each descriptor of the other
    /// tests until its `exec`, and thereby their stores' locks and the blocks of their removed sidecars.
    fn new(kib: usize) -> Option<Disk> {
        let dir = tempfile::Builder::new().prefix("persist-full").tempdir().unwrap();
        let point = c_path(dir.path());
        let size = CString::new(format!("size={kib}k")).unwrap();
        // SAFETY: all arguments are C strings that live until the call returns.
        let done = unsafe {
            libc::mount(
                c"persist-test".as_ptr(),
                point.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                size.as_ptr().cast(),
            )
        };
        if done == 0 {
            return Some(Disk { dir });
        }
        let error = std::io::Error::last_os_error();
        assert!(
            std::env::var_os("PERSIST_NO_MOUNT").is_some_and(|v| v == "1"),
            "cannot mount a tmpfs (run as root, or set PERSIST_NO_MOUNT=1 to leave this out): {error}"
        );
        println!("not tried: full disks: no permission to mount a tmpfs ({error})");
        None
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("a.store")
    }

    fn free_pages(&self) -> u64 {
        let path = c_path(self.dir.path());
        // SAFETY: `s` is plain data, and writable; the path is a C string.
        unsafe {
            let mut s: libc::statvfs = std::mem::zeroed();
            assert_eq!(libc::statvfs(path.as_ptr(), &raw mut s), 0);
            s.f_bavail * s.f_bsize / 4096
        }
    }

    /// Leave exactly this many pages free.
    fn leave(&self, pages: u64) {
        let filler = self.dir.path().join("filler");
        self.relieve();
        let file = File::create(&filler).unwrap();
        let take = self.free_pages().saturating_sub(pages);
        if take > 0 {
            // SAFETY: a plain system call on an open descriptor.
            let done = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, take as i64 * 4096) };
            assert_eq!(done, 0);
        }
    }

    fn relieve(&self) {
        give_back(&self.dir.path().join("filler"));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let point = c_path(self.dir.path());
        // SAFETY: the path is a C string.
        let _ = unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Remove a file, if it exists, and give its blocks back at once. A removal alone gives them back only when the last
/// descriptor is closed.
fn give_back(path: &Path) {
    match File::options().write(true).open(path) {
        Ok(file) => {
            file.set_len(0).unwrap();
            std::fs::remove_file(path).unwrap();
        }
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{}: {e}", path.display()),
    }
}

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

fn set(s: &Store, key: &str, value: In<'_>) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(s.root(), &Key::Str(key.as_bytes()), &value)
    })
}

fn remove_sidecar(path: &Path) {
    std::fs::remove_file(format!("{}-shm", path.display())).unwrap();
}

/// Run one operation, which may find the disk full. Returns true if it did.
fn try_step(store: &Store, model: &mut Model, rng: &mut Rng, room: usize, what: &str) -> bool {
    match step(store, model, rng, room) {
        Ok(_) => false,
        Err(Error::NoSpace { .. }) => {
            compare(store, model, what);
            true
        }
        Err(e) => panic!("{what}: {e}"),
    }
}

/// Fill a store until nothing more fits.
fn fill(store: &Store, model: &mut Model, rng: &mut Rng) {
    let (mut n, mut full) = (0u64, 0);
    while full < 4 {
        let bytes = vec![b'x'; if full > 0 { 10 } else { 200 + rng.below(6000) }];
        let op = Op::Set(
            model.root,
            Val::Str(format!("filling {n}").into_bytes(), false),
            New::Val(Val::Bytes(bytes)),
        );
        match store.write(Actor::Thread, &mut Wait::default(), |w| model.run(w, &op)) {
            Ok(made) => model.apply(&op, &made),
            Err(Error::NoSpace { .. }) => {
                compare(store, model, "after a failed change");
                full += 1;
            }
            Err(e) => panic!("filling: {e}"),
        }
        n += 1;
    }
}

fn keys(model: &Model) -> Vec<Val> {
    match &model.nodes[&model.root].body {
        common::Body::Dict(d) => d.keys(),
        common::Body::List(_) => unreachable!("the root is a dict"),
    }
}

fn remove(store: &Store, model: &mut Model, key: &Val, what: &str) {
    let op = Op::Remove(model.root, key.clone());
    let made = store.write(Actor::Thread, &mut Wait::default(), |w| model.run(w, &op));
    model.apply(&op, &made.unwrap_or_else(|e| panic!("{what}: removing: {e}")));
}

#[test]
fn a_full_disk_stops_growth_and_nothing_else() {
    let Some(disk) = Disk::new(10 * 1024) else { return };
    let path = disk.path();
    let mut rng = Rng(1);
    let mut store = open(&path);
    let mut model = Model::read(&store).unwrap();
    for round in 0..4 {
        let what = format!("round {round}");
        fill(&store, &mut model, &mut rng);
        // Read, sync, and repeat.
        for _ in 0..5 {
            store
                .sync()
                .unwrap_or_else(|e| panic!("{what}: sync on the full disk: {e}"));
            compare(&store, &model, &what);
        }
        match round {
            // Unchanged; opened again with its sidecar; opened again without one, with and without a sync.
            0 => {}
            1 => {
                store.close().unwrap();
                drop(store);
                store = open(&path);
            }
            _ => {
                store.close().unwrap();
                // The sidecar is mapped until then, and keeps its space on the disk.
                drop(store);
                remove_sidecar(&path);
                store = open(&path);
            }
        }
        compare(&store, &model, &format!("{what}: opened on the full disk"));
        let all = keys(&model);
        let some = if round % 2 == 0 { all.len() } else { all.len() / 2 };
        for (i, key) in all.iter().take(some).enumerate() {
            remove(
                &store,
                &mut model,
                key,
                &format!("{what}: entry {i} of {}", all.len()),
            );
            if rng.one_in(40) {
                store
                    .sync()
                    .unwrap_or_else(|e| panic!("{what}: sync while removing: {e}"));
            }
        }
        compare(&store, &model, &format!("{what}: after removing"));
        // New content has room.
        let before = model.size();
        for i in 0..100 {
            set(&store, &format!("new {i}"), In::Bytes(&[7; 2000]))
                .unwrap_or_else(|e| panic!("{what}: writing again: {e}"));
        }
        assert!(before < 8_000_000);
        model = Model::read(&store).unwrap();
        store.check().unwrap();
    }
    store.close().unwrap();
}

#[test]
fn space_that_comes_back_is_used() {
    let Some(disk) = Disk::new(12 * 1024) else { return };
    let path = disk.path();
    let mut rng = Rng(2);
    let store = open(&path);
    let mut model = Model::read(&store).unwrap();
    disk.leave(200);
    fill(&store, &mut model, &mut rng);
    disk.relieve();
    for i in 0..200 {
        set(&store, &format!("after {i}"), In::Bytes(&[1; 1000])).unwrap();
    }
    store.check().unwrap();
    store.close().unwrap();
}

#[test]
fn a_transaction_on_a_full_disk_rolls_back_completely() {
    let Some(disk) = Disk::new(8 * 1024) else { return };
    let path = disk.path();
    let store = open(&path);
    let mut rng = Rng(3);
    let mut model = Model::read(&store).unwrap();
    for _ in 0..30 {
        step(&store, &mut model, &mut rng, 200_000).unwrap();
    }
    for round in 0..6u64 {
        disk.leave(20 * round);
        store.begin(&mut Wait::default()).unwrap();
        let mut inner = model.clone();
        let failed = loop {
            match step(&store, &mut inner, &mut rng, usize::MAX) {
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        assert!(matches!(failed, Error::NoSpace { .. }), "{failed}");
        // Only the failed operation is undone so far.
        compare(&store, &inner, "inside the transaction");
        if round % 2 == 0 {
            store.rollback().unwrap();
        } else {
            match store.commit() {
                Ok(()) => model = inner,
                Err(Error::NoSpace { .. }) => {}
                Err(e) => panic!("commit: {e}"),
            }
        }
        compare(&store, &model, "after the transaction");
        store.sync().unwrap();
        // Make room.
        while model.size() > 300_000 {
            let before = model.nodes.len();
            let key = keys(&model)[0].clone();
            remove(&store, &mut model, &key, "making room");
            assert!(model.nodes.len() <= before);
        }
        disk.relieve();
    }
    store.close().unwrap();
}

/// Whichever page is the last one that the disk has, the operation that needs the next is undone.
#[test]
fn the_disk_may_be_full_at_any_page() {
    let Some(disk) = Disk::new(16 * 1024) else { return };
    let (begun, long) = (Instant::now(), time(12));
    let seed: u64 = std::env::var("PERSIST_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(4);
    let mut rng = Rng(seed);
    let (mut rounds, mut met, mut opens) = (0, 0, 0);
    // At least this many, however long they take.
    let least = 10;
    while begun.elapsed() < long || met < least {
        let path = disk.dir.path().join(format!("{rounds}.store"));
        let mut store = open(&path);
        let mut model = Model::read(&store).unwrap();
        let durability = if rng.one_in(4) {
            Durability::Commit
        } else {
            Durability::Checkpoint
        };
        let options = Options {
            durability,
            max_age: None,
            ..Options::default()
        };
        for _ in 0..4 {
            let what = format!("seed {seed}, round {rounds}");
            for _ in 0..rng.below(20) {
                step(&store, &mut model, &mut rng, 500_000).unwrap();
            }
            disk.leave(rng.below(60) as u64);
            for _ in 0..rng.below(40) {
                met += u32::from(try_step(&store, &mut model, &mut rng, 700_000, &what));
                if rng.one_in(8) {
                    store.sync().unwrap_or_else(|e| panic!("{what}: sync: {e}"));
                }
            }
            if rng.one_in(2) {
                store.close().unwrap_or_else(|e| panic!("{what}: close: {e}"));
                drop(store);
                if rng.one_in(2) {
                    remove_sidecar(&path);
                }
                // The sidecar may not fit; the store is unharmed.
                store = match Store::open(&path, &options) {
                    Ok(store) => store,
                    Err(Error::NoSpace { .. }) => {
                        opens += 1;
                        disk.relieve();
                        open(&path)
                    }
                    Err(e) => panic!("{what}: opening: {e}"),
                };
            }
            compare(&store, &model, &what);
            disk.relieve();
        }
        store.close().unwrap();
        std::fs::remove_file(&path).unwrap();
        remove_sidecar(&path);
        rounds += 1;
    }
    println!("{rounds} stores, {met} operations and {opens} openings met the full disk");
    assert!(met >= least);
}

/// Like single removals: what the commit frees uses pages that are reserved for this.
#[test]
fn removing_in_a_transaction_works_on_a_full_disk() {
    let Some(disk) = Disk::new(8 * 1024) else { return };
    let path = disk.path();
    let store = open(&path);
    // Values of every size, on many pages.
    let value = |i: usize| vec![i as u8; 40 + i * 37 % 3000];
    for i in 0..400 {
        set(&store, &format!("old {i}"), In::Bytes(&value(i))).unwrap();
    }
    disk.leave(0);
    let mut filled = 0;
    loop {
        match set(&store, &format!("new {filled}"), In::Bytes(&value(filled))) {
            Ok(()) => filled += 1,
            Err(Error::NoSpace { .. }) => break,
            Err(e) => panic!("{e}"),
        }
    }
    for i in 0..100 {
        store.begin(&mut Wait::default()).unwrap();
        for key in [format!("old {i}"), format!("old {}", 399 - i)] {
            store
                .write(Actor::Thread, &mut Wait::default(), |w| {
                    w.remove(store.root(), &Key::Str(key.as_bytes()))
                })
                .unwrap_or_else(|e| panic!("{key}: {e}"));
        }
        store.commit().unwrap_or_else(|e| panic!("transaction {i}: {e}"));
        store.sync().unwrap();
    }
    store.check().unwrap();
    store.close().unwrap();
}

#[test]
fn a_new_store_on_a_full_disk_is_refused_and_can_be_made_later() {
    let Some(disk) = Disk::new(8 * 1024) else { return };
    let path = disk.path();
    let mut refused = 0;
    for pages in [0, 1, 10, 96, 97, 100, 300, 600, 640, 660] {
        disk.leave(pages);
        match Store::open(
            &path,
            &Options {
                max_age: None,
                ..Options::default()
            },
        ) {
            Err(Error::NoSpace { .. }) => refused += 1,
            Ok(store) => store.check().map(drop).unwrap(),
            Err(e) => panic!("{pages} pages free: {e}"),
        }
    }
    assert!(refused > 0, "the disk was never full");
    disk.relieve();
    let store = open(&path);
    set(&store, "x", In::Int(1)).unwrap();
    store.check().unwrap();
    store.close().unwrap();
}
