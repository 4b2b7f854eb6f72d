//! A store before an operation, the process that will do it, and what is allowed after that process was killed.
//!
//! 1. `base` brings the files back as they were before; nobody but the observer has the store open then.
//! 2. After a kill the store holds what it held before, or what it holds after the whole operation; every layer of
//!    it is sound; nobody waits for the dead. With durable commits a power cut after the kill leaves the same.

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

/// What the killed process wants of its commits. Durable ones are in the redo log: every moment is also taken
/// for a power cut that has lost nothing but the sidecar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Commits {
    Plain,
    Durable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Recovery {
    /// Nobody else has the store open: the next to open it inherits.
    Inherit,
    /// A living process has it open and takes over.
    Bury,
}

/// What an opening does first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beginning {
    /// A store is made.
    Creation,
    /// The first open of a boot makes a sidecar.
    Sidecar,
    /// As before, and one of an earlier boot is in its place.
    NewSidecar,
    /// By one who wants durable commits: a log is made and turned on.
    Log,
    /// As before, and there is a log to replay.
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

/// Which of two processes, of which one has forked the other, is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Victim {
    Both,
    /// The one that does the operation; the other goes on.
    Stepped,
    /// The other; the operation goes on.
    Other,
}

impl Victim {
    /// Of the k-th kill.
    pub(super) fn of(stage: &Stage, k: u64) -> Victim {
        match k % 3 {
            1 if stage.has_kin() => Victim::Stepped,
            2 if stage.has_kin() => Victim::Other,
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

/// How many kills of an operation PERSIST_STEP_KILLS asks for.
pub(super) fn kills_asked_for() -> Option<u64> {
    std::env::var("PERSIST_STEP_KILLS").ok()?.parse().ok()
}

/// See the module.
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
    /// The operation is not to change what the store holds.
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

/// Lets a process fill the store and die; the files as it left them, and what the store holds.
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
    /// The store as it is before the operation.
    pub(super) fn new(case: &'static Case, recovery: Recovery, commits: Commits) -> Stage {
        let dir = memory_dir();
        let paths = Paths::new(dir.path());
        let (observer, base, before) = match recovery {
            // The process that made it is dead, and the sidecar as it left it.
            Recovery::Inherit => {
                let (base, before) = dead(case, &paths, commits);
                (None, base, before)
            }
            Recovery::Bury => {
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

    /// A store that is to be opened for the first time, in some sense.
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

    /// The recovery from a kill in the middle of this stage's operation.
    pub(super) fn recovery(mut self) -> Stage {
        let mut reel = self.record();
        self.settle(&mut reel);
        let telling = reel.telling();
        reel.restore(telling[self.drawn(telling.len() as u64) as usize]);
        self.base = Base::take(&self.paths, self.observer.is_none());
        self.is_to_open();
        self
    }

    /// What comes now is the recovery: who opens the store next is killed.
    pub(super) fn is_to_open(&mut self) {
        self.what = format!("the recovery from: {}", self.what);
        (self.case, self.commits) = (case("open"), Commits::Plain);
        self.same = false;
    }

    /// Any number below `n`, another one in each run.
    pub(super) fn drawn(&self, n: u64) -> u64 {
        fastrand::u64(..n.max(1))
    }

    /// Brings back what was there before.
    pub(super) fn restore(&mut self) {
        self.base.restore();
    }

    /// The process that is about to do the operation.
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

    /// The operation from store to store.
    pub(super) fn record(&self) -> Reel {
        record(&self.paths, self.observer.is_none(), self.begun())
    }

    /// From now on what is there after the whole operation is allowed.
    pub(super) fn settle(&mut self, reel: &mut Reel) {
        let last = reel.moments.len() - 1;
        reel.restore(last);
        self.settle_here();
    }

    /// As `settle`, when the operation has just been done.
    pub(super) fn settle_here(&mut self) {
        let at = "after the operation";
        // Acknowledged: it survives a power cut.
        let kept = (self.commits == Commits::Durable).then(|| self.cut(at));
        self.after = self.recovered(at);
        if let Some(kept) = kept {
            assert!(kept == self.after, "{}: lost by a power cut", self.what);
        }
        self.must_be_allowed(at, &self.after);
    }

    /// Whether commits are durable.
    pub(super) fn is_durable(&self) -> bool {
        self.commits == Commits::Durable
    }

    /// Opens the store after a kill, checks everything.
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
            // What only the dead had pinned, or had not finished to free, may be there still.
            store.gc().unwrap_or_else(|e| panic!("{}, {at}: {e}", self.what));
            state = State::of(store);
        }
        let sane = sound(store).and_then(|()| store.close().map_err(|e| e.to_string()));
        if let Err(e) = sane {
            panic!("{}, {at}: {e}", self.what);
        }
        state
    }

    /// The store as another machine finds it that gets its file and its log: what a power cut leaves when the
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

    /// After a kill. What the store holds.
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

    /// A process that has the store open too, if the operation is not to be alone with it.
    pub(super) fn bystander(&self) -> Option<Bystander> {
        self.observer.as_ref()?;
        Some(Bystander::start(command(
            "bystander",
            self.case,
            &self.paths,
            self.commits,
        )))
    }

    /// A process that stood by goes on after a kill.
    pub(super) fn goes_on(&mut self, bystander: Bystander, at: &str) {
        let found = bystander.go_on();
        let found = found.unwrap_or_else(|| panic!("{}, {at}: who stood by cannot go on", self.what));
        let allowed = [number(&self.before), number(&self.after)];
        assert!(
            allowed.contains(&found.seen) || allowed.contains(&found.collected),
            "{}, {at}: who stood by sees neither before nor after",
            self.what
        );
        self.slowest = self.slowest.max(found.held_up);
    }

    /// Really kills a process, of which `begun` was the beginning; if there are two, one of them or both. Who
    /// lives goes on to its end, and who stood by beside goes on. Then judges.
    pub(super) fn kill(&mut self, mut child: Tracee, victim: Victim, beside: Option<Bystander>, at: &str) {
        let other = if victim == Victim::Both {
            None
        } else {
            child.take_kin()
        };
        let at = format!("{at} ({victim:?})");
        let Some(other) = other else {
            child.kill();
            if let Some(beside) = beside {
                self.goes_on(beside, &at);
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
        assert_eq!(ended, Stop::Exited(0), "{}, {at}: who goes on", self.what);
        if let Some(beside) = beside {
            self.goes_on(beside, &at);
        }
        let state = self.judge(&at);
        if victim == Victim::Other {
            assert!(
                state == self.after,
                "{}, {at}: not done by who goes on",
                self.what
            );
        }
    }

    /// Whether the operation is done by one of two processes.
    pub(super) fn has_kin(&self) -> bool {
        matches!(self.case.marked, Marked::Fork | Marked::Forked)
    }
}
