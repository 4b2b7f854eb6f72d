//! Kills at instructions: an operation is stepped through every instruction, and the process is killed after some of
//! them.
//!
//! 1. A first walk counts an operation's instructions and shows that only the stores and calls at which `stores` stops
//!    change the files (`support::walk`).
//! 2. Then processes are killed after instruction n. The values of n begin anywhere and advance by a stride that is
//!    coprime to the number of instructions: each occurs once before any occurs again, and the first few are spread
//!    over the whole operation.

use super::stage::{Stage, Victim, kills_asked_for};
use crate::support::cases::Case;
use crate::support::process;
use crate::support::torture;
use crate::support::walk::{Part, Walk, run_to, walk};
use std::time::{Duration, Instant};

/// The number of kills in an operation in the short form.
const FEW: u64 = 3;
/// The number of instructions that are stepped at once, unless all of them are; the rest is run from store to store.
const PART: u64 = 4_000;
/// More instructions if there is time: a quarter of the time, at this rate per second.
const RATE: f32 = 80_000.0;

/// The duration of the test of all operations.
fn seconds() -> Option<Duration> {
    let seconds = std::env::var("PERSIST_TORTURE_SECONDS").ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn long() -> bool {
    torture() || seconds().is_some()
}

/// In the short form, one in `one_in` cases, others in each run. Another `side` gives other cases.
pub(super) fn few(cases: Vec<&'static Case>, side: usize, one_in: usize) -> Vec<&'static Case> {
    if long() {
        return cases;
    }
    let from = std::process::id() as usize + side;
    let some = cases.into_iter().enumerate();
    some.filter(|(i, _)| (i + from).is_multiple_of(one_in))
        .map(|(_, case)| case)
        .collect()
}

/// Run all these in turn until the time is up.
pub(super) fn kill_in_all(scenes: &[Box<dyn Fn() -> Stage>]) {
    process::stay_on_one_processor();
    let until = seconds().map(|s| Instant::now() + s);
    // A new order each time: if time is up before all have run, the next run begins with others.
    let mut order: Vec<usize> = (0..scenes.len()).collect();
    fastrand::shuffle(&mut order);
    let mut walked = 0;
    for (i, scene) in order.iter().enumerate() {
        let left = until.map(|u| u.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            break;
        }
        kill(scenes[*scene](), left.map(|left| left / (order.len() - i) as u32));
        walked += 1;
    }
    println!(
        "{walked} of {} operations from instruction to instruction",
        order.len()
    );
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// About 0.618 of `total`, and coprime to it.
fn stride(total: u64) -> u64 {
    let near = (total as f64 * 0.618_034) as u64;
    (near.max(1)..)
        .find(|n| common_divisor(*n, total) == 1)
        .unwrap_or(1)
}

fn walk_part(stage: &mut Stage, part: Part) -> Result<Walk, String> {
    let paths = stage.paths.clone();
    walk(&paths, part, &mut || {
        stage.restore();
        stage.begun()
    })
    .map_err(|e| format!("{}: {e}", stage.what))
}

/// Every instruction of an operation, without kills.
pub(super) fn walk_all(stage: &mut Stage) -> Result<Walk, String> {
    let most = u64::MAX;
    walk_part(stage, Part { from: 0, most })
}

/// The beginning of an operation and, if it is longer, another part of it at a random place.
fn parts(stage: &mut Stage, time: Option<Duration>) -> Vec<Walk> {
    let most = match time {
        Some(time) => PART.max((time.as_secs_f32() / 4.0 * RATE) as u64),
        None if long() => u64::MAX,
        None => PART,
    };
    let part = |stage: &mut Stage, from| {
        walk_part(stage, Part { from, most }).unwrap_or_else(|missed| panic!("{missed}"))
    };
    let mut walks = vec![part(stage, 0)];
    stage.allow_result_here();
    if !walks[0].whole() {
        let from = stage.drawn(walks[0].stores());
        walks.push(part(stage, from));
    }
    walks.retain(|w| w.instructions > 0);
    walks
}

fn kill(mut stage: Stage, time: Option<Duration>) {
    let begun = Instant::now();
    let walks = parts(&mut stage, time);
    let total: u64 = walks.iter().map(|w| w.instructions).sum();
    let wanted = kills_asked_for().unwrap_or(if long() { total } else { FEW });
    let (start, stride) = (stage.drawn(total), stride(total));
    let mut kills = 0;
    for k in 0..wanted {
        if time.is_some_and(|time| k >= FEW && begun.elapsed() >= time) {
            break;
        }
        let mut n = (start + k * stride) % total;
        let mut walk = &walks[0];
        if n >= walk.instructions {
            n -= walk.instructions;
            walk = &walks[1];
        }
        stage.restore();
        let beside = (k % 2 == 1).then(|| stage.bystander()).flatten();
        let mut child = stage.begun();
        run_to(&mut child, walk, n + 1);
        let at = child.whereabouts(child.instruction());
        let at = format!("really killed after instruction {} of {walk}, at {at}", n + 1);
        let victim = Victim::of(&stage, k);
        stage.kill(child, victim, beside, &at);
        kills += 1;
    }
    println!(
        "{:60} {total:>8} instructions{}, {kills} kills; slowest recovery {:?}; {:.1} s",
        stage.what,
        if walks[0].whole() { "" } else { " (of more)" },
        stage.slowest,
        begun.elapsed().as_secs_f32()
    );
}
