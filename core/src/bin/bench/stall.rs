//! The effect of checkpoints on a writer: the time of each single update of a large store, without
//! checkpoints, while another process makes one after the other, and while the bound on loss causes them.

use super::{finish, forever, io};
use persist_core::store::door::{Member, Word};
use persist_core::store::{Actor, In, Key, Obj, Options, Result, Store, Value};
use serde_json::{Value as Json, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes in a record besides the number.
const BODY: usize = 900;
const DATA: Key<'static> = Key::Str(b"data");
const NUMBER: Key<'static> = Key::Str(b"n");
const BODY_KEY: Key<'static> = Key::Str(b"body");
/// Time between two checkpoints of the other process.
const PAUSE: Duration = Duration::from_millis(100);

/// Checkpoints before the measurement.
const WARMING: usize = 3;
/// The longest wait for a checkpoint.
const LONGEST: Duration = Duration::from_secs(60);
/// Repetitions of the measurement with the bound and without checkpoints.
const ROUNDS: usize = 3;

/// An update: its start, and its duration, in nanoseconds.
type Sample = (u64, u64);

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64)
}

/// Fill a list with records: dicts of a number and some bytes.
fn fill(store: &Store, bytes: u64) -> Result<(Obj, u64)> {
    let records = bytes / 1024;
    let root = store.root();
    let list = store.write(Actor::Thread, &mut forever(), |w| {
        let list = w.new_list()?;
        w.set(root, &DATA, &In::Obj(list))?;
        Ok(list)
    })?;
    let body = [7u8; BODY];
    let mut at = 0;
    while at < records {
        let to = (at + 256).min(records);
        store.write(Actor::Thread, &mut forever(), |w| {
            for i in at..to {
                let record = w.new_dict()?;
                w.set(record, &NUMBER, &In::Int(i as i64))?;
                w.set(record, &BODY_KEY, &In::Bytes(&body))?;
                w.insert(list, i, &In::Obj(record))?;
            }
            Ok(())
        })?;
        at = to;
    }
    Ok((list, records))
}

/// Update random records for `seconds`.
fn update(store: &Store, list: Obj, records: u64, seconds: f64) -> Result<Vec<Sample>> {
    let mut random = fastrand::Rng::new();
    let mut samples = Vec::with_capacity((seconds * 1e6) as usize);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    loop {
        let i = random.u64(..records);
        let (at, begin) = (now(), Instant::now());
        if begin >= end {
            return Ok(samples);
        }
        store.write(Actor::Thread, &mut forever(), |w| {
            let Some(Value::Obj(record)) = w.item(list, i)? else {
                return Err(persist_core::Error::invalid("a record is missing"));
            };
            match random.u8(..2) {
                0 => w.set(record, &NUMBER, &In::Int(at as i64)),
                _ => w.set(record, &BODY_KEY, &In::Bytes(&[at as u8; BODY])),
            }
        })?;
        samples.push((at, begin.elapsed().as_nanos() as u64));
    }
}

fn figures(mut took: Vec<u64>) -> Json {
    took.sort_unstable();
    let at = |q: f64| match took.len() {
        0 => 0,
        n => took[((n as f64 * q) as usize).min(n - 1)],
    };
    json!({
        "updates": took.len(),
        "p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "p99.99": at(0.9999), "max": at(1.0),
        "over a ms": took.iter().filter(|t| **t > 1_000_000).count(),
    })
}

