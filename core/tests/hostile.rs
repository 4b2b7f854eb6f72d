//! Hostile files: stores of every shape, and redo logs, damaged at random, are opened, checked, read, changed,
//! collected and salvaged. Whatever the damage: an error or right data, never a crash, a hang, or memory without
//! bound. Of a log whose checksums tell, right is what it holds up to the damage, and no other log's changes.
//!
//! Each case is a seed. They run in processes of their own, whose memory is limited (`RLIMIT_DATA`: what is
//! allocated, not what is mapped of the file) and whose processor time is watched. A failure prints its seed and
//! keeps its file, for no two stores of a shape are laid out alike:
//!
//! ```text
//! PERSIST_SEED=SEED PERSIST_CASE=FILE cargo test -p persist-core --features testing \
//!     --test hostile one_seed -- --ignored --nocapture
//! ```
//!
//! PERSIST_TORTURE_SECONDS makes it longer, from a seed of its own. `write_cases` writes damaged files for the tests
//! of the two doors.

mod shapes;

use persist_core::check::salvage::salvage;
use persist_core::check::{Source, check};
use persist_core::store::{Actor, In, Key, Kind, Obj, ObjectId, Options, Result, Step, Store, Value, Wait};
use shapes::damage::Image;
use shapes::log::{self, Logged};
use shapes::mutate::{self, Rng};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Processor time that a case may take, and time by the clock: many times what one takes on a slow machine with much
/// else to do.
const CPU: Duration = Duration::from_secs(20);
const CLOCK: Duration = Duration::from_secs(300);
/// Cases that are tried at least, however long that takes.
const LEAST: u64 = 60;
/// Bytes that a case may allocate besides twice the file.
const MEMORY: u64 = 96 << 20;
/// Children at once.
const CHILDREN: usize = 2;
/// Where each child says which case it is at.
const PROGRESS: &str = "progress";

fn seconds() -> Option<u64> {
    std::env::var("PERSIST_TORTURE_SECONDS").ok()?.parse().ok()
}

/// The content of each container, by its id.
type Truth = HashMap<ObjectId, Vec<(Step, Value)>>;

/// A shape's file, and what both of its checkpoints hold.
struct Base {
    bytes: Vec<u8>,
    truths: [Truth; 2],
}

/// What cases are made of.
struct Bases {
    shapes: Vec<Base>,
    logged: Logged,
    /// What the store was at each commit.
    states: Vec<Truth>,
}

/// Makes the stores, in the directory above the children's.
fn make_bases(dir: &Path) {
    for shape in shapes::ALL {
        shapes::make(shape, &dir.join(shape));
    }
}

/// What a store holds.
fn truth_of(store: &Store) -> Truth {
    let mut truth = Truth::new();
    let (_, whole) = read_all(store, u64::MAX, |obj, entries| {
        truth.insert(obj.id, entries);
    });
    assert!(whole);
    truth
}

fn bases(dir: &Path) -> Bases {
    let truth = |path: &Path| {
        let store = Store::open(path, &Options::default()).unwrap();
        let truth = truth_of(&store);
        store.close().unwrap();
        truth
    };
    let base = |shape: &&str| {
        let path = dir.join("base");
        let image = Image::load(&dir.parent().unwrap_or(dir).join(shape));
        clear(&path);
        image.save(&path);
        let newest = truth(&path);
        let mut older = Image {
            bytes: image.bytes.clone(),
        };
        let meta = older.meta().page;
        older.page(meta).fill(0);
        clear(&path);
        older.save(&path);
        Base {
            bytes: image.bytes,
            truths: [newest, truth(&path)],
        }
    };
    let shapes = shapes::ALL.iter().map(base).collect();
    let mut states = Vec::new();
    let logged = log::make(&dir.join("logged"), |store| states.push(truth_of(store)));
    Bases {
        shapes,
        logged,
        states,
    }
}

