//! Promise P1 under load: writers and a checkpointer on one store are killed at random, from outside and at
//! failpoints inside transactions, commits, copies, checkpoints and recoveries.
//!
//! 1. A writer's operations follow from its number and their own: what it has done is known from how far it
//!    got. It notes the beginning and the acknowledgement of each in a file of its own; so of a dead writer
//!    all acknowledged operations must be there, and the one it had begun wholly or not at all.
//! 2. After each death every other process must get on; how long each took is measured, and compared with what the
//!    same processes take in the same run when nobody is killed.
//! 3. At the end, and now and then in between, all are killed at once, and everything is checked.
//!
//! Ten seconds; `PERSIST_TORTURE_SECONDS` for longer.

mod support;

use persist_core::store::{
    Actor, In, Key, LockMode, LockTarget, Obj, Options, Result, Store, Value, Wait, Writer,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};
use support::state::{State, sound};
use support::{again, memory_dir, ptrace};

const WRITERS: usize = 3;
const KEYS: u64 = 40;
/// The promise. It is asked of half of all waits, and beyond what the machine itself costs: it has other things to do.
const PROMISED: Duration = Duration::from_millis(100);
/// Nineteen of twenty, likewise.
const BEARABLE: Duration = Duration::from_secs(2);
/// Each.
const FOREVER: Duration = Duration::from_secs(120);
/// Deaths that there are at least, however long that takes.
const LEAST: u64 = 40;

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Random numbers of one operation.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % n
    }
}

/// One change.
#[derive(Clone, Debug)]
enum Change {
    Int(u64, i64),
    Text(u64, usize),
    Remove(u64),
    Append(i64),
    Insert(u64, i64),
    Pop(u64),
    Child(u64, i64),
}

/// What one operation does.
#[derive(Clone, Debug)]
enum Operation {
    Lone(Change),
    Locked(Change),
    Together(Vec<Change>),
    Undone(Vec<Change>),
}

fn change(d: &mut Draw, n: i64) -> Change {
    let key = d.below(KEYS);
    match d.below(10) {
        0..=2 => Change::Int(key, n),
        3 | 4 => Change::Text(key, [3, 40, 300, 3000, 9000][d.below(5) as usize]),
        5 => Change::Remove(key),
        6 => Change::Append(n),
        7 => Change::Insert(d.below(1 << 20), n),
        8 => Change::Pop(d.below(1 << 20)),
        _ => Change::Child(key, n),
    }
}

fn operation(writer: usize, n: u64) -> Operation {
    let mut d = Draw(mix(writer as u64) ^ n);
    let kind = d.below(10);
    let several = 2 + d.below(6);
    let mut some = |count| (0..count).map(|_| change(&mut d, n as i64)).collect::<Vec<_>>();
    match kind {
        0..=2 => Operation::Lone(some(1).remove(0)),
        3 => Operation::Locked(some(1).remove(0)),
        4 => Operation::Undone(some(several)),
        _ => Operation::Together(some(several)),
    }
}

/// What a writer's part of the store should hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Model {
    values: BTreeMap<u64, String>,
    list: Vec<i64>,
}

fn text(key: u64, len: usize) -> String {
    format!("{key:03}").chars().cycle().take(len).collect()
}