pub(super) fn run(dir: &Path, bytes: u64, seconds: f64) -> Result<()> {
    let path = dir.join("stall.store");
    let store = Store::open(&path, &Options::default())?;
    let (list, records) = fill(&store, bytes)?;
    store.sync()?;
    store.sync()?;
    // Every page of the store, and the spare pages that copies go to, is in the page cache and mapped.
    for _ in 0..WARMING {
        update(&store, list, records, 4.0)?;
        store.sync()?;
    }

    // Alternate, so that other load on the machine affects both.
    let (mut without, mut own) = (Vec::new(), Vec::new());
    let (mut without_time, mut own_time) = (Duration::ZERO, Duration::ZERO);
    let (mut own_checkpoints, mut oldest) = (0, Duration::ZERO);
    let part = Duration::from_secs_f64(seconds / ROUNDS as f64);
    for _ in 0..ROUNDS {
        store.without_checkpoints(|| {
            // First make the updates that copy pages for the last time.
            update(&store, list, records, 8.0)?;
            let begin = Instant::now();
            without.extend(
                update(&store, list, records, part.as_secs_f64())?
                    .iter()
                    .map(|s| s.1),
            );
            without_time += begin.elapsed();
            Ok(())
        })?;
        // The first change of a page after a checkpoint is the expensive one: measure from one checkpoint to another.
        let first = store.stat()?.checkpoint;
        let started = Instant::now();
        while store.stat()?.checkpoint == first && started.elapsed() < LONGEST {
            update(&store, list, records, 0.25)?;
        }
        let before = store.stat()?.checkpoint;
        let begin = Instant::now();
        while begin.elapsed() < part || (store.stat()?.checkpoint == before && begin.elapsed() < LONGEST) {
            let some = update(&store, list, records, 0.25)?;
            own.extend(some.iter().map(|s| s.1));
            oldest = oldest.max(store.stat()?.undurable_age.unwrap_or_default());
        }
        own_time += begin.elapsed();
        own_checkpoints += store.stat()?.checkpoint - before;
    }
    let rate = |updates: usize, time: Duration| (updates as f64 / time.as_secs_f64()) as u64;
    let rates = json!({ "without": rate(without.len(), without_time), "own": rate(own.len(), own_time) });

    let exe = std::env::current_exe().map_err(io("the name of this program"))?;
    let mut other = Command::new(exe)
        .arg("sync")
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(io("starting another process"))?;
    let mut says = BufReader::new(other.stdout.take().expect("a pipe"));
    let mut line = String::new();
    says.read_line(&mut line).map_err(io("the other process"))?;
    let samples = update(&store, list, records, seconds)?;
    drop(other.stdin.take());
    let mut rest = String::new();
    says.read_to_string(&mut rest).map_err(io("the other process"))?;
    other.wait().map_err(io("the other process"))?;
    let spans: Vec<Sample> = rest
        .lines()
        .filter_map(|l| l.split_once(' '))
        .filter_map(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
        .collect();
    let (mut during, mut between) = (Vec::new(), Vec::new());
    let mut at = 0;
    for (begin, took) in samples {
        while at < spans.len() && spans[at].1 < begin {
            at += 1;
        }
        if spans.get(at).is_some_and(|s| s.0 <= begin + took) {
            during.push(took);
        } else {
            between.push(took);
        }
    }
    let longest = spans.iter().map(|s| s.1 - s.0).max().unwrap_or(0);
    store.close()?;
    finish(&json!({
        "bytes": bytes,
        "records": records,
        "checkpoints": spans.len(),
        "longest checkpoint": longest,
        "between": figures(between),
        "during": figures(during),
        "without": figures(without),
        "own": figures(own),
        "updates a second": rates,
        "oldest change": oldest.as_nanos() as u64,
        "own checkpoints": own_checkpoints,
    }))
}

pub(super) fn sync(path: &Path) -> Result<()> {
    let store = Store::open(path, &Options::default())?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        let _ = sender.send(());
    });
    let mut out = std::io::stdout().lock();
    let mut print = |line: String| {
        out.write_all(line.as_bytes())
            .and_then(|()| out.flush())
            .map_err(io("standard output"))
    };
    print("ready\n".to_owned())?;
    while receiver.recv_timeout(PAUSE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        let begin = now();
        store.sync()?;
        print(format!("{begin} {}\n", now()))?;
    }
    store.close()
}

/// Set values of few keys as fast as possible, with the bound and without: nanoseconds each.
pub(super) fn hot(dir: &Path, rounds: usize) -> Result<()> {
    const KEYS: usize = 1000;
    let names: Vec<String> = (0..KEYS).map(|i| format!("key {i}")).collect();
    let open = |name: &str, max_age| -> Result<(Store, Obj)> {
        let options = Options {
            max_age,
            ..Options::default()
        };
        let store = Store::open(dir.join(name), &options)?;
        let root = store.root();
        let dict = store.write(Actor::Thread, &mut forever(), |w| {
            let dict = w.new_dict()?;
            w.set(root, &DATA, &In::Obj(dict))?;
            for name in &names {
                w.set(dict, &Key::Str(name.as_bytes()), &In::Int(0))?;
            }
            Ok(dict)
        })?;
        Ok((store, dict))
    };
    let stores = [
        open("hot-none", None)?,
        open("hot-bound", Options::default().max_age)?,
    ];
    let mut took = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for ((store, dict), took) in stores.iter().zip(&mut took) {
            let begin = Instant::now();
            let mut sets = 0u64;
            // This is longer than the time between two checkpoints.
            while begin.elapsed() < Duration::from_millis(1200) {
                for name in &names {
                    let (key, value) = (Key::Str(name.as_bytes()), In::Int(sets as i64));
                    if !store.fast_set(*dict, Member::Key(key), Word::small(&value)) {
                        store.write(Actor::Thread, &mut forever(), |w| w.set(*dict, &key, &value))?;
                    }
                }
                sets += KEYS as u64;
            }
            if round > 0 {
                took.push(begin.elapsed().as_nanos() as f64 / sets as f64);
            }
        }
    }
    for (store, _) in &stores {
        store.close()?;
    }
    let [none, bound] = took.map(|mut t| {
        t.sort_by(f64::total_cmp);
        t[t.len() / 2]
    });
    finish(&json!({ "without": none, "with": bound }))
}