fn clear(path: &Path) {
    for end in ["", "-shm", "-wal"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
}

/// Reads everything that can be reached, at most so many entries: all containers met, and whether all could be
/// read.
fn read_all(store: &Store, most: u64, mut f: impl FnMut(Obj, Vec<(Step, Value)>)) -> (Vec<Obj>, bool) {
    let wait = &mut Wait::at_most(Duration::from_secs(30));
    let mut met = HashMap::from([(store.root().id, ())]);
    let mut all = vec![store.root()];
    let (mut i, mut left, mut whole) = (0, most, true);
    while let Some(&obj) = all.get(i) {
        i += 1;
        let mut entries = Vec::new();
        let kind = store.read(wait, |r| {
            r.len(obj)?;
            r.refs(obj)?;
            r.class(obj)?;
            r.mtime(obj)?;
            let _ = r.home(obj);
            r.kind(obj)
        });
        let mut cursor = 0;
        while let Ok(kind) = kind {
            let part = store.read(wait, |r| part(r, obj, kind, cursor));
            let Ok((part, next)) = part else {
                whole = false;
                break;
            };
            left = left.saturating_sub(part.len() as u64);
            if part.is_empty() || left == 0 {
                break;
            }
            cursor = next;
            for (_, value) in &part {
                match value {
                    Value::Obj(child) if met.insert(child.id, ()).is_none() => all.push(*child),
                    Value::Large(large) => {
                        let mut piece = vec![0; 100_000];
                        let mut at = 0;
                        while let Ok(n @ 1..) = store.read(wait, |r| r.large_read(large, at, &mut piece)) {
                            at += n as u64;
                            left = left.saturating_sub(n as u64 / 8);
                            if left == 0 {
                                break;
                            }
                        }
                        whole &= at == large.len;
                    }
                    _ => {}
                }
            }
            entries.extend(part);
        }
        whole &= kind.is_ok();
        if left == 0 {
            return (all, false);
        }
        f(obj, entries);
    }
    (all, whole)
}

type Part = (Vec<(Step, Value)>, u64);

fn part(r: &persist_core::store::Reader<'_>, obj: Obj, kind: Kind, cursor: u64) -> Result<Part> {
    if kind == Kind::List {
        let mut items = Vec::new();
        r.items(obj, cursor, 1000, &mut items)?;
        let next = cursor + items.len() as u64;
        let steps = items.into_iter().enumerate();
        return Ok((
            steps.map(|(i, v)| (Step::Index(cursor + i as u64), v)).collect(),
            next,
        ));
    }
    let mut entries = Vec::new();
    let mut at = cursor;
    while entries.len() < 500 {
        let Some(e) = r.next(obj, at)? else { break };
        assert!(e.cursor > at, "a cursor that does not move on");
        at = e.cursor;
        if let Value::Str { bytes, .. } = &e.key {
            let _ = r.get(obj, &Key::Str(bytes));
        }
        entries.push((Step::Key(e.key), e.value));
    }
    Ok((entries, at))
}

/// The damaged file of a case, as it was before the case was run. Its log stands beside it.
const CASE: &str = "case";

/// A store's file, and its log if there is one.
struct Files {
    store: Image,
    log: Option<Vec<u8>>,
}

impl Files {
    fn load(path: &Path) -> Files {
        Files {
            store: Image::load(path),
            log: std::fs::read(log::path_of(path)).ok(),
        }
    }

    fn save(&self, path: &Path) {
        clear(path);
        self.store.save(path);
        if let Some(bytes) = &self.log {
            std::fs::write(log::path_of(path), bytes).unwrap();
        }
    }
}

/// Damages a store, or the log of one. With the files come the states that they may show, unless the checksums
/// were made right again.
fn mutate<'b>(bases: &'b Bases, rng: &mut Rng) -> (Files, Option<&'b [Truth]>) {
    let raw = rng.one_in(3);
    if rng.one_in(5) {
        let mut store = Image {
            bytes: bases.logged.store.clone(),
        };
        let (log, states) = match raw {
            // Nothing of the log, at worst; but a checkpoint is durable without it.
            true if rng.one_in(2) => (
                log::raw(&bases.logged, rng),
                &bases.states[bases.logged.before - 1..],
            ),
            true => {
                mutate::raw(&mut store, rng);
                (log::raw(&bases.logged, rng), &bases.states[..])
            }
            false => (log::deep(&bases.logged, &mut store, rng), &[][..]),
        };
        let log = Some(log);
        return (Files { store, log }, raw.then_some(states));
    }
    let base = rng.pick(&bases.shapes);
    let mut store = Image {
        bytes: base.bytes.clone(),
    };
    if raw {
        mutate::raw(&mut store, rng);
    } else {
        mutate::deep(&mut store, rng);
    }
    (Files { store, log: None }, raw.then_some(&base.truths))
}

