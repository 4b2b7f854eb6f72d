//! Hostile files: stores of every shape, and redo logs, damaged at random, are opened, checked, read, changed,
//! collected and salvaged. Whatever the damage, the result is an error or right data: never a crash, a hang, or
//! unbounded memory. If a log's checksums are valid up to the damage, the right result is its content up to there,
//! without changes of any other log.
//!
//! Each case is a seed. Cases run in separate processes with limited memory (`RLIMIT_DATA`: allocations, not mappings
//! of the file) and a limit of processor time. A failure prints its seed and keeps its file, because two stores of a
//! shape differ in their layout:
//!
//! ```text
//! PERSIST_SEED=SEED PERSIST_CASE=FILE cargo test -p persist-core --features testing \
//!     --test hostile one_seed -- --ignored --nocapture
//! ```
//!
//! PERSIST_TORTURE_SECONDS makes it longer, with a new seed. `write_cases` writes damaged files for the tests of Python
//! and the mount.
//!
//! `cases`: the damage. `using`: the use of a damaged store. `worker`: the processes.

mod cases;
#[path = "../shapes/mod.rs"]
mod shapes;
mod using;
mod worker;

use cases::{Bases, CASE, Files, bases, make_bases, mutate};
use shapes::log;
use shapes::mutate::Rng;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use using::run;
use worker::Worker;

/// Limits of processor time and of elapsed time for a case: many times what a case takes on a slow and busy machine.
const CPU: Duration = Duration::from_secs(20);
const CLOCK: Duration = Duration::from_secs(300);
/// The minimal number of cases, however long they take.
const LEAST: u64 = 60;
/// Bytes that a case may allocate in addition to twice the file.
const MEMORY: u64 = 96 << 20;
/// The number of children at one time.
const CHILDREN: usize = 2;
/// The file in which each child writes its current case.
const PROGRESS: &str = "progress";

fn seconds() -> Option<u64> {
    std::env::var("PERSIST_TORTURE_SECONDS").ok()?.parse().ok()
}

/// Run one case. Returns whether the checker found damage.
fn case(bases: &Bases, dir: &Path, seed: u64) -> bool {
    let (files, truths) = mutate(bases, &mut Rng(seed));
    files.save(&dir.join(CASE));
    run(&files, truths, dir, seed)
}

/// Run the cases of one child.
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

/// Run one case in this process, to examine a failure.
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

/// Write damaged files for other tests: PERSIST_CASES of them in PERSIST_HOSTILE_DIR, by their seeds from PERSIST_SEED
/// on.
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

#[test]
fn hostile() {
    let (time, first) = match seconds() {
        // A new seed, so that every run tries other cases.
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
    // Damage of a used page is noticed; damage of a free page, or of a value that became another value, is not.
    assert!(
        noticed > 0 && noticed >= cases / 4,
        "of {cases} cases {noticed} were noticed"
    );
}
