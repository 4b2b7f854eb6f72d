//! Processes that are stopped (SIGSTOP) inside the store: in a read section, in an operation, in a transaction, at
//! every step of a change, and at random instructions. The others continue: a stopped reader delays a writer by less
//! than `PROMISED`, a stopped writer delays no reader by more, and every read gives one whole state.
//!
//! `blocks`: transactions whose inner blocks are undone during reads.

mod blocks;
#[path = "../common/mod.rs"]
mod common;
#[path = "../support/mod.rs"]
mod support;

use common::scratch;
use persist_core::store::{Actor, In, Key, Obj, Options, Reader, Result, Store, Value, Wait, Writer};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::player::{Player, role};
use support::process::stop_here;

/// The promised delay by a stopped process. It is compared with the best of several tries.
const PROMISED: Duration = Duration::from_millis(100);
/// The limit of each single try, however loaded the machine is: less than the bound of waits.
const AT_MOST: Duration = Duration::from_secs(45);
const TRIES: usize = 8;
const ACCOUNTS: u64 = 6;
const TOTAL: i64 = 6000;

fn open(path: &Path) -> Store {
    let options = Options {
        lock_timeout: Duration::from_secs(60),
        ..Options::default()
    };
    Store::open(path, &options).unwrap_or_else(|e| panic!("{e}"))
}

fn key(name: &str) -> Key<'_> {
    Key::Str(name.as_bytes())
}

type Step<'a> = dyn Fn(&mut Writer<'_>) -> Result<()> + 'a;

/// Store one generation everywhere: its number, the accounts' sum, a text, a dict and a list.
fn put(store: &Store, generation: i64, as_transaction: bool) -> Result<()> {
    let root = store.root();
    let texts = text(generation);
    let steps: [&Step<'_>; 4] = [
        &|w| w.set(root, &key("g"), &In::Int(generation)),
        &|w| {
            let part = generation % 700;
            for i in 0..ACCOUNTS {
                let shift = if i % 2 == 0 { part } else { -part };
                let balance = TOTAL / ACCOUNTS as i64 + shift;
                w.set(root, &key(&format!("a{i}")), &In::Int(balance))?;
            }
            Ok(())
        },
        &|w| w.set(root, &key("s"), &In::str(&texts)),
        &|w| {
            let (dict, list) = (w.new_dict()?, w.new_list()?);
            for i in 0..20 {
                w.set(dict, &key(&format!("k{i}")), &In::Int(generation))?;
                w.insert(list, i, &In::Int(generation))?;
            }
            w.set(root, &key("t"), &In::Obj(dict))?;
            w.set(root, &key("l"), &In::Obj(list))
        },
    ];
    let mut forever = Wait::default();
    if as_transaction {
        store.begin(&mut forever)?;
        for step in steps {
            store.write(Actor::Thread, &mut forever, |w| step(w))?;
        }
        store.commit()
    } else {
        store.write(Actor::Thread, &mut forever, |w| {
            steps.iter().try_for_each(|step| step(w))
        })
    }
}

fn text(generation: i64) -> String {
    char::from(b'a' + generation.rem_euclid(26) as u8)
        .to_string()
        .repeat(1500 + generation.rem_euclid(5) as usize * 400)
}

fn int(r: &Reader<'_>, obj: Obj, name: &str) -> Result<i64> {
    Ok(match r.get(obj, &key(name))? {
        Some(Value::Int(n)) => n,
        _ => i64::MIN,
    })
}

fn container(r: &Reader<'_>, obj: Obj, name: &str) -> Result<Option<Obj>> {
    Ok(match r.get(obj, &key(name))? {
        Some(Value::Obj(obj)) => Some(obj),
        _ => None,
    })
}