/// One case; whether the checker found something.
fn case(bases: &Bases, dir: &Path, seed: u64) -> bool {
    let (files, truths) = mutate(bases, &mut Rng(seed));
    files.save(&dir.join(CASE));
    run(&files, truths, dir, seed)
}

/// Does with damaged files whatever can be done with them.
fn run(files: &Files, truths: Option<&[Truth]>, dir: &Path, seed: u64) -> bool {
    let (path, new) = (dir.join("file"), dir.join("salvaged"));
    clear(&new);
    files.save(&path);
    // Twice what the file can hold, with room for what is changed.
    let most = files.store.bytes.len() as u64 / 4 + 10_000;
    let noticed = !check(&path, &mut ()).is_ok_and(|report| report.is_sound());
    if let Ok(source) = Source::alone(&path)
        && let Ok(done) = salvage(&source, &new, &mut ())
    {
        let report = check(&new, &mut ()).unwrap();
        assert_eq!(report.findings, [], "what was salvaged ({done:?}) is not sound");
    }
    files.save(&path);
    let options = Options {
        lock_timeout: Duration::from_secs(3),
        ..Options::default()
    };
    let Ok(store) = Store::open(&path, &options) else {
        return noticed;
    };
    let mut read: Truth = HashMap::new();
    let (all, _) = read_all(&store, most, |obj, entries| {
        if truths.is_some() {
            read.insert(obj.id, entries);
        }
    });
    if let Some(truths) = truths {
        // What the checksums let through is right: what one checkpoint or the other holds. Of a container that
        // could be read in part, the part.
        let is_right = |truth: &Truth| {
            read.iter().all(|(id, entries)| {
                let whole = truth.get(id);
                whole.is_some_and(|whole| entries.iter().zip(whole).all(|(a, b)| same(a, b)))
            })
        };
        assert!(truths.iter().any(is_right), "wrong data");
    }
    for snapshot in store.snapshots().unwrap_or_default() {
        if let Ok(kept) = store.open_snapshot(&snapshot.name) {
            read_all(&kept, most, |_, _| {});
            let _ = kept.close();
        }
    }
    change(&store, &all, &mut Rng(!seed));
    let _ = store.gc();
    let _ = store.stat();
    let _ = store.sync();
    if let Some(snapshot) = store.snapshots().unwrap_or_default().first() {
        let _ = store.drop_snapshot(&snapshot.name);
    }
    let _ = store.snapshot("another");
    let _ = if seed.is_multiple_of(4) {
        store.compact(&mut |_| {}).map(|_| ())
    } else {
        store.close()
    };
    if let Ok(store) = Store::open(&path, &options) {
        read_all(&store, most, |_, _| {});
        let _ = store.close();
    }
    noticed
}

fn same(a: &(Step, Value), b: &(Step, Value)) -> bool {
    let bits = |v: &Value| match v {
        Value::Float(x) => Some(x.to_bits()),
        _ => None,
    };
    a == b || a.0 == b.0 && bits(&a.1).is_some() && bits(&a.1) == bits(&b.1)
}

