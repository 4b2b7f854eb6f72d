//! The timed system calls. The program is compiled, so that little but the calls is measured.
//!
//! Each call is made on every file of the directory in turn, as often as the time allows, and at least once.

use super::Failure;
use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Files that `make` creates and unlinks in one pass.
const MADE: usize = 1000;
const TEXT: &[u8] = b"another text\n";

/// Make calls for so long, and print the mean time of one: `CALL NANOSECONDS`, a line for each kind.
pub(crate) fn run(call: &str, directory: &Path, seconds: &str) -> Result<(), Failure> {
    let length = Duration::from_secs_f64(seconds.parse()?);
    match call {
        "list" => repeat("list", length, || list(directory)),
        "make" => make(length, directory),
        _ => {
            let mut files = Vec::new();
            for entry in fs::read_dir(directory)? {
                files.push(entry?.path());
            }
            match call {
                "stat" => repeat(call, length, || each(&files, stat)),
                "read" => repeat(call, length, || each(&files, read)),
                "rewrite" => repeat(call, length, || each(&files, rewrite)),
                _ => Err(format!("there is no call {call}: stat, list, read, rewrite, make").into()),
            }
        }
    }
}

/// Run passes until the time is over, after one that is not timed: the kernel then has what it may keep. A pass returns
/// the number of its calls.
fn repeat(call: &str, length: Duration, mut pass: impl FnMut() -> io::Result<usize>) -> Result<(), Failure> {
    if pass()? == 0 {
        return Err("the directory is empty".into());
    }
    let (begin, mut calls) = (Instant::now(), 0);
    while calls == 0 || begin.elapsed() < length {
        calls += pass()?;
    }
    report(call, begin.elapsed(), calls);
    Ok(())
}

fn report(call: &str, took: Duration, calls: usize) {
    println!("{call} {:.1}", took.as_secs_f64() * 1e9 / calls as f64);
}

fn each(files: &[PathBuf], call: impl Fn(&Path) -> io::Result<()>) -> io::Result<usize> {
    for file in files {
        call(file)?;
    }
    Ok(files.len())
}

fn stat(file: &Path) -> io::Result<()> {
    fs::symlink_metadata(file).map(|m| {
        black_box(m);
    })
}

fn read(file: &Path) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let n = File::open(file)?.read(&mut buffer)?;
    black_box(&buffer[..n]);
    Ok(())
}

fn rewrite(file: &Path) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(file)?
        .write_all(TEXT)
}

/// List the directory with the attributes of each entry.
fn list(directory: &Path) -> io::Result<usize> {
    let mut entries = 0;
    for entry in fs::read_dir(directory)? {
        black_box(entry?.metadata()?);
        entries += 1;
    }
    Ok(entries)
}

/// Create files and unlink them, in turn.
fn make(length: Duration, directory: &Path) -> Result<(), Failure> {
    let files: Vec<PathBuf> = (0..MADE).map(|i| directory.join(format!("made {i}"))).collect();
    let (begin, mut creating, mut unlinking, mut calls) = (Instant::now(), Duration::ZERO, Duration::ZERO, 0);
    while calls == 0 || begin.elapsed() < length {
        let pass = Instant::now();
        each(&files, |file| File::create_new(file).map(drop))?;
        creating += pass.elapsed();
        let pass = Instant::now();
        each(&files, |file| fs::remove_file(file))?;
        unlinking += pass.elapsed();
        calls += MADE;
    }
    report("create", creating, calls);
    report("unlink", unlinking, calls);
    Ok(())
}
