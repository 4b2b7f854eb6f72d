//! Tests of the page manager alone: sections, epochs, checkpoints, reopening, rollback, growth.

use super::access::{Pages, PagesMut};
use super::shared::layout;
use super::sync::latch::process_bits;
use super::sync::wait::Wait;
use super::{Hooks, Pager, Settings, superblock as sb};
use crate::error::{Error, Result};
use crate::ids::{Actor, Addr, Obj, PAGE_SIZE};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

struct NoHooks;

impl Hooks for NoHooks {
    fn holds(&self, _: &Pager, _: u32, _: u64) -> Result<bool> {
        Ok(false)
    }

    fn recover(&self, _: &Pager) -> Result<()> {
        Ok(())
    }
    fn process_died(&self, _: &Pager, _: u16, _: u32) -> Result<bool> {
        Ok(false)
    }
    fn thread_ended(&self, _: &Pager, _: u16, _: u32, _: u32) -> Result<()> {
        Ok(())
    }
    fn check_change(&self, _: &Pager, _: u32, _: Actor, _: Obj, _: Option<u64>) -> Result<()> {
        Ok(())
    }
    fn has_pending_frees(&self, _: &Pager) -> Result<bool> {
        Ok(false)
    }
    fn free_some(&self, _: &Pager, _: u64) -> Result<bool> {
        Ok(false)
    }
}

fn open(path: &Path) -> Arc<Pager> {
    let settings = Settings {
        read_only: false,
        create: true,
        durability: 1,
        max_age: None,
        bound: Duration::from_secs(5),
        snapshot: None,
        any_filesystem: true,
        examines: false,
    };
    Pager::open(path, &settings, Box::new(NoHooks)).unwrap()
}

fn change<R>(p: &Pager, f: impl FnOnce(&mut super::WriteSection<'_>) -> Result<R>) -> Result<R> {
    let mut s = p.write(&mut Wait::default())?;
    let r = f(&mut s)?;
    s.commit();
    Ok(r)
}

fn word(p: &Pager, at: Addr) -> u64 {
    p.read(&mut Wait::default()).unwrap().u64_at(at).unwrap()
}

#[test]
fn written_values_persist_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    let p = open(&path);
    let page = change(&p, |s| {
        let page = s.alloc_page()?;
        s.set_u64(page.addr() + 8, 42)?;
        Ok(page)
    })
    .unwrap();
    assert_eq!(word(&p, page.addr() + 8), 42);
    p.close().unwrap();
    assert!(matches!(p.read(&mut Wait::default()), Err(Error::Closed)));
    drop(p);
    let p = open(&path);
    assert_eq!(word(&p, page.addr() + 8), 42);
    p.close().unwrap();
    // Without the sidecar the last checkpoint is opened, which the close made.
    std::fs::remove_file(dir.path().join("a.store-shm")).unwrap();
    let p = open(&path);
    assert_eq!(word(&p, page.addr() + 8), 42);
    change(&p, |s| s.set_u64(page.addr() + 8, 43)).unwrap();
    p.close().unwrap();
}

#[test]
fn an_error_undoes_the_section() {
    let dir = tempfile::tempdir().unwrap();
    let p = open(&dir.path().join("a.store"));
    let page = change(&p, |s| s.alloc_page()).unwrap();
    change(&p, |s| s.set_bytes(page.addr() + 16, b"hello, world")).unwrap();
    let r: Result<()> = change(&p, |s| {
        s.set_u64(page.addr() + 16, 7)?;
        s.set_bytes(page.addr() + 20, b"xxxxxxxxxxxxx")?;
        s.alloc_page()?;
        Err(Error::NoKey)
    });
    assert!(r.is_err());
    let s = p.read(&mut Wait::default()).unwrap();
    assert_eq!(s.bytes(page.addr() + 16, 12).unwrap(), b"hello, world");
    assert_eq!(s.u64_at(sb::NEXT_PAGE).unwrap(), 2);
}