/// The generation of the store, or a description of the torn state.
fn look(r: &Reader<'_>, root: Obj) -> Result<std::result::Result<i64, String>> {
    let g = int(r, root, "g")?;
    // A section that will run again may find an account missing (`i64::MIN`).
    let mut sum = 0i64;
    for i in 0..ACCOUNTS {
        sum = sum.wrapping_add(int(r, root, &format!("a{i}"))?);
    }
    let first = int(r, root, "a0")?.wrapping_sub(TOTAL / ACCOUNTS as i64);
    if sum != TOTAL || first != g % 700 {
        return Ok(Err(format!(
            "generation {g}: the accounts hold {sum}, shifted by {first}"
        )));
    }
    match r.get(root, &key("s"))? {
        Some(Value::Str { bytes, .. }) if &*bytes == text(g).as_bytes() => {}
        other => return Ok(Err(format!("generation {g}: the text is {other:?}"))),
    }
    let (Some(dict), Some(list)) = (container(r, root, "t")?, container(r, root, "l")?) else {
        return Ok(Err(format!("generation {g}: no containers")));
    };
    let (mut cursor, mut n) = (0, 0);
    while let Some(entry) = r.next(dict, cursor)? {
        if entry.value != Value::Int(g) {
            return Ok(Err(format!(
                "generation {g}: {:?} is {:?}",
                entry.key, entry.value
            )));
        }
        (cursor, n) = (entry.cursor, n + 1);
    }
    let mut items = Vec::new();
    r.items(list, 0, 100, &mut items)?;
    if n != 20 || items != vec![Value::Int(g); 20] {
        return Ok(Err(format!("generation {g}: {n} entries, items {items:?}")));
    }
    Ok(Ok(g))
}

fn shown(store: &Store) -> i64 {
    let found = store.read(&mut Wait::default(), |r| look(r, store.root()));
    found
        .unwrap_or_else(|e| panic!("{e}"))
        .unwrap_or_else(|torn| panic!("torn: {torn}"))
}

/// The task of a child; nothing if the test harness runs it as a test.
#[test]
fn the_child() {
    let Some((role, path)) = role() else {
        return;
    };
    let store = open(&path);
    let mut forever = Wait::default();
    let next = || shown(&store) + 1;
    match role.as_str() {
        "stop in a read" => {
            let mut runs = 0;
            let found = store.read(&mut forever, |r| {
                let before = look(r, store.root())?;
                r.pin(store.root())?;
                runs += 1;
                if runs == 1 {
                    stop_here();
                }
                // The content was changed during this section.
                let _ = look(r, store.root());
                Ok(before)
            });
            assert_eq!(found.unwrap().unwrap(), shown(&store), "a stale result counts");
            assert_eq!(runs, 2, "a revoked section counts");
        }
        "stop in an operation" => {
            let generation = next();
            store
                .write(Actor::Thread, &mut forever, |w| {
                    w.set(store.root(), &key("g"), &In::Int(generation))?;
                    w.set(store.root(), &key("s"), &In::str(&text(generation)))?;
                    stop_here();
                    w.set(store.root(), &key("g"), &In::Int(generation - 1))?;
                    w.set(store.root(), &key("s"), &In::str(&text(generation - 1)))
                })
                .unwrap();
        }
        "stop in a transaction" => {
            store.begin(&mut forever).unwrap();
            store
                .write(Actor::Thread, &mut forever, |w| {
                    w.set(store.root(), &key("g"), &In::Int(-7))
                })
                .unwrap();
            stop_here();
            store.rollback().unwrap();
        }
        "an operation" => put(&store, next(), false).unwrap(),
        "a transaction" => put(&store, next(), true).unwrap(),
        "a rollback" => {
            store.begin(&mut forever).unwrap();
            store
                .write(Actor::Thread, &mut forever, |w| {
                    w.set(store.root(), &key("g"), &In::Int(-7))
                })
                .unwrap();
            store.rollback().unwrap();
        }
        "a checkpoint" => {
            put(&store, next(), false).unwrap();
            store.sync().unwrap();
        }
        "a block" => blocks::put_with_blocks(&store, next()).unwrap(),
        "read" => loop {
            shown(&store);
        },
        "read blocks" => blocks::reads(&store),
        "write blocks" => loop {
            blocks::put_next(&store);
        },
        "write" => loop {
            let generation = next();
            put(&store, generation, generation % 2 == 0).unwrap();
            if generation % 64 == 0 {
                store.sync().unwrap();
            }
        },
        other => panic!("no role {other}"),
    }
    store.close().unwrap();
}

fn new_store(path: &Path) -> Store {
    let store = open(path);
    put(&store, 1, false).unwrap();
    store
}

/// Measure the time of a call.
fn timed(f: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    f();
    begun.elapsed()
}

