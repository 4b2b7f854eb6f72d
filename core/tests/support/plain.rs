//! A store of names and numbers, for tests that do not depend on the content.

use persist_core::store::{Actor, In, Key, Options, Result, Store, Value, Wait};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Open or create a store whose waits last at most this many seconds.
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

/// The word of the sidecar's header that names the boot of the machine (`page/shared/layout.rs`).
pub const BOOT: u64 = 24;
/// The header's signature: the checksum of the bytes before it.
const SIGNATURE: u64 = 80;

/// Change a word in the header of a sidecar, and sign the header. Returns the old word.
pub fn change_signed(sidecar: &Path, at: u64, by: u64) -> u64 {
    let file = File::options().read(true).write(true).open(sidecar).unwrap();
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).unwrap();
    let old = u64::from_le_bytes(word);
    file.write_all_at(&(old ^ by).to_le_bytes(), at).unwrap();
    let mut head = [0; SIGNATURE as usize];
    file.read_exact_at(&mut head, 0).unwrap();
    let sum = xxhash_rust::xxh3::xxh3_64(&head) | 1;
    file.write_all_at(&sum.to_le_bytes(), SIGNATURE).unwrap();
    old
}

pub fn set(s: &Store, key: &str, value: i64) -> Result<()> {
    s.write(Actor::Thread, &mut Wait::default(), |w| {
        w.set(s.root(), &Key::Str(key.as_bytes()), &In::Int(value))
    })
}

pub fn get(s: &Store, key: &str) -> Result<Option<i64>> {
    let found = s.read(&mut Wait::default(), |r| {
        r.get(s.root(), &Key::Str(key.as_bytes()))
    })?;
    Ok(match found {
        Some(Value::Int(n)) => Some(n),
        _ => None,
    })
}

/// Wait for a file that signals an event in another process.
pub fn wait_for(sign: &Path) {
    let until = Instant::now() + Duration::from_secs(120);
    while !sign.exists() {
        assert!(Instant::now() < until, "no sign of {}", sign.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}
