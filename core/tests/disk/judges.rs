//! Open images as after a power failure, on threads that have no observer, and judge them: for `power`.

use super::kept::{Kept, States};
use crate::common::{Rng, compare, step};
use persist_core::store::{Options, Store};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

/// An image to open.
pub struct Job {
    pub image: Vec<u8>,
    pub states: Arc<States>,
    pub kept: Arc<Kept>,
    /// The oldest acceptable checkpoint.
    pub least: u64,
    pub seed: u64,
    pub room: usize,
    pub what: String,
}

/// Open an image as after a power failure, and judge it. Returns the checkpoint.
pub fn judge(path: &Path, job: &Job) -> u64 {
    let sidecar = PathBuf::from(format!("{}-shm", path.display()));
    std::fs::write(path, &job.image).unwrap();
    let _ = std::fs::remove_file(&sidecar);
    let what = &job.what;
    let mut store = Store::open(
        path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap_or_else(|e| panic!("{what}: opening: {e}"));
    let n = store.stat().unwrap().checkpoint;
    assert!(
        n >= job.least,
        "{what}: opened at checkpoint {n}, {} was synced",
        job.least
    );
    let want = job
        .states
        .get(&n)
        .unwrap_or_else(|| panic!("{what}: opened at checkpoint {n}, which no run made"));
    compare(&store, want, what);
    job.kept.compare(&store, n, what);
    let mut rng = Rng(job.seed);
    if rng.one_in(6) {
        // The store can be changed, and a synced change is present without the sidecar.
        let mut model = (**want).clone();
        for round in 0..1 + rng.below(3) {
            for _ in 0..rng.below(12) {
                step(&store, &mut model, &mut rng, job.room)
                    .unwrap_or_else(|e| panic!("{what}: going on: {e}"));
            }
            store.sync().unwrap_or_else(|e| panic!("{what}: sync: {e}"));
            compare(&store, &model, &format!("{what}: gone on, round {round}"));
            job.kept
                .compare(&store, n, &format!("{what}: gone on, round {round}"));
        }
        if rng.one_in(2) {
            for (name, _) in job.kept.list(n) {
                store
                    .drop_snapshot(&name)
                    .unwrap_or_else(|e| panic!("{what}: dropping {name}: {e}"));
            }
            store
                .check_pages()
                .unwrap_or_else(|e| panic!("{what}: with no snapshots: {e}"));
        }
        store.close().unwrap();
        drop(store);
        let _ = std::fs::remove_file(&sidecar);
        store = Store::open(
            path,
            &Options {
                max_age: None,
                ..Options::default()
            },
        )
        .unwrap_or_else(|e| panic!("{what}: gone on, opening: {e}"));
        compare(&store, &model, &format!("{what}: gone on and reopened"));
    }
    let _ = store.close();
    drop(store);
    let _ = std::fs::remove_file(path);
    let _ = std::fs::remove_file(&sidecar);
    n
}

/// Threads that open images.
pub struct Judges {
    send: Option<SyncSender<Job>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    judged: Arc<AtomicU64>,
    /// The number of images that opened at a newer checkpoint than required.
    newer: Arc<AtomicU64>,
}

impl Judges {
    pub fn new(dir: &Path) -> Judges {
        let (send, receive) = sync_channel::<Job>(32);
        let receive: Arc<Mutex<Receiver<Job>>> = Arc::new(Mutex::new(receive));
        let (judged, newer) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads = (0..2)
            .map(|t| {
                let (receive, judged, newer) = (receive.clone(), judged.clone(), newer.clone());
                let path = dir.join(format!("image-{t}.store"));
                std::thread::spawn(move || {
                    loop {
                        let job = receive.lock().unwrap().recv();
                        let Ok(job) = job else { return };
                        let n = judge(&path, &job);
                        judged.fetch_add(1, Ordering::Relaxed);
                        newer.fetch_add(u64::from(n > job.least), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Judges {
            send: Some(send),
            threads,
            judged,
            newer,
        }
    }

    pub fn judge(&self, job: Job) {
        // If a judge has found a fault, its panic is the message to show.
        let _ = self.send.as_ref().unwrap().send(job);
    }

    /// The number of images judged so far.
    pub fn judged(&self) -> u64 {
        self.judged.load(Ordering::Relaxed)
    }

    pub fn failed(&self) -> bool {
        self.threads.iter().any(std::thread::JoinHandle::is_finished)
    }

    pub fn finish(mut self) -> (u64, u64) {
        drop(self.send.take());
        for t in self.threads.drain(..) {
            if let Err(e) = t.join() {
                std::panic::resume_unwind(e);
            }
        }
        (
            self.judged.load(Ordering::Relaxed),
            self.newer.load(Ordering::Relaxed),
        )
    }
}