/// The shortest of several tries keeps the promise, and none takes as long as a wait's bound.
fn within_promise(what: &str, tries: &[Duration]) {
    let (least, most) = (tries.iter().min().unwrap(), tries.iter().max().unwrap());
    println!("{what}: {least:?} to {most:?}");
    assert!(*least < PROMISED, "{what}: {tries:?}");
    assert!(*most < AT_MOST, "{what}: {tries:?}");
}

#[test]
fn a_stopped_reader_delays_a_writer_by_less_than_promised_and_discards_its_result() {
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = new_store(&path);
    let mut tries = Vec::new();
    let mut generation = 1;
    for _ in 0..TRIES {
        let reader = Player::start("stop in a read", &path, "");
        assert!(reader.is_stopped());
        let mut change = || {
            generation += 1;
            put(&store, generation, generation % 2 == 0).unwrap();
        };
        tries.push(timed(&mut change));
        // The next changes are not delayed at all.
        let later = (0..TRIES).map(|_| timed(&mut change)).min().unwrap();
        assert!(later < PROMISED / 2, "{later:?}");
        // Its pages are reused before it continues.
        for _ in 0..30 {
            change();
        }
        store.sync().unwrap();
        change();
        reader.ends_well();
    }
    within_promise("a write beside a stopped reader", &tries);
    store.check().unwrap();
}

/// Read beside a stopped process: from a store that is open, and from one that is opened now.
fn reads(path: &Path, store: &Store, expected: &[i64], open_too: bool) -> (Duration, Duration) {
    let first = timed(|| {
        let found = shown(store);
        assert!(expected.contains(&found), "{found} of {expected:?}");
    });
    // A reader that waited once does not wait again.
    let again = (0..TRIES)
        .map(|_| {
            timed(|| {
                shown(store);
            })
        })
        .min()
        .unwrap();
    assert!(again < PROMISED / 2, "{again:?}");
    let opened = timed(|| {
        if open_too {
            let other = open(path);
            assert!(expected.contains(&shown(&other)));
            other.close().unwrap();
        }
    });
    (first, opened)
}

#[test]
fn reading_beside_a_stopped_writer_waits_less_than_promised_and_shows_what_was_committed() {
    for role in ["stop in an operation", "stop in a transaction"] {
        let dir = scratch();
        let path = dir.path().join("a.store");
        let store = new_store(&path);
        let (mut first, mut opened) = (Vec::new(), Vec::new());
        for i in 0..TRIES {
            let writer = Player::start(role, &path, "");
            assert!(writer.is_stopped());
            let (a, b) = reads(&path, &store, &[1], true);
            first.push(a);
            opened.push(b);
            let refused = store.write(
                Actor::Thread,
                &mut Wait::at_most(Duration::from_millis(5)),
                |_| Ok(()),
            );
            assert!(refused.is_err(), "two writers at once");
            if i % 2 == 0 {
                writer.ends_well();
            } else {
                // Killed while it is stopped: the others continue with everything.
                drop(writer);
            }
            assert_eq!(shown(&store), 1);
            put(&store, 1, false).unwrap();
        }
        within_promise(&format!("a read beside a process: {role}"), &first);
        within_promise(
            &format!("opening, a read and closing beside a process: {role}"),
            &opened,
        );
        store.check().unwrap();
    }
}

