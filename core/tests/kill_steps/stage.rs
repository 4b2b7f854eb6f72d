//! A store before an operation, the process that will run it, and the allowed results after that process was killed.
//!
//! 1. `base` restores the files to the state before; only the observer has the store open at that time.
//! 2. After a kill the store has the content from before the operation or from after it. Every layer is sound, and no
//!    process waits for the dead one. With durable commits a power failure after the kill leaves the same.

use super::bystander::{Bystander, number};
use super::case;
use crate::support::cases::{Case, Marked, used_for_a_while};
use crate::support::image::{Base, Paths, Reel, record};
use crate::support::plain;
use crate::support::process::Stop;
use crate::support::ptrace::Tracee;
use crate::support::state::{State, sound};
use crate::support::{again, memory_dir};
use persist_core::store::{Durability, Options, Store};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// The durability of the killed process's commits. Durable ones are in the redo log: every moment is also tested as a
/// power failure that has lost nothing but the sidecar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Commits {
    Plain,
    Durable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Recovery {
    /// No other process has the store open: the next opening inherits its sidecar.
    Inherit,
    /// A living process has it open and recovers.
    Survivor,
}

/// The first action of an opening.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beginning {
    /// A store is created.
    Creation,
    /// The first opening of a boot creates a sidecar.
    Sidecar,
    /// Like `Sidecar`, with a sidecar of an earlier boot in its place.
    NewSidecar,
    /// An opening with durable commits: a log is created and turned on.
    Log,
    /// Like `Log`, with a log to replay.
    Replay,
}

impl Beginning {
    pub(super) const ALL: [Beginning; 5] = [
        Beginning::Creation,
        Beginning::Sidecar,
        Beginning::NewSidecar,
        Beginning::Log,
        Beginning::Replay,
    ];
}

/// The process to kill, of a parent and its forked child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Victim {
    Both,
    /// The one that runs the operation; the other continues.
    Stepped,
    /// The other one; the operation continues.
    Other,
}

impl Victim {
    /// The victim of the k-th kill.
    pub(super) fn of(stage: &Stage, k: u64) -> Victim {
        match k % 3 {
            1 if stage.has_two_processes() => Victim::Stepped,
            2 if stage.has_two_processes() => Victim::Other,
            _ => Victim::Both,
        }
    }
}

pub(super) fn options() -> Options {
    Options {
        lock_timeout: Duration::from_secs(60),
        max_age: None,
        ..Options::default()
    }
}

/// The number of kills of an operation in PERSIST_STEP_KILLS.
pub(super) fn kills_asked_for() -> Option<u64> {
    std::env::var("PERSIST_STEP_KILLS").ok()?.parse().ok()
}

/// See the module header.
pub(super) struct Stage {
    pub(super) paths: Paths,
    pub(super) observer: Option<Store>,
    pub(super) what: String,
    pub(super) slowest: Duration,
    case: &'static Case,
    commits: Commits,
    base: Base,
    before: State,
    after: State,
    /// The operation must not change the content of the store.
    same: bool,
    _dir: tempfile::TempDir,
}

fn command(test: &str, case: &Case, paths: &Paths, commits: Commits) -> Command {
    let mut command = again(test);
    command
        .env("PERSIST_STEP_CASE", case.name)
        .env("PERSIST_STEP_STORE", &paths.store);
    if commits == Commits::Durable {
        command.env("PERSIST_STEP_DURABLE", "1");
    }
    command
}

/// Let a process fill the store and die. Returns the files that it left, and the content of the store.
fn dead(case: &Case, paths: &Paths, commits: Commits) -> (Base, State) {
    let died = command("prepared", case, paths, commits).status().expect("run");
    assert_eq!(died.signal(), Some(libc::SIGKILL), "{}", case.name);
    let mut base = Base::take(paths, true);
    let store = Store::open(&paths.store, &options()).unwrap();
    let before = State::of(&store);
    store.close().unwrap();
    base.restore();
    (base, before)
}

