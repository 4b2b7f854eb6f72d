//! Backups: whatever goes on meanwhile, what is restored is the state that was backed up, and a chain of incremental
//! ones leads to every state on its way. What is cut short or in the wrong order is refused. `faults`: damage, deaths,
//! pipes, full disks.
//!
//! PERSIST_TORTURE_SECONDS makes it longer, PERSIST_SEED starts it elsewhere.

#[path = "../common/mod.rs"]
mod common;
mod faults;

use common::{Model, Rng, compare, scratch, step, time};
use persist_core::Error;
use persist_core::backup::{self, Input, Options, Restored, Restoring, backup_to, restore};
use persist_core::check;
use persist_core::store::{Actor, In, Key, Options as OpenOptions, Result, Store, Value, Wait};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn open(path: &Path) -> Store {
    Store::open(path, &OpenOptions::default()).unwrap()
}

fn at(path: &Path, name: &str) -> Store {
    let options = OpenOptions {
        snapshot: Some(name.to_owned()),
        ..OpenOptions::default()
    };
    Store::open(path, &options).unwrap()
}

fn set(store: &Store, key: &str, value: &In<'_>) {
    let done = store.write(Actor::Thread, &mut Wait::forever(), |w| {
        w.set(store.root(), &Key::Str(key.as_bytes()), value)
    });
    done.unwrap();
}

fn get(store: &Store, key: &str) -> Option<Value> {
    let key = Key::Str(key.as_bytes());
    store
        .read(&mut Wait::forever(), |r| r.get(store.root(), &key))
        .unwrap()
}

fn options(since: Option<&str>, keep: Option<&str>) -> Options {
    let mut options = Options::default();
    options.since = since.map(str::to_owned);
    options.keep = keep.map(str::to_owned);
    options
}

fn full(store: &Path, to: &Path) -> backup::Done {
    backup_to(store, to, &Options::default(), &mut ()).unwrap()
}

fn put_back(backups: &[PathBuf], to: &Path) -> Result<Restored> {
    let inputs = backups.iter().map(Input::file).collect();
    restore(inputs, to, &Restoring::default(), &mut ())
}

/// Snapshots that belong to backups.
fn temporary(store: &Store) -> usize {
    let all = store.snapshots().unwrap();
    all.iter().filter(|s| s.name.starts_with(".backup-")).count()
}

fn sound(path: &Path, what: &str) {
    let report = check::check(path, &mut ()).unwrap();
    assert!(report.is_sound(), "{what}: {:?}", report.findings);
}

/// It opens, holds this, can be changed, and is sound afterwards.
fn is_store_of(path: &Path, model: &Model, what: &str) {
    let store = open(path);
    compare(&store, model, what);
    set(&store, "changed", &In::Bytes(&[5; 9000]));
    store.sync().unwrap();
    set(&store, "changed", &In::None);
    store.close().unwrap();
    sound(path, what);
}

fn seed() -> u64 {
    let seed = std::env::var("PERSIST_SEED").ok();
    seed.and_then(|s| s.parse().ok()).unwrap_or(4711)
}

#[test]
fn a_backup_is_a_store_of_its_own_and_compact() {
    let dir = scratch();
    let (a, b, c) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
    let store = open(&a);
    for i in 0..600 {
        set(&store, &format!("k{i}"), &In::Bytes(&[i as u8; 3000]));
    }
    for i in 0..600 {
        set(&store, &format!("k{i}"), &In::Bytes(&[!i as u8; 3000]));
        if i % 100 == 0 {
            store.sync().unwrap();
        }
    }
    let model = Model::read(&store).unwrap();
    let done = full(&a, &b);
    assert_eq!(temporary(&store), 0);
    let len = std::fs::metadata(&b).unwrap().len();
    assert_eq!(len, done.bytes);
    // Two meta pages, the pages, a leaf for 256 of them, one page above.
    assert_eq!(len / 4096, 2 + done.pages + done.pages.div_ceil(256) + 1);
    assert!(len * 3 < std::fs::metadata(&a).unwrap().len() * 2);
    sound(&b, "the backup");
    // The original goes on; the copy made from the backup and the backup itself do not meet it.
    put_back(std::slice::from_ref(&b), &c).unwrap();
    assert_eq!(std::fs::metadata(&c).unwrap().len(), len);
    set(&store, "k0", &In::Int(0));
    is_store_of(&c, &model, "restored");
    // Opened and changed, the backup is an ordinary store; what it holds then can be restored too.
    is_store_of(&b, &model, "the backup, opened");
    let changed = open(&b);
    set(&changed, "more", &In::Int(1));
    let model = Model::read(&changed).unwrap();
    changed.close().unwrap();
    std::fs::remove_file(&c).unwrap();
    put_back(std::slice::from_ref(&b), &c).unwrap();
    is_store_of(&c, &model, "restored from a changed backup");
    assert_eq!(get(&store, "k0"), Some(Value::Int(0)));
}

