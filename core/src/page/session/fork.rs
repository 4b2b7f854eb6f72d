//! Forking: the child is a separate process from its first instruction on. Its slot and its pins, which are its
//! parent's at that moment, exist before the parent continues, so that no container the child refers to can be freed in
//! between.
//!
//! 1. Before the fork, for each open store, a process slot is taken through a new descriptor and the pins are copied to
//!    it. Its byte locks live as long as any copy of that descriptor. The parent closes its copy after the fork, so the
//!    locks belong to the child alone. If there is no child, or it executes another program, the slot is that of a dead
//!    process, and a process that finds it recovers it.
//! 2. This process's mutexes of the store are held during the fork, so that the child finds them, and the data they
//!    guard, consistent. The order is registration, pins, blocks of transactions, probe, the log's, the helper's, the
//!    windows of the store's and the sidecar's mapping, at last the list of waits (`sync::deadlock`); no other code
//!    that holds a later one takes an earlier one.
//! 3. If no slot is available (all are in use, or the store is being opened or closed), the child takes one before its
//!    first operation, as after any fork that no handler saw (`Pager::registration`).

use crate::page::pager::Pager;
use crate::page::pager::state::helper::State;
use crate::page::pager::state::redo::HeldLog;
use crate::page::shared::users::lock_file;
use crate::page::shared::users::slots::{self, BYTE_PRESENCE, Registration};
use crate::page::shared::users::{pins, probe};
use crate::page::sync::wait::{FORK_WAIT, Wait, lock_soon};
use crate::raw::files::file;
use crate::raw::files::file::Ofd;
use crate::raw::map::Windows;
use crate::raw::process::{self, Unshared};
use std::cell::RefCell;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};

static OPEN: Mutex<Vec<Weak<Pager>>> = Mutex::new(Vec::new());

/// Number of process slots ever used from which on a fork looks for dead ones first.
const MANY: usize = 32;

