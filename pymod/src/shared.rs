//! One store as the proxies of a process see it: sections that wait without the interpreter, and
//! the way of values and containers out of it.
//!
//! 1. Inside the closures given to the store there is no Python: the `Send` bounds keep bound
//!    references out. What a closure found is turned into objects after it.
//! 2. The first try never waits; only when it would have to is the interpreter let go, and signals
//!    are looked at while waiting.
//! 3. A container found in a section is pinned in it; the pin goes to a proxy or is given back.

use persist_core::store::{
    Actor, COPY_MAX, Error, Key, Kind, Known, Large, LargeKind, Met, Obj, Reader, Result, Short, Small,
    Store, Value, Wait, Word, Writer,
};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::cache::{Cache, Proxy};
use crate::classes::{Named, Names};
use crate::dict::Dict;
use crate::list::List;
use crate::registry::Core;
use crate::{convert, error, object, tasks};

/// After this many tries a value that keeps being replaced is read in one section.
const PATIENCE: usize = 3;

/// A store, its settings in this process, and the identity cache.
pub(crate) struct Shared {
    /// The engine's handle, by value: the hot path goes through it.
    pub(crate) store: Store,
    /// What all handles of the file have in common.
    pub(crate) core: Arc<Core>,
    /// Container id -> proxy.
    pub(crate) cache: Cache,
    /// Of its classes.
    pub(crate) names: Names,
    /// Opened with mode "r".
    pub(crate) read_only: bool,
    timeout: Duration,
}

/// A container found in a section: pinned, and what is needed to make its proxy.
pub(crate) struct Found {
    pub(crate) obj: Obj,
    kind: Kind,
    /// Of an object.
    class: Option<Named>,
    known: Known,
}

/// Describes and pins a container. Nothing is pinned if it fails.
pub(crate) fn find(shared: &Shared, r: &Reader<'_>, obj: Obj) -> Result<Found> {
    let Met { kind, class, known } = r.meet(obj)?;
    let class = class.map(|class| shared.names.get(r, class)).transpose()?;
    r.pin_id(obj.id)?;
    Ok(Found {
        obj,
        kind,
        class,
        known,
    })
}

/// A large value, whole, inside a section.
pub(crate) fn settle(r: &Reader<'_>, value: Value) -> Result<Value> {
    let Value::Large(large) = value else {
        return Ok(value);
    };
    let mut bytes = Vec::new();
    while read_piece(r, &large, &mut bytes)? {}
    Ok(whole(&large, bytes))
}

/// Reads the next piece of a large value; false at its end.
fn read_piece(r: &Reader<'_>, large: &Large, bytes: &mut Vec<u8>) -> Result<bool> {
    let have = bytes.len();
    let want = (large.len.saturating_sub(have as u64)).min(COPY_MAX as u64) as usize;
    bytes.resize(have + want, 0);
    let got = if want == 0 {
        0
    } else {
        r.large_read(large, have as u64, &mut bytes[have..])?
    };
    bytes.truncate(have + got);
    Ok(got != 0)
}

fn whole(large: &Large, bytes: Vec<u8>) -> Value {
    let bytes = Small::from_vec(bytes);
    match large.kind {
        LargeKind::Str { no_newline } => Value::Str { bytes, no_newline },
        LargeKind::Bytes => Value::Bytes(bytes),
        LargeKind::Int { negative } => Value::BigInt {
            negative,
            magnitude: bytes,
        },
    }
}

#[inline(never)]
pub(crate) fn take_long(shared: &Shared, r: &Reader<'_>, word: Word) -> Result<Got> {
    Ok(match r.value(word)? {
        Value::Obj(obj) => Got::Container(find(shared, r, obj)?),
        value => Got::Value(value),
    })
}

/// The Python object of a small scalar; None for anything longer.
#[inline]
pub(crate) fn small<'py>(py: Python<'py>, short: Short) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(Some(match short {
        Short::Int(n) => n.into_pyobject(py)?.into_any(),
        Short::Float(x) => PyFloat::new(py, x).into_any(),
        Short::Bool(b) => PyBool::new(py, b).to_owned().into_any(),
        Short::None => py.None().into_bound(py),
        Short::Str(bytes, len) => convert::str_of(py, &bytes[..len as usize])?,
        Short::Long => return Ok(None),
    }))
}