impl Model {
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Lone(c) | Operation::Locked(c) => self.change(c),
            Operation::Together(all) => all.iter().for_each(|c| self.change(c)),
            Operation::Undone(_) => {}
        }
    }

    fn change(&mut self, change: &Change) {
        match *change {
            Change::Int(k, n) => drop(self.values.insert(k, format!("{n}"))),
            Change::Text(k, len) => drop(self.values.insert(k, text(k, len))),
            Change::Remove(k) => drop(self.values.remove(&k)),
            Change::Append(n) => self.list.push(n),
            Change::Insert(at, n) => self.list.insert((at % (self.list.len() as u64 + 1)) as usize, n),
            Change::Pop(at) => {
                if !self.list.is_empty() {
                    self.list.remove((at % self.list.len() as u64) as usize);
                }
            }
            Change::Child(k, n) => drop(self.values.insert(k, format!("child {n}"))),
        }
    }

    /// What is in the store.
    fn read(store: &Store, part: Obj) -> Model {
        let read = store.read(&mut Wait::forever(), |r| {
            let mut model = Model::default();
            for k in 0..KEYS {
                let value = match r.get(part, &Key::Int(k as i64))? {
                    None => continue,
                    Some(Value::Int(n)) => format!("{n}"),
                    Some(Value::Str { bytes, .. }) => String::from_utf8_lossy(&bytes).into_owned(),
                    Some(Value::Obj(child)) => match r.get(child, &Key::Str(b"n"))? {
                        Some(Value::Int(n)) => format!("child {n}"),
                        other => format!("half a child: {other:?}"),
                    },
                    Some(other) => format!("{other:?}"),
                };
                model.values.insert(k, value);
            }
            let mut items = Vec::new();
            r.items(
                the_list(r.get(part, &Key::Str(b"list"))?),
                0,
                usize::MAX,
                &mut items,
            )?;
            model.list = items
                .into_iter()
                .map(|v| if let Value::Int(n) = v { n } else { i64::MIN })
                .collect();
            Ok(model)
        });
        read.expect("read a writer's part")
    }
}

fn the_list(value: Option<Value>) -> Obj {
    match value {
        Some(Value::Obj(list)) => list,
        other => panic!("no list: {other:?}"),
    }
}

/// Makes a change in the store.
fn make(w: &mut Writer<'_>, part: Obj, change: &Change) -> Result<()> {
    let list = the_list(w.get(part, &Key::Str(b"list"))?);
    let len = w.len(list)?;
    match *change {
        Change::Int(k, n) => w.set(part, &Key::Int(k as i64), &In::Int(n)),
        Change::Text(k, len) => w.set(part, &Key::Int(k as i64), &In::str(&text(k, len))),
        Change::Remove(k) => w.remove(part, &Key::Int(k as i64)).map(|_| ()),
        Change::Append(n) => w.insert(list, len, &In::Int(n)),
        Change::Insert(at, n) => w.insert(list, at % (len + 1), &In::Int(n)),
        Change::Pop(_) if len == 0 => Ok(()),
        Change::Pop(at) => w.remove_items(list, at % len, at % len + 1),
        Change::Child(k, n) => {
            let child = w.new_object("module:Child")?;
            w.set(child, &Key::Str(b"n"), &In::Int(n))?;
            let inner = w.new_list()?;
            w.insert(inner, 0, &In::str("something in a list in a child"))?;
            w.set(child, &Key::Str(b"inner"), &In::Obj(inner))?;
            w.set(part, &Key::Int(k as i64), &In::Obj(child))
        }
    }
}

fn run(store: &Store, part: Obj, operation: &Operation) -> Result<()> {
    let lone = |c: &Change| store.write(Actor::Thread, &mut Wait::forever(), |w| make(w, part, c));
    match operation {
        Operation::Lone(c) => lone(c),
        Operation::Locked(c) => {
            let target = LockTarget {
                obj: store.root(),
                key: Some(Key::Str(b"shared")),
            };
            store.lock(Actor::Thread, target, LockMode::Exclusive, &mut Wait::forever())?;
            lone(c)?;
            store.unlock(Actor::Thread, target)
        }
        Operation::Together(all) => {
            store.begin(&mut Wait::forever())?;
            all.iter().try_for_each(lone)?;
            store.commit()
        }
        Operation::Undone(all) => {
            store.begin(&mut Wait::forever())?;
            all.iter().try_for_each(lone)?;
            store.rollback()
        }
    }
}

fn options() -> Options {
    Options {
        lock_timeout: FOREVER,
        ..Options::default()
    }
}

fn name(writer: usize) -> String {
    format!("writer {writer}")
}

fn part(store: &Store, writer: usize) -> Obj {
    let name = name(writer);
    the_list(
        store
            .read(&mut Wait::forever(), |r| {
                r.get(store.root(), &Key::Str(name.as_bytes()))
            })
            .expect("read"),
    )
}

