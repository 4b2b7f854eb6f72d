//! The running task of each thread (asyncio, trio, greenlet): part of the owner of a transaction or lock.
//!
//! 1. This code imports no framework: a framework that the program has not imported runs no task.
//! 2. A task gets a number at its first use. The number is not reused, and is dropped with the task.
//! 3. The locks and transactions of a task are released when it is collected.
//! 4. A task gives a store its name before its first lock or transaction there, for messages of other owners.

use persist_core::store::door::{LockOwner, set_task};
use pyo3::exceptions::{PyAttributeError, PyException, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple, PyWeakrefMethods, PyWeakrefReference};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::engine::core::Core;
use crate::python::ffi::{imported_modules, raise_later};

/// The functions of a framework that return the running task.
struct Asyncio {
    running_loop: Py<PyAny>,
    current: Py<PyAny>,
}

/// The imported frameworks. They are looked up again when the number of imported modules has changed.
#[derive(Default)]
struct Frameworks {
    modules: usize,
    asyncio: Option<Arc<Asyncio>>,
    trio: Option<Arc<Py<PyAny>>>,
    greenlet: Option<Arc<Py<PyAny>>>,
}

static FRAMEWORKS: Mutex<Frameworks> = Mutex::new(Frameworks {
    modules: 0,
    asyncio: None,
    trio: None,
    greenlet: None,
});

/// The state from which `FRAMEWORKS` was built, and whether it has any: readable without the mutex.
static MODULES: AtomicUsize = AtomicUsize::new(0);
const NONE: usize = 1 << (usize::BITS - 1);

/// A task that has a number.
struct KnownTask {
    task: Py<PyWeakrefReference>,
    number: u64,
    held: Vec<(Weak<Core>, LockOwner)>,
}

static KNOWN_TASKS: Mutex<Option<HashMap<usize, KnownTask>>> = Mutex::new(None);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A task inside a task: a greenlet to which a task of an event loop has switched.
static PAIRS: Mutex<Option<HashMap<(u64, u64), u64>>> = Mutex::new(None);

/// Owners that ended while another owner had the latch of their store. The next lock that is taken releases theirs
/// first (`note_lock`).
static RELEASE_LATER: Mutex<Vec<(Weak<Core>, LockOwner)>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Name the calling thread's running task to the engine, and return its number.
#[inline]
pub(crate) fn set_running(py: Python<'_>) -> u64 {
    let number = running(py);
    set_task(number);
    number
}

/// Return the name of a running task, as its framework gives it; empty if it has none.
#[cold]
pub(crate) fn name(py: Python<'_>, number: u64) -> String {
    let (outer, inner) = match lock(&PAIRS).as_ref() {
        Some(pairs) => pairs
            .iter()
            .find_map(|(pair, n)| (*n == number).then_some(*pair))
            .unwrap_or((0, number)),
        None => (0, number),
    };
    // The innermost task that has a name.
    [inner, outer]
        .into_iter()
        .filter_map(|number| task_of(py, number))
        .find_map(|task| name_of(&task))
        .unwrap_or_default()
}

fn task_of(py: Python<'_>, number: u64) -> Option<Bound<'_, PyAny>> {
    let met = lock(&KNOWN_TASKS);
    let it = met.as_ref()?.values().find(|met| met.number == number)?;
    it.task.bind(py).upgrade()
}

fn name_of(task: &Bound<'_, PyAny>) -> Option<String> {
    let py = task.py();
    let ask = || match task.getattr_opt(intern!(py, "get_name"))? {
        Some(get_name) => get_name.call0().map(Some),
        None => task.getattr_opt(intern!(py, "name")),
    };
    match ask() {
        Ok(name) => name?.extract().ok(),
        Err(e) => {
            if !e.is_instance_of::<PyException>(py) {
                raise_later(py, e);
            }
            None
        }
    }
}

/// Return the number of the running task; 0: none.
#[inline]
fn running(py: Python<'_>) -> u64 {
    current(py).unwrap_or_else(|e| ask_again(py, e, current))
}

/// Ask the frameworks again. A signal handler may have raised in one of their functions: its exception is raised later.
/// A framework that has no answer twice is partly imported or shutting down: it runs no task.
#[cold]
fn ask_again<T: Default>(py: Python<'_>, e: PyErr, ask: impl Fn(Python<'_>) -> PyResult<T>) -> T {
    match ask(py) {
        Ok(answer) => {
            raise_later(py, e);
            answer
        }
        Err(second) => {
            for e in [e, second] {
                if !e.is_instance_of::<PyException>(py) {
                    raise_later(py, e);
                }
            }
            T::default()
        }
    }
}