/// A value found in a section that is more than a word.
pub(crate) enum Got {
    Value(Value),
    Container(Found),
}

impl Shared {
    /// The parts together.
    pub(crate) fn new(core: &Arc<Core>, read_only: bool, timeout: Duration) -> Shared {
        Shared {
            store: core.store.clone(),
            core: Arc::clone(core),
            cache: Cache::default(),
            names: Names::default(),
            read_only,
            timeout,
        }
    }

    /// How long an operation waits.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Says as which task of its thread the caller acts, where that matters.
    #[inline(always)]
    pub(crate) fn tell(&self, py: Python<'_>) {
        if self.core.heed.load(Ordering::Relaxed) != 0 {
            tasks::tell(py);
        }
    }

    /// The same before something that has an owner begins.
    pub(crate) fn tell_always(&self, py: Python<'_>) {
        tasks::tell(py);
    }

    /// A transaction of this process has ended, or a lock was released: tasks that wait may look again.
    #[inline]
    pub(crate) fn wake_tasks(&self, py: Python<'_>) {
        self.core.wake_tasks(py);
    }

    /// An error in a store that was opened for reading only.
    pub(crate) fn check_writable(&self, py: Python<'_>) -> PyResult<()> {
        match self.read_only {
            true => Err(error::to_py(py, Error::ReadOnly)),
            false => Ok(()),
        }
    }

    /// True if both stand for the same file in this process.
    pub(crate) fn same_store(&self, other: &Shared) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// The exception for an error; what is gone leaves the cache.
    #[cold]
    pub(crate) fn fail(&self, py: Python<'_>, e: Error) -> PyErr {
        if let Error::Gone(id) = e {
            self.cache.forget(id);
        }
        error::to_py(py, e)
    }

