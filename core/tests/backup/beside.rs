//! Backups during writes by other processes and threads, and copies of a store that is in use.

use super::common::{Model, Rng, scratch, step, time};
use super::support::plain::wait_for;
use super::support::{again, process};
use super::{at, full, get, is_store_of, open, options, put_back, set, sound, temporary};
use persist_core::backup::{self, Options, backup_to};
use persist_core::check;
use persist_core::store::{In, Store, Value, Wait};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn change(store: &Store, rng: &mut Rng, model: &mut Model) {
    for _ in 0..5 {
        step(store, model, rng, 300_000).unwrap();
    }
}

/// The task of a child process: change a store until the process is killed.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_writer() {
    let Some(path) = std::env::var_os("PERSIST_STORE") else {
        return;
    };
    process::die_with_parent();
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

fn writer(path: &Path) -> Child {
    let child = again("beside::a_writer").env("PERSIST_STORE", path).spawn();
    wait_for(&path.with_extension("ready"));
    Child(child.unwrap())
}

/// Wait until a number has grown, which proves that the other process makes progress.
fn continues(number: impl Fn() -> u64) {
    let (before, until) = (number(), Instant::now() + Duration::from_secs(120));
    while number() == before {
        assert!(Instant::now() < until, "writers stand still");
        std::thread::yield_now();
    }
}

/// Full and incremental backups, one after the other, while another process changes the store.
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
    while begun.elapsed() < long || n < 4 {
        let name = format!("s{n}");
        let since = (!n.is_multiple_of(4)).then(|| format!("s{}", n - 1));
        backup_to(&path, &file(n), &options(since.as_deref(), Some(&name)), &mut ()).unwrap();
        // Other snapshots and backups may exist at the same time.
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
        continues(|| store.change_count());
    }
    drop(other);
    assert_eq!(temporary(&store), 0);
    store.drop_snapshot(&format!("s{}", n - 1)).unwrap();
    store.check().unwrap();
    store.close().unwrap();
    sound(&path, "the original");
    println!("{n} backups");
}

/// Threads move amounts between accounts in transactions: the sum is correct in every backup.
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
                    store.begin(&mut Wait::default()).unwrap();
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
            let (file, to) = (dir.path().join("backup"), dir.path().join("b"));
            full(&path, &file);
            continues(|| moved.load(Ordering::Relaxed));
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

/// The result of `cp` of a store in use. It is the last checkpoint, whole, if fewer than two further checkpoints are
/// made during the copy. Otherwise some pages may have been reused, and this is detected.
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
    // No checkpoint during the copy, then one: operations completed since the last checkpoint are missing.
    copy_while(&|| all(3));
    assert_eq!(n(), Some(Value::Int(1)));
    copy_while(&|| {
        store.sync().unwrap();
        all(4);
    });
    assert_eq!(n(), Some(Value::Int(1)));
    // Many checkpoints: the copy is torn, and opening reports it.
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

/// A writer that calls a function before each write.
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
