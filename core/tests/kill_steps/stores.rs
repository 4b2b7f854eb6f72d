//! Kills at stores: every moment of an operation is restored and recovered, and some real kills.

use super::stage::{Stage, Victim, kills_asked_for};
use crate::support::image::Reel;
use crate::support::process;
use crate::support::ptrace::Event;
use crate::support::torture;
use std::time::Instant;

/// The number of moments tested in the short form, for one operation and way of recovery.
const FEW: usize = 1200;
/// The number of real kills in the short form.
const KILLS: u64 = 12;

/// The moments to test.
fn chosen(reel: &Reel, few: usize) -> Vec<usize> {
    let all = 0..reel.moments.len();
    if torture() || reel.moments.len() <= few {
        return all.collect();
    }
    let rest: Vec<usize> = all.clone().filter(|i| !reel.moments[*i].protocol).collect();
    let thin = |of: Vec<usize>, n: usize| {
        let stride = of.len().div_ceil(n).max(1);
        // A different residue in each case and run of the program.
        let from = (std::process::id() as usize) % stride;
        of.into_iter().skip(from).step_by(stride).collect::<Vec<_>>()
    };
    let mut some = thin(reel.telling(), few * 4 / 5);
    some.extend(thin(rest, few / 5));
    some.push(all.end - 1);
    some.sort_unstable();
    some.dedup();
    some
}

/// Restore and recover each moment of an operation.
pub(super) fn kill_everywhere(mut stage: Stage) {
    let begun = Instant::now();
    process::stay_on_one_processor();
    let mut reel = stage.record();
    stage.allow_result(&mut reel);
    let moments = chosen(&reel, if stage.is_durable() { FEW / 4 } else { FEW });
    for m in &moments {
        reel.restore(*m);
        let step = reel.moments[*m].step;
        stage.judge(&format!("killed after {step} of {} stores", reel.steps));
    }
    let mut kills = 0;
    let wanted = if torture() { 200 } else { KILLS };
    for k in 0..wanted {
        stage.restore();
        let mut child = stage.begun();
        // Bits of the golden ratio: spread evenly, and others in each run.
        let spread = (k + u64::from(std::process::id())).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let steps = (reel.steps * spread) >> 32;
        let mut done = 0;
        while done < steps && !matches!(child.next(), Event::Marked | Event::Ended(_)) {
            done += 1;
        }
        stage.kill(
            child,
            Victim::of(&stage, k),
            None,
            &format!("really killed after {done} stores"),
        );
        kills += 1;
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
}

/// The recovering process is killed too, at every store, and so is the next one.
pub(super) fn kill_the_recovery(mut stage: Stage, kills: usize) {
    process::stay_on_one_processor();
    let mut reel = stage.record();
    stage.allow_result(&mut reel);
    stage.is_to_open();
    let kills = kills_asked_for().map_or(if torture() { kills * 8 } else { kills }, |n| n as usize);
    let telling = reel.telling();
    let (mut moments, mut recovered) = (0, 0);
    let stride = telling.len().div_ceil(kills).max(1);
    for first in telling
        .iter()
        .skip(std::process::id() as usize % stride)
        .step_by(stride)
    {
        reel.restore(*first);
        let mut second = stage.record();
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
}
