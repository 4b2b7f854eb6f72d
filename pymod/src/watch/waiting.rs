//! Blocking until something can be done with a container: an attempt, repeated after each change of it.

use persist_core::store::{Error, LockTarget, Wait};
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::watching::{feed, not_in_a_transaction};
use crate::engine::shared::Shared;
use crate::engine::tasks::Pause;
use crate::proxies::proxy::Proxy;
use crate::python::error;

/// The longest sleep without a look at signals.
const SLICE: Duration = Duration::from_millis(100);

/// Call `attempt` until it gives something: at once, and after each change of the container. After `timeout` raise
/// LockTimeout, which says that `what` of the container was waited for: "an item".
pub(crate) fn until<T>(
    py: Python<'_>,
    proxy: &Proxy,
    timeout: Option<Duration>,
    what: &'static str,
    mut attempt: impl FnMut() -> PyResult<Option<T>>,
) -> PyResult<T> {
    if let Some(done) = attempt()? {
        return Ok(done);
    }
    let (shared, begun) = (&proxy.shared, Instant::now());
    let left = || timeout.map(|t| t.saturating_sub(begun.elapsed()));
    if timeout != Some(Duration::ZERO) {
        shared.set_task_if_needed(py);
        if shared.store.in_transaction() {
            return Err(not_in_a_transaction(py));
        }
        let (mut feed, begun) = feed(py, shared, Some(proxy.obj))?;
        if !begun {
            // This call may block the thread, except in a greenlet of gevent.
            let what = "the right to change the store";
            let begin = |wait: &mut Wait<'_>| feed.watch(proxy.obj, wait);
            shared.retry(py, Error::WouldBlock { what }, begin)?;
        }
        let mut pause = Pause::find(py);
        loop {
            // What came before the position is seen by this attempt.
            let at = feed.position();
            if let Some(done) = attempt()? {
                return Ok(done);
            }
            if left().is_some_and(|left| left.is_zero()) {
                break;
            }
            match &mut pause {
                Some(pause) => pause.pause(py)?,
                None => sleep(py, shared, at, left())?,
            }
            // Only the position counts: the attempt looks for itself.
            feed.next(&mut Wait::never()).map_err(|e| shared.fail(py, e))?;
        }
    }
    Err(late(py, proxy, timeout, what))
}

fn sleep(py: Python<'_>, shared: &Arc<Shared>, at: u64, left: Option<Duration>) -> PyResult<()> {
    shared.wait(py, left, |wait| {
        let begun = Instant::now();
        loop {
            let left = wait.timeout.map_or(SLICE, |t| t.saturating_sub(begun.elapsed()));
            if left.is_zero() || shared.store.await_changes(at, left.min(SLICE))? != at {
                return Ok(());
            }
            if wait.interrupted.as_mut().is_some_and(|ask| ask()) {
                return Err(Error::Interrupted);
            }
        }
    })
}

/// The exception for a wait that took too long.
pub(crate) fn late(py: Python<'_>, proxy: &Proxy, after: Option<Duration>, what: &str) -> PyErr {
    let target = LockTarget {
        obj: proxy.obj,
        key: None,
    };
    let path = proxy.shared.store.path_of(target);
    error::late(
        py,
        after.unwrap_or_default(),
        what,
        path.as_deref().unwrap_or("what is not in the graph"),
    )
}