/// Changes something here and there.
fn change(store: &Store, all: &[Obj], rng: &mut Rng) {
    for round in 0..40 {
        let (obj, other) = (*rng.pick(all), *rng.pick(all));
        let wait = &mut Wait::at_most(Duration::from_secs(30));
        let what = rng.below(14).min(12);
        let transaction = rng.one_in(5) && store.begin(wait).is_ok();
        let key = format!("key {}", rng.below(50));
        let at = rng.next();
        let _ = store.write(Actor::Thread, wait, |w| {
            let kind = w.kind(obj)?;
            let len = w.len(obj)?;
            let step = if kind == Kind::List {
                Step::Index(at % len.max(1))
            } else {
                match w.next(obj, at % 300)? {
                    Some(e) => Step::Key(e.key),
                    None => Step::Key(Value::Int(1)),
                }
            };
            if kind == Kind::List {
                return match what {
                    0..=2 => w.insert(obj, at % (len + 1), &In::Obj(other)),
                    3..=4 => w.insert(obj, at % (len + 1), &In::Bytes(&[7; 300])),
                    5..=8 => {
                        let from = at % (len + 1);
                        w.remove_items(obj, from, (from + at / 7 % 600).min(len))
                    }
                    9 => w.clear(obj),
                    10 => w.rename(obj, &step, other, &Step::Key(Value::Int(round))),
                    11 => w.convert(obj, Kind::Dict, ""),
                    _ => w.set_item(obj, at % len.max(1), &In::Int(5)),
                };
            }
            match what {
                0..=1 => w.set(obj, &Key::Str(key.as_bytes()), &In::Obj(other)),
                2..=3 => w.set(
                    obj,
                    &Key::Str(key.as_bytes()),
                    &In::str("some text that needs a segment"),
                ),
                4..=7 => match &step {
                    Step::Key(Value::Str { bytes, .. }) => w.remove(obj, &Key::Str(bytes)).map(|_| ()),
                    Step::Key(Value::Int(n)) => w.remove(obj, &Key::Int(*n)).map(|_| ()),
                    _ => Ok(()),
                },
                8 => {
                    let d = w.new_object("a:B")?;
                    w.set(d, &Key::Str(b"x"), &In::Int(1))?;
                    w.set(store.root(), &Key::Str(b"new"), &In::Obj(d))
                }
                9 => w.clear(obj),
                10 => w.rename(obj, &step, other, &Step::Key(Value::Int(round))),
                _ => w.convert(
                    obj,
                    [Kind::Dict, Kind::List, Kind::Object][at as usize % 3],
                    "a:B",
                ),
            }
        });
        if transaction {
            let _ = if rng.one_in(2) {
                store.commit()
            } else {
                store.rollback()
            };
        }
    }
}

/// The cases of one child.
#[test]
#[ignore = "a part of `hostile`"]
fn child() {
    let var = |name: &str| std::env::var(name).unwrap();
    let dir = PathBuf::from(var("PERSIST_HOSTILE_DIR"));
    let (from, step): (u64, u64) = (
        var("PERSIST_SEED").parse().unwrap(),
        var("PERSIST_STEP").parse().unwrap(),
    );
    let bases = bases(&dir);
    let progress = File::options().write(true).open(dir.join(PROGRESS)).unwrap();
    let mut noticed = 0u64;
    for seed in (0..).map(|n: u64| from.wrapping_add(n * step)) {
        progress.write_all_at(&seed.to_le_bytes(), 8).unwrap();
        progress.write_all_at(&1u64.to_le_bytes(), 0).unwrap();
        noticed += u64::from(case(&bases, &dir, seed));
        progress.write_all_at(&noticed.to_le_bytes(), 16).unwrap();
    }
}

/// One case, in this process: to look at a failure.
#[test]
#[ignore = "to look at a failure of `hostile`"]
fn one_seed() {
    let seed = std::env::var("PERSIST_SEED").unwrap().parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = PathBuf::from(std::env::var("PERSIST_CASE").unwrap());
    let began = Instant::now();
    println!("noticed: {}", run(&Files::load(&file), None, dir.path(), seed));
    println!("case: {:?}", began.elapsed());
}

/// Damaged files for others: PERSIST_CASES of them in PERSIST_HOSTILE_DIR, by their seeds from PERSIST_SEED on.
#[test]
#[ignore = "for the tests of Python and of the mount"]
fn write_cases() {
    let var = |name: &str| std::env::var(name).unwrap();
    let dir = PathBuf::from(var("PERSIST_HOSTILE_DIR"));
    let (from, cases): (u64, u64) = (
        var("PERSIST_SEED").parse().unwrap(),
        var("PERSIST_CASES").parse().unwrap(),
    );
    let scratch = tempfile::tempdir_in(&dir).unwrap();
    make_bases(scratch.path());
    let below = scratch.path().join("child");
    std::fs::create_dir(&below).unwrap();
    let bases = bases(&below);
    for seed in (0..cases).map(|n| from.wrapping_add(n)) {
        let (files, _) = mutate(&bases, &mut Rng(seed));
        files.save(&dir.join(format!("{seed}.store")));
    }
}

/// A child and what it is doing.
struct Worker {
    dir: tempfile::TempDir,
    child: Child,
    seed: u64,
    /// Cases in which the checker found something.
    noticed: u64,
    /// Processor time and time when the case began.
    since: (Duration, Instant),
}

