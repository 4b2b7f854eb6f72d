//! The `persist` command: inspects and maintains a store from the shell, without Python or a mount.
//!
//! 1. Commands that only inspect open the store read-only. No command creates a file unless its help says so.
//! 2. Files: `list` (`ls`, `get`), `check`, `maintenance` (`stat`, `gc`, `compact`, `locks`), `lock`, `rename`
//!    (`rename-class`), `snapshots` (take, list, drop), `copy` (`backup`, `restore`). `manual`: the manual page.

mod check;
mod copy;
mod list;
mod lock;
mod maintenance;
#[cfg(test)]
mod manual;
mod rename;
mod snapshots;

use clap::{Parser, Subcommand};
use persist_core::store::{Error, Options, Reader, Result, Store, Wait};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Inspect and maintain a persist store.
#[derive(Parser)]
#[command(name = "persist", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print figures about a store.
    Stat {
        /// The store file.
        store: PathBuf,
        /// Show this snapshot instead of the present state.
        #[arg(long, value_name = "SNAPSHOT")]
        at: Option<String>,
    },
    /// Keep the present state under a name, to be read later with `--at`. Copies nothing.
    Snapshot {
        /// The store file.
        store: PathBuf,
        /// The name: up to 255 bytes, no slash.
        name: String,
    },
    /// List the snapshots, the oldest first: name, checkpoint, time (UTC), bytes.
    Snapshots {
        /// The store file.
        store: PathBuf,
    },
    /// Delete a snapshot and free what only it held.
    DropSnapshot {
        /// The store file.
        store: PathBuf,
        /// Its name.
        name: String,
    },
    /// Copy the state of one moment of a store, in use or not, to a file or a pipe. Writers continue. A full backup is
    /// itself a store file.
    Backup(copy::BackupArgs),
    /// Make a store from a full backup and incremental ones made since.
    Restore(copy::RestoreArgs),
    /// Collect unreachable cycles, and free what waits to be freed.
    Gc {
        /// The store file.
        store: PathBuf,
    },
    /// Verify a store, in use or not, and say what is wrong and where. Exit status: 0 sound, 1 something is
    /// wrong, 2 it could not be checked.
    Check {
        /// The store file.
        store: PathBuf,
        /// Copy what can be read into this new file, and list what is lost. The store itself is not changed
        /// and must not be in use.
        #[arg(long, value_name = "NEW")]
        repair: Option<PathBuf>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Collect garbage, and give freed space back to the filesystem: write a new file without free pages and put it
    /// in the store's place. No other process may have the store open. Snapshots are kept.
    Compact {
        /// The store file.
        store: PathBuf,
    },
    /// Give all objects of a class another class name, MODULE:CLASS, when the class was renamed or moved to another
    /// module. Programs may have the store open.
    RenameClass {
        /// The store file.
        store: PathBuf,
        /// The name that the objects have.
        old: String,
        /// The name that they get.
        new: String,
    },
    /// List the locks that are held or waited for.
    Locks {
        /// The store file.
        store: PathBuf,
    },
    /// Run a command while a lock is held: of a container or entry of a store, or of a file or directory of a mounted
    /// store. Changes by Python, and others that lock, wait until the command has ended. Exit status: that of the
    /// command, or 75 if the lock was not free in time.
    Lock(lock::LockArgs),
    /// List a container: name, type and a short view of each entry.
    Ls {
        /// The store file.
        store: PathBuf,
        /// Steps from the root, separated by `/` (default: the root).
        #[arg(default_value = "")]
        path: String,
        /// Read this snapshot instead of the present state.
        #[arg(long, value_name = "SNAPSHOT")]
        at: Option<String>,
    },
    /// Print one value: str and bytes as they are, other scalars as Python writes them.
    Get {
        /// The store file.
        store: PathBuf,
        /// Steps from the root, separated by `/`.
        path: String,
        /// Read this snapshot instead of the present state.
        #[arg(long, value_name = "SNAPSHOT")]
        at: Option<String>,
    },
}