    /// A read section.
    #[inline]
    pub(crate) fn read<R: Send>(
        &self,
        py: Python<'_>,
        mut f: impl FnMut(&Reader<'_>) -> Result<R> + Send,
    ) -> PyResult<R> {
        self.tell(py);
        match self.store.read(&mut Wait::never(), &mut f) {
            Ok(found) => Ok(found),
            Err(e) => self.again(py, e, |wait| self.store.read(wait, &mut f)),
        }
    }

    /// A write section: an operation, or a part of this thread's transaction.
    #[inline]
    pub(crate) fn write<R: Send>(
        &self,
        py: Python<'_>,
        mut f: impl FnMut(&mut Writer<'_>) -> Result<R> + Send,
    ) -> PyResult<R> {
        if self.read_only {
            return Err(error::to_py(py, Error::ReadOnly));
        }
        self.tell(py);
        // An error of these means that nothing was changed: only then it may be tried again.
        let done = match self
            .store
            .write_unsettled(Actor::Thread, &mut Wait::never(), &mut f)
        {
            Ok(done) => done,
            Err(e) => self.again(py, e, |wait| {
                self.store.write_unsettled(Actor::Thread, wait, &mut f)
            })?,
        };
        if self.store.must_settle() {
            self.settle(py)?;
        }
        Ok(done)
    }

    /// Waits, without the interpreter, until completed changes survive a power cut, if that is wanted. They are done
    /// whatever comes of it: `DurabilityUnknown`, or what a signal handler raises.
    #[cold]
    pub(crate) fn settle(&self, py: Python<'_>) -> PyResult<()> {
        self.wait(py, None, |wait| self.store.settle(wait))
    }

    /// What follows when the first try did not succeed.
    #[cold]
    pub(crate) fn again<R: Send>(
        &self,
        py: Python<'_>,
        e: Error,
        f: impl FnMut(&mut Wait<'_>) -> Result<R> + Send,
    ) -> PyResult<R> {
        self.again_or_undo(py, e, Some(self.timeout()), f, || Ok(()))
    }

    /// The same with a bound of the caller's; as `wait_or_undo`. A greenlet of gevent lets the others run.
    pub(crate) fn again_or_undo<R: Send>(
        &self,
        py: Python<'_>,
        e: Error,
        timeout: Option<Duration>,
        mut f: impl FnMut(&mut Wait<'_>) -> Result<R> + Send,
        undo: impl FnOnce() -> Result<()>,
    ) -> PyResult<R> {
        let waits = |e: &Error| {
            matches!(
                e,
                Error::WouldBlock { .. } | Error::Timeout { .. } | Error::OtherTask { .. }
            )
        };
        if !waits(&e) {
            return Err(self.fail(py, e));
        }
        let Some(mut pause) = tasks::Pause::find(py) else {
            return match e {
                Error::OtherTask { .. } => Err(self.fail(py, e)),
                _ => self.wait_or_undo(py, timeout, f, undo),
            };
        };
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        let mut last = e;
        while deadline.is_none_or(|end| Instant::now() < end) {
            pause.pause(py)?;
            self.tell_always(py);
            match f(&mut Wait::never()) {
                Err(e) if waits(&e) => last = e,
                Err(e) => return Err(self.fail(py, e)),
                Ok(done) => return Ok(done),
            }
        }
        Err(self.fail(py, last))
    }

    /// Runs `f` without the interpreter, so that it may wait; a signal handler that raises ends it.
    pub(crate) fn wait<R: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        f: impl FnOnce(&mut Wait<'_>) -> Result<R> + Send,
    ) -> PyResult<R> {
        self.wait_or_undo(py, timeout, f, || Ok(()))
    }

    /// As `wait`, for what the caller would own afterwards: `undo` gives it back if a signal handler raised
    /// although `f` succeeded.
    pub(crate) fn wait_or_undo<R: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        f: impl FnOnce(&mut Wait<'_>) -> Result<R> + Send,
        undo: impl FnOnce() -> Result<()>,
    ) -> PyResult<R> {
        let mut raised: Option<PyErr> = None;
        let result = py.detach(|| {
            let mut poll = || match Python::attach(|py| py.check_signals()) {
                Ok(()) => false,
                Err(e) => {
                    raised = Some(e);
                    true
                }
            };
            f(&mut Wait {
                timeout,
                interrupted: Some(&mut poll),
            })
        });
        match (result, raised) {
            (Ok(_), Some(e)) => match undo() {
                Ok(()) => Err(e),
                Err(undoing) => {
                    let undoing = self.fail(py, undoing);
                    undoing.set_cause(py, Some(e));
                    Err(undoing)
                }
            },
            (Err(_), Some(e)) => Err(e),
            (Ok(done), None) => Ok(done),
            (Err(e), None) => Err(self.fail(py, e)),
        }
    }

    /// Runs a long operation without the interpreter; a signal handler that raises ends its waits.
    pub(crate) fn interruptible<R: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce() -> Result<R> + Send,
    ) -> PyResult<R> {
        self.tell_always(py);
        let (result, raised) = py.detach(|| {
            let raised = Arc::new(Mutex::new(None));
            let note = Arc::clone(&raised);
            let ask = move || match Python::attach(|py| py.check_signals()) {
                Ok(()) => false,
                Err(e) => {
                    *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    true
                }
            };
            let result = Wait::interruptible(self.timeout(), Box::new(ask), f);
            let raised = raised.lock().unwrap_or_else(PoisonError::into_inner).take();
            (result, raised)
        });
        match raised {
            Some(e) => Err(e),
            None => result.map_err(|e| self.fail(py, e)),
        }
    }

    /// The Python object of what was taken out; `Large` is not for here.
    #[inline(never)]
    pub(crate) fn give<'py>(self: &Arc<Self>, py: Python<'py>, got: Got) -> PyResult<Bound<'py, PyAny>> {
        match got {
            Got::Value(value) => convert::to_python(py, &value),
            Got::Container(found) => self.wrap(py, found),
        }
    }

    /// The Python object of the value under a key.
    pub(crate) fn entry<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        obj: Obj,
        key: &Key<'_>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.fetch(py, |r| r.peek(obj, key))
    }

    /// Reads one value and gives its Python object. What fits the store's own word travels in it:
    /// moving a `Value` about costs as much as finding it.
    #[inline]
    pub(crate) fn fetch<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        mut f: impl FnMut(&Reader<'_>) -> Result<Option<Word>> + Send,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut long = None;
        let short = self.read(py, |r| match f(r)? {
            None => Ok(None),
            Some(word) => match word.as_short() {
                Short::Long => {
                    long = Some(take_long(self, r, word)?);
                    Ok(Some(Short::Long))
                }
                short => Ok(Some(short)),
            },
        })?;
        match short {
            None => Ok(None),
            Some(short) => match small(py, short)? {
                None => self.give_long(py, long, f),
                value => Ok(value),
            },
        }
    }