/// Return a function of a module, if the module is imported and has it.
fn function(modules: &Bound<'_, PyDict>, module: &str, path: &[&str]) -> PyResult<Option<Py<PyAny>>> {
    let Some(mut at) = modules.get_item(module)? else {
        return Ok(None);
    };
    for name in path {
        at = match at.getattr(*name) {
            Err(e) if e.is_instance_of::<PyAttributeError>(at.py()) => return Ok(None),
            found => found?,
        };
    }
    Ok(Some(at.unbind()))
}

fn current(py: Python<'_>) -> PyResult<u64> {
    let all = imported_modules(py)?;
    let n = all.len();
    let known = MODULES.load(Ordering::Acquire);
    if known == n | NONE {
        return Ok(0);
    }
    let (asyncio, trio, greenlet) = {
        let mut frameworks = lock(&FRAMEWORKS);
        if frameworks.modules != n {
            let asyncio = function(&all, "asyncio", &["_get_running_loop"])?
                .zip(function(&all, "asyncio", &["current_task"])?)
                .map(|(running_loop, current)| {
                    Arc::new(Asyncio {
                        running_loop,
                        current,
                    })
                });
            *frameworks = Frameworks {
                modules: n,
                asyncio,
                trio: function(&all, "trio", &["lowlevel", "current_task"])?.map(Arc::new),
                greenlet: function(&all, "greenlet", &["getcurrent"])?.map(Arc::new),
            };
            let some =
                frameworks.asyncio.is_some() || frameworks.trio.is_some() || frameworks.greenlet.is_some();
            MODULES.store(if some { n } else { n | NONE }, Ordering::Release);
        }
        (
            frameworks.asyncio.clone(),
            frameworks.trio.clone(),
            frameworks.greenlet.clone(),
        )
    };
    let mut number = 0;
    if let Some(asyncio) = asyncio {
        let running = asyncio.running_loop.bind(py).call0()?;
        if !running.is_none() {
            let task = asyncio.current.bind(py).call1((running,))?;
            if !task.is_none() {
                number = number_of(&task)?;
            }
        }
    }
    if number == 0
        && let Some(trio) = trio
    {
        match trio.bind(py).call0() {
            Ok(task) => number = number_of(&task)?,
            // Trio does not run in this thread.
            Err(e) if e.is_instance_of::<PyRuntimeError>(py) => {}
            Err(e) => return Err(e),
        }
    }
    if let Some(greenlet) = greenlet {
        let it = greenlet.bind(py).call0()?;
        // The first greenlet of a thread represents the thread itself.
        if !it.getattr(intern!(py, "parent"))?.is_none() {
            number = pair(number, number_of(&it)?);
        }
    }
    Ok(number)
}

fn pair(outer: u64, inner: u64) -> u64 {
    if outer == 0 {
        return inner;
    }
    *lock(&PAIRS)
        .get_or_insert_default()
        .entry((outer, inner))
        .or_insert_with(|| NEXT.fetch_add(1, Ordering::Relaxed))
}

fn number_of(task: &Bound<'_, PyAny>) -> PyResult<u64> {
    let (py, place) = (task.py(), task.as_ptr() as usize);
    if let Some(met) = lock(&KNOWN_TASKS).get_or_insert_default().get(&place)
        && met.task.bind(py).upgrade().is_some_and(|there| there.is(task))
    {
        return Ok(met.number);
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let gone = PyCFunction::new_closure(
        py,
        None,
        None,
        move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
            forget(args.py(), place, number);
        },
    )?;
    let task = PyWeakrefReference::new_with(task, gone)?.unbind();
    let met = KnownTask {
        task,
        number,
        held: Vec::new(),
    };
    let old = lock(&KNOWN_TASKS).get_or_insert_default().insert(place, met);
    // The weak reference that would report the end of the old task is dropped here, so its locks are released here.
    release(old);
    Ok(number)
}

/// Release what a collected task holds.
fn forget(_py: Python<'_>, place: usize, number: u64) {
    let mut met = lock(&KNOWN_TASKS);
    let all = met.get_or_insert_default();
    let old = match all.get(&place) {
        Some(there) if there.number == number => all.remove(&place),
        _ => None,
    };
    drop(met);
    if old.is_some()
        && let Some(pairs) = lock(&PAIRS).as_mut()
    {
        pairs.retain(|(outer, inner), _| *outer != number && *inner != number);
    }
    release(old);
}

