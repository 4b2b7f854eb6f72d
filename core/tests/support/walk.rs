//! An operation of another process from instruction to instruction.
//!
//! 1. `walk` takes every single instruction and counts them. Around each store and each system call that `image`
//!    recognizes, the pages that it touches, or all files, are compared with their earlier content: between these
//!    events nothing may change. Two comparisons are at most a thousand instructions apart. If the files did change, a
//!    second walk compares after each instruction and names the one.
//! 2. A walk of a part begins after a number of stores and ends after a number of instructions; the rest is run from
//!    store to store.
//! 3. `run_to` brings another process to an instruction of that walk: from store to store up to the last one before it,
//!    then by single steps. Two runs of an operation differ in their instructions (addresses, seeds of hash maps). The
//!    instruction stands for any place in the operation, and each place is reached.

use super::image::{Paths, Watch};
use super::ptrace::{Event, Tracee};
use std::ops::Range;

/// The number of instructions between two comparisons of everything.
const APART: u64 = 1000;

/// The result of a walk.
#[derive(Default, Debug)]
pub struct Walk {
    /// Instructions that were stepped.
    pub instructions: u64,
    /// The number of stores, calls and forks (`Tracee::next` stops at these) before the first of them.
    before: u64,
    /// The number of instructions before each later event.
    events: Vec<u64>,
    /// The number of stores, calls and forks after the last instruction.
    after: u64,
}

impl Walk {
    /// True if nothing was left out.
    pub fn whole(&self) -> bool {
        self.before + self.after == 0
    }

    /// Stores, calls and forks.
    pub fn stores(&self) -> u64 {
        self.before + self.events.len() as u64 + self.after
    }
}

impl std::fmt::Display for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} that follow {} stores", self.instructions, self.before)
    }
}

/// The part of an operation to step.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Begin after this many stores, calls and forks.
    pub from: u64,
    /// The maximal number of instructions.
    pub most: u64,
}

/// A change where none is allowed.
struct Missed {
    between: Range<u64>,
    text: String,
}

/// Run processes, which `begin` brings to the operation's beginning, through it, by single steps through a part. The
/// error describes what else changed the files.
pub fn walk(paths: &Paths, part: Part, begin: &mut dyn FnMut() -> Tracee) -> Result<Walk, String> {
    pass(begin(), paths, part, 0..0).map_err(|missed| {
        let closely = missed.between.start..missed.between.end + 1;
        let found = pass(begin(), paths, part, closely).err();
        let Missed { between, text } = found.unwrap_or(missed);
        format!("changed by no known store or call, by one of the instructions {between:?}: {text}")
    })
}

/// Run to the next store, call or fork; false at the end.
fn continues(child: &mut Tracee) -> bool {
    match child.next() {
        Event::Marked => false,
        Event::Ended(stop) => panic!("the child under trace: {stop:?}"),
        _ => true,
    }
}

fn pass(mut child: Tracee, paths: &Paths, part: Part, closely: Range<u64>) -> Result<Walk, Missed> {
    let mut walk = Walk::default();
    while walk.before < part.from {
        if !continues(&mut child) {
            child.kill();
            return Ok(walk);
        }
        walk.before += 1;
    }
    let mut watch = Watch::new(paths);
    let (mut compared, mut at_end) = (0, false);
    let missed = |walk: &Walk, child: &Tracee, since: u64, text: String| Missed {
        between: since..walk.instructions,
        text: format!("{text}; before {}", child.whereabouts(child.instruction())),
    };
    while !at_end && walk.instructions < part.most {
        if closely.contains(&walk.instructions) || walk.instructions >= compared + APART || child.will_call()
        {
            if let Some(text) = watch.differs() {
                return Err(missed(&walk, &child, compared, text));
            }
            compared = walk.instructions;
        }
        match child.step() {
            Event::Storing { ino, page } => {
                let id = watch.id_of(ino);
                let pages = [(id, page), (id, page + 1)];
                if let Some(text) = pages.iter().find_map(|place| watch.differs_at(*place)) {
                    return Err(missed(&walk, &child, compared, text));
                }
                let done = child.store();
                assert!(
                    matches!(done, Event::Stored { .. }),
                    "the child under trace: {done:?}"
                );
                walk.instructions += 1;
                walk.events.push(walk.instructions);
                for place in pages {
                    watch.accept_at(place);
                }
            }
            Event::Called => {
                walk.instructions += 1;
                walk.events.push(walk.instructions);
                watch.accept();
            }
            Event::Passed => walk.instructions += 1,
            Event::Forked => walk.events.push(walk.instructions),
            Event::Marked => {
                at_end = true;
                if let Some(text) = watch.differs() {
                    return Err(missed(&walk, &child, compared, text));
                }
            }
            other => panic!("the child under trace: {other:?}"),
        }
    }
    while !at_end && continues(&mut child) {
        walk.after += 1;
    }
    child.kill();
    Ok(walk)
}

/// Run a process from the operation's beginning to an instruction, or to the operation's end if that comes first.
pub fn run_to(child: &mut Tracee, walk: &Walk, instruction: u64) {
    let events = walk.events.partition_point(|at| *at <= instruction);
    let ended = |event: &Event| matches!(event, Event::Marked | Event::Ended(_));
    for _ in 0..walk.before + events as u64 {
        if ended(&child.next()) {
            return;
        }
    }
    let from = events.checked_sub(1).map_or(0, |last| walk.events[last]);
    for _ in from..instruction {
        let event = child.step();
        if ended(&event) {
            return;
        }
        if matches!(event, Event::Storing { .. }) {
            child.store();
        }
    }
}
