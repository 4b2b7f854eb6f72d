//! Promise P1 under load: writers and a checkpointer on one store are killed at random, from outside and at failpoints
//! inside transactions, commits, copies, checkpoints and recoveries.
//!
//! 1. A writer's operations derive from its number and their own number, so the number of its last operation determines
//!    its state. It records the beginning and the acknowledgement of each in its own file. Therefore all acknowledged
//!    operations of a dead writer must be present, and the one it had begun must be present completely or not at all.
//! 2. After each death every other process must make progress. The test measures how long each took, and compares this
//!    with the times of the same processes in the same run when none is killed.
//! 3. At the end, and from time to time, all are killed at once, and everything is checked.
//!
//! `operations`: the operations of writers. `players`: the processes. `torture`: the kills.
//!
//! Ten seconds; `PERSIST_TORTURE_SECONDS` for longer.

mod operations;
mod players;
#[path = "../common/random.rs"]
#[allow(dead_code, unreachable_pub)] // The file serves other tests too.
mod random;
#[path = "../support/mod.rs"]
mod support;
mod torture;

use operations::{Draw, Model};
use persist_core::store::{Actor, In, Key, Store, Wait};
use players::{Player, log_path, name, number, options};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::memory_dir;
use support::state::State;
use torture::Torture;

const WRITERS: usize = 3;
/// The promised time. It applies to half of all waits, in addition to the delay of the machine itself.
const PROMISED: Duration = Duration::from_millis(100);
/// The same for nineteen of twenty waits.
const BEARABLE: Duration = Duration::from_secs(2);
/// The same for each wait.
const FOREVER: Duration = Duration::from_secs(120);
/// The minimal number of kills, however long they take.
const LEAST: u64 = 40;

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
        let made = store.write(Actor::Thread, &mut Wait::default(), |w| {
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
        draw: Draw::new(seed),
        players: Vec::new(),
        kills: BTreeMap::new(),
        waits: Vec::new(),
        idle: Vec::new(),
        operations: 0,
    };
    for player in 0..=WRITERS {
        std::fs::write(log_path(&path, player), "").unwrap();
        let child = Player::spawn(&path, player, 0, None);
        let log = std::fs::File::open(log_path(&path, player)).unwrap();
        let (text, model) = (String::new(), Model::default());
        torture.players.push(Player {
            player,
            child,
            fail: None,
            log,
            text,
            model,
            done: 0,
        });
    }
    // The delay of the machine itself, without kills.
    while !torture.players.iter_mut().all(Player::has_come) {
        assert!(
            torture.players.iter_mut().all(|p| !p.is_dead()),
            "one died by itself"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..30 {
        torture.watch_idle();
    }
    let begun = Instant::now();
    let mut together = 0;
    let mut store = Some(store);
    // Of few kills, chance alone can make most of them ones that do not matter: then it continues.
    while begun.elapsed().as_secs_f64() < seconds
        || torture.total() < LEAST
        || torture.total() < 10 * LEAST && torture.telling() * 2 < torture.total()
    {
        if torture.draw.below(40) == 0 {
            drop(store.take());
            torture.all_die();
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
    torture.all_die();
    torture.operations = torture.players.iter().map(|p| p.done).sum();
    let store = Store::open(&path, &options()).unwrap();
    let content = State::of(&store).content.len();
    torture.waits.sort_unstable();
    torture.idle.sort_unstable();
    // The time below which `n` of twenty sorted times are.
    let twentieths = |times: &[Duration], n: usize| times[(times.len() * n / 20).min(times.len() - 1)];
    let late = torture.waits.iter().filter(|w| **w > PROMISED).count();
    let total = torture.total();
    println!(
        "{} operations, {total} kills {:?}, {} times all together, {content} bytes of content",
        torture.operations,
        torture.kills,
        together + 1
    );
    let [half, most, worst] = [10, 19, 20].map(|n| twentieths(&torture.waits, n));
    let idle = [10, 20].map(|n| twentieths(&torture.idle, n));
    println!(
        "others continued after: median {half:?}, most {most:?}, worst {worst:?}, {late} of {} beyond {PROMISED:?}; with \
         no kill: median {:?}, worst {:?}",
        torture.waits.len(),
        idle[0],
        idle[1]
    );
    assert!(
        torture.telling() * 2 >= total,
        "most kills did not matter: {:?}",
        torture.kills
    );
    assert!(half < PROMISED + idle[1], "half of the others waited {half:?}");
    assert!(most < BEARABLE + idle[1], "one of twenty waited {most:?}");
}