/// An operation that runs out of space in the middle is undone alone, also on pages that are as new as the operation.
#[test]
fn an_attempt_that_finds_no_room_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let p = open(&dir.path().join("a.store"));
    let (old, free) = change(&p, |s| Ok((s.alloc_page()?, s.alloc_page()?))).unwrap();
    change(&p, |s| {
        s.set_u64(old.addr(), 1)?;
        s.free_page(free)
    })
    .unwrap();
    change(&p, |s| {
        s.set_u64(old.addr(), 2)?;
        let fresh = [s.alloc_page()?, s.alloc_page()?];
        s.set_u64(fresh[1].addr(), 3)?;
        s.defer_free(Addr(1))?;
        let next = s.u64_at(sb::NEXT_PAGE)?;
        let none = s.attempt(|s| {
            s.alloc_page()?;
            s.set_u64(old.addr(), 4)?;
            s.set_u64(fresh[1].addr(), 5)?;
            s.set_bytes(fresh[1].addr() + 8, b"half done")?;
            s.defer_free(Addr(2))?;
            Err::<(), Error>(Error::NoSpace {
                what: "test pages",
                source: std::io::Error::from_raw_os_error(libc::ENOSPC),
            })
        })?;
        assert!(none.is_none());
        assert_eq!((s.u64_at(old.addr())?, s.u64_at(fresh[1].addr())?), (2, 3));
        assert_eq!(s.u64_at(fresh[1].addr() + 8)?, 0);
        assert_eq!(s.u64_at(sb::NEXT_PAGE)?, next);
        assert_eq!(s.take_deferred(), [Addr(1)]);
        // The rest of the operation continues from there.
        let some = s.attempt(|s| s.alloc_page())?;
        assert_eq!(some.map(|page| page.0), Some(next));
        s.set_u64(fresh[1].addr(), 6)
    })
    .unwrap();
    assert_eq!(word(&p, old.addr()), 2);
    p.check_pages().unwrap();
    p.close().unwrap();
}

#[test]
fn a_transaction_commits_or_rolls_back_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let p = open(&dir.path().join("a.store"));
    let page = change(&p, |s| s.alloc_page()).unwrap();
    p.begin(&mut Wait::default()).unwrap();
    change(&p, |s| s.set_u64(page.addr(), 1)).unwrap();
    change(&p, |s| s.set_u64(page.addr() + 8, 2)).unwrap();
    assert_eq!(word(&p, page.addr()), 1);
    assert!(p.checkpoint(&mut Wait::default()).is_err());
    p.rollback().unwrap();
    assert_eq!((word(&p, page.addr()), word(&p, page.addr() + 8)), (0, 0));
    p.begin(&mut Wait::default()).unwrap();
    change(&p, |s| s.set_u64(page.addr(), 1)).unwrap();
    p.commit_section(|_| Ok(())).unwrap();
    assert_eq!(word(&p, page.addr()), 1);
    assert_eq!(p.depth(), 0);
}

#[test]
fn every_checkpoint_is_whole_on_disk_whatever_comes_after() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    let p = open(&path);
    let pages: Vec<_> = (0..600)
        .map(|_| change(&p, |s| s.alloc_page()).unwrap())
        .collect();
    for round in 1..8u64 {
        for (i, page) in pages.iter().enumerate() {
            if !(i as u64).is_multiple_of(round) {
                continue;
            }
            change(&p, |s| s.set_u64(page.addr() + 8, round * 1000 + i as u64)).unwrap();
        }
        p.checkpoint(&mut Wait::default()).unwrap();
        let want: Vec<u64> = pages.iter().map(|a| word(&p, a.addr() + 8)).collect();
        // Changes after the checkpoint must not be visible in it.
        for page in pages.iter().step_by(3) {
            change(&p, |s| s.set_u64(page.addr() + 8, 99)).unwrap();
        }
        // A copy of the file alone, as after a power failure.
        let copy = dir.path().join("copy.store");
        std::fs::copy(&path, &copy).unwrap();
        let _ = std::fs::remove_file(dir.path().join("copy.store-shm"));
        let q = open(&copy);
        let got: Vec<u64> = pages.iter().map(|a| word(&q, a.addr() + 8)).collect();
        assert_eq!(got, want, "round {round}");
        // The copy can be changed, and rebuilds its free map.
        for page in &pages {
            change(&q, |s| s.set_u64(page.addr() + 8, 5)).unwrap();
        }
        for _ in 0..3 {
            change(&q, |s| s.set_u64(pages[0].addr() + 8, 6)).unwrap();
            q.checkpoint(&mut Wait::default()).unwrap();
        }
        assert!(q.page_stat().free_pages > 0);
        q.close().unwrap();
        for (page, v) in pages.iter().zip(want) {
            change(&p, |s| s.set_u64(page.addr() + 8, v)).unwrap();
        }
    }
}