fn release(met: Option<KnownTask>) {
    for (core, owner) in met.into_iter().flat_map(|met| met.held) {
        release_in(&core, owner);
    }
}

fn release_in(core: &Weak<Core>, owner: LockOwner) {
    if let Some(there) = core.upgrade()
        && matches!(there.store.release_task(owner), Ok(false))
    {
        lock(&RELEASE_LATER).push((core.clone(), owner));
    }
}

/// Record that the running task, the owner, holds a lock, which is released when the task is collected.
pub(crate) fn note_lock(core: &Arc<Core>, owner: LockOwner) {
    let number = owner.task();
    // Only tasks have locks whose release is delayed.
    if number == 0 && NEXT.load(Ordering::Relaxed) == 1 {
        return;
    }
    let late = std::mem::take(&mut *lock(&RELEASE_LATER));
    for (core, owner) in late {
        release_in(&core, owner);
    }
    if number == 0 {
        return;
    }
    let pairs: Vec<u64> = lock(&PAIRS)
        .as_ref()
        .map(|pairs| {
            let of = |(pair, n): (&(u64, u64), &u64)| (*n == number).then_some(pair.1);
            pairs.iter().filter_map(of).collect()
        })
        .unwrap_or_default();
    let mut met = lock(&KNOWN_TASKS);
    let it = met
        .get_or_insert_default()
        .values_mut()
        .find(|met| met.number == number || pairs.contains(&met.number));
    if let Some(it) = it
        && !it
            .held
            .iter()
            .any(|(there, o)| *o == owner && std::ptr::eq(there.as_ptr(), Arc::as_ptr(core)))
    {
        it.held.push((Arc::downgrade(core), owner));
    }
}

/// Return whether a greenlet runs that is not the first one of its thread.
fn in_greenlet(py: Python<'_>) -> PyResult<bool> {
    let Some(current) = function(&imported_modules(py)?, "greenlet", &["getcurrent"])? else {
        return Ok(false);
    };
    let it = current.bind(py).call0()?;
    Ok(!it.getattr(intern!(py, "parent"))?.is_none())
}

/// Return what a task can do that would wait for another one of its thread: `asynchronous`, unless it is a greenlet,
/// which has no such forms.
pub(crate) fn advice_or<'a>(py: Python<'_>, asynchronous: &'a str) -> &'a str {
    match in_greenlet(py).unwrap_or_else(|e| ask_again(py, e, in_greenlet)) {
        true => "switch to it until it has ended that (greenlets of gevent do so by themselves)",
        false => asynchronous,
    }
}

/// Return whether a task runs in this thread, beside which others may run: a wait would block them.
pub(crate) fn is_in_task(py: Python<'_>) -> bool {
    running(py) != 0
}

/// How a greenlet of gevent waits: other greenlets run.
pub(crate) struct Pause {
    sleep: Py<PyAny>,
    time: Duration,
}

impl Pause {
    /// For the running greenlet, if gevent runs it.
    pub(crate) fn find(py: Python<'_>) -> Option<Pause> {
        Pause::look(py).unwrap_or_else(|e| ask_again(py, e, Pause::look))
    }

    fn look(py: Python<'_>) -> PyResult<Option<Pause>> {
        let all = imported_modules(py)?;
        let (Some(sleep), Some(current), Some(hub)) = (
            function(&all, "gevent", &["sleep"])?,
            function(&all, "greenlet", &["getcurrent"])?,
            function(&all, "gevent", &["_hub_local", "get_hub_if_exists"])?,
        ) else {
            return Ok(None);
        };
        let (current, hub) = (current.bind(py).call0()?, hub.bind(py).call0()?);
        // The hub runs the other greenlets, so it cannot wait for them.
        Ok((!hub.is_none() && !current.is(&hub)).then_some(Pause {
            sleep,
            time: Duration::from_micros(200),
        }))
    }

    /// Let other greenlets run for a short time, which grows with each call.
    pub(crate) fn pause(&mut self, py: Python<'_>) -> PyResult<()> {
        self.sleep.bind(py).call1((self.time.as_secs_f64(),))?;
        self.time = (self.time * 2).min(Duration::from_millis(10));
        Ok(())
    }
}
