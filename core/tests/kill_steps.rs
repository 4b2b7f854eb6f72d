//! Promise P1 at every instruction: an operation's process is killed, others recover, the operation is
//! there wholly or not at all and everything is sound.
//!
//! For each operation, with an observer in another process and without: a child is taken through it from
//! store to store, and every moment is brought back and recovered (`support::image` says why that is the
//! same as a kill there). Beside that the child is really killed after so many stores.
//! `PERSIST_TORTURE=1` takes every moment; else all moments of an operation that has few, and of others
//! each n-th, those that touch the sidecar closer than the rest.

mod support;

use persist_core::store::{
    Actor, In, Key, Kind, LockMode, LockTarget, Obj, Options, Result, Step, Store, Value, Wait, Writer,
};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};
use support::image::{Base, Paths, Reel, record};
use support::ptrace::{self, Event, Tracee};
use support::state::{State, sound};
use support::{again, memory_dir, torture};

/// Moments looked at in the short form, for one operation and way of recovery.
const FEW: usize = 1200;
/// Real kills in the short form.
const KILLS: u64 = 12;

/// What a child does between its two marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Marked {
    /// An operation on an open store.
    Operation,
    /// Opening it.
    Open,
    /// Closing it.
    Close,
}

/// An operation to be killed.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    marked: Marked,
    /// Fills the store before.
    prepare: fn(&Store) -> Result<()>,
    run: fn(&Store) -> Result<()>,
}

