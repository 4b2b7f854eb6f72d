//! Promise P1 at every instruction: an operation's process is killed, others recover, the operation is
//! there wholly or not at all and everything is sound.
//!
//! For each operation, with an observer in another process and without: a child is taken through it from
//! store to store, and every moment is brought back and recovered (`support::image` says why that is the
//! same as a kill there). Beside that the child is really killed after so many stores.
//! `PERSIST_TORTURE=1` takes every moment; else all moments of an operation that has few, and of others
//! each n-th, those that touch the sidecar closer than the rest.

mod support;

use persist_core::store::{Durability, Options, Store, Wait};
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

/// As the child is to open the store (PERSIST_STEP_DURABLE).
fn child_options() -> Options {
    Options {
        durability: if std::env::var_os("PERSIST_STEP_DURABLE").is_some() {
            Durability::Commit
        } else {
            Durability::Checkpoint
        },
        ..options()
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
    let store = Store::open(&path, &child_options()).expect("open");
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
    let store = Store::open(&path, &child_options()).expect("open");
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

fn command(test: &str, name: &str, paths: &Paths, commits: Commits) -> Command {
    let mut command = again(test);
    command
        .env("PERSIST_STEP_CASE", name)
        .env("PERSIST_STEP_STORE", &paths.store);
    if commits == Commits::Durable {
        command.env("PERSIST_STEP_DURABLE", "1");
    }
    command
}

/// What the killed process wants of its commits. Durable ones are in the redo log: every moment is also taken
/// for a power cut that has lost nothing but the sidecar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Commits {
    Plain,
    Durable,
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
    commits: Commits,
}

impl Stage {
    /// The store as it is before the operation; what it holds; how to bring it back.
    fn new(case: &Case, recovery: Recovery, commits: Commits) -> (tempfile::TempDir, Stage, Base) {
        let dir = memory_dir();
        let paths = Paths::new(dir.path());
        let (observer, mut base, before);
        if recovery == Recovery::Inherit {
            // The process that made it is dead, and the sidecar as it left it.
            let died = command("prepared", case.name, &paths, commits)
                .status()
                .expect("run");
            assert_eq!(died.signal(), Some(libc::SIGKILL), "{}", case.name);
            base = Base::take(&paths, true);
            let store = Store::open(&paths.store, &options()).unwrap();
            before = State::of(&store);
            store.close().unwrap();
            base.restore();
            observer = None;
        } else {
            let options = Options {
                durability: match commits {
                    Commits::Plain => Durability::Checkpoint,
                    Commits::Durable => Durability::Commit,
                },
                ..options()
            };
            let store = Store::open(&paths.store, &options).unwrap();
            (case.prepare)(&store).unwrap();
            before = State::of(&store);
            observer = Some(store);
            base = Base::take(&paths, false);
        }
        let durable = if commits == Commits::Durable {
            ", durable"
        } else {
            ""
        };
        let what = format!("{} ({recovery:?}{durable})", case.name);
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
                commits,
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

    /// The store as another machine finds it that gets its file and its log: what a power cut leaves when the
    /// disk has everything.
    fn cut(&self, at: &str) -> State {
        let copy = Paths::new(&self.paths.store.with_extension("cut"));
        std::fs::create_dir_all(copy.store.parent().unwrap()).unwrap();
        std::fs::copy(&self.paths.store, &copy.store).unwrap();
        for gone in [&copy.sidecar, &copy.log] {
            let _ = std::fs::remove_file(gone);
        }
        if self.paths.log.exists() {
            std::fs::copy(&self.paths.log, &copy.log).unwrap();
        }
        let store = Store::open(&copy.store, &options())
            .unwrap_or_else(|e| panic!("{}, {at}, then a power cut: cannot open: {e}", self.what));
        let mut state = State::of(&store);
        if state != self.before && state != self.after {
            store.gc().unwrap();
            state = State::of(&store);
        }
        if let Err(e) = sound(&store).and_then(|()| store.close().map_err(|e| e.to_string())) {
            panic!("{}, {at}, then a power cut: {e}", self.what);
        }
        state
    }

    fn judge(&mut self, at: &str) {
        if self.commits == Commits::Durable {
            let state = self.cut(at);
            assert!(
                state == self.before || state == self.after,
                "{}, {at}, then a power cut: neither before nor after:\n{state:?}\nbefore:\n{:?}\nafter:\n{:?}",
                self.what,
                self.before,
                self.after
            );
        }
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
fn chosen(reel: &Reel, few: usize) -> Vec<usize> {
    let all = 0..reel.moments.len();
    if torture() || reel.moments.len() <= few {
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
    let mut some = thin(telling, few * 4 / 5);
    some.extend(thin(rest, few / 5));
    some.push(all.end - 1);
    some.sort_unstable();
    some.dedup();
    some
}

fn kill_everywhere(case: &Case, recovery: Recovery, commits: Commits) {
    let begun = Instant::now();
    ptrace::stay_on_one_processor();
    let (_dir, mut stage, mut base) = Stage::new(case, recovery, commits);
    let (paths, alone) = (stage.paths.clone(), stage.observer.is_none());
    let mut reel = record(&paths, alone, &mut command("stepped", case.name, &paths, commits));
    let last = reel.moments.len() - 1;
    reel.restore(last);
    if commits == Commits::Durable {
        // Acknowledged: it survives a power cut.
        let kept = stage.cut("after the operation");
        reel.restore(last);
        stage.after = stage.recovered("after the operation");
        assert!(kept == stage.after, "{}: lost by a power cut", stage.what);
    } else {
        stage.after = stage.recovered("after the operation");
    }
    let few = if commits == Commits::Durable { FEW / 4 } else { FEW };
    let moments = chosen(&reel, few);
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
        let mut child = Tracee::spawn(&mut command("stepped", case.name, &paths, commits), &paths.store);
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
    let (_dir, mut stage, _) = Stage::new(case, recovery, Commits::Plain);
    let (paths, alone) = (stage.paths.clone(), stage.observer.is_none());
    stage.what = format!("the recovery from: {}", stage.what);
    let mut reel = record(
        &paths,
        alone,
        &mut command("stepped", case.name, &paths, Commits::Plain),
    );
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
        let mut second = record(
            &paths,
            alone,
            &mut command("stepped", "open", &paths, Commits::Plain),
        );
        moments += second.moments.len();
        for m in chosen(&second, FEW) {
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

/// What is cut short anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Beginning {
    /// A store is made.
    Creation,
    /// The first open of a boot makes a sidecar.
    Sidecar,
    /// As before, by one who wants durable commits: a log is made and turned on.
    Log,
    /// As before, and there is a log to replay.
    Replay,
}

fn kill_the_beginning(beginning: Beginning) {
    ptrace::stay_on_one_processor();
    let dir = memory_dir();
    let paths = Paths::new(dir.path());
    let before = match beginning {
        Beginning::Creation => {
            let other = memory_dir();
            State::of(&Store::open(other.path().join("a.store"), &options()).unwrap())
        }
        Beginning::Sidecar | Beginning::Log => {
            let store = Store::open(&paths.store, &options()).unwrap();
            used_for_a_while(&store).unwrap();
            let before = State::of(&store);
            store.close().unwrap();
            before
        }
        Beginning::Replay => {
            let died = command("prepared", "a checkpoint", &paths, Commits::Durable).status();
            assert_eq!(died.expect("run").signal(), Some(libc::SIGKILL));
            let mut base = Base::take(&paths, true);
            let store = Store::open(&paths.store, &options()).unwrap();
            let before = State::of(&store);
            store.close().unwrap();
            base.restore();
            before
        }
    };
    let _ = std::fs::remove_file(&paths.sidecar);
    let commits = match beginning {
        Beginning::Creation | Beginning::Sidecar => Commits::Plain,
        Beginning::Log | Beginning::Replay => Commits::Durable,
    };
    let mut reel = record(&paths, true, &mut command("stepped", "open", &paths, commits));
    let mut stage = Stage {
        paths,
        observer: None,
        before: before.clone(),
        after: before,
        what: format!("{beginning:?}"),
        slowest: Duration::ZERO,
        commits,
    };
    let moments = chosen(&reel, FEW);
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
    kill_the_beginning(Beginning::Creation);
}

#[test]
fn the_creation_of_a_sidecar() {
    kill_the_beginning(Beginning::Sidecar);
}

#[test]
fn the_beginning_of_a_log() {
    kill_the_beginning(Beginning::Log);
}

#[test]
fn the_replay_of_a_log() {
    kill_the_beginning(Beginning::Replay);
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
        kill_everywhere(case, Recovery::Inherit, Commits::Plain);
    }
}

#[test]
fn operations_beside_another_process() {
    for case in CASES.iter().filter(|c| wanted(c)) {
        kill_everywhere(case, Recovery::Bury, Commits::Plain);
    }
}

/// Those whose commits differ: in place, with new memory in old pages and in new ones, over several
/// operations, with nothing to commit, and with more than the log has room for. And the log's own beginning and
/// end.
fn durable(case: &Case) -> bool {
    [
        "set inline over inline",
        "set inline, first change after a checkpoint",
        "insert into a small dict",
        "a small dict becomes large",
        "a string of many pieces",
        "a string that the redo log has no room for",
        "remove",
        "a transaction",
        "a rollback",
        "a checkpoint",
        "open",
        "close",
    ]
    .contains(&case.name)
        && wanted(case)
}

#[test]
fn durable_operations_and_nobody_else() {
    for case in CASES.iter().filter(|c| durable(c)) {
        kill_everywhere(case, Recovery::Inherit, Commits::Durable);
    }
}

#[test]
fn durable_operations_beside_another_process() {
    for case in CASES.iter().filter(|c| durable(c)) {
        kill_everywhere(case, Recovery::Bury, Commits::Durable);
    }
}

fn wanted(case: &Case) -> bool {
    std::env::var("PERSIST_STEP_ONLY").map_or(true, |only| case.name.contains(&only))
}
