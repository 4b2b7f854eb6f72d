//! The command `lock`: run another command while a lock is held.
//!
//! 1. The lock is that of a shell command: changes by Python and requests for locks wait for it, and changes through a
//!    mount do not, since they may be those of the command itself. A file or directory of a mount is locked by flock
//!    there, everything else in the store.
//! 2. The lock is released when the command ends. It ends also with this process, however that ends.
//! 3. Exit status: that of the command; 128 and the number of the signal that ended it; 126 and 127 if it cannot be
//!    run, as in a shell; `TIMED_OUT` if the lock is not free in time.

use super::{Failure, list, open, print_error, read};
use persist_core::store::door::{flock, ignore_interrupts};
use persist_core::store::{Actor, Error, Key, Kind, LockMode, LockTarget, Obj, Result, Store, Value, Wait};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};

/// EX_TEMPFAIL of sysexits.h.
const TIMED_OUT: u8 = 75;
/// The pause between two tries of a flock with a timeout, which flock(2) lacks.
const PAUSE: Duration = Duration::from_millis(10);

/// The arguments of `persist lock`.
#[derive(clap::Args)]
pub(super) struct LockArgs {
    /// The store file, or a file or directory of a mounted store. Steps from the root may follow a store file, as in
    /// `a.store/people/Joe`.
    pub(super) file: PathBuf,
    /// Steps from the root, separated by `/` (default: the root). An item of a list locks the list.
    #[arg(default_value = "")]
    path: String,
    /// Share the lock with other readers; it keeps out changes.
    #[arg(long)]
    shared: bool,
    /// Wait this long at most, then exit with status 75 (default: without end).
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// The command, and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// Run `persist lock`.
pub(super) fn lock(args: &LockArgs) -> std::result::Result<ExitCode, Failure> {
    if let Some(file) = of_mount(args)? {
        return if wait_for_flock(&file, args)? {
            Ok(run(&args.command))
        } else {
            print_error(&format!(
                "timed out waiting for a lock of {}",
                args.file.display()
            ));
            Ok(ExitCode::from(TIMED_OUT))
        };
    }
    let (file, steps) = split(&args.file);
    let path = format!("{steps}/{}", args.path);
    let store = open(file, false)?;
    let mode = if args.shared {
        LockMode::Shared
    } else {
        LockMode::Exclusive
    };
    let pid = process::id();
    let (actor, (parent, name)) = (Actor::Flock(u64::from(pid), pid), target(&store, &path)?);
    let target = LockTarget {
        obj: parent,
        key: name
            .as_deref()
            .map(|name| key_of(&store, parent, name))
            .transpose()?,
    };
    let mut wait = Wait {
        timeout: args.timeout,
        interrupted: None,
    };
    match store.set_lock(actor, target, Some(mode), &mut wait) {
        Ok(()) => {}
        Err(e @ Error::Timeout { .. }) => {
            print_error(&e.to_string());
            return Ok(ExitCode::from(TIMED_OUT));
        }
        Err(e) => return Err(e.into()),
    }
    let code = run(&args.command);
    store.set_lock(actor, target, None, &mut Wait::default())?;
    store.close()?;
    Ok(code)
}

/// Return the container to lock, and the name of the entry of it if only that is locked.
fn target(store: &Store, path: &str) -> Result<(Obj, Option<Vec<u8>>)> {
    if let Value::Obj(container) = list::lookup(store, path)? {
        return Ok((container, None));
    }
    let steps = path.trim_matches('/');
    let (before, last) = steps.rsplit_once('/').unwrap_or(("", steps));
    let Value::Obj(parent) = list::lookup(store, before)? else {
        return Err(Error::invalid(format!(
            "{path}: it was changed just now; try again"
        )));
    };
    let is_list = read(store, |r| r.kind(parent))? == Kind::List;
    Ok((parent, (!is_list).then(|| list::unescape(last))))
}

fn key_of<'a>(store: &Store, parent: Obj, name: &'a [u8]) -> Result<Key<'a>> {
    let is_str = read(store, |r| r.get(parent, &Key::Str(name)))?.is_some();
    Ok(match list::literal(name) {
        Some(key) if !is_str => key,
        _ => Key::Str(name),
    })
}

/// Return the longest beginning of a path that is a file, and the rest.
fn split(path: &Path) -> (PathBuf, String) {
    for file in path.ancestors().skip(1) {
        if file.is_file()
            && let Ok(steps) = path.strip_prefix(file)
        {
            return (file.to_owned(), steps.to_string_lossy().into_owned());
        }
    }
    (path.to_owned(), String::new())
}

/// Open the file to lock if the path is on a mounted store.
fn of_mount(args: &LockArgs) -> io::Result<Option<File>> {
    let own = args.file.join(".persist.lock");
    let beside = args.file.with_file_name(".persist.lock");
    let file = if own.exists() {
        own
    } else if args.file.exists() && beside.exists() {
        args.file.clone()
    } else {
        return Ok(None);
    };
    if !args.path.is_empty() {
        let why = format!(
            "{}: on a mount; give the path of the entry there",
            args.file.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    OpenOptions::new()
        .read(true)
        .write(!args.shared)
        .open(file)
        .map(Some)
}

/// Lock a file of a mount. Return false if it is not free in time.
fn wait_for_flock(file: &File, args: &LockArgs) -> io::Result<bool> {
    let Some(timeout) = args.timeout else {
        return flock(file, !args.shared, true);
    };
    let begun = Instant::now();
    loop {
        if flock(file, !args.shared, false)? {
            return Ok(true);
        }
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(PAUSE.min(left));
    }
}

/// Run the command and return its exit status.
fn run(command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::FAILURE;
    };
    let mut child = match process::Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(e) => {
            print_error(&format!("cannot run {}: {e}", program.to_string_lossy()));
            let missing = e.kind() == io::ErrorKind::NotFound;
            return ExitCode::from(if missing { 127 } else { 126 });
        }
    };
    // Ctrl-C ends the command, which may still have work to do under the lock.
    ignore_interrupts();
    match child.wait() {
        Ok(status) => {
            let code = status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
        }
        Err(e) => {
            print_error(&format!("waiting for {}: {e}", program.to_string_lossy()));
            ExitCode::FAILURE
        }
    }
}