impl Command {
    /// Return the store that the command is about.
    fn store(&self) -> &Path {
        match self {
            Command::Stat { store, .. }
            | Command::Snapshot { store, .. }
            | Command::Snapshots { store }
            | Command::DropSnapshot { store, .. }
            | Command::Compact { store }
            | Command::Gc { store }
            | Command::Check { store, .. }
            | Command::RenameClass { store, .. }
            | Command::Locks { store }
            | Command::Ls { store, .. }
            | Command::Get { store, .. } => store,
            Command::Backup(args) => &args.store,
            Command::Restore(args) => &args.store,
            Command::Lock(args) => &args.file,
        }
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let store = command.store().to_owned();
    let copies = matches!(command, Command::Backup(_) | Command::Restore(_));
    // The exit status distinguishes a damaged store from one that could not be checked.
    let failure = if matches!(command, Command::Check { .. }) {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    };
    match run(command) {
        Ok(code) => code,
        Err(Failure::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Output(e)) => {
            print_error(&format!("cannot write the output: {e}"));
            failure
        }
        Err(Failure::Store(e)) => {
            // A backup is a further file, which its messages name.
            let names_its_file = copies && matches!(e, Error::Io { .. });
            print_error(&if names_its_file {
                e.to_string()
            } else {
                e.in_store(&store)
            });
            failure
        }
    }
}

/// Print an error. A closed standard error is ignored.
fn print_error(what: &str) {
    let _ = writeln!(io::stderr(), "persist: {what}");
}

/// The cause of a failed command: the store, or the output.
enum Failure {
    Store(Error),
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::Store(e)
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Failure {
        Failure::Output(e)
    }
}

fn run(command: Command) -> std::result::Result<ExitCode, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut code = ExitCode::SUCCESS;
    match command {
        Command::Check { store, repair, json } => {
            code = check::check(&store, repair.as_deref(), json, &mut out)?;
        }
        Command::Stat { store, at } => maintenance::stat(&open_at(store, at)?, &mut out)?,
        Command::Snapshot { store, name } => snapshots::take(&open(store, false)?, &name, &mut out)?,
        Command::Snapshots { store } => snapshots::list(&open(store, true)?, &mut out)?,
        Command::DropSnapshot { store, name } => snapshots::drop(&open(store, false)?, &name)?,
        Command::Compact { store } => maintenance::compact(open(store, false)?, &mut out)?,
        Command::Backup(args) => copy::backup(&args, &mut out)?,
        Command::Restore(args) => copy::restore(&args, &mut out)?,
        Command::Gc { store } => maintenance::gc(&open(store, false)?, &mut out)?,
        Command::RenameClass { store, old, new } => {
            rename::rename_class(&open(store, false)?, &old, &new, &mut out)?;
        }
        Command::Locks { store } => maintenance::locks(&open(store, true)?, &mut out)?,
        Command::Lock(args) => code = lock::lock(&args)?,
        Command::Ls { store, path, at } => {
            let store = open_at(store, at)?;
            list::ls(&store, &path, &mut out)?;
            store.close()?;
        }
        Command::Get { store, path, at } => {
            let store = open_at(store, at)?;
            list::get(&store, &path, &mut out)?;
            store.close()?;
        }
    }
    out.flush()?;
    Ok(code)
}

/// Open a store for reading, or a snapshot of it if one is named.
fn open_at(path: PathBuf, snapshot: Option<String>) -> Result<Store> {
    Store::open(
        path,
        &Options {
            read_only: true,
            create: false,
            snapshot,
            ..Options::default()
        },
    )
}

fn open(path: PathBuf, read_only: bool) -> Result<Store> {
    Store::open(
        path,
        &Options {
            read_only,
            create: false,
            ..Options::default()
        },
    )
}

fn read<R>(store: &Store, f: impl FnMut(&Reader<'_>) -> Result<R>) -> Result<R> {
    store.read(&mut Wait::at_most(Options::default().lock_timeout), f)
}
