//! Deadlock detection over several stores of this process: which of its threads and tasks wait in a store, and which
//! others of them they wait for.
//!
//! The lock table of one store contains the waits in that store, including those of other processes. A thread that
//! holds a lock (or a transaction) in one store and waits in another appears in two tables. So each wait that really
//! sleeps is also listed here, with the owners of this process that it waits for in its store, directly or through
//! others.
//!
//! 1. The list is a leaf: under its mutex, no function is called and no wait is made. It is searched outside latch,
//!    gate and sections.
//! 2. An entry is removed when its `Waiting` is dropped, so also after an error, an interruption or a panic.
//! 3. A forked child has none of its parent's entries. A fork holds the mutex (`fork`), so the child finds it free.
//! 4. An entry may be out of date: its owner may have been granted what it waits for. A cycle counts only if each of
//!    its entries was refreshed after all of them had begun to wait. From that moment none of its members could release
//!    anything, so each of these waits still exists. Time is a count here, of entries ever made.
//! 5. The thread that finds a cycle gives up its own wait, under the same mutex: one cycle has one victim.
//! 6. An uncontended lock or change does nothing here. A wait is entered after its first slice, and only if this
//!    process has more than one store open.

use smallvec::SmallVec;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The calling thread in each store that it uses: the store's serial number, and the thread's slot there.
pub(crate) type Names = SmallVec<[(u64, u32); 4]>;

/// An owner of this process in one store: a thread slot and a task.
pub(crate) type Awaited = SmallVec<[(u32, u64); 4]>;

/// The owners that a wait was found to wait for.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Owners in this process.
    pub(crate) awaited: Awaited,
    /// Some of the owners it waits for belong to other processes.
    pub(crate) abroad: bool,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    names: Names,
    task: u64,
    /// The wait stops the whole thread, not only its task.
    blocks: bool,
    store: u64,
    /// The object of the wait, for messages.
    what: String,
    look: Look,
    entered: u64,
    looked: u64,
}

impl Entry {
    /// Return whether this wait keeps that owner in that store from continuing.
    fn stops(&self, store: u64, (slot, task): (u32, u64)) -> bool {
        (self.blocks || self.task == task) && self.names.contains(&(store, slot))
    }
}

/// All waits of this process.
#[derive(Debug)]
pub(in crate::page) struct All {
    clock: u64,
    entries: Vec<Entry>,
}

impl All {
    /// In a forked child: clear the list, which holds the parent's waits.
    pub(in crate::page) fn forget(&mut self) {
        self.entries.clear();
    }
}

static ALL: Mutex<All> = Mutex::new(All {
    clock: 0,
    entries: Vec::new(),
});

static STORES: AtomicUsize = AtomicUsize::new(0);

/// Return the list, locked. Its users hold it briefly, and a fork holds it.
pub(in crate::page) fn all() -> MutexGuard<'static, All> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registration of an open store, as long as it lives.
#[derive(Debug)]
pub(in crate::page) struct OpenStore;

impl OpenStore {
    pub(in crate::page) fn new() -> OpenStore {
        STORES.fetch_add(1, Ordering::Relaxed);
        OpenStore
    }
}

impl Drop for OpenStore {
    fn drop(&mut self) {
        STORES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Return whether this process has several stores open (one load).
pub(crate) fn several_stores() -> bool {
    STORES.load(Ordering::Relaxed) > 1
}

/// A wait that is in the list until it is dropped.
#[derive(Debug)]
pub struct Waiting {
    number: u64,
    store: u64,
}

/// The result of a search.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// No cycle; `abroad`: the waits lead to another process, which is not searched.
    None { abroad: bool },
    /// A cycle: the objects that its other members wait for. The wait that found it is no longer in the list.
    Cycle(Vec<String>),
}

impl Waiting {
    /// Enter a wait in a store.
    pub(crate) fn enter(store: u64, names: Names, task: u64, blocks: bool, what: String) -> Waiting {
        let mut all = all();
        all.clock += 1;
        let number = all.clock;
        all.entries.push(Entry {
            number,
            names,
            task,
            blocks,
            store,
            what,
            look: Look::default(),
            entered: number,
            looked: 0,
        });
        Waiting { number, store }
    }

    /// Return the time, to be taken before a check of the owners that this wait waits for. Return None if a check would
    /// find nothing new, because no wait began in another store after the last one.
    pub(crate) fn time_for_look(&self) -> Option<u64> {
        let all = all();
        let me = all.entries.iter().find(|e| e.number == self.number)?;
        let others = all.entries.iter().any(|e| e.store != self.store);
        (others && me.looked < all.clock).then_some(all.clock)
    }

