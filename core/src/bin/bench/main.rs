//! The cost of crash safety, measured in the engine alone: `scripts/bench` builds and runs it. Prints one
//! JSON object.
//!
//! Files: `undo` (in-place updates with and without their undo record), `stall` (the effect of checkpoints on
//! a writer).

mod stall;
mod undo;

use clap::{Parser, Subcommand};
use persist_core::store::{Result, Wait};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "persist-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Updates in place, with and without undo: nanoseconds each, medians of rounds.
    Undo {
        /// A directory for the store.
        dir: PathBuf,
        /// Rounds of each.
        #[arg(long, default_value_t = 7)]
        rounds: usize,
    },
    /// Single updates of a large store while checkpoints are made.
    Stall {
        /// A directory for the store.
        dir: PathBuf,
        /// Bytes of data.
        #[arg(long, default_value_t = 1 << 30)]
        bytes: u64,
        /// Seconds of each part.
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
    },
    /// Values of few keys set over and over, with the bound on loss and without it.
    Hot {
        /// A directory for the stores.
        dir: PathBuf,
        /// Rounds of each.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Makes checkpoints until its input ends, and prints when each began and ended.
    #[command(hide = true)]
    Sync {
        /// The store.
        store: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Undo { dir, rounds } => undo::run(&dir, rounds),
        Command::Stall { dir, bytes, seconds } => stall::run(&dir, bytes, seconds),
        Command::Hot { dir, rounds } => stall::hot(&dir, rounds),
        Command::Sync { store } => stall::sync(&store),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("persist-bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn forever() -> Wait<'static> {
    Wait::default()
}

fn io(what: &str) -> impl Fn(std::io::Error) -> persist_core::Error + '_ {
    move |e| persist_core::Error::io(what, e)
}

fn finish(json: &serde_json::Value) -> Result<()> {
    println!("{json}");
    Ok(())
}
