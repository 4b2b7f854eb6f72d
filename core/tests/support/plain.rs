//! A store of names and numbers, for tests that are about something else.

use persist_core::store::{Actor, In, Key, Options, Result, Store, Value, Wait};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Opens, or makes, a store whose waits last so many seconds at most.
pub fn open(path: &Path, seconds: u64) -> Store {
    try_open(path, seconds).unwrap_or_else(|e| panic!("{e}"))
}

pub fn try_open(path: &Path, seconds: u64) -> Result<Store> {
    let options = Options {
        lock_timeout: Duration::from_secs(seconds),
        ..Options::default()
    };
    Store::open(path, &options)
}

pub fn sidecar(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-shm", path.display()))
}

pub fn set(s: &Store, key: &str, value: i64) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::forever(), |w| {
        w.set(s.root(), &Key::Str(key.as_bytes()), &In::Int(value))
    })
}

pub fn get(s: &Store, key: &str) -> Result<Option<i64>> {
    let found = s.read(&mut Wait::forever(), |r| {
        r.get(s.root(), &Key::Str(key.as_bytes()))
    })?;
    Ok(match found {
        Some(Value::Int(n)) => Some(n),
        _ => None,
    })
}

/// Waits for a file, as a sign from another process.
pub fn wait_for(sign: &Path) {
    let until = Instant::now() + Duration::from_secs(120);
    while !sign.exists() {
        assert!(Instant::now() < until, "no sign of {}", sign.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}
