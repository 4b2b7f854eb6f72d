//! Kills, of one process and of all at once: at which step, how long the others wait, and what the dead have left.

use super::operations::{Draw, Model, Operation, operation};
use super::players::{Player, name, options, part};
use super::support::state::sound;
use super::{FOREVER, PROMISED, WRITERS};
use persist_core::store::Store;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

/// Failpoints; the second value names the activity at that point.
const STEPS: &[(&str, &str)] = &[
    ("undo.logged", "change"),
    ("cow.intended", "change"),
    ("cow.copied", "change"),
    ("cow.listed", "change"),
    ("cow.replaced", "change"),
    ("commit.operation", "change"),
    ("commit.done", "change"),
    ("transaction.begun", "transaction"),
    ("transaction.commit", "transaction"),
    ("transaction.done", "transaction"),
    ("transaction.undone", "transaction"),
    ("undo.step", "transaction"),
    ("lock.done", "lock"),
    ("checkpoint.taken", "checkpoint"),
    ("checkpoint.flip", "checkpoint"),
    ("checkpoint.node", "checkpoint"),
    ("checkpoint.built", "checkpoint"),
    ("checkpoint.writing", "checkpoint"),
    ("checkpoint.written", "checkpoint"),
    ("checkpoint.switching", "checkpoint"),
    ("checkpoint.giving", "checkpoint"),
    ("checkpoint.freed", "checkpoint"),
    ("snapshot.flipped", "checkpoint"),
    ("snapshot.catalogue", "checkpoint"),
    ("snapshot.dropping", "checkpoint"),
    ("snapshot.giving", "checkpoint"),
    ("snapshot.separate", "checkpoint"),
    ("snapshot.dropped", "checkpoint"),
    ("close.checkpointed", "checkpoint"),
    ("recover.process", "recovery"),
    ("recover.begun", "recovery"),
    ("recover.shared", "recovery"),
    ("recover.feed", "recovery"),
    ("recover.undone", "recovery"),
    ("recover.locks", "recovery"),
    ("recover.slots", "recovery"),
    ("recover.inherit", "recovery"),
];

/// An entry of a log: whether it begins the operation or acknowledges it, and the operation's number.
fn entry(line: &str) -> (bool, u64) {
    let (kind, n) = line.split_once(' ').expect("an entry of the log");
    (kind == "B", n.parse().expect("a number"))
}

pub(super) struct Torture {
    pub(super) path: PathBuf,
    pub(super) draw: Draw,
    pub(super) players: Vec<Player>,
    pub(super) kills: BTreeMap<&'static str, u64>,
    pub(super) waits: Vec<Duration>,
    pub(super) idle: Vec<Duration>,
    pub(super) operations: u64,
}

impl Torture {
    /// The number of kills.
    pub(super) fn total(&self) -> u64 {
        self.kills.values().sum()
    }

    /// The number of kills inside a transaction, a checkpoint or a recovery.
    pub(super) fn telling(&self) -> u64 {
        ["transaction", "checkpoint", "recovery"]
            .iter()
            .filter_map(|k| self.kills.get(k))
            .sum()
    }

    fn pick(&mut self, player: usize) -> Option<(&'static str, u64)> {
        if self.draw.below(3) == 0 {
            return None;
        }
        let fits: Vec<_> = STEPS
            .iter()
            .filter(|(_, what)| match *what {
                "checkpoint" => player == WRITERS,
                "transaction" | "change" | "lock" => player < WRITERS,
                _ => true,
            })
            .collect();
        let (step, what) = fits[self.draw.below(fits.len() as u64) as usize];
        let passes = match *what {
            "recovery" => 1,
            "change" => 1 + self.draw.below(400),
            _ => 1 + self.draw.below(30),
        };
        Some((step, passes))
    }

    fn start(&mut self, player: usize, from: u64) -> (Child, Option<&'static str>) {
        let fail = self.pick(player);
        (Player::spawn(&self.path, player, from, fail), fail.map(|f| f.0))
    }

    /// The time until each living process has acknowledged an operation.
    pub(super) fn watch(&mut self, begun: Instant) -> Vec<Duration> {
        let mut open: Vec<usize> = Vec::new();
        for (i, p) in self.players.iter_mut().enumerate() {
            // A new process is still starting.
            if p.has_come() && !p.is_dead() {
                open.push(i);
            }
        }
        let mut waits = Vec::new();
        while !open.is_empty() {
            std::thread::sleep(Duration::from_micros(200));
            open.retain(|i| {
                let p = &mut self.players[*i];
                if p.is_dead() {
                    return false;
                }
                if p.progress() {
                    let took = begun.elapsed();
                    if took > PROMISED {
                        println!("{took:?} until process {} continued", p.player);
                    }
                    waits.push(took);
                    return false;
                }
                true
            });
            assert!(begun.elapsed() < FOREVER, "a player makes no progress: {open:?}");
        }
        waits
    }