    /// Return the current time.
    pub(crate) fn now(&self) -> u64 {
        all().clock
    }

    /// Store the result of a check that began at `time`, and search for a cycle.
    pub(crate) fn search(&self, time: u64, look: Look) -> Found {
        let mut all = all();
        let Some(me) = all.entries.iter().position(|e| e.number == self.number) else {
            // The entry belonged to a parent, or was removed as the victim of a cycle.
            return Found::None { abroad: false };
        };
        (all.entries[me].looked, all.entries[me].look) = (time, look);
        let found = all.find_cycle(me);
        if matches!(found, Found::Cycle(_)) {
            all.entries.swap_remove(me);
        }
        found
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        all().entries.retain(|e| e.number != self.number);
    }
}

impl All {
    /// Follow the entries depth first, without recursion. Each is visited once.
    fn find_cycle(&self, me: usize) -> Found {
        let mut seen = vec![false; self.entries.len()];
        let mut abroad = false;
        // An entry, and the index of the next of its owners to be followed.
        let mut path = vec![(me, 0usize)];
        seen[me] = true;
        while let Some((at, next)) = path.last_mut() {
            let entry = &self.entries[*at];
            abroad |= entry.look.abroad;
            let Some(owner) = entry.look.awaited.get(*next) else {
                path.pop();
                continue;
            };
            *next += 1;
            if self.entries[me].stops(entry.store, *owner) {
                let members = || path.iter().map(|(at, _)| &self.entries[*at]);
                let began = members().map(|e| e.entered).max();
                if members().map(|e| e.looked).min() >= began {
                    return Found::Cycle(members().skip(1).map(|e| e.what.clone()).collect());
                }
                continue;
            }
            let store = entry.store;
            let further = self
                .entries
                .iter()
                .enumerate()
                .filter(|(i, e)| !seen[*i] && e.stops(store, *owner))
                .map(|(i, _)| i)
                .next();
            if let Some(further) = further {
                seen[further] = true;
                path.push((further, 0));
            }
        }
        Found::None { abroad }
    }
}

/// Return the holder for an error message about a cycle whose other members wait for these objects.
pub(crate) fn members(waits: &[String]) -> String {
    match waits {
        [] => "a thread or task of this process that waits for this one".to_owned(),
        waits => format!(
            "a thread or task of this process that waits for {}",
            waits.join(", held by one that waits for ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// The list is global in the process: run one test at a time.
    static ONE: Mutex<()> = Mutex::new(());

    fn enter(store: u64, slot: u32) -> Waiting {
        // Numbers of stores that no other test uses.
        let names = Names::from_slice(&[(u64::MAX - 1, slot), (u64::MAX - 2, slot)]);
        Waiting::enter(
            u64::MAX - store,
            names,
            0,
            true,
            format!("a lock of store {store}"),
        )
    }

    fn look(slot: u32) -> Look {
        Look {
            awaited: Awaited::from_slice(&[(slot, 0)]),
            abroad: false,
        }
    }

    fn still_waiting(waiting: u64) -> bool {
        all().entries.iter().any(|e| e.number == waiting)
    }

    #[test]
    fn a_cycle_counts_when_all_have_checked_after_all_queued() {
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let none = Found::None { abroad: false };
        let first = enter(1, 1);
        assert_eq!(first.search(first.now(), look(2)), none);
        let second = enter(2, 2);
        // The first wait was checked before the second began: it may have been granted its lock without having noticed.
        assert_eq!(second.search(second.now(), look(1)), none);
        let found = first.search(first.now(), look(2));
        assert_eq!(found, Found::Cycle(vec!["a lock of store 2".to_owned()]));
        // There is only one victim.
        assert_eq!(second.search(second.now(), look(1)), none);
    }

    #[test]
    fn a_wait_that_ends_by_a_panic_leaves_the_list() {
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let number = std::thread::spawn(|| {
            let waiting = enter(1, 1);
            let number = waiting.number;
            assert!(still_waiting(number));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let _waiting = waiting;
                panic!("as `interrupted` may");
            }))
            .unwrap_err();
            number
        });
        assert!(!still_waiting(number.join().unwrap()));
    }

    #[test]
    fn another_process_differs_from_none() {
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, second) = (enter(1, 1), enter(2, 2));
        let away = Look {
            awaited: Awaited::new(),
            abroad: true,
        };
        assert_eq!(second.search(second.now(), away), Found::None { abroad: true });
        assert_eq!(first.search(first.now(), look(2)), Found::None { abroad: true });
    }
}
