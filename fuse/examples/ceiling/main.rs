//! What the mount is compared with, and the system calls that are timed (`scripts/bench mount`).
//!
//! - `ceiling serve MOUNTPOINT SECONDS FROM`: mounts a filesystem that holds a copy of the directory FROM in memory and
//!   does nothing but answer (`serve`, `tree`). The kernel keeps its answers for so many seconds.
//! - `ceiling drive CALL DIRECTORY SECONDS`: makes one kind of system calls on the files of a directory for so long,
//!   and prints the nanoseconds of one (`drive`).

mod drive;
mod serve;
mod tree;

type Failure = Box<dyn std::error::Error>;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["serve", mountpoint, seconds, from] => serve::run(mountpoint.as_ref(), seconds, from.as_ref()),
        ["drive", call, directory, seconds] => drive::run(call, directory.as_ref(), seconds),
        _ => Err("usage: ceiling serve MOUNTPOINT SECONDS FROM | drive CALL DIRECTORY SECONDS".into()),
    };
    if let Err(e) = done {
        eprintln!("ceiling: {e}");
        std::process::exit(1);
    }
}