#[test]
fn the_file_does_not_grow_without_bound_under_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let p = open(&dir.path().join("a.store"));
    let pages: Vec<_> = (0..100)
        .map(|_| change(&p, |s| s.alloc_page()).unwrap())
        .collect();
    for round in 0..200u64 {
        for page in &pages {
            change(&p, |s| s.set_u64(page.addr() + 8, round)).unwrap();
        }
        p.checkpoint(&mut Wait::default()).unwrap();
    }
    let pages = p.page_stat().file_pages;
    assert!(pages < 1000, "{pages} pages for 100");
}

#[test]
fn freed_pages_come_back_zeroed() {
    let dir = tempfile::tempdir().unwrap();
    let p = open(&dir.path().join("a.store"));
    let page = change(&p, |s| {
        let page = s.alloc_page()?;
        s.init(page.addr(), PAGE_SIZE)?.fill(0xff);
        Ok(page)
    })
    .unwrap();
    change(&p, |s| s.free_page(page)).unwrap();
    let r: Result<()> = change(&p, |s| {
        assert_eq!(s.alloc_page()?, page);
        s.init(page.addr(), PAGE_SIZE)?.fill(0xee);
        Err(Error::NoKey)
    });
    assert!(r.is_err());
    p.checkpoint(&mut Wait::default()).unwrap();
    let again = change(&p, |s| s.alloc_page()).unwrap();
    assert_eq!(again, page);
    let s = p.read(&mut Wait::default()).unwrap();
    assert_eq!(s.bytes(page.addr(), PAGE_SIZE).unwrap(), &[0; PAGE_SIZE][..]);
    assert_eq!(s.u64_at(sb::FREE_PAGES).unwrap(), 0);
}

#[test]
fn readers_and_writers_in_threads_never_see_half_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let p = open(&dir.path().join("a.store"));
    let page = change(&p, |s| s.alloc_page()).unwrap();
    std::thread::scope(|t| {
        for _ in 0..2 {
            t.spawn(|| {
                for _ in 0..20_000 {
                    let r = change(&p, |s| {
                        let n = s.u64_at(page.addr())? + 1;
                        s.set_u64(page.addr(), n)?;
                        s.set_u64(page.addr() + 8, n)
                    });
                    r.unwrap();
                }
            });
        }
        t.spawn(|| {
            let mut held = 0;
            for _ in 0..20_000 {
                let s = p.read(&mut Wait::default()).unwrap();
                let seen = [0, 8].map(|i| s.u64_at(page.addr() + i));
                // A writer revokes the mark of a reader that the machine stops for long: its result does not count.
                if s.holds() {
                    assert_eq!(seen[0].as_ref().unwrap(), seen[1].as_ref().unwrap());
                    held += 1;
                }
            }
            assert!(held > 10_000, "{held} reads count");
        });
        t.spawn(|| {
            for _ in 0..20 {
                p.checkpoint(&mut Wait::default()).unwrap();
            }
        });
    });
    assert_eq!(word(&p, page.addr()), 40_000);
}

#[test]
fn a_wait_is_bounded_and_names_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let p = open(&dir.path().join("a.store"));
    p.begin(&mut Wait::default()).unwrap();
    std::thread::scope(|t| {
        t.spawn(|| {
            assert!(matches!(
                p.write(&mut Wait::never()),
                Err(Error::WouldBlock { .. })
            ));
            match p.write(&mut Wait::at_most(Duration::from_millis(50))) {
                Err(Error::Timeout { holder, .. }) => {
                    assert!(holder.contains(&std::process::id().to_string()))
                }
                other => panic!("{other:?}"),
            }
            // Reading still works.
            p.read(&mut Wait::never()).unwrap();
        });
    });
    p.rollback().unwrap();
}