impl Stage {
    /// The store before the operation.
    pub(super) fn new(case: &'static Case, recovery: Recovery, commits: Commits) -> Stage {
        let dir = memory_dir();
        let paths = Paths::new(dir.path());
        let (observer, base, before) = match recovery {
            // The process that created it is dead, and the sidecar is as it left it.
            Recovery::Inherit => {
                let (base, before) = dead(case, &paths, commits);
                (None, base, before)
            }
            Recovery::Survivor => {
                let options = Options {
                    durability: match commits {
                        Commits::Plain => Durability::Checkpoint,
                        Commits::Durable => Durability::Commit,
                    },
                    ..options()
                };
                let store = Store::open(&paths.store, &options).unwrap();
                (case.prepare)(&store).unwrap();
                let before = State::of(&store);
                (Some(store), Base::take(&paths, false), before)
            }
        };
        let durable = if commits == Commits::Durable {
            ", durable"
        } else {
            ""
        };
        Stage {
            paths,
            observer,
            what: format!("{} ({recovery:?}{durable})", case.name),
            slowest: Duration::ZERO,
            case,
            commits,
            base,
            after: before.clone(),
            before,
            same: case.changes_nothing(),
            _dir: dir,
        }
    }

    /// A store that will be opened for the first time, in one of several senses.
    pub(super) fn beginning(beginning: Beginning) -> Stage {
        let dir = memory_dir();
        let paths = Paths::new(dir.path());
        let commits = match beginning {
            Beginning::Creation | Beginning::Sidecar | Beginning::NewSidecar => Commits::Plain,
            Beginning::Log | Beginning::Replay => Commits::Durable,
        };
        let before = match beginning {
            Beginning::Creation => {
                let other = memory_dir();
                State::of(&Store::open(other.path().join("a.store"), &options()).unwrap())
            }
            Beginning::Sidecar | Beginning::NewSidecar | Beginning::Log => {
                let store = Store::open(&paths.store, &options()).unwrap();
                used_for_a_while(&store).unwrap();
                let before = State::of(&store);
                store.close().unwrap();
                before
            }
            Beginning::Replay => dead(case("a checkpoint"), &paths, Commits::Durable).1,
        };
        if beginning == Beginning::NewSidecar {
            plain::change_signed(&paths.sidecar, plain::BOOT, 0x55);
        } else {
            let _ = std::fs::remove_file(&paths.sidecar);
        }
        Stage {
            base: Base::take(&paths, true),
            paths,
            observer: None,
            what: format!("{beginning:?}"),
            slowest: Duration::ZERO,
            case: case("open"),
            commits,
            before: before.clone(),
            after: before,
            same: true,
            _dir: dir,
        }
    }

    /// The recovery after a kill in the middle of this stage's operation.
    pub(super) fn recovery(mut self) -> Stage {
        let mut reel = self.record();
        self.allow_result(&mut reel);
        let telling = reel.telling();
        reel.restore(telling[self.drawn(telling.len() as u64) as usize]);
        self.base = Base::take(&self.paths, self.observer.is_none());
        self.is_to_open();
        self
    }

    /// The next operation is the recovery: the next process that opens the store is killed.
    pub(super) fn is_to_open(&mut self) {
        self.what = format!("the recovery from: {}", self.what);
        (self.case, self.commits) = (case("open"), Commits::Plain);
        self.same = false;
    }

    /// A number below `n`, another one in each run.
    pub(super) fn drawn(&self, n: u64) -> u64 {
        fastrand::u64(..n.max(1))
    }

    /// Restore the state before the operation.
    pub(super) fn restore(&mut self) {
        self.base.restore();
    }

    /// The process, stopped before the operation.
    pub(super) fn begun(&self) -> Tracee {
        let child = Tracee::spawn(
            &mut command("stepped", self.case, &self.paths, self.commits),
            &self.paths.store,
        );
        if self.case.marked == Marked::Forked {
            child.follow()
        } else {
            child
        }
    }

    /// Record the operation from store to store.
    pub(super) fn record(&self) -> Reel {
        record(&self.paths, self.observer.is_none(), self.begun())
    }

    /// From now on the content after the whole operation is allowed too.
    pub(super) fn allow_result(&mut self, reel: &mut Reel) {
        let last = reel.moments.len() - 1;
        reel.restore(last);
        self.allow_result_here();
    }

    /// Like `allow_result`, directly after the operation.
    pub(super) fn allow_result_here(&mut self) {
        let at = "after the operation";
        // The operation was acknowledged: it survives a power failure.
        let kept = (self.commits == Commits::Durable).then(|| self.cut(at));
        self.after = self.recovered(at);
        if let Some(kept) = kept {
            assert!(kept == self.after, "{}: lost by a power cut", self.what);
        }
        self.must_be_allowed(at, &self.after);
    }

