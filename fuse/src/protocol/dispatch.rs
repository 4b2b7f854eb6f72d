//! Running requests.
//!
//! 1. A request runs on the thread that received it, without waiting. If it would have to wait (for a lock, a
//!    transaction, the disk), it runs again on its own thread, where it may wait. It does not delay other requests. So
//!    does one that found nothing at its inode (`known::moving`).
//! 2. Every request is answered; one that panics with EIO.

use crate::fs::context::Ctx;
use crate::fs::error::{FsError, FsResult};
use crate::fs::known::moving;
use crate::fs::tree::durability;
use crate::views::mounted::Mounted;
use fuser::{Config, Request, Session, SessionACL};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The maximal number of requests that wait at the same time.
const MAX_WAITING: usize = 4096;

/// The session of a mount.
pub(crate) fn session(
    mounted: Arc<Mounted>,
    device: OwnedFd,
    workers: usize,
    users: SessionACL,
) -> io::Result<Session<Adapter>> {
    let mut config = Config::default();
    config.n_threads = Some(workers);
    Session::from_fd(
        Adapter {
            mounted,
            waiting: Arc::default(),
        },
        device,
        users,
        config,
    )
}

/// The filesystem in FUSE's interface.
pub(crate) struct Adapter {
    pub(crate) mounted: Arc<Mounted>,
    waiting: Arc<AtomicUsize>,
}

/// Run a request and turn a panic into an error. A request whose change is done, but may not be durable, is answered
/// with an error. The kernel then does not learn the inode that was looked up for it, which stays in the table until
/// the mount ends.
pub(crate) fn guarded<T>(f: impl FnOnce() -> FsResult<T>) -> FsResult<T> {
    let _ = durability::take_unknown();
    let done = moving::checking(|| catch_unwind(AssertUnwindSafe(f))).unwrap_or_else(|_| {
        log::error!("a request panicked; it was answered with an I/O error");
        Err(FsError::Errno(libc::EIO))
    });
    match durability::take_unknown() {
        Some(errno) if done.is_ok() => Err(FsError::Errno(errno)),
        _ => done,
    }
}

/// True if a request has to run again on a thread that may wait: it would wait, or it may have looked in the middle of
/// an operation that moves its entry.
fn runs_again<T>(done: &FsResult<T>) -> bool {
    matches!(done, Err(FsError::Blocked)) || moving::is_stale(done)
}

/// The context of a request that must not wait.
fn ctx_of(req: &Request) -> Ctx {
    Ctx {
        tid: req.pid(),
        user: Some((req.uid(), req.gid())),
        may_wait: false,
    }
}

impl Adapter {
    /// Run `op` and pass the result to `answer`: at once, or from a thread that may wait.
    pub(crate) fn run<T: 'static>(
        &self,
        req: &Request,
        op: impl Fn(&Mounted, &Ctx) -> FsResult<T> + Send + 'static,
        answer: impl FnOnce(FsResult<T>) + Send + 'static,
    ) {
        let ctx = ctx_of(req);
        self.mounted.callers().note(ctx.tid);
        let first = guarded(|| op(&self.mounted, &ctx));
        if !runs_again(&first) {
            drop(op);
            return answer(first);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return answer(Err(FsError::Errno(libc::EAGAIN)));
        }
        let (mounted, waiting) = (self.mounted.clone(), self.waiting.clone());
        let body = move || {
            let ctx = Ctx {
                may_wait: true,
                ..ctx
            };
            let result = mounted.under_way().steady(|| guarded(|| op(&mounted, &ctx)));
            drop(op);
            answer(result);
            waiting.fetch_sub(1, Ordering::Relaxed);
        };
        // If the thread cannot be started, its closure is dropped, and with it the reply: EIO.
        if let Err(e) = std::thread::Builder::new().name("waiting".into()).spawn(body) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            log::error!("starting a thread for a waiting request: {e}");
        }
    }

    /// Like `run`, for a request that comes with data: the bytes are copied only if it has to wait.
    pub(crate) fn run_with_data<T: 'static>(
        &self,
        req: &Request,
        data: &[u8],
        op: impl Fn(&Mounted, &Ctx, &[u8]) -> FsResult<T> + Send + 'static,
        answer: impl FnOnce(FsResult<T>) + Send + 'static,
    ) {
        match guarded(|| op(&self.mounted, &ctx_of(req), data)) {
            result if runs_again(&result) => {
                let data = data.to_vec();
                self.run(req, move |m, ctx| op(m, ctx, &data), answer);
            }
            result => answer(result),
        }
    }
}
