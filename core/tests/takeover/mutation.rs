//! Every word in the header of a sidecar that killed processes have left, and a sample of every region, is changed: the
//! result is an error, or all completed changes. This runs in a separate process with limited time.
//!
//! The short form tests some values for each word; `PERSIST_TORTURE` then tests more values and more places, drawn
//! again in each run, for at most its share of `PERSIST_TORTURE_SECONDS`.

use super::{Image, LEFT, found, left_by_a_busy_process, share};
use crate::common::{Rng, scratch};
use crate::support::plain::{self, sidecar};
use crate::support::{again, torture};
use persist_core::page::file_parts;
use persist_core::store::Store;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A part of the sidecar, a place in the file, and the word to put there.
type Case = (&'static str, u64, u64);

/// No opening of a small store takes this long, on any machine.
const LONGEST: Duration = Duration::from_secs(60);

fn word(file: &File, at: u64) -> u64 {
    let mut b = [0; 8];
    file.read_exact_at(&mut b, at).unwrap();
    u64::from_le_bytes(b)
}

/// The places to change and the new values, by part of the file: those that are always tested, and those that are
/// tested as far as the time of `PERSIST_TORTURE` suffices.
fn cases(path: &Path, rng: &mut Rng) -> (Vec<Case>, Vec<Case>) {
    let file = File::open(sidecar(path)).unwrap();
    let len = file.metadata().unwrap().len();
    let (mut all, mut more) = (Vec::new(), Vec::new());
    for (name, start, size) in file_parts() {
        let places = (start..(start + size).min(len)).step_by(8);
        let put = |into: &mut Vec<Case>, at: u64, values: &[u64]| {
            let old = word(&file, at);
            into.extend(values.iter().filter(|v| **v != old).map(|v| (name, at, *v)));
        };
        if name == "header" {
            for at in places {
                let old = word(&file, at);
                put(
                    &mut all,
                    at,
                    &[0, u64::MAX, old ^ 0x55, old.wrapping_add(1), 1 << 40],
                );
                let bits: Vec<u64> = (0..64).map(|bit| old ^ 1 << bit).collect();
                put(&mut more, at, &bits);
                put(
                    &mut more,
                    at,
                    &[old.wrapping_sub(1), 3, 128 << 20, rng.next() >> 24],
                );
            }
            continue;
        }
        let (mut used, mut blank): (Vec<u64>, Vec<u64>) = places.partition(|at| word(&file, *at) != 0);
        // The first words of a part, and a sample of the others. A blank word may mean something when it is not.
        let mut drawn = |from: &mut Vec<u64>, most: usize| {
            let first: Vec<u64> = from.drain(..from.len().min(most / 3)).collect();
            while from.len() > most - first.len() {
                from.swap_remove(rng.below(from.len()));
            }
            from.splice(..0, first);
        };
        let (mut more_used, mut more_blank) = (used.clone(), blank.clone());
        drawn(&mut used, 12);
        drawn(&mut blank, 3);
        drawn(&mut more_used, 400);
        drawn(&mut more_blank, 100);
        for (into, used, blank) in [(&mut all, &used, &blank), (&mut more, &more_used, &more_blank)] {
            for at in used {
                let old = word(&file, *at);
                put(into, *at, &[0, u64::MAX, old ^ 1, old ^ 0x100, old ^ 1 << 33]);
            }
            for at in blank {
                put(into, *at, &[u64::MAX, 1]);
            }
        }
    }
    for i in (1..more.len()).rev() {
        more.swap(i, rng.below(i + 1));
    }
    (all, more)
}

/// The parts that say what an open transaction has changed.
const OF_A_TRANSACTION: [&str; 2] = ["header", "undo"];

/// A changed undo log, and a changed length of it, can undo to other data, which nothing shows: the store must only
/// stay usable.
fn use_anyhow(store: &Store) {
    for n in 0..LEFT {
        let _ = plain::get(store, &format!("left {n}"));
    }
    let _ = store.check();
    let _ = plain::set(store, "after", 1);
    let _ = store.close();
}

/// In the worker: write the result of each case as a line.
pub(super) fn work(path: &Path, transaction: bool) {
    let image = Image::take(path);
    let seed = std::env::var("PERSIST_SEED").unwrap().parse().unwrap();
    let (mut all, mut more) = cases(path, &mut Rng(seed));
    if transaction {
        for list in [&mut all, &mut more] {
            list.retain(|(name, _, _)| OF_A_TRANSACTION.contains(name));
        }
    }
    if !torture() {
        more.clear();
    }
    let (always, mut begun) = (all.len(), Instant::now());
    for (i, (name, at, value)) in all.into_iter().chain(more).enumerate() {
        if i == always {
            begun = Instant::now();
        }
        if i >= always && begun.elapsed() > share(3600) {
            break;
        }
        image.restore();
        let side = OpenOptions::new().write(true).open(sidecar(path)).unwrap();
        side.write_all_at(&value.to_le_bytes(), at).unwrap();
        drop(side);
        eprintln!("begins {name}: {at:#x} {value:#x}");
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
            Ok(store) if transaction => {
                if name == "header" && value == 0 {
                    assert_eq!(found(&store), LEFT, "half a transaction");
                }
                use_anyhow(&store);
                eprintln!("right");
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
    change_words(
        "die in use",
        "mutations",
        &file_parts().iter().map(|part| part.0).collect::<Vec<_>>(),
    );
}

/// No crash and no hang where a transaction was open; an error, if there is one, leaves everything as it was. A lost
/// word of the header, which is zero, never shows a part of the transaction.
#[test]
fn every_word_of_a_left_undo_log() {
    change_words(
        "die in a transaction",
        "mutations in a transaction",
        &OF_A_TRANSACTION,
    );
}

fn change_words(death: &str, task: &str, expected: &[&str]) {
    let dir = scratch();
    let path = left_by_a_busy_process(dir.path(), death);
    let seed = if torture() { std::process::id().into() } else { 1 };
    println!("seed {seed}");
    let mut child = again("worker")
        .env("PERSIST_STORE", &path)
        .env("PERSIST_DO", task)
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
    let mut parts: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        match lines.recv_timeout(LONGEST) {
            Ok(line) => {
                errors += usize::from(line.starts_with("error"));
                right += usize::from(line == "right");
                done |= line == "done";
                if let Some((name, _)) = line.strip_prefix("begins ").and_then(|l| l.split_once(':')) {
                    *parts.entry(name.to_owned()).or_default() += 1;
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
    for name in expected {
        assert!(parts.contains_key(*name), "no case for {name}: {parts:?}");
    }
    println!("{} mutations: {errors} errors, {right} right", errors + right);
    assert!(errors > 50 && right > 50, "{errors} errors, {right} right");
}
