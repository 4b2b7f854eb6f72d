//! Every word in the header of a sidecar that killed processes have left, and a sample of every region, is changed: the
//! result is an error, or all completed changes. This runs in a separate process with limited time.
//!
//! The short form tests some values for each word; `PERSIST_TORTURE` more values and more places, drawn again in each
//! run.

use super::{Image, LEFT, found, left_by_the_dead};
use crate::common::{Rng, scratch};
use crate::support::plain::{self, sidecar};
use crate::support::{again, torture};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

/// No opening of a small store takes this long, on any machine.
const LONGEST: Duration = Duration::from_secs(60);

/// The end of the used header words (`page/shared/layout.rs`), and the regions: place and length in the file.
const HEADER: u64 = 3088;
const REGIONS: [(u64, u64); 8] = [
    (0x1000, 0x1000),
    (0x2000, 0x12000),
    (0x14000, 0xc000),
    (0x20000, 0x4000),
    (0x22_0000, 0x4000),
    (0x32_0000, 0x4000),
    (0x72_0000, 0x18_0000),
    (0x8a_0000, 0x16_0000),
];

fn word(file: &File, at: u64) -> u64 {
    let mut b = [0; 8];
    file.read_exact_at(&mut b, at).unwrap();
    u64::from_le_bytes(b)
}

/// The places to change, and the new values.
fn cases(path: &Path, rng: &mut Rng) -> Vec<(u64, u64)> {
    let file = File::open(sidecar(path)).unwrap();
    let mut all = Vec::new();
    for at in (0..HEADER).step_by(8) {
        let old = word(&file, at);
        let mut values = vec![0, u64::MAX, old ^ 0x55, old.wrapping_add(1), 1 << 40];
        if torture() {
            values.extend((0..64).map(|bit| old ^ 1 << bit));
            values.extend([old.wrapping_sub(1), 3, 128 << 20, rng.next() >> 24]);
        }
        all.extend(values.into_iter().filter(|v| *v != old).map(|v| (at, v)));
    }
    let len = file.metadata().unwrap().len();
    for (start, size) in REGIONS {
        let size = size.min(len.saturating_sub(start));
        let mut places: Vec<u64> = (0..size / 8)
            .map(|i| start + i * 8)
            .filter(|at| word(&file, *at) != 0)
            .collect();
        let draws = if torture() { 400 } else { 12 };
        while places.len() > draws {
            places.swap_remove(rng.below(places.len()));
        }
        for at in places {
            let old = word(&file, at);
            all.extend([0, u64::MAX, old ^ 1, old ^ 0x100, old ^ 1 << 33].map(|v| (at, v)));
        }
    }
    all
}

/// In the worker: write the result of each case as a line.
pub(super) fn work(path: &Path) {
    let image = Image::take(path);
    let seed = std::env::var("PERSIST_SEED").unwrap().parse().unwrap();
    for (at, value) in cases(path, &mut Rng(seed)) {
        image.restore();
        let side = OpenOptions::new().write(true).open(sidecar(path)).unwrap();
        side.write_all_at(&value.to_le_bytes(), at).unwrap();
        drop(side);
        eprintln!("begins {at:#x} {value:#x}");
        match plain::try_open(path, 5) {
            Err(e) => {
                let text = e.to_string();
                assert!(text.contains("a.store-shm"), "{text}");
                // Nothing was lost: with the right word it opens.
                let side = OpenOptions::new().write(true).open(sidecar(path)).unwrap();
                let right = image.files[1]
                    .pages
                    .iter()
                    .find(|(start, page)| (*start..start + page.len() as u64).contains(&at));
                let bytes = right.map_or([0; 8], |(start, page)| {
                    page[(at - start) as usize..][..8].try_into().unwrap()
                });
                side.write_all_at(&bytes, at).unwrap();
                let store = plain::try_open(path, 5).unwrap_or_else(|e| panic!("{text}; then {e}"));
                assert_eq!(found(&store), LEFT, "{text}");
                store.close().unwrap();
                eprintln!("error {text}");
            }
            Ok(store) => {
                assert_eq!(found(&store), LEFT, "opened");
                plain::set(&store, "after", 1).unwrap();
                store.close().unwrap();
                drop(store);
                let store = plain::open(path, 5);
                assert_eq!(found(&store), LEFT, "closed and opened");
                assert_eq!(plain::get(&store, "after").unwrap(), Some(1));
                store.close().unwrap();
                eprintln!("right");
            }
        }
    }
    eprintln!("done");
}

#[test]
fn every_word_of_a_left_sidecar() {
    let dir = scratch();
    let path = left_by_the_dead(dir.path());
    let seed = if torture() { std::process::id().into() } else { 1 };
    println!("seed {seed}");
    let mut child = again("worker")
        .env("PERSIST_STORE", &path)
        .env("PERSIST_DO", "mutations")
        .env("PERSIST_SEED", u64::to_string(&seed))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (send, lines) = mpsc::channel();
    let from = BufReader::new(child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in from.lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let (mut last, mut errors, mut right, mut done) = (String::new(), 0, 0, false);
    let mut told = Vec::new();
    loop {
        match lines.recv_timeout(LONGEST) {
            Ok(line) => {
                errors += usize::from(line.starts_with("error"));
                right += usize::from(line == "right");
                done |= line == "done";
                if line.starts_with("begins") {
                    last.clone_from(&line);
                    told.clear();
                }
                told.push(line);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                panic!("it hangs after {last}");
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    reader.join().unwrap();
    let status = child.wait().unwrap();
    assert!(done && status.success(), "{status}, {last}:\n{}", told.join("\n"));
    println!("{} mutations: {errors} errors, {right} right", errors + right);
    assert!(errors > 50 && right > 50, "{errors} errors, {right} right");
}