    #[inline(never)]
    fn give_long<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        long: Option<Got>,
        f: impl FnMut(&Reader<'_>) -> Result<Option<Word>> + Send,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match long {
            None => Ok(None),
            Some(Got::Value(Value::Large(large))) => self.fetch_large(py, large, f),
            Some(got) => self.give(py, got).map(Some),
        }
    }

    #[cold]
    fn fetch_large<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        large: Large,
        mut f: impl FnMut(&Reader<'_>) -> Result<Option<Word>> + Send,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(value) = self.read_large(py, &large)? {
            return convert::to_python(py, &value).map(Some);
        }
        let mut batch = self.collect(py, |r, out| match f(r)? {
            Some(word) => out.push(r, r.value(word)?),
            None => Ok(()),
        })?;
        batch.next(py)
    }

    /// A large value in pieces, a section each; None if it was replaced meanwhile.
    pub(crate) fn read_large(&self, py: Python<'_>, large: &Large) -> PyResult<Option<Value>> {
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            let have = bytes.len();
            let piece = self.read(py, |r| {
                // What a section that did not hold has added goes.
                bytes.truncate(have);
                match read_piece(r, large, &mut bytes) {
                    Err(Error::Gone(_)) => Ok(None),
                    more => more.map(Some),
                }
            })?;
            match piece {
                None => return Ok(None),
                Some(true) => {}
                Some(false) => return Ok(Some(whole(large, bytes))),
            }
        }
    }

    /// Reads any number of values in one section.
    pub(crate) fn collect(
        self: &Arc<Self>,
        py: Python<'_>,
        mut f: impl FnMut(&Reader<'_>, &mut Batch) -> Result<()> + Send,
    ) -> PyResult<Batch> {
        let mut attempt = 0;
        loop {
            let mut batch = Batch::new(self, attempt >= PATIENCE);
            let read = self.read(py, |r| {
                batch.begin();
                f(r, &mut batch)
            });
            if read.is_err() {
                batch.begin();
            }
            read?;
            if batch.complete(py)? {
                return Ok(batch);
            }
            attempt += 1;
        }
    }

    /// Changes the store and takes values out of it, in one section.
    pub(crate) fn take(
        self: &Arc<Self>,
        py: Python<'_>,
        mut f: impl FnMut(&mut Writer<'_>, &mut Batch) -> Result<()> + Send,
    ) -> PyResult<Batch> {
        let mut batch = Batch::new(self, true);
        self.write(py, |w| {
            batch.restart();
            f(w, &mut batch)
        })?;
        Ok(batch)
    }

    /// The one Python object of a container.
    pub(crate) fn wrap<'py>(self: &Arc<Self>, py: Python<'py>, found: Found) -> PyResult<Bound<'py, PyAny>> {
        let mut replace = false;
        if let Some(there) = self.cache.get(py, found.obj.id) {
            if fits(&there, found.kind) {
                self.store.unpin(found.obj);
                return Ok(there);
            }
            replace = true; // turned into another kind through the mount
        }
        let proxy = Proxy::new(self, found.obj);
        match found.kind {
            Kind::Dict => self.publish(Bound::new(py, Dict::new(proxy))?, |d| &d.proxy, replace),
            Kind::List => self.publish(Bound::new(py, List { proxy })?, |l| &l.proxy, replace),
            Kind::Object => {
                let class = found.class.map(|class| self.names.name(py, class));
                object::revive(py, proxy, class.as_deref(), found.known, replace)
            }
        }
    }

    fn publish<'py, T: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync>(
        &self,
        made: Bound<'py, T>,
        proxy: impl FnOnce(&T) -> &Proxy,
        replace: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let there = proxy(made.get()).publish(made.as_any(), replace)?;
        Ok(there.unwrap_or_else(|| made.into_any()))
    }
}

fn fits(there: &Bound<'_, PyAny>, kind: Kind) -> bool {
    match kind {
        Kind::Dict => there.is_exact_instance_of::<Dict>(),
        Kind::List => there.is_exact_instance_of::<List>(),
        Kind::Object => there.is_instance_of::<object::Object>(),
    }
}