fn number(var: &str) -> u64 {
    std::env::var(var).ok().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// A writer, from the operation `PERSIST_FROM` on.
#[test]
#[ignore = "run by the other test, in a process of its own"]
fn writer() {
    let Ok(path) = std::env::var("PERSIST_STORE") else {
        return;
    };
    ptrace::die_with_parent();
    let me = number("PERSIST_WRITER") as usize;
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(log_path(Path::new(&path), me))
        .expect("the log");
    let store = Store::open(&path, &options()).expect("open");
    let part = part(&store, me);
    for n in number("PERSIST_FROM").. {
        log.write_all(format!("B {n}\n").as_bytes()).expect("log");
        run(&store, part, &operation(me, n)).expect("the operation");
        log.write_all(format!("A {n}\n").as_bytes()).expect("log");
    }
}

/// Takes a snapshot and drops the oldest; those that are there are whole.
fn snapshots_come_and_go(store: &Store, n: u64) {
    let all = store.snapshots().expect("list the snapshots");
    if all.len() > 2 {
        store.drop_snapshot(&all[0].name).expect("drop a snapshot");
    }
    let last = all.last().map_or(0, |s| s.checkpoint);
    let taken = store
        .snapshot(&format!("after {last}, in {n}"))
        .expect("take a snapshot");
    let opened = store.open_snapshot(&taken.name).expect("open a snapshot");
    opened.check().expect("a sound snapshot");
    opened.check_pages().expect("a whole snapshot");
    opened.close().expect("close a snapshot");
}

/// Makes checkpoints, takes and drops snapshots, and opens and closes the store.
#[test]
#[ignore = "run by the other test, in a process of its own"]
fn checkpointer() {
    let Ok(path) = std::env::var("PERSIST_STORE") else {
        return;
    };
    ptrace::die_with_parent();
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(log_path(Path::new(&path), WRITERS))
        .expect("the log");
    for n in 0u64.. {
        let store = Store::open(&path, &options()).expect("open");
        for i in 0..20 {
            match i % 5 {
                0 => snapshots_come_and_go(&store, n),
                _ => store.sync().expect("sync"),
            }
            log.write_all(format!("A {n}\n").as_bytes()).expect("log");
        }
        store.close().expect("close");
    }
}

fn log_path(store: &Path, who: usize) -> PathBuf {
    store.with_extension(format!("log{who}"))
}

/// A process under test.
struct Player {
    who: usize,
    child: Child,
    /// Where it was to die, if anywhere.
    fail: Option<&'static str>,
    log: std::fs::File,
    text: String,
    /// For writers: the model after all acknowledged operations, and how many these are.
    model: Model,
    done: u64,
}

impl Player {
    fn spawn(path: &Path, who: usize, from: u64, fail: Option<(&'static str, u64)>) -> Child {
        let mut command = again(if who < WRITERS { "writer" } else { "checkpointer" });
        command
            .env("PERSIST_STORE", path)
            .env("PERSIST_WRITER", who.to_string());
        command
            .env("PERSIST_FROM", from.to_string())
            .env_remove("PERSIST_FAIL");
        if let Some((step, pass)) = fail {
            command.env("PERSIST_FAIL", format!("{step}={pass}"));
        }
        command.spawn().expect("start")
    }

    /// Reads what it logged since the last time; true if there was an acknowledgement.
    fn progress(&mut self) -> bool {
        let before = self.text.len();
        self.log.read_to_string(&mut self.text).expect("log");
        self.text[before..].contains("A ")
    }

    /// Whether it has acknowledged something since it was started.
    fn has_come(&mut self) -> bool {
        self.progress();
        self.text.contains("A ")
    }

    fn is_dead(&mut self) -> bool {
        let ended = self.child.try_wait().expect("wait");
        if let Some(status) = ended {
            assert_eq!(
                status.signal(),
                Some(libc::SIGKILL),
                "process {} ended by itself: {status}",
                self.who
            );
        }
        ended.is_some()
    }
}

/// Where a process is to die; the second: what it is doing then.
const STEPS: &[(&str, &str)] = &[
    ("undo.logged", "change"),
    ("cow.intended", "change"),
    ("cow.copied", "change"),
    ("cow.listed", "change"),
    ("cow.swung", "change"),
    ("commit.lone", "change"),
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
    ("snapshot.apart", "checkpoint"),
    ("snapshot.dropped", "checkpoint"),
    ("close.checkpointed", "checkpoint"),
    ("recover.bury", "recovery"),
    ("recover.begun", "recovery"),
    ("recover.shared", "recovery"),
    ("recover.undone", "recovery"),
    ("recover.locks", "recovery"),
    ("recover.slots", "recovery"),
    ("recover.inherit", "recovery"),
];

struct Torture {
    path: PathBuf,
    draw: Draw,
    players: Vec<Player>,
    kills: BTreeMap<&'static str, u64>,
    waits: Vec<Duration>,
    idle: Vec<Duration>,
    operations: u64,
}

impl Torture {
    fn pick(&mut self, who: usize) -> Option<(&'static str, u64)> {
        if self.draw.below(3) == 0 {
            return None;
        }
        let fits: Vec<_> = STEPS
            .iter()
            .filter(|(_, what)| match *what {
                "checkpoint" => who == WRITERS,
                "transaction" | "change" | "lock" => who < WRITERS,
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

    fn start(&mut self, who: usize, from: u64) -> (Child, Option<&'static str>) {
        let fail = self.pick(who);
        (Player::spawn(&self.path, who, from, fail), fail.map(|f| f.0))
    }

    /// How long until each of the living has acknowledged something.
    fn watch(&mut self, begun: Instant) -> Vec<Duration> {
        let mut open: Vec<usize> = Vec::new();
        for (i, p) in self.players.iter_mut().enumerate() {
            // One that has only just come is still busy coming.
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
                        println!("{took:?} until process {} went on", p.who);
                    }
                    waits.push(took);
                    return false;
                }
                true
            });
            assert!(begun.elapsed() < FOREVER, "somebody does not get on: {open:?}");
        }
        waits
    }

    /// Compares a dead writer's part with its model; the number of its next operation.
    fn judge(&mut self, i: usize, store: &Store) -> u64 {
        let p = &mut self.players[i];
        p.progress();
        let mut begun = None;
        for line in std::mem::take(&mut p.text).lines() {
            let Some((kind, n)) = line.split_once(' ') else {
                continue;
            };
            let n: u64 = n.parse().expect("a number");
            if kind == "B" {
                begun = Some(n);
            } else {
                assert_eq!(begun.take(), Some(n), "the log");
                assert_eq!(n, p.done, "the log");
                p.model.apply(&operation(p.who, n));
                p.done += 1;
            }
        }
        let found = Model::read(store, part(store, p.who));
        if found == p.model {
            return p.done;
        }
        let interrupted = begun.map(|n| operation(p.who, n));
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
            name(p.who),
            p.done,
            p.fail,
            p.model
        );
    }

    /// What a dead player was doing.
    fn note(&mut self, i: usize) {
        let p = &mut self.players[i];
        p.progress();
        let doing = match STEPS.iter().find(|s| Some(s.0) == p.fail) {
            Some((_, what)) => what,
            None if p.who == WRITERS => "checkpoint",
            None => {
                let last = p.text.lines().rev().find_map(|l| l.split_once(' '));
                match last.map(|(kind, n)| (kind, operation(p.who, n.parse().expect("a number")))) {
                    Some(("B", Operation::Together(_) | Operation::Undone(_))) => "transaction",
                    Some(("B", Operation::Locked(_))) => "lock",
                    Some(("B", _)) => "change",
                    _ => "between",
                }
            }
        };
        *self.kills.entry(doing).or_default() += 1;
    }

    fn again(&mut self, i: usize, from: u64) {
        let who = self.players[i].who;
        let (child, fail) = self.start(who, from);
        let p = &mut self.players[i];
        p.child = child;
        p.fail = fail;
        p.text.clear();
    }

    /// Kills one, or lets one die; the others go on; the dead one's part is right; it comes again.
    fn one_death(&mut self, store: &Store) {
        // Mostly one that is at work, not one that is still coming: that can take longer than any time given here.
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
                self.players[dead].who
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

    fn everyone_dies(&mut self) {
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

#[test]
fn writers_and_checkpointers_are_killed() {
    let seconds = std::env::var("PERSIST_TORTURE_SECONDS")
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(8.0);
    let dir = memory_dir();
    let path = dir.path().join("a.store");
    let store = Store::open(&path, &options()).unwrap();
    for i in 0..WRITERS {
        let made = store.write(Actor::Thread, &mut Wait::forever(), |w| {
            let (d, l) = (w.new_dict()?, w.new_list()?);
            w.set(d, &Key::Str(b"list"), &In::Obj(l))?;
            w.set(store.root(), &Key::Str(name(i).as_bytes()), &In::Obj(d))
        });
        made.unwrap();
    }
    let seed = number("PERSIST_TORTURE_SEED");
    let seed = if seed == 0 {
        u64::from(std::process::id())
    } else {
        seed
    };
    println!("seed {seed}");
    let mut torture = Torture {
        path: path.clone(),
        draw: Draw(seed),
        players: Vec::new(),
        kills: BTreeMap::new(),
        waits: Vec::new(),
        idle: Vec::new(),
        operations: 0,
    };
    for who in 0..=WRITERS {
        std::fs::write(log_path(&path, who), "").unwrap();
        let child = Player::spawn(&path, who, 0, None);
        let log = std::fs::File::open(log_path(&path, who)).unwrap();
        let (text, model) = (String::new(), Model::default());
        torture.players.push(Player {
            who,
            child,
            fail: None,
            log,
            text,
            model,
            done: 0,
        });
    }
    // What the machine itself costs, with nobody killed.
    while !torture.players.iter_mut().all(Player::has_come) {
        assert!(
            torture.players.iter_mut().all(|p| !p.is_dead()),
            "one died by itself"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..30 {
        let idle = torture.watch(Instant::now());
        torture.idle.extend(idle);
    }
    let begun = Instant::now();
    let mut together = 0;
    let mut store = Some(store);
    while begun.elapsed().as_secs_f64() < seconds || torture.kills.values().sum::<u64>() < LEAST {
        if torture.draw.below(40) == 0 {
            drop(store.take());
            torture.everyone_dies();
            together += 1;
            for i in 0..torture.players.len() {
                let from = torture.players[i].done;
                torture.again(i, from);
            }
            store = Some(Store::open(&path, &options()).expect("open"));
        } else if let Some(store) = &store {
            torture.one_death(store);
        }
    }
    drop(store.take());
    torture.everyone_dies();
    torture.operations = torture.players.iter().map(|p| p.done).sum();
    let store = Store::open(&path, &options()).unwrap();
    let content = State::of(&store).content.len();
    torture.waits.sort_unstable();
    torture.idle.sort_unstable();
    // Of sorted times: that so many of twenty are below.
    let twentieths = |times: &[Duration], n: usize| times[(times.len() * n / 20).min(times.len() - 1)];
    let late = torture.waits.iter().filter(|w| **w > PROMISED).count();
    let total: u64 = torture.kills.values().sum();
    println!(
        "{} operations, {total} kills {:?}, {} times all together, {content} bytes of content",
        torture.operations,
        torture.kills,
        together + 1
    );
    let [half, most, worst] = [10, 19, 20].map(|n| twentieths(&torture.waits, n));
    let idle = [10, 20].map(|n| twentieths(&torture.idle, n));
    println!(
        "others went on after: median {half:?}, most {most:?}, worst {worst:?}, {late} of {} beyond {PROMISED:?}; with \
         nobody killed: median {:?}, worst {:?}",
        torture.waits.len(),
        idle[0],
        idle[1]
    );
    let telling: u64 = ["transaction", "checkpoint", "recovery"]
        .iter()
        .filter_map(|k| torture.kills.get(k))
        .sum();
    assert!(
        telling * 2 >= total,
        "most kills did not matter: {:?}",
        torture.kills
    );
    assert!(half < PROMISED + idle[1], "half of the others waited {half:?}");
    assert!(most < BEARABLE + idle[1], "one of twenty waited {most:?}");
}