#[test]
fn a_writer_may_be_stopped_at_every_step_of_a_change() {
    let steps = [
        ("undo.logged", 3, "an operation"),
        ("cow.intended", 1, "an operation"),
        ("cow.copied", 2, "an operation"),
        ("cow.listed", 1, "an operation"),
        ("cow.replaced", 2, "an operation"),
        ("commit.operation", 1, "an operation"),
        ("commit.done", 1, "an operation"),
        ("transaction.begun", 1, "a transaction"),
        ("undo.logged", 40, "a transaction"),
        ("transaction.commit", 1, "a transaction"),
        ("transaction.done", 1, "a transaction"),
        ("undo.step", 1, "a rollback"),
        ("transaction.undone", 1, "a rollback"),
        ("undo.step", 1, "a block"),
        ("undo.step", 40, "a block"),
        ("transaction.block_undone", 1, "a block"),
        ("undo.logged", 200, "a block"),
        ("transaction.block_undone", 3, "a block"),
        ("checkpoint.taken", 1, "a checkpoint"),
        ("checkpoint.flip", 1, "a checkpoint"),
        ("checkpoint.node", 1, "a checkpoint"),
        ("checkpoint.writing", 1, "a checkpoint"),
        ("checkpoint.switching", 1, "a checkpoint"),
        ("checkpoint.giving", 1, "a checkpoint"),
    ];
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = new_store(&path);
    let (mut waits, mut stopped) = (Vec::new(), 0);
    for (step, pass, role) in steps {
        let before = shown(&store);
        store.sync().unwrap();
        let writer = Player::start(role, &path, &format!("{step}={pass}"));
        if !writer.is_stopped() {
            continue;
        }
        stopped += 1;
        waits.push(reads(&path, &store, &[before, before + 1], false).0);
        writer.ends_well();
        shown(&store);
    }
    assert!(stopped >= steps.len() - 3, "only {stopped} steps were met");
    within_promise("a read beside a change stopped at a step", &waits);
    store.check().unwrap();
}

/// The longest delay of a thread that only sleeps, since it was last asked: what the machine itself adds to a wait.
struct Pulse(Arc<AtomicU64>);

impl Pulse {
    fn start() -> Pulse {
        let worst = Arc::new(AtomicU64::new(0));
        let (weak, tick) = (Arc::downgrade(&worst), Duration::from_millis(1));
        std::thread::spawn(move || {
            let mut last = Instant::now();
            while let Some(worst) = weak.upgrade() {
                std::thread::sleep(tick);
                worst.fetch_max(last.elapsed().as_micros() as u64, Ordering::SeqCst);
                last = Instant::now();
            }
        });
        Pulse(worst)
    }

    fn take(&self) -> Duration {
        Duration::from_micros(self.0.swap(0, Ordering::SeqCst))
    }
}

/// Readers and writers are stopped at random moments for longer than the others may wait. Reads continue beside each,
/// and writes beside a reader. The long form asserts the bound, beyond what the machine itself delays.
#[test]
fn beside_a_process_stopped_at_random_moments_the_others_continue_and_see_whole_states() {
    let seconds = std::env::var("PERSIST_TORTURE_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    let deadline = Instant::now() + Duration::from_secs(seconds.unwrap_or(3));
    let dir = scratch();
    let path = dir.path().join("a.store");
    let store = new_store(&path);
    const ROLES: [&str; 4] = ["read", "write", "read", "write"];
    let mut players: Vec<Player> = ROLES.map(|role| Player::start(role, &path, "")).into();
    let pulse = Pulse::start();
    let (mut reads, mut writes, mut stops, mut late) = (Vec::new(), Vec::new(), 0u64, 0u64);
    while Instant::now() < deadline || stops < 4 {
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..20_000)));
        let at = fastrand::usize(..players.len());
        players[at].stop();
        stops += 1;
        let until = Instant::now() + Duration::from_millis(fastrand::u64(1..400));
        let mut is_late = false;
        while Instant::now() < until {
            pulse.take();
            let mut all = vec![timed(|| {
                shown(&store);
            })];
            reads.push(all[0]);
            if ROLES[at] == "read" {
                all.push(timed(|| put(&store, 2, true).unwrap()));
                writes.push(all[1]);
            }
            is_late |= all
                .iter()
                .max()
                .is_some_and(|took| *took > PROMISED + 2 * pulse.take());
        }
        late += u64::from(is_late);
        players[at].resume();
        for player in &mut players {
            assert!(
                player.0.try_wait().unwrap().is_none(),
                "a child found a torn state, or an error"
            );
        }
    }
    drop(players);
    reads.sort();
    writes.sort();
    let (read, write) = (reads[reads.len() - 1], writes.last().copied().unwrap_or_default());
    println!(
        "{stops} stops, {} reads: worst {read:?}, {} writes: worst {write:?}; beside {late} stops later than promised",
        reads.len(),
        writes.len(),
    );
    assert!(read < AT_MOST && write < AT_MOST);
    if seconds.is_some() {
        assert!(
            late <= 1 + stops / 100,
            "beside {late} of {stops} stops later than promised"
        );
    }
    put(&store, 2, true).unwrap();
    assert_eq!(shown(&store), 2);
    store.check().unwrap();
}