/// The state held for one store around a fork. The guards come before what they guard.
struct Held {
    registration: MutexGuard<'static, Registration>,
    _pins: MutexGuard<'static, pins::Local>,
    blocks: MutexGuard<'static, crate::page::pager::state::blocks::Blocks>,
    probe: MutexGuard<'static, probe::Held>,
    _log: HeldLog<'static>,
    helper: MutexGuard<'static, State>,
    _windows: [Windows<'static>; 2],
    child: Option<Child>,
    pager: Arc<Pager>,
}

/// The child's slot, and the descriptors that hold it.
struct Child {
    mark: File,
    file: File,
    side: File,
    process: u16,
    generation: u32,
}

/// The state held by the forking thread, in parent and child.
struct AllHeld {
    stores: Vec<Held>,
    waits: MutexGuard<'static, crate::page::sync::deadlock::All>,
    _open: MutexGuard<'static, Vec<Weak<Pager>>>,
}

thread_local! {
    static HELD: RefCell<Option<AllHeld>> = const { RefCell::new(None) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Register this store for forks of the process.
pub(crate) fn watch(pager: &Weak<Pager>) {
    static HOOK: Once = Once::new();
    process::watch_forks();
    HOOK.call_once(|| process::at_fork(before, after_in_parent, after_in_child));
    let mut open = lock(&OPEN);
    open.retain(|p| p.strong_count() > 0);
    open.push(pager.clone());
}

extern "C" fn before() {
    let open = lock(&OPEN);
    let stores = open.iter().filter_map(Weak::upgrade).filter_map(hold).collect();
    // A leaf mutex, taken last, because the steps above may wait for the latch.
    let waits = crate::page::sync::deadlock::all();
    // A thread that is ending has no thread-local storage for it: then the child registers itself.
    let _ = HELD.try_with(|held| {
        held.replace(Some(AllHeld {
            stores,
            waits,
            _open: open,
        }))
    });
}

extern "C" fn after_in_parent() {
    let _ = HELD.try_with(|held| drop(held.take()));
}

extern "C" fn after_in_child() {
    let Ok(Some(mut all)) = HELD.try_with(RefCell::take) else {
        return;
    };
    all.waits.forget();
    for held in &mut all.stores {
        // The parent keeps a transaction that was open at the fork, and the helper.
        held.blocks.clear();
        held.pager.transactions().after_fork();
        held.pager.helper().after_fork();
        if held.helper.forget() {
            // SAFETY: the count belongs to the helper thread, which does not exist in this process and can never
            // release it; `held.pager` has another one.
            unsafe { Arc::decrement_strong_count(Arc::as_ptr(&held.pager)) };
        }
        held.probe.forget_taken();
        if let Some(Child {
            mark,
            file,
            side,
            process,
            generation,
        }) = held.child.take()
        {
            held.pager.shm().name_process(process as usize);
            held.pager.membership().set_slot(process, generation);
            let requirements = held.registration.requirements;
            *held.registration = Registration {
                mark: Unshared::new(mark),
                file: Unshared::new(file),
                side: Unshared::new(side),
                process,
                generation,
                requirements,
                forks: process::forks(),
            };
        }
    }
}

/// Lock everything in a store that must not change during the fork, and take a slot for the child.
fn hold(pager: Arc<Pager>) -> Option<Held> {
    if pager.is_closed() || pager.whole().is_err() {
        return None;
    }
    // SAFETY: the guards are dropped before the `Arc` that keeps what they point to (the order of fields).
    let still: &'static Pager = unsafe { &*Arc::as_ptr(&pager) };
    // Take a slot for this thread, for the section below, while the registration is free.
    still.slot().ok()?;
    if still.shm().process_slots() > MANY {
        // Children that never closed the store have left their slots. A slot that cannot be recovered now is recovered
        // later.
        let _ = still.recover_dead_processes(None);
    }
    let registration = lock_soon(still.membership().mutex())?;
    let mine = registration.forks == process::forks();
    let child = mine.then(|| claim(still, &registration)).flatten();
    let pins = copy_pins(still, child.as_ref().map(|c| c.process));
    Some(Held {
        registration,
        _pins: pins,
        blocks: still.transactions().blocks(),
        probe: still.membership().probe.lock(),
        _log: still.hold_log()?,
        helper: still.helper().state(),
        _windows: [still.map().hold(), still.shm().hold_windows()],
        child,
        pager,
    })
}

fn claim(pager: &Pager, registration: &Registration) -> Option<Child> {
    let file = file::reopen(&registration.file, true).ok()?;
    if !matches!(file::ofd_lock(&file, BYTE_PRESENCE, Ofd::Shared), Ok(true)) {
        return None;
    }
    let mark = file::reopen(&registration.mark, true).ok()?;
    if !pager.is_frozen() {
        lock_file::set_mark(&mark).ok()?;
    }
    let side = pager.shm().lock_in_use().ok()?;
    let (process, generation) =
        slots::claim_process_slot(pager.shm(), &file, registration.requirements).ok()?;
    slots::note_fork(pager.shm(), process);
    Some(Child {
        mark,
        file,
        side,
        process,
        generation,
    })
}

/// Copy this process's pins to the child's slot, and prevent changes to them. Other processes read a pin table inside
/// write sections only, so it is written in a read section, if this thread can enter one; otherwise everything counts
/// as pinned until the child's first pin.
fn copy_pins(pager: &'static Pager, child: Option<u16>) -> MutexGuard<'static, pins::Local> {
    let Some(child) = child else {
        return pager.hold_pins();
    };
    let section = pager.read(&mut Wait::at_most(FORK_WAIT));
    let local = pager.hold_pins();
    if section.is_ok() {
        pins::write_table(pager.shm(), &local, child as usize);
    } else {
        pins::overflow(pager.shm(), child as usize);
    }
    local
}