/// An incremental backup leads from the state before to that after, over any change.
#[test]
fn chains_of_incremental_backups_lead_to_every_state() {
    let mut rng = Rng(seed());
    let (begun, long) = (Instant::now(), time(4));
    let mut chains = 0;
    while begun.elapsed() < long || chains == 0 {
        chains += 1;
        let dir = scratch();
        let path = dir.path().join("a");
        let file = |n: usize| dir.path().join(format!("backup {n}"));
        let mut store = open(&path);
        let mut model = Model::empty(store.root());
        let (mut files, mut models) = (Vec::new(), Vec::new());
        for n in 0..8 {
            let what = format!("seed {}, chain {chains}, link {n}", seed());
            for _ in 0..rng.below(60) {
                step(
                    &store,
                    &mut model,
                    &mut rng,
                    if n == 5 { 20_000 } else { 400_000 },
                )
                .unwrap();
            }
            if rng.one_in(3) {
                set(&store, "large", &In::Bytes(&vec![n as u8; rng.below(3_000_000)]));
                model = Model::read(&store).unwrap();
            }
            if rng.one_in(4) {
                store.gc().unwrap();
                store.release_free_pages().unwrap();
                model = Model::read(&store).unwrap();
            }
            if rng.one_in(3) {
                store.close().unwrap();
                store = open(&path);
            }
            let since = (n > 0).then(|| format!("s{}", n - 1));
            let options = options(since.as_deref(), Some(&format!("s{n}")));
            let done = backup_to(&path, &file(n), &options, &mut ()).unwrap();
            assert_eq!(done.bytes, std::fs::metadata(file(n)).unwrap().len(), "{what}");
            if n > 0 {
                // The last one is what the next is made since; those before are needed no more.
                store.drop_snapshot(&format!("s{}", n - 1)).unwrap();
            }
            files.push(file(n));
            models.push(model.clone());
            compare(&at(&path, &format!("s{n}")), &model, &what);
        }
        for n in 0..files.len() {
            let what = format!("seed {}, chain {chains}, up to {n}", seed());
            let to = dir.path().join(format!("restored {n}"));
            put_back(&files[..=n], &to).unwrap_or_else(|e| panic!("{what}: {e}"));
            // What was restored without a change stands for the backups it came from.
            if n + 1 < files.len() {
                let on = dir.path().join(format!("on {n}"));
                put_back(&[to.clone(), files[n + 1].clone()], &on).unwrap_or_else(|e| panic!("{what}: {e}"));
                is_store_of(&on, &models[n + 1], &what);
            }
            is_store_of(&to, &models[n], &what);
        }
        let _ = store.close();
    }
    println!("{chains} chains");
}

fn change(store: &Store, rng: &mut Rng, model: &mut Model) {
    for _ in 0..5 {
        step(store, model, rng, 300_000).unwrap();
    }
}

/// The task of a child: changes a store, alone, until it is killed.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_writer() {
    let Some(path) = std::env::var_os("PERSIST_STORE") else {
        return;
    };
    let store = open(Path::new(&path));
    let mut rng = Rng(77);
    let mut model = Model::read(&store).unwrap();
    std::fs::write(Path::new(&path).with_extension("ready"), "").unwrap();
    loop {
        change(&store, &mut rng, &mut model);
        if rng.one_in(50) {
            store.sync().unwrap();
        }
    }
}

struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn child(task: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", task, "--ignored", "--nocapture", "--test-threads=1"])
        .env("PERSIST_STORE", path)
        .stdout(Stdio::null());
    command
}