impl Worker {
    fn start(parent: &Path, seed: u64, step: u64) -> Worker {
        let dir = tempfile::tempdir_in(parent).unwrap();
        std::fs::write(dir.path().join(PROGRESS), [0; 24]).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "child",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
                "-q",
            ])
            .env("PERSIST_HOSTILE_DIR", dir.path())
            .env("PERSIST_SEED", seed.to_string())
            .env("PERSIST_STEP", step.to_string())
            .env("RUST_BACKTRACE", "1")
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let most = MEMORY + 2 * (16 << 20);
        // SAFETY: `setrlimit` is allowed between fork and exec, and the structure is a valid one.
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit {
                    rlim_cur: most,
                    rlim_max: most,
                };
                match libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().unwrap();
        Worker {
            dir,
            child,
            seed,
            noticed: 0,
            since: (Duration::ZERO, Instant::now()),
        }
    }

    /// Processor time that the child has used.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let field = |i: usize| {
            after
                .split_whitespace()
                .nth(i)
                .and_then(|f| f.parse::<u64>().ok())
        };
        // Hundredths of a second, as everywhere.
        Duration::from_millis(10 * (field(11).unwrap_or(0) + field(12).unwrap_or(0)))
    }

    /// What went wrong, if something did.
    fn look(&mut self) -> Option<String> {
        let progress = std::fs::read(self.dir.path().join(PROGRESS)).unwrap();
        let word = |at: usize| u64::from_le_bytes(progress[at..at + 8].try_into().unwrap());
        let cpu = self.cpu();
        self.noticed = word(16);
        if word(0) == 1 && word(8) != self.seed {
            self.seed = word(8);
            self.since = (cpu, Instant::now());
        }
        if let Some(status) = self.child.try_wait().unwrap() {
            return Some(format!("{status}"));
        }
        let (cpu, clock) = (cpu.saturating_sub(self.since.0), self.since.1.elapsed());
        let making_bases = word(0) == 0;
        (clock > CLOCK || cpu > CPU && !making_bases).then(|| format!("it hangs: {cpu:?} of processor time"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn hostile() {
    let (time, first) = match seconds() {
        // Seeds of its own, so that every run tries others.
        Some(s) => (s, fastrand::u64(..1 << 63)),
        None => (5, 1),
    };
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let dir = tempfile::tempdir_in(parent).unwrap();
    make_bases(dir.path());
    let mut workers: Vec<Worker> = (0..CHILDREN)
        .map(|i| Worker::start(dir.path(), first + i as u64, CHILDREN as u64))
        .collect();
    let end = Instant::now() + Duration::from_secs(time);
    let (mut failures, mut noticed) = (Vec::new(), 0);
    let tried = |workers: &[Worker]| -> u64 {
        let of = |w: &Worker| w.seed.wrapping_sub(first) / CHILDREN as u64;
        workers.iter().map(of).sum()
    };
    while (Instant::now() < end || tried(&workers) < LEAST) && failures.len() < 20 {
        std::thread::sleep(Duration::from_millis(20));
        for worker in &mut workers {
            let Some(what) = worker.look() else { continue };
            let _ = worker.child.kill();
            let log = std::fs::read_to_string(worker.dir.path().join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().filter(|l| !l.contains("/rustc/")).collect();
            let tail = tail[tail.len().saturating_sub(60)..].join("\n");
            let kept = std::env::temp_dir().join(format!("persist-hostile-{}.store", worker.seed));
            let case = worker.dir.path().join(CASE);
            let _ = std::fs::copy(&case, &kept);
            let _ = std::fs::copy(log::path_of(&case), log::path_of(&kept));
            let (seed, kept) = (worker.seed, kept.display());
            failures.push(format!("seed {seed}, file kept as {kept}: {what}\n{tail}"));
            noticed += worker.noticed;
            *worker = Worker::start(
                dir.path(),
                worker.seed.wrapping_add(CHILDREN as u64),
                CHILDREN as u64,
            );
        }
    }
    for worker in &mut workers {
        worker.look();
        noticed += worker.noticed;
    }
    let cases = tried(&workers);
    println!("{cases} cases from seed {first}, {noticed} of them noticed by the checker");
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n\n")
    );
    // Damage of a page in use is noticed; of one that is free, or a value that became another, it is not.
    assert!(
        noticed > 0 && noticed >= cases / 4,
        "of {cases} cases {noticed} were noticed"
    );
}
