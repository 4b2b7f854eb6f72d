//! What the power-cut test on real filesystems runs in processes of its own (`scripts/torture real`).
//!
//! - `logged_disk serve LOG SIZE`: a disk, and a log of all that is written to it (`serve`).
//! - `logged_disk write STORE NAME SEED DURABILITY SECONDS MARK`: changes one part of a store, and tells
//!   the disk's log what is done (`write`).

#[path = "../../../core/tests/common/random.rs"]
#[allow(dead_code, unreachable_pub)] // The file serves tests too.
mod random;
mod serve;
mod write;

type Failure = Box<dyn std::error::Error>;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["serve", log, size] => serve::run(log.as_ref(), size),
        ["write", store, name, seed, durability, seconds, mark] => {
            write::run(store, name, seed, durability, seconds, mark)
        }
        _ => Err("usage: logged_disk serve LOG SIZE | write STORE NAME SEED DURABILITY SECONDS MARK".into()),
    };
    if let Err(e) = done {
        eprintln!("logged_disk: {e}");
        std::process::exit(1);
    }
}
