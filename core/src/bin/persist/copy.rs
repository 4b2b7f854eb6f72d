//! Copies: `backup`, `restore`. `-` stands for standard output and input.

use super::Failure;
use super::check::Bar;
use clap::Args;
use persist_core::backup::{self, Done, Input, Options, Restoring};
use persist_core::check::Watch;
use persist_core::store::Error;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Arguments of `persist backup`.
#[derive(Args)]
pub(super) struct BackupArgs {
    /// The store file.
    pub(super) store: PathBuf,
    /// The file to make, or `-` for standard output.
    dest: PathBuf,
    /// Copy only what has changed since this snapshot (that of the last backup, kept with `--snapshot`).
    #[arg(long, value_name = "SNAPSHOT")]
    since: Option<String>,
    /// Keep the snapshot that is backed up under this name, for the next `--since`.
    #[arg(long, value_name = "NAME", conflicts_with = "at")]
    snapshot: Option<String>,
    /// Back up this snapshot instead of the present state.
    #[arg(long, value_name = "SNAPSHOT")]
    at: Option<String>,
    /// Replace DEST if it exists.
    #[arg(long)]
    force: bool,
    /// Print no progress and no summary.
    #[arg(long)]
    quiet: bool,
}

/// Arguments of `persist restore`.
#[derive(Args)]
pub(super) struct RestoreArgs {
    /// The full backup, then incremental ones in the order in which they were made; `-` for standard input.
    #[arg(required = true)]
    backups: Vec<PathBuf>,
    /// The store to make.
    pub(super) store: PathBuf,
    /// Replace STORE if it exists. No process may have it open.
    #[arg(long)]
    force: bool,
    /// Do not run the checker over the store.
    #[arg(long)]
    no_check: bool,
    /// Print no progress and no summary.
    #[arg(long)]
    quiet: bool,
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Return standard input or output without a line buffer.
fn plain(of: &impl AsFd) -> io::Result<File> {
    of.as_fd().try_clone_to_owned().map(File::from)
}

fn watch(quiet: bool) -> Box<dyn Watch> {
    if quiet { Box::new(()) } else { Box::new(Bar::new()) }
}

/// Run `persist backup`.
pub(super) fn backup(args: &BackupArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut options = Options::default();
    options.since.clone_from(&args.since);
    options.keep.clone_from(&args.snapshot);
    options.at.clone_from(&args.at);
    options.force = args.force;
    let mut watch = watch(args.quiet);
    if is_dash(&args.dest) {
        if io::stdout().is_terminal() {
            return Err(
                Error::invalid("a backup is not written to a terminal: send it to a file or a pipe").into(),
            );
        }
        let mut stdout = plain(&io::stdout())?;
        backup::backup(&args.store, &mut stdout, &options, &mut *watch)?;
        return Ok(());
    }
    let Done {
        checkpoint,
        pages,
        bytes,
        ..
    } = backup::backup_to(&args.store, &args.dest, &options, &mut *watch)?;
    drop(watch);
    if !args.quiet {
        writeln!(out, "checkpoint {checkpoint}, {pages} pages, {bytes} bytes")?;
    }
    Ok(())
}

/// Run `persist restore`.
pub(super) fn restore(args: &RestoreArgs, out: &mut impl Write) -> Result<(), Failure> {
    if args.backups.iter().filter(|b| is_dash(b)).count() > 1 {
        return Err(Error::invalid("standard input can be one of the backups only").into());
    }
    let mut inputs = Vec::new();
    for path in &args.backups {
        inputs.push(if is_dash(path) {
            Input::stream("standard input", plain(&io::stdin())?)
        } else {
            Input::file(path)
        });
    }
    let mut options = Restoring::default();
    options.force = args.force;
    options.check = !args.no_check;
    let mut watch = watch(args.quiet);
    let done = backup::restore(inputs, &args.store, &options, &mut *watch)?;
    drop(watch);
    if !args.quiet {
        writeln!(
            out,
            "checkpoint {}, {} pages, {} bytes",
            done.checkpoint, done.pages, done.bytes
        )?;
    }
    Ok(())
}
