//! Promise P1 at every instruction: an operation's process is killed, others recover, the operation is
//! there wholly or not at all and everything is sound.
//!
//! For each operation, with an observer in another process and without: a child is taken through it from
//! store to store, and every moment is brought back and recovered (`support::image` says why that is the
//! same as a kill there). Beside that the child is really killed after so many stores.
//! `PERSIST_TORTURE=1` takes every moment; else all moments of an operation that has few, and of others
//! each n-th, those that touch the sidecar closer than the rest.

mod support;

use persist_core::store::{Options, Store, Wait};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};
use support::cases::{CASES, Case, Marked, used_for_a_while};
use support::image::{Base, Paths, Reel, record};
use support::ptrace::{self, Event, Tracee};
use support::state::{State, sound};
use support::{again, memory_dir, torture};

/// Moments looked at in the short form, for one operation and way of recovery.
const FEW: usize = 1200;
/// Real kills in the short form.
const KILLS: u64 = 12;

fn options() -> Options {
    Options {
        lock_timeout: Duration::from_secs(20),
        ..Options::default()
    }
}

fn case(name: &str) -> &'static Case {
    CASES.iter().find(|c| c.name == name).expect("a known case")
}

/// The child that fills the store and dies.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn prepared() {
    let (Ok(name), Ok(path)) = (
        std::env::var("PERSIST_STEP_CASE"),
        std::env::var("PERSIST_STEP_STORE"),
    ) else {
        return;
    };
    let store = Store::open(&path, &options()).expect("open");
    (case(&name).prepare)(&store).expect("prepare");
    ptrace::die();
}

/// The child: opens the store, does the operation between two marks.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn stepped() {
    let (Ok(name), Ok(path)) = (
        std::env::var("PERSIST_STEP_CASE"),
        std::env::var("PERSIST_STEP_STORE"),
    ) else {
        return;
    };
    ptrace::die_with_parent();
    let case = case(&name);
    if case.marked == Marked::Open {
        ptrace::stop_here();
    }
    let store = Store::open(&path, &options()).expect("open");
    match case.marked {
        Marked::Operation => {
            // The thread has its slot, code is linked, before the first mark.
            let _ = store
                .read(&mut Wait::forever(), |r| r.len(store.root()))
                .expect("read");
            ptrace::stop_here();
            (case.run)(&store).expect("the operation");
        }
        Marked::Open => {}
        Marked::Close => {
            ptrace::stop_here();
            store.close().expect("close");
        }
    }
    ptrace::stop_here();
    ptrace::die();
}