    /// Measure the delay of the machine itself at this time: a wait without a kill. A machine can become slow while the
    /// test runs.
    pub(super) fn watch_idle(&mut self) {
        let idle = self.watch(Instant::now());
        if !self.players.iter_mut().any(Player::is_dead) {
            self.idle.extend(idle);
        }
    }

    /// Compare a dead writer's part with its model. Returns the number of its next operation.
    fn judge(&mut self, i: usize, store: &Store) -> u64 {
        let p = &mut self.players[i];
        p.progress();
        let mut begun = None;
        let entries: Vec<(bool, u64)> = p.lines().map(entry).collect();
        p.text.clear();
        for (begins, n) in entries {
            if begins {
                begun = Some(n);
            } else {
                assert_eq!(begun.take(), Some(n), "the log");
                assert_eq!(n, p.done, "the log");
                p.model.apply(&operation(p.player, n));
                p.done += 1;
            }
        }
        let found = Model::read(store, part(store, p.player));
        if found == p.model {
            return p.done;
        }
        let interrupted = begun.map(|n| operation(p.player, n));
        if let Some(operation) = &interrupted {
            let mut with = p.model.clone();
            with.apply(operation);
            if found == with {
                p.model = with;
                p.done += 1;
                return p.done;
            }
        }
        panic!(
            "{}: after {} operations, interrupted in {interrupted:?} ({:?}): found\n{found:?}\nwanted\n{:?}",
            name(p.player),
            p.done,
            p.fail,
            p.model
        );
    }

    /// Record the activity of a dead player.
    fn note(&mut self, i: usize) {
        let p = &mut self.players[i];
        p.progress();
        let doing = match STEPS.iter().find(|s| Some(s.0) == p.fail) {
            Some((_, what)) => what,
            None if p.player == WRITERS => "checkpoint",
            None => {
                let last = p.lines().next_back().map(entry);
                match last.map(|(begins, n)| (begins, operation(p.player, n))) {
                    Some((true, Operation::Together(_) | Operation::Partly(_) | Operation::Undone(_))) => {
                        "transaction"
                    }
                    Some((true, Operation::Locked(_))) => "lock",
                    Some((true, _)) => "change",
                    _ => "between",
                }
            }
        };
        *self.kills.entry(doing).or_default() += 1;
    }

    pub(super) fn again(&mut self, i: usize, from: u64) {
        let player = self.players[i].player;
        let (child, fail) = self.start(player, from);
        let p = &mut self.players[i];
        p.child = child;
        p.fail = fail;
        p.text.clear();
    }

    /// Kill one process, or let it die at a failpoint. The others continue, the dead one's part is right, and it is
    /// started again.
    pub(super) fn one_death(&mut self, store: &Store) {
        self.watch_idle();
        // Usually a running process, not one that is still starting: a start can take longer than any limit here.
        let (victim, coming) = (
            self.draw.below(self.players.len() as u64) as usize,
            self.draw.below(8) == 0,
        );
        let begun = Instant::now();
        let given = Duration::from_millis(20 + self.draw.below(60));
        let mut dead = None;
        while dead.is_none() && (begun.elapsed() < given || !coming && !self.players[victim].has_come()) {
            assert!(begun.elapsed() < FOREVER, "process {victim} does not come");
            dead = (0..self.players.len()).find(|i| self.players[*i].is_dead());
            std::thread::sleep(Duration::from_micros(200));
        }
        let dead = dead.unwrap_or_else(|| {
            let i = victim;
            self.players[i].fail = None;
            self.players[i].child.kill().expect("kill");
            self.players[i].child.wait().expect("wait");
            i
        });
        let begun = Instant::now();
        self.note(dead);
        let fail = self.players[dead].fail;
        let waits = self.watch(begun);
        if waits.iter().any(|w| *w > PROMISED) {
            println!(
                "after the death of process {} at {fail:?}",
                self.players[dead].player
            );
        }
        self.waits.extend(waits);
        let from = if dead < WRITERS {
            self.judge(dead, store)
        } else {
            0
        };
        self.again(dead, from);
    }

    pub(super) fn all_die(&mut self) {
        for p in &mut self.players {
            let _ = p.child.kill();
            let _ = p.child.wait();
        }
        for i in 0..self.players.len() {
            self.note(i);
        }
        let store = Store::open(&self.path, &options()).expect("open after all have died");
        for i in 0..WRITERS {
            self.judge(i, &store);
        }
        if let Err(e) = sound(&store) {
            panic!("after all have died: {e}");
        }
        drop(store);
    }
}
