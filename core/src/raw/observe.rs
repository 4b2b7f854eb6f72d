//! Hooks at the moments that decide what a disk holds: flushes, and the writes of meta pages and of the redo
//! log. For tests that simulate a power cut or disk errors; not in a release build.
//!
//! The observer belongs to a thread and sees the operations of that thread. It may use the store itself, as
//! any other thread could at that moment. It may return an error, which the caller then handles as if the
//! disk had reported it.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

/// A point just before or after an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// A flush of the store file begins.
    Flushing,
    /// It has ended without an error.
    Flushed,
    /// A meta page is about to be written.
    Writing,
    /// It was written (and is not yet flushed).
    Written,
    /// Bytes of the redo log are about to be written.
    LogWriting,
    /// They were written (and are not yet flushed).
    LogWritten,
    /// A flush of the redo log begins.
    LogFlushing,
    /// It has ended without an error.
    LogFlushed,
}

type Observer = Box<dyn FnMut(Moment) -> io::Result<()>>;
/// An observer of several threads.
type Shared = Arc<dyn Fn(Moment) -> io::Result<()> + Send + Sync>;

thread_local! {
    static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
    static INHERITED: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// Set or remove this thread's observer. It is not called while it is running.
pub fn observe(observer: Option<Observer>) {
    OBSERVER.with_borrow_mut(|o| *o = observer);
}

/// Set an observer as `observe` does, for this thread and for the threads that the engine starts in its calls
/// from now on: helpers, which make checkpoints.
pub fn observe_with_helpers(observer: Option<Shared>) {
    INHERITED.with_borrow_mut(|i| i.clone_from(&observer));
    observe(observer.map(|shared| -> Observer { Box::new(move |moment| shared(moment)) }));
}

/// Return a function that sets this thread's inherited observer in a thread that it starts.
pub(crate) fn inheritance() -> impl FnOnce() + Send + 'static {
    let observer = INHERITED.with_borrow(Clone::clone);
    move || observe_with_helpers(observer)
}

pub(crate) fn notify(moment: Moment) -> io::Result<()> {
    // The observer is removed while it runs, so that its own operations are not observed.
    let Some(mut observer) = OBSERVER.with_borrow_mut(Option::take) else {
        return Ok(());
    };
    let done = observer(moment);
    OBSERVER.with_borrow_mut(|o| *o = Some(observer));
    done
}