#[test]
fn a_released_page_that_is_used_again_at_once_keeps_what_is_put_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    let p = open(&path);
    let pages: Vec<_> = (0..40).map(|_| change(&p, |s| s.alloc_page()).unwrap()).collect();
    for page in &pages {
        change(&p, |s| s.free_page(*page)).unwrap();
    }
    p.checkpoint(&mut Wait::default()).unwrap();
    let before = p.check_pages().unwrap().reached;
    p.release_free_pages().unwrap();
    // The same epoch: released, used and written.
    let again: Vec<_> = (0..20).map(|_| change(&p, |s| s.alloc_page()).unwrap()).collect();
    for (i, page) in again.iter().enumerate() {
        assert!(pages.contains(page));
        change(&p, |s| s.set_u64(page.addr() + 8, i as u64 + 1)).unwrap();
    }
    for _ in 0..3 {
        p.checkpoint_always().unwrap();
        p.check_pages().unwrap();
    }
    assert!(
        p.check_pages().unwrap().reached < before,
        "the space of released pages is still held"
    );
    let copy = dir.path().join("copy.store");
    std::fs::copy(&path, &copy).unwrap();
    let q = open(&copy);
    for (i, page) in again.iter().enumerate() {
        assert_eq!(word(&q, page.addr() + 8), i as u64 + 1);
    }
    q.check_pages().unwrap();
}

/// A process closed while one of its threads was entering, and then died: its remaining words must not affect live
/// processes.
#[test]
fn a_reader_that_entered_after_the_close_and_died_blocks_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let p = open(&dir.path().join("a.store"));
    let page = change(&p, |s| s.alloc_page()).unwrap();
    let last = layout::PROCESS_SLOTS as u16 - 1;
    let gone = process_bits(0, u32::MAX);
    for left in [gone | 1, process_bits(last, 1) | 9] {
        p.latch().word.store(left, std::sync::atomic::Ordering::SeqCst);
        change(&p, |s| s.set_u64(page.addr(), 7)).unwrap();
        assert_eq!(p.latch().word.load(std::sync::atomic::Ordering::SeqCst), 0);
    }
    let free_slot = p.shm().thread_slots();
    p.shm().note_thread_slot(free_slot);
    assert!(p.shm().try_enter(free_slot).is_some());
    change(&p, |s| s.set_u64(page.addr(), 8)).unwrap();
    // The next thread gets the slot without old state.
    std::thread::scope(|s| {
        let read = s.spawn(|| word(&p, page.addr()));
        assert_eq!(read.join().unwrap(), 8);
    });
}

/// A thread took the latch before it saw that the store is closed: it must not release it if another owner has it by
/// then.
#[test]
fn a_thread_that_came_too_late_releases_only_its_own_slot() {
    let dir = tempfile::tempdir().unwrap();
    let p = open(&dir.path().join("a.store"));
    let slot = p.slot().unwrap();
    assert!(p.latch().try_take(slot));
    let late = p.latch().owner().unwrap();
    p.latch().free_unused(late);
    let other = process_bits(5, 5) | (u64::from(slot) + 1);
    p.latch().word.store(other, std::sync::atomic::Ordering::SeqCst);
    p.latch().release_late(slot);
    assert!(!p.latch().is_held_by(slot));
    assert_eq!(p.latch().word.load(std::sync::atomic::Ordering::SeqCst), other);
    p.shm().free_latch();
}

/// A wait for the latch that ends early leaves the latch with its owner, another thread or this one.
#[test]
fn a_latch_stays_with_its_owner_after_a_wait_timed_out() {
    let dir = tempfile::tempdir().unwrap();
    let p = open(&dir.path().join("a.store"));
    p.begin(&mut Wait::default()).unwrap();
    let owner = p.latch().owner();
    assert!(owner.is_some());
    for at_most in [0, 1] {
        let at_most = std::time::Duration::from_millis(at_most);
        assert!(p.hold_latch(at_most).is_none());
        std::thread::scope(|s| {
            let waiter = s.spawn(|| assert!(p.hold_latch(at_most).is_none()));
            // The end of the scope alone does not wait for the thread's end, which takes the latch, too.
            waiter.join().unwrap();
        });
        assert_eq!(p.latch().owner(), owner);
    }
    p.rollback().unwrap();
    assert!(p.hold_latch(std::time::Duration::ZERO).is_some());
    assert_eq!(p.latch().owner(), None);
}

/// The owner of a latch may release it before a waiter that gives up describes it.
#[test]
fn a_holder_that_has_gone_is_described_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let p = open(&dir.path().join("a.store"));
    let error = crate::error::Error::timeout("the latch", std::time::Duration::ZERO, p.describe_owner(None));
    assert_eq!(
        error.to_string(),
        "timed out waiting for the latch: held by a process that has released it in the meantime; try again"
    );
}