    /// True if commits are durable.
    pub(super) fn is_durable(&self) -> bool {
        self.commits == Commits::Durable
    }

    /// Open the store after a kill, and check everything.
    fn recovered(&mut self, at: &str) -> State {
        let begun = Instant::now();
        let store = Store::open(&self.paths.store, &options())
            .unwrap_or_else(|e| panic!("{}, {at}: cannot open: {e}", self.what));
        let took = begun.elapsed();
        let state = self.looked_at(&store, at);
        self.slowest = self.slowest.max(took);
        state
    }

    fn looked_at(&self, store: &Store, at: &str) -> State {
        let mut state = State::of(store);
        if state != self.before && state != self.after {
            // What only the dead process had pinned, or had not finished freeing, may still exist.
            store.gc().unwrap_or_else(|e| panic!("{}, {at}: {e}", self.what));
            state = State::of(store);
        }
        let sane = sound(store).and_then(|()| store.close().map_err(|e| e.to_string()));
        if let Err(e) = sane {
            panic!("{}, {at}: {e}", self.what);
        }
        state
    }

    /// The store as another machine finds it with the store file and its log: the state after a power failure when the
    /// disk has everything.
    fn cut(&self, at: &str) -> State {
        let at = format!("{at}, then a power cut");
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
            .unwrap_or_else(|e| panic!("{}, {at}: cannot open: {e}", self.what));
        self.looked_at(&store, &at)
    }

    /// Judge the state after a kill. Returns the content of the store.
    pub(super) fn judge(&mut self, at: &str) -> State {
        if self.commits == Commits::Durable && self.paths.store.exists() {
            let state = self.cut(at);
            self.must_be_allowed(&format!("{at}, then a power cut"), &state);
        }
        let state = self.recovered(at);
        self.must_be_allowed(at, &state);
        state
    }

    fn must_be_allowed(&self, at: &str, state: &State) {
        assert!(
            *state == self.before || (!self.same && *state == self.after),
            "{}, {at}: neither before nor after:\n{state:?}\nbefore:\n{:?}\nafter:\n{:?}",
            self.what,
            self.before,
            self.after
        );
    }

    /// A process that also has the store open, if the operation should not be alone with it.
    pub(super) fn bystander(&self) -> Option<Bystander> {
        self.observer.as_ref()?;
        Some(Bystander::start(command(
            "bystander",
            self.case,
            &self.paths,
            self.commits,
        )))
    }

    /// A waiting process continues after a kill.
    pub(super) fn continues(&mut self, bystander: Bystander, at: &str) {
        let found = bystander.resume();
        let found = found.unwrap_or_else(|| panic!("{}, {at}: a bystander cannot continue", self.what));
        let allowed = [number(&self.before), number(&self.after)];
        assert!(
            allowed.contains(&found.seen) || allowed.contains(&found.collected),
            "{}, {at}: a bystander sees neither before nor after",
            self.what
        );
        self.slowest = self.slowest.max(found.held_up);
    }

    /// Kill a process, stopped at `begun`; of two processes, one or both. The survivor runs to its end, and a waiting
    /// process continues. Then judge.
    pub(super) fn kill(&mut self, mut child: Tracee, victim: Victim, beside: Option<Bystander>, at: &str) {
        let other = if victim == Victim::Both {
            None
        } else {
            child.take_child()
        };
        let at = format!("{at} ({victim:?})");
        let Some(other) = other else {
            child.kill();
            if let Some(beside) = beside {
                self.continues(beside, &at);
            }
            self.judge(&at);
            return;
        };
        let (dead, living) = match victim {
            Victim::Stepped => (child, other),
            _ => (other, child),
        };
        dead.kill();
        let ended = living.finish();
        assert_eq!(
            ended,
            Stop::Exited(0),
            "{}, {at}: the process that continues",
            self.what
        );
        if let Some(beside) = beside {
            self.continues(beside, &at);
        }
        let state = self.judge(&at);
        if victim == Victim::Other {
            assert!(
                state == self.after,
                "{}, {at}: not done by the process that continues",
                self.what
            );
        }
    }

    /// True if one of two processes runs the operation.
    pub(super) fn has_two_processes(&self) -> bool {
        matches!(self.case.marked, Marked::Fork | Marked::Forked)
    }
}