fn command(test: &str, name: &str, paths: &Paths) -> Command {
    let mut command = again(test);
    command
        .env("PERSIST_STEP_CASE", name)
        .env("PERSIST_STEP_STORE", &paths.store);
    command
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Recovery {
    /// Nobody else has the store open: the next to open it inherits.
    Inherit,
    /// A living process has it open and takes over.
    Bury,
}

struct Stage {
    paths: Paths,
    observer: Option<Store>,
    before: State,
    after: State,
    what: String,
    slowest: Duration,
}

impl Stage {
    /// The store as it is before the operation; what it holds; how to bring it back.
    fn new(case: &Case, recovery: Recovery) -> (tempfile::TempDir, Stage, Base) {
        let dir = memory_dir();
        let paths = Paths::new(dir.path());
        let (observer, mut base, before);
        if recovery == Recovery::Inherit {
            // The process that made it is dead, and the sidecar as it left it.
            let died = command("prepared", case.name, &paths).status().expect("run");
            assert_eq!(died.signal(), Some(libc::SIGKILL), "{}", case.name);
            base = Base::take(&paths, true);
            let store = Store::open(&paths.store, &options()).unwrap();
            before = State::of(&store);
            store.close().unwrap();
            base.restore();
            observer = None;
        } else {
            let store = Store::open(&paths.store, &options()).unwrap();
            (case.prepare)(&store).unwrap();
            before = State::of(&store);
            observer = Some(store);
            base = Base::take(&paths, false);
        }
        let what = format!("{} ({recovery:?})", case.name);
        let (after, slowest) = (before.clone(), Duration::ZERO);
        (
            dir,
            Stage {
                paths,
                observer,
                before,
                after,
                what,
                slowest,
            },
            base,
        )
    }

    /// Opens the store after a kill, checks everything.
    fn recovered(&mut self, at: &str) -> State {
        let begun = Instant::now();
        let store = Store::open(&self.paths.store, &options())
            .unwrap_or_else(|e| panic!("{}, {at}: cannot open: {e}", self.what));
        let mut state = State::of(&store);
        self.slowest = self.slowest.max(begun.elapsed());
        if state != self.before && state != self.after {
            // What only the dead had pinned, or had not finished to free, may be there still.
            store.gc().unwrap_or_else(|e| panic!("{}, {at}: {e}", self.what));
            state = State::of(&store);
        }
        let sane = sound(&store).and_then(|()| store.close().map_err(|e| e.to_string()));
        if let Err(e) = sane {
            panic!("{}, {at}: {e}", self.what);
        }
        state
    }

    fn judge(&mut self, at: &str) {
        let state = self.recovered(at);
        assert!(
            state == self.before || state == self.after,
            "{}, {at}: neither before nor after:\n{state:?}\nbefore:\n{:?}\nafter:\n{:?}",
            self.what,
            self.before,
            self.after
        );
    }
}

/// The moments to look at.
fn chosen(reel: &Reel) -> Vec<usize> {
    let all = 0..reel.moments.len();
    if torture() || reel.moments.len() <= FEW {
        return all.collect();
    }
    let telling: Vec<usize> = all.clone().filter(|i| reel.moments[*i].protocol).collect();
    let rest: Vec<usize> = all.clone().filter(|i| !reel.moments[*i].protocol).collect();
    let thin = |of: Vec<usize>, n: usize| {
        let stride = of.len().div_ceil(n).max(1);
        // Not the same residue in every case and run of the program.
        let from = (std::process::id() as usize) % stride;
        of.into_iter().skip(from).step_by(stride).collect::<Vec<_>>()
    };
    let mut some = thin(telling, FEW * 4 / 5);
    some.extend(thin(rest, FEW / 5));
    some.push(all.end - 1);
    some.sort_unstable();
    some.dedup();
    some
}

fn kill_everywhere(case: &Case, recovery: Recovery) {
    let begun = Instant::now();
    ptrace::stay_on_one_processor();
    let (_dir, mut stage, mut base) = Stage::new(case, recovery);
    let (paths, alone) = (stage.paths.clone(), stage.observer.is_none());
    let mut reel = record(&paths, alone, &mut command("stepped", case.name, &paths));
    let last = reel.moments.len() - 1;
    reel.restore(last);
    stage.after = stage.recovered("after the operation");
    let moments = chosen(&reel);
    for m in &moments {
        reel.restore(*m);
        stage.judge(&format!(
            "killed after {} of {} stores",
            reel.moments[*m].step, reel.steps
        ));
    }
    let mut kills = 0;
    let wanted = if torture() { 200 } else { KILLS };
    for k in 0..wanted {
        base.restore();
        let mut child = Tracee::spawn(&mut command("stepped", case.name, &paths), &paths.store);
        // Bits of the golden ratio: spread, and others in each run.
        let spread = (k + u64::from(std::process::id())).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let steps = (reel.steps * spread) >> 32;
        let mut done = 0;
        while done < steps && matches!(child.next(), Event::Stored { .. } | Event::Called) {
            done += 1;
        }
        child.kill();
        kills += 1;
        stage.judge(&format!("really killed after {done} stores"));
    }
    println!(
        "{:52} {:>7} stores, {:>6} moments, {:>5} recovered, {kills} kills; slowest recovery {:?}; {:.1} s",
        stage.what,
        reel.steps,
        reel.moments.len(),
        moments.len(),
        stage.slowest,
        begun.elapsed().as_secs_f32()
    );
    drop(stage.observer.take());
}

/// The process that recovers is killed too, at every store, and so is whoever comes then.
fn kill_the_recovery(case: &Case, recovery: Recovery, kills: usize) {
    ptrace::stay_on_one_processor();
    let (_dir, mut stage, _) = Stage::new(case, recovery);
    let (paths, alone) = (stage.paths.clone(), stage.observer.is_none());
    stage.what = format!("the recovery from: {}", stage.what);
    let mut reel = record(&paths, alone, &mut command("stepped", case.name, &paths));
    reel.restore(reel.moments.len() - 1);
    stage.after = stage.recovered("after the operation");
    let more = std::env::var("PERSIST_STEP_KILLS")
        .ok()
        .and_then(|n| n.parse().ok());
    let kills = more.unwrap_or(if torture() { kills * 8 } else { kills });
    let telling: Vec<usize> = (0..reel.moments.len())
        .filter(|m| reel.moments[*m].protocol)
        .collect();
    let (mut moments, mut recovered) = (0, 0);
    let stride = telling.len().div_ceil(kills).max(1);
    for first in telling
        .iter()
        .skip(std::process::id() as usize % stride)
        .step_by(stride)
    {
        reel.restore(*first);
        let mut second = record(&paths, alone, &mut command("stepped", "open", &paths));
        moments += second.moments.len();
        for m in chosen(&second) {
            second.restore(m);
            stage.judge(&format!(
                "killed after {} stores, the recovery after {}",
                reel.moments[*first].step, second.moments[m].step
            ));
            recovered += 1;
        }
    }
    println!(
        "{:52} {moments} moments, {recovered} recovered; slowest recovery {:?}",
        stage.what, stage.slowest
    );
    drop(stage.observer.take());
}

/// Making a store, or its sidecar, is cut short anywhere.
fn kill_the_beginning(store_is_there: bool) {
    ptrace::stay_on_one_processor();
    let dir = memory_dir();
    let paths = Paths::new(dir.path());
    let empty = {
        let other = memory_dir();
        State::of(&Store::open(other.path().join("a.store"), &options()).unwrap())
    };
    let mut before = empty;
    if store_is_there {
        let store = Store::open(&paths.store, &options()).unwrap();
        used_for_a_while(&store).unwrap();
        before = State::of(&store);
        store.close().unwrap();
        std::fs::remove_file(&paths.sidecar).unwrap();
    }
    let mut reel = record(&paths, true, &mut command("stepped", "open", &paths));
    let what = if store_is_there {
        "the first open of a boot"
    } else {
        "the creation"
    }
    .to_owned();
    let mut stage = Stage {
        paths,
        observer: None,
        before: before.clone(),
        after: before,
        what,
        slowest: Duration::ZERO,
    };
    let moments = chosen(&reel);
    for m in &moments {
        reel.restore(*m);
        stage.judge(&format!(
            "killed after {} of {} stores",
            reel.moments[*m].step, reel.steps
        ));
    }
    println!(
        "{:52} {:>7} stores, {:>6} moments, {:>5} recovered",
        stage.what,
        reel.steps,
        reel.moments.len(),
        moments.len()
    );
}

#[test]
fn the_creation_of_a_store() {
    kill_the_beginning(false);
}

#[test]
fn the_creation_of_a_sidecar() {
    kill_the_beginning(true);
}

#[test]
fn recoveries_of_the_next_to_open() {
    for name in [
        "set inline, first change after a checkpoint",
        "a transaction",
        "a checkpoint",
        "drop a snapshot",
        "lock and unlock",
    ] {
        if wanted(case(name)) {
            kill_the_recovery(case(name), Recovery::Inherit, 5);
        }
    }
}

#[test]
fn recoveries_by_another_process() {
    for name in [
        "set inline, first change after a checkpoint",
        "a transaction",
        "a checkpoint",
        "drop a snapshot",
        "lock and unlock",
    ] {
        if wanted(case(name)) {
            kill_the_recovery(case(name), Recovery::Bury, 5);
        }
    }
}

#[test]
fn operations_and_nobody_else() {
    for case in CASES.iter().filter(|c| wanted(c)) {
        kill_everywhere(case, Recovery::Inherit);
    }
}

#[test]
fn operations_beside_another_process() {
    for case in CASES.iter().filter(|c| wanted(c)) {
        kill_everywhere(case, Recovery::Bury);
    }
}

fn wanted(case: &Case) -> bool {
    std::env::var("PERSIST_STEP_ONLY").map_or(true, |only| case.name.contains(&only))
}