fn write(s: &Store, f: impl FnMut(&mut Writer<'_>) -> Result<()>) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::forever(), f)
}

fn set(s: &Store, o: Obj, k: &str, v: In<'_>) -> Result<()> {
    write(s, |w| w.set(o, &Key::Str(k.as_bytes()), &v))
}

fn child(s: &Store, k: &str) -> Result<Obj> {
    match s.read(&mut Wait::forever(), |r| r.get(s.root(), &Key::Str(k.as_bytes())))? {
        Some(Value::Obj(o)) => Ok(o),
        _ => Err(persist_core::Error::NoKey),
    }
}

fn nothing(_: &Store) -> Result<()> {
    Ok(())
}

fn some_values(s: &Store) -> Result<()> {
    set(s, s.root(), "a", In::Int(1))?;
    set(
        s,
        s.root(),
        "b",
        In::str("a string that takes a segment of its own"),
    )?;
    set(s, s.root(), "c", In::Float(0.5))
}

fn a_dict_of(s: &Store, n: i64) -> Result<()> {
    write(s, |w| {
        let d = w.new_dict()?;
        for i in 0..n {
            w.set(d, &Key::Str(format!("key {i}").as_bytes()), &In::Int(i))?;
        }
        w.set(s.root(), &Key::Str(b"d"), &In::Obj(d))
    })
}

fn a_list_of(s: &Store, n: i64) -> Result<()> {
    write(s, |w| {
        let l = w.new_list()?;
        for i in 0..n {
            w.insert(l, i as u64, &In::Int(i))?;
        }
        w.set(s.root(), &Key::Str(b"l"), &In::Obj(l))
    })
}

fn insert_into_d(s: &Store) -> Result<()> {
    set(
        s,
        child(s, "d")?,
        "one more key",
        In::str("and a value beside it"),
    )
}

/// A store in which a checkpoint has something to build, and pages of an older one to free.
fn used_for_a_while(s: &Store) -> Result<()> {
    some_values(s)?;
    a_list_of(s, 1200)?;
    for round in 0..3 {
        set(s, s.root(), "a", In::Int(round))?;
        write(s, |w| {
            let l = w.new_dict()?;
            w.set(s.root(), &Key::Int(round), &In::Obj(l))
        })?;
        if round < 2 {
            s.sync()?;
        }
    }
    Ok(())
}

fn three_changes(s: &Store) -> Result<()> {
    s.begin(&mut Wait::forever())?;
    set(
        s,
        s.root(),
        "a",
        In::str("a longer value than before, in a segment"),
    )?;
    set(s, s.root(), "b", In::Int(2))?;
    write(s, |w| {
        let o = w.new_object("module:Class")?;
        w.set(o, &Key::Str(b"x"), &In::Int(1))?;
        w.set(s.root(), &Key::Str(b"new"), &In::Obj(o))
    })
}

const CASES: &[Case] = &[
    Case {
        name: "set inline over inline",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| set(s, s.root(), "a", In::Int(2)),
    },
    Case {
        name: "set inline, first change after a checkpoint",
        marked: Marked::Operation,
        prepare: |s| some_values(s).and_then(|()| s.sync()),
        run: |s| set(s, s.root(), "a", In::Int(2)),
    },
    Case {
        name: "insert into a small dict",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 5),
        run: insert_into_d,
    },
    Case {
        name: "a small dict grows sparse",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 160),
        run: insert_into_d,
    },
    Case {
        name: "a small dict becomes large",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 236),
        run: insert_into_d,
    },
    Case {
        name: "insert into a large dict",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 2000),
        run: insert_into_d,
    },
    Case {
        name: "remove from a large dict",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 400),
        run: |s| {
            let d = child(s, "d")?;
            write(s, |w| w.remove(d, &Key::Str(b"key 200")).map(|_| ()))
        },
    },
    Case {
        name: "overwrite with a longer string",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| set(s, s.root(), "b", In::str(&"longer ".repeat(80))),
    },
    Case {
        name: "a string of many pieces",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| set(s, s.root(), "b", In::Bytes(&[7; 20_000])),
    },
    Case {
        name: "remove a string of many pieces",
        marked: Marked::Operation,
        prepare: |s| set(s, s.root(), "b", In::Bytes(&[7; 20_000])),
        run: |s| write(s, |w| w.remove(s.root(), &Key::Str(b"b")).map(|_| ())),
    },
    Case {
        name: "remove",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| write(s, |w| w.remove(s.root(), &Key::Str(b"b")).map(|_| ())),
    },
    Case {
        name: "append to a list",
        marked: Marked::Operation,
        prepare: |s| a_list_of(s, 64),
        run: |s| {
            let l = child(s, "l")?;
            write(s, |w| {
                w.insert(l, 64, &In::str("an item with a segment of its own"))
            })
        },
    },
    Case {
        name: "insert into a full leaf",
        marked: Marked::Operation,
        prepare: |s| a_list_of(s, 2000),
        run: |s| {
            let l = child(s, "l")?;
            write(s, |w| w.insert(l, 10, &In::Int(-1)))
        },
    },
    Case {
        name: "remove from a list until leaves merge",
        marked: Marked::Operation,
        prepare: |s| a_list_of(s, 1600),
        run: |s| {
            let l = child(s, "l")?;
            write(s, |w| w.remove_items(l, 100, 900))
        },
    },
    Case {
        name: "a new dict",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| {
            write(s, |w| {
                let d = w.new_dict()?;
                w.set(d, &Key::Int(1), &In::Bool(true))?;
                w.set(s.root(), &Key::Str(b"new"), &In::Obj(d))
            })
        },
    },
    Case {
        name: "an attribute",
        marked: Marked::Operation,
        prepare: |s| {
            write(s, |w| {
                let o = w.new_object("module:Class")?;
                w.set(o, &Key::Str(b"x"), &In::Int(1))?;
                w.set(s.root(), &Key::Str(b"o"), &In::Obj(o))
            })
        },
        run: |s| {
            let o = child(s, "o")?;
            write(s, |w| {
                w.set(o, &Key::Str(b"x"), &In::str("changed, in a segment of its own"))?;
                w.set(o, &Key::Str(b"y"), &In::Int(2))
            })
        },
    },
    Case {
        name: "release a subtree",
        marked: Marked::Operation,
        prepare: |s| {
            write(s, |w| {
                let top = w.new_dict()?;
                for i in 0..6 {
                    let (d, l) = (w.new_dict()?, w.new_list()?);
                    w.insert(l, 0, &In::str("a string in a list in a dict in a dict"))?;
                    w.set(d, &Key::Str(b"l"), &In::Obj(l))?;
                    w.set(top, &Key::Int(i), &In::Obj(d))?;
                }
                w.set(s.root(), &Key::Str(b"top"), &In::Obj(top))
            })
        },
        run: |s| write(s, |w| w.remove(s.root(), &Key::Str(b"top")).map(|_| ())),
    },
    Case {
        name: "a transaction",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| three_changes(s).and_then(|()| s.commit()),
    },
    Case {
        name: "a rollback",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| three_changes(s).and_then(|()| s.rollback()),
    },
    Case {
        name: "lock and unlock",
        marked: Marked::Operation,
        prepare: some_values,
        run: |s| {
            let whole = LockTarget {
                obj: s.root(),
                key: None,
            };
            let entry = LockTarget {
                obj: s.root(),
                key: Some(Key::Str(b"a")),
            };
            s.lock(Actor::Thread, entry, LockMode::Exclusive, &mut Wait::forever())?;
            s.lock(Actor::Thread, whole, LockMode::Shared, &mut Wait::forever())?;
            s.unlock(Actor::Thread, entry)?;
            s.unlock(Actor::Thread, whole)
        },
    },
    Case {
        name: "collect a cycle",
        marked: Marked::Operation,
        prepare: |s| {
            write(s, |w| {
                let (a, b) = (w.new_dict()?, w.new_dict()?);
                w.set(a, &Key::Str(b"b"), &In::Obj(b))?;
                w.set(b, &Key::Str(b"a"), &In::Obj(a))?;
                w.set(s.root(), &Key::Str(b"a"), &In::Obj(a))
            })?;
            write(s, |w| w.remove(s.root(), &Key::Str(b"a")).map(|_| ()))
        },
        run: |s| s.gc().map(|_| ()),
    },
    Case {
        name: "read everything",
        marked: Marked::Operation,
        prepare: used_for_a_while,
        run: |s| {
            State::of(s);
            Ok(())
        },
    },
    Case {
        name: "pin and unpin",
        marked: Marked::Operation,
        prepare: |s| a_list_of(s, 10),
        run: |s| {
            let l = child(s, "l")?;
            s.read(&mut Wait::forever(), |r| r.pin(l))?;
            write(s, |w| w.remove(s.root(), &Key::Str(b"l")).map(|_| ()))?;
            write(s, |w| w.insert(l, 0, &In::Int(-1)))?;
            s.unpin(l);
            s.gc().map(|_| ())
        },
    },
    Case {
        name: "rename over another",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 20).and_then(|()| a_list_of(s, 20)),
        run: |s| {
            let step = |k: &str| {
                Step::Key(Value::Str {
                    bytes: k.as_bytes().into(),
                    no_newline: false,
                })
            };
            let d = child(s, "d")?;
            write(s, |w| w.rename(s.root(), &step("l"), d, &step("key 3")))
        },
    },
    Case {
        name: "turn a dict into an object",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 12),
        run: |s| {
            let d = child(s, "d")?;
            write(s, |w| w.convert(d, Kind::Object, "module:Class"))
        },
    },
    Case {
        name: "clear",
        marked: Marked::Operation,
        prepare: |s| a_dict_of(s, 600),
        run: |s| {
            let d = child(s, "d")?;
            write(s, |w| w.clear(d))
        },
    },
    Case {
        name: "a checkpoint",
        marked: Marked::Operation,
        prepare: used_for_a_while,
        run: Store::sync,
    },
    Case {
        name: "open",
        marked: Marked::Open,
        prepare: used_for_a_while,
        run: nothing,
    },
    Case {
        name: "close",
        marked: Marked::Close,
        prepare: used_for_a_while,
        run: nothing,
    },
];

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
    let dir = memory_dir();
    let paths = Paths::new(dir.path());
    let alone = recovery == Recovery::Inherit;
    let (observer, mut base, before);
    if alone {
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
    let mut reel = record(&paths, alone, &mut command("stepped", case.name, &paths));
    let what = format!("{} ({recovery:?})", case.name);
    let mut stage = Stage {
        paths: paths.clone(),
        observer,
        before: before.clone(),
        after: before,
        what,
        slowest: Duration::ZERO,
    };
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
    let dir = memory_dir();
    let paths = Paths::new(dir.path());
    let alone = recovery == Recovery::Inherit;
    let store = Store::open(&paths.store, &options()).unwrap();
    (case.prepare)(&store).unwrap();
    let before = State::of(&store);
    let observer = if alone {
        drop(store);
        None
    } else {
        Some(store)
    };
    let mut reel = record(&paths, alone, &mut command("stepped", case.name, &paths));
    let what = format!("the recovery from: {} ({recovery:?})", case.name);
    let mut stage = Stage {
        paths: paths.clone(),
        observer,
        before: before.clone(),
        after: before,
        what,
        slowest: Duration::ZERO,
    };
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
