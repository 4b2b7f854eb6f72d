//! The checkpoint before an inherited session is kept until the store was found sound.

use super::{LEFT, found, get, left_by_the_dead, open, run};
use crate::common::scratch;
use crate::support::plain::{self, set};
use persist_core::backup::{self, Options as BackupOptions};
use persist_core::check;
use persist_core::store::{Error, Options, Store, Wait};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const PAGE: usize = 4096;

/// The snapshots that keep such a checkpoint.
fn kept(store: &Store) -> Vec<String> {
    let all = store.snapshots().unwrap().into_iter().map(|s| s.name);
    all.filter(|name| name.starts_with("before-recovery-")).collect()
}

/// Assert the content of the checkpoint from which the dead session continued.
fn is_before(store: &Store) {
    for n in 0..LEFT {
        assert_eq!(get(store, &format!("old {n}")), Some(n));
    }
    assert_ne!(get(store, &format!("left {}", LEFT - 1)), Some(LEFT - 1));
}

#[test]
fn it_is_kept_until_a_clean_close() {
    let dir = scratch();
    let path = left_by_the_dead(dir.path());
    let store = open(&path);
    assert_eq!(found(&store), LEFT);
    store.sync().unwrap();
    let names = kept(&store);
    assert_eq!(names.len(), 1, "{names:?}");
    // Its pages are not reused.
    for turn in 0..20 {
        for n in 0..LEFT {
            set(&store, &format!("old {n}"), turn).unwrap();
        }
        store.sync().unwrap();
    }
    let before = store.open_snapshot(&names[0]).unwrap();
    is_before(&before);
    before.close().unwrap();
    assert_eq!(kept(&store), names);
    store.close().unwrap();
    drop(store);
    let store = open(&path);
    assert_eq!(kept(&store), [""; 0]);
    assert!(check::check_store(&store, &mut ()).unwrap().is_sound());
    store.close().unwrap();
}

/// If the next session dies too, the older checkpoint is kept: the changes since then may be damaged.
#[test]
fn of_two_the_older_one_is_kept() {
    let dir = scratch();
    let path = left_by_the_dead(dir.path());
    run(&path, "sync and die", &[]);
    run(&path, "sync and die", &[]);
    let store = open(&path);
    let names = kept(&store);
    assert_eq!(names.len(), 1, "{names:?}");
    is_before(&store.open_snapshot(&names[0]).unwrap());
    store.sync().unwrap();
    assert_eq!(kept(&store), names);
    store.close().unwrap();
}

/// The check of the store before the checkpoint is dropped does not wait for a transaction of another thread.
#[test]
fn an_open_transaction_does_not_delay_the_end_of_a_process() {
    let dir = scratch();
    let path = left_by_the_dead(dir.path());
    let store = plain::open(&path, 300);
    store.sync().unwrap();
    assert_eq!(kept(&store).len(), 1);
    let (begun, other) = (std::sync::Barrier::new(2), store.clone());
    std::thread::scope(|threads| {
        let (say, wait) = std::sync::mpsc::channel::<()>();
        let (begun, other) = (&begun, &other);
        threads.spawn(move || {
            other.begin(&mut Wait::default()).unwrap();
            begun.wait();
            let _ = wait.recv();
        });
        begun.wait();
        let started = Instant::now();
        store.close_at_exit().unwrap();
        assert!(started.elapsed() < Duration::from_secs(100));
        drop(say);
    });
}

/// Without changes, no checkpoint has to be kept.
#[test]
fn nothing_is_kept_of_a_session_without_changes() {
    let dir = scratch();
    let path = left_by_the_dead(dir.path());
    let store = open(&path);
    store.close().unwrap();
    drop(store);
    run(&path, "look and die", &[]);
    let store = open(&path);
    set(&store, "x", 1).unwrap();
    store.sync().unwrap();
    assert_eq!(kept(&store), [""; 0]);
    store.close().unwrap();
}

/// Zero a page that the dead session has written. None: it made a checkpoint, too.
fn tear(path: &Path, before: &[u8]) -> Option<()> {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let now = std::fs::read(path).unwrap();
    if now[..2 * PAGE] != before[..2 * PAGE] {
        return None;
    }
    let word = format!("left {}", LEFT / 2);
    let holds = |page: &[u8]| page.windows(word.len()).any(|w| w == word.as_bytes());
    let page = (2..now.len() / PAGE)
        .find(|i| {
            let at = i * PAGE..(i + 1) * PAGE;
            before.get(at.clone()) != Some(&now[at.clone()]) && holds(&now[at])
        })
        .expect("the page of an entry of the dead session");
    file.write_all_at(&[0; PAGE], (page * PAGE) as u64).unwrap();
    Some(())
}

/// A store of which the disk has lost some pages of the dead session.
fn torn(dir: &Path) -> std::path::PathBuf {
    for turn in 0..20 {
        let dir = dir.join(turn.to_string());
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("a.store");
        let store = open(&path);
        for n in 0..LEFT {
            set(&store, &format!("old {n}"), n).unwrap();
        }
        store.close().unwrap();
        drop(store);
        let before = std::fs::read(&path).unwrap();
        run(&path, "die", &[]);
        if tear(&path, &before).is_some() {
            return path;
        }
    }
    panic!("each session made a checkpoint");
}

#[test]
fn the_error_of_damage_names_the_kept_checkpoint() {
    let dir = scratch();
    let path = torn(dir.path());
    let mut name = None;
    let mut note = |e: &Error| {
        if let Error::Damaged { kept, .. } = e {
            assert!(
                e.to_string().contains("persist backup --at before-recovery-"),
                "{e}"
            );
            name = Some(kept.clone());
        }
    };
    // Opened and closed a few times, as by a script that continues after errors.
    for _ in 0..3 {
        match plain::try_open(&path, 60) {
            Ok(store) => {
                for n in 0..LEFT {
                    if let Err(e) = plain::get(&store, &format!("left {n}")) {
                        note(&e);
                    }
                    if let Err(e) = set(&store, &format!("left {n}"), -n) {
                        note(&e);
                    }
                }
                let _ = store.close();
            }
            Err(e) => note(&e),
        }
    }
    let name = name.expect("an error of damage");
    let report = check::check(&path, &mut ()).unwrap();
    assert!(!report.is_sound());
    assert_eq!(report.kept.as_deref(), Some(&*name));
    let copy = dir.path().join("copy.store");
    let mut options = BackupOptions::default();
    options.at = Some(name);
    backup::backup_to(&path, &copy, &options, &mut ()).unwrap();
    let store = Store::open(&copy, &Options::default()).unwrap();
    is_before(&store);
    assert!(check::check_store(&store, &mut ()).unwrap().is_sound());
    store.close().unwrap();
}
