//! The live page table: filling and swinging an entry.

use crate::gate;
use crate::model::{Bytes, LatchWords, Without, holds_only_with, name, without};
use crate::raw::sync::{AtomicU64, Ordering};
use loom::thread;

/// The live page table's entry of one page (page/pages/live_table.rs `fill`, page/pages/cow.rs `copy_to`), behind the
/// gate.
#[test]
fn no_reader_sees_the_old_page_after_the_swing() {
    const OLD: u64 = 5;
    const NEW: u64 = 6;
    holds_only_with(
        name!("no_reader_sees_the_old_page_after_the_swing"),
        &[Without::Section, Without::Fences],
        2,
        || {
            let words = LatchWords::new(0);
            let entry = AtomicU64::new(0);
            let swung = Bytes::new(0);
            let marks: Vec<AtomicU64> = (0..2).map(|_| AtomicU64::new(0)).collect();
            let readers: Vec<_> = (0..2)
                .map(|i| {
                    let (words, entry, swung) = (words.clone(), entry.clone(), swung.clone());
                    let mark = marks[i].clone();
                    thread::spawn(move || {
                        let section = !without(Without::Section);
                        if section && words.gate().try_enter(&mark).is_none() {
                            // A retry follows, which does not matter here.
                            return;
                        }
                        let mut found = entry.load(Ordering::Acquire);
                        if found == 0 {
                            // The durable tree contains the old page, as long as no writer has changed it.
                            found = fill(&entry, OLD);
                        }
                        if swung.get() == 1 {
                            assert_eq!(found, NEW, "the old page after the swing");
                        }
                        if section {
                            gate::Gate::leave(&mark);
                        }
                    })
                })
                .collect();
            // A writer also fills the entries that it needs, and then swings.
            words.gate().raise();
            for mark in &marks {
                while mark.load(Ordering::SeqCst) != 0 {
                    thread::yield_now();
                }
            }
            if entry.load(Ordering::Acquire) == 0 {
                fill(&entry, OLD);
            }
            entry.store(NEW, Ordering::Release);
            swung.set(1);
            words.gate().lower(false);
            for r in readers {
                r.join().unwrap();
            }
            assert_eq!(entry.load(Ordering::SeqCst), NEW);
        },
    );
}

fn fill(entry: &AtomicU64, durable: u64) -> u64 {
    match entry.compare_exchange(0, durable, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => durable,
        Err(theirs) => theirs,
    }
}

/// page/checkpoint/phases.rs: `finish_switch`, against page/pages/live_table.rs: `root`. A reader that fills an entry
/// takes the root of the durable page table and its checksum as a pair.
#[test]
fn the_root_changes_with_its_checksum() {
    holds_only_with(
        name!("the_root_changes_with_its_checksum"),
        &[Without::Section, Without::Fences],
        3,
        || {
            let (words, mark) = (LatchWords::new(0), AtomicU64::new(0));
            let (root, sum) = (AtomicU64::new(1), AtomicU64::new(1));
            let reader = {
                let (words, mark, root, sum) = (words.clone(), mark.clone(), root.clone(), sum.clone());
                thread::spawn(move || {
                    let section = !without(Without::Section);
                    if section && words.gate().try_enter(&mark).is_none() {
                        return;
                    }
                    let pair = (root.load(Ordering::Acquire), sum.load(Ordering::Acquire));
                    assert_eq!(pair.0, pair.1, "the checksum of another root");
                    if section {
                        gate::Gate::leave(&mark);
                    }
                })
            };
            words.gate().raise();
            while mark.load(Ordering::SeqCst) != 0 {
                thread::yield_now();
            }
            root.store(2, Ordering::Release);
            sum.store(2, Ordering::Release);
            words.gate().lower(false);
            reader.join().unwrap();
        },
    );
}