fn writer(path: &Path) -> Child {
    let ready = path.with_extension("ready");
    let _ = std::fs::remove_file(&ready);
    let mut child = Child(child("a_writer", path).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(120);
    while !ready.exists() {
        assert!(Instant::now() < deadline && child.0.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

/// Full and incremental ones, one after the other, while another process changes the store.
#[test]
fn backups_while_another_process_writes() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let file = |n: u64| dir.path().join(format!("{n}.backup"));
    open(&path).close().unwrap();
    let mut other = writer(&path);
    let store = open(&path);
    let (begun, long) = (Instant::now(), time(3));
    let mut n = 0u64;
    let mut before = store.change_count();
    while begun.elapsed() < long || n < 4 {
        let name = format!("s{n}");
        let since = (!n.is_multiple_of(4)).then(|| format!("s{}", n - 1));
        backup_to(&path, &file(n), &options(since.as_deref(), Some(&name)), &mut ()).unwrap();
        // Others may take snapshots and make backups meanwhile.
        if n.is_multiple_of(3) {
            full(&path, &dir.path().join("another"));
            std::fs::remove_file(dir.path().join("another")).unwrap();
        }
        let snapshot = at(&path, &name);
        let model = Model::read(&snapshot).unwrap();
        snapshot.close().unwrap();
        let chain: Vec<PathBuf> = (n / 4 * 4..=n).map(file).collect();
        let to = dir.path().join("restored");
        put_back(&chain, &to).unwrap_or_else(|e| panic!("{n}: {e}"));
        is_store_of(&to, &model, &format!("backup {n}"));
        std::fs::remove_file(&to).unwrap();
        if n > 0 {
            store.drop_snapshot(&format!("s{}", n - 1)).unwrap();
        }
        n += 1;
        assert!(other.0.try_wait().unwrap().is_none(), "the writer ended");
    }
    assert!(store.change_count() > before, "nothing was changed meanwhile");
    before = store.change_count();
    drop(other);
    assert_eq!(temporary(&store), 0);
    assert!(before > 0);
    store.drop_snapshot(&format!("s{}", n - 1)).unwrap();
    store.check().unwrap();
    store.close().unwrap();
    sound(&path, "the original");
    println!("{n} backups");
}

/// Threads move amounts between accounts in transactions: the sum is in every backup.
#[test]
fn backups_while_threads_write_hold_whole_transactions() {
    const ACCOUNTS: i64 = 200;
    let dir = scratch();
    let path = dir.path().join("a");
    let store = open(&path);
    for n in 0..ACCOUNTS {
        set(&store, &n.to_string(), &In::Int(100));
        set(&store, &format!("ballast {n}"), &In::Bytes(&[n as u8; 3000]));
    }
    let (end, moved) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|threads| {
        for t in 0..3u64 {
            let (store, end, moved) = (&store, &end, &moved);
            threads.spawn(move || {
                let mut rng = Rng(t);
                let int = |key: &str| match get(store, key) {
                    Some(Value::Int(n)) => n,
                    other => panic!("{other:?}"),
                };
                while !end.load(Ordering::Relaxed) {
                    let [from, to] = [0; 2].map(|_| rng.below(ACCOUNTS as usize).to_string());
                    if from == to {
                        continue;
                    }
                    store.begin(&mut Wait::forever()).unwrap();
                    set(store, &from, &In::Int(int(&from) - 1));
                    set(store, &to, &In::Int(int(&to) + 1));
                    store.commit().unwrap();
                    moved.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let deadline = Instant::now() + time(2).max(Duration::from_secs(2));
        let mut n = 0;
        while n < 3 || Instant::now() < deadline {
            n += 1;
            let before = moved.load(Ordering::Relaxed);
            let (file, to) = (dir.path().join("backup"), dir.path().join("b"));
            full(&path, &file);
            // It would be no test if nothing went on.
            let patience = Instant::now() + Duration::from_secs(120);
            while moved.load(Ordering::Relaxed) == before {
                assert!(Instant::now() < patience, "writers stand still");
                std::thread::yield_now();
            }
            put_back(std::slice::from_ref(&file), &to).unwrap();
            let copy = open(&to);
            let sum: i64 = (0..ACCOUNTS)
                .map(|n| match get(&copy, &n.to_string()) {
                    Some(Value::Int(n)) => n,
                    other => panic!("{other:?}"),
                })
                .sum();
            assert_eq!(sum, ACCOUNTS * 100, "backup {n}");
            copy.close().unwrap();
            for path in [&file, &to] {
                std::fs::remove_file(path).unwrap();
            }
        }
        end.store(true, Ordering::Relaxed);
    });
    store.close().unwrap();
    sound(&path, "the original");
}

fn chain(dir: &Path, n: usize) -> (PathBuf, Vec<PathBuf>) {
    let path = dir.join("a");
    let store = open(&path);
    let mut files = Vec::new();
    for i in 0..n {
        for k in 0..40 {
            set(&store, &format!("k{k}"), &In::Bytes(&[(i * 40 + k) as u8; 2000]));
        }
        set(&store, "n", &In::Int(i as i64));
        let since = (i > 0).then(|| format!("s{}", i - 1));
        let file = dir.join(format!("{i}.backup"));
        backup_to(
            &path,
            &file,
            &options(since.as_deref(), Some(&format!("s{i}"))),
            &mut (),
        )
        .unwrap();
        files.push(file);
    }
    store.close().unwrap();
    (path, files)
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_made() {
    let dir = scratch();
    let (path, files) = chain(dir.path(), 4);
    let other = scratch();
    let (_, others) = chain(other.path(), 2);
    let to = dir.path().join("restored");
    let cases: [(&[&PathBuf], &str); 8] = [
        (&[&files[1]], "name the full one first"),
        (&[&files[0], &files[2]], "one that comes between is missing"),
        (&[&files[0], &files[1], &files[1]], "it comes earlier"),
        (
            &[&files[0], &files[2], &files[1]],
            "one that comes between is missing",
        ),
        (&[&files[0], &others[1]], "another store"),
        (&[&files[0], &files[0]], "no incremental backup"),
        (&[&dir.path().join("nothing")], "cannot open"),
        (&[], "no backup"),
    ];
    for (backups, why) in cases {
        let backups: Vec<PathBuf> = backups.iter().map(|p| (*p).clone()).collect();
        let e = put_back(&backups, &to).unwrap_err();
        assert!(e.to_string().contains(why), "{backups:?}: {e}");
        if let Error::BadBackup { path, .. } = &e {
            assert!(backups.contains(path), "{e}");
        }
        assert!(!to.exists());
    }
    // Cut short anywhere; something behind the end.
    for (i, file) in files[..2].iter().enumerate() {
        let whole = std::fs::read(file).unwrap();
        let cut = dir.path().join("cut");
        for len in [0, 7, 8, 100, 4096, 8191, 8192, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&cut, &whole[..len]).unwrap();
            let mut backups = files[..i].to_vec();
            backups.push(cut.clone());
            let e = put_back(&backups, &to).unwrap_err();
            assert!(
                matches!(&e, Error::BadBackup { path, .. } if *path == cut),
                "{len}: {e}"
            );
            assert!(!to.exists());
        }
        let longer = [whole.as_slice(), &[0]].concat();
        let mut inputs: Vec<Input<'_>> = files[..i].iter().map(Input::file).collect();
        inputs.push(Input::stream("the stream", longer.as_slice()));
        let e = restore(inputs, &to, &Restoring::default(), &mut ()).unwrap_err();
        assert!(
            e.to_string().contains("the stream: something follows its end"),
            "{e}"
        );
    }
    // What is there stays, unless it is to be replaced and nobody has it open.
    std::fs::write(&to, "mine").unwrap();
    let e = put_back(&files, &to).unwrap_err();
    assert!(
        matches!(e, Error::Refused { .. }) && e.to_string().contains("--force"),
        "{e}"
    );
    let e = backup_to(&path, &to, &Options::default(), &mut ()).unwrap_err();
    assert!(
        matches!(e, Error::Refused { .. }) && e.to_string().contains("--force"),
        "{e}"
    );
    assert_eq!(std::fs::read(&to).unwrap(), b"mine");
    let mut force = Restoring::default();
    force.force = true;
    let inputs = || files.iter().map(Input::file).collect();
    restore(inputs(), &to, &force, &mut ()).unwrap();
    let store = open(&to);
    assert_eq!(get(&store, "n"), Some(Value::Int(3)));
    let e = restore(inputs(), &to, &force, &mut ()).unwrap_err();
    assert!(e.to_string().contains("in use"), "{e}");
    // A full backup that somebody has open, too.
    let e = put_back(std::slice::from_ref(&to), &dir.path().join("again")).unwrap_err();
    assert!(e.to_string().contains("in use"), "{e}");
    store.close().unwrap();
    let mut options = Options::default();
    options.force = true;
    let e = backup_to(&path, &path, &options, &mut ()).unwrap_err();
    assert!(matches!(e, Error::Invalid { .. }), "{e}");
    backup_to(&path, &to, &options, &mut ()).unwrap();
    sound(&to, "replaced");
    let here: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with('.'))
        .collect();
    assert!(here.is_empty(), "{here:?}");
}

#[test]
fn what_cannot_be_backed_up_says_why() {
    let dir = scratch();
    let (path, _) = chain(dir.path(), 1);
    let to = dir.path().join("to");
    let refused = |options: &Options| {
        let e = backup_to(&path, &to, options, &mut ()).unwrap_err();
        assert!(!to.exists());
        e.to_string()
    };
    assert!(refused(&options(Some("no"), None)).contains("there is no snapshot \"no\""));
    assert!(refused(&options(None, Some("s0"))).contains("there is a snapshot \"s0\" already"));
    assert!(refused(&options(None, Some(".backup-1"))).contains("backups under way"));
    assert!(refused(&options(None, Some("a/b"))).contains("cannot be a snapshot's name"));
    let mut both = options(None, Some("t"));
    both.at = Some("s0".to_owned());
    assert!(refused(&both).contains("has a name already"));
    // Somebody stops it.
    let mut stop = options(None, Some("kept"));
    stop.stop = Some(Arc::new(AtomicBool::new(true)));
    assert!(refused(&stop).contains("interrupted"));
    let store = open(&path);
    // Nothing is kept of what was not finished.
    let names: Vec<String> = store.snapshots().unwrap().into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["s0"]);
    // A younger snapshot cannot be the base of an older one.
    store.snapshot("s1").unwrap();
    let mut backward = options(Some("s1"), None);
    backward.at = Some("s0".to_owned());
    assert!(refused(&backward).contains("younger"));
    for (name, content) in [("empty", &b""[..]), ("text", b"this is no store at all")] {
        let file = dir.path().join(name);
        std::fs::write(&file, content).unwrap();
        let e = backup_to(&file, &to, &Options::default(), &mut ()).unwrap_err();
        assert!(matches!(e, Error::NotAStore { .. }), "{e}");
        assert_eq!(std::fs::read(&file).unwrap(), content);
    }
}

/// A snapshot can be backed up by who may only read the store; so can a store that nobody has open.
#[test]
fn a_snapshot_is_backed_up_as_it_is() {
    let dir = scratch();
    let path = dir.path().join("a");
    let store = open(&path);
    set(&store, "n", &In::Int(1));
    store.snapshot("one").unwrap();
    set(&store, "n", &In::Int(2));
    store.snapshot("two").unwrap();
    set(&store, "n", &In::Int(3));
    let files: Vec<PathBuf> = ["one", "two"].iter().map(|n| dir.path().join(n)).collect();
    for (i, file) in files.iter().enumerate() {
        let mut options = options((i == 1).then_some("one"), None);
        options.at = Some(["one", "two"][i].to_owned());
        backup_to(&path, file, &options, &mut ()).unwrap();
    }
    for n in 1..=2 {
        let to = dir.path().join(format!("restored {n}"));
        put_back(&files[..n], &to).unwrap();
        assert_eq!(get(&open(&to), "n"), Some(Value::Int(n as i64)));
    }
    assert_eq!(store.snapshots().unwrap().len(), 2);
}

/// What `cp` makes of a store in use: its last checkpoint, whole if fewer than two more are made while it reads; else
/// pages of it may have been used again, and that is found.
#[test]
fn a_plain_copy_of_a_store_in_use() {
    use std::os::unix::fs::FileExt;
    let dir = scratch();
    let (path, copy) = (dir.path().join("a"), dir.path().join("copy"));
    let store = open(&path);
    let all = |n: i64| {
        for k in 0..300 {
            set(&store, &format!("k{k}"), &In::Bytes(&[n as u8; 3000]));
        }
        set(&store, "n", &In::Int(n));
    };
    // `cp` reads from the front: the meta pages first.
    let copy_while = |between: &dyn Fn()| {
        let bytes = |from: u64| {
            let file = std::fs::File::open(&path).unwrap();
            let mut bytes = vec![0; (file.metadata().unwrap().len() - from) as usize];
            file.read_exact_at(&mut bytes, from).unwrap();
            bytes
        };
        let mut whole = bytes(0)[..8192].to_vec();
        between();
        whole.extend(bytes(8192));
        std::fs::write(&copy, whole).unwrap();
    };
    let n = || {
        let store = open(&copy);
        let n = get(&store, "n");
        store.check().unwrap();
        store.close().unwrap();
        n
    };
    all(1);
    store.sync().unwrap();
    all(2);
    // No checkpoint meanwhile, then one: what was completed since the last is not there.
    copy_while(&|| all(3));
    assert_eq!(n(), Some(Value::Int(1)));
    copy_while(&|| {
        store.sync().unwrap();
        all(4);
    });
    assert_eq!(n(), Some(Value::Int(1)));
    // Many: it is torn, and says so.
    store.sync().unwrap();
    copy_while(&|| {
        for n in 5..12 {
            all(n);
            store.sync().unwrap();
        }
    });
    let report = check::check(&copy, &mut ()).unwrap();
    assert!(!report.is_sound(), "{report:?}");
    // Under the same conditions a backup is whole.
    let backup = dir.path().join("backup");
    let mut out = Slow(Vec::new(), &|| {
        for n in 20..24 {
            all(n);
            store.sync().unwrap();
        }
    });
    backup::backup(&path, &mut out, &Options::default(), &mut ()).unwrap();
    std::fs::write(&backup, out.0).unwrap();
    sound(&backup, "the backup");
    assert_eq!(get(&open(&backup), "n"), Some(Value::Int(11)));
}

/// Something happens before each write.
struct Slow<'a>(Vec<u8>, &'a dyn Fn());

impl std::io::Write for Slow<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (self.1)();
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Durable commits: the backup has what its checkpoint has, and needs no log; the log of a store that was replaced is
/// nobody's.
#[test]
fn stores_with_durable_commits() {
    let dir = scratch();
    let (path, file, to) = (
        dir.path().join("a"),
        dir.path().join("a.backup"),
        dir.path().join("b"),
    );
    let durable = OpenOptions {
        durability: persist_core::store::Durability::Commit,
        ..OpenOptions::default()
    };
    let store = Store::open(&path, &durable).unwrap();
    let log = dir.path().join("a-wal");
    for n in 0..50 {
        set(&store, "n", &In::Int(n));
    }
    assert!(log.exists());
    full(&path, &file);
    for n in 50..60 {
        set(&store, "n", &In::Int(n));
    }
    // A file alone, whose log is elsewhere, is not taken for a backup.
    std::fs::copy(&path, dir.path().join("copy")).unwrap();
    let e = put_back(&[dir.path().join("copy")], &to).unwrap_err();
    assert!(e.to_string().contains("redo log"), "{e}");
    std::fs::copy(&log, dir.path().join("b-wal")).unwrap();
    put_back(std::slice::from_ref(&file), &to).unwrap();
    for n in 0..2 {
        let copy = Store::open(&to, &durable).unwrap();
        assert_eq!(get(&copy, "n"), Some(Value::Int(if n == 0 { 49 } else { 100 })));
        set(&copy, "n", &In::Int(100));
        copy.close().unwrap();
    }
    sound(&to, "restored");
    assert_eq!(get(&store, "n"), Some(Value::Int(59)));
}

/// Compaction moves every page; backups go on where they were.
#[test]
fn incremental_backups_go_on_after_a_compaction() {
    let dir = scratch();
    let (path, mut files) = chain(dir.path(), 2);
    open(&path).compact(&mut |_| {}).unwrap();
    let store = open(&path);
    set(&store, "n", &In::Int(2));
    files.push(dir.path().join("2.backup"));
    backup_to(&path, &files[2], &options(Some("s1"), None), &mut ()).unwrap();
    let to = dir.path().join("restored");
    put_back(&files, &to).unwrap();
    is_store_of(&to, &Model::read(&store).unwrap(), "after a compaction");
}
