//! Failpoints: named steps of the protocols at which a test kills its own process.
//!
//! `PERSIST_FAIL=NAME=N` kills the process, as by `kill -9`, at the N-th pass (from 1) of a step whose name
//! begins with NAME. With `PERSIST_FAIL_SIGNAL=STOP` the process stops there instead, and continues on
//! SIGCONT. Compiled only for tests (feature `testing`). A step that is not requested costs one load.

#[cfg(any(test, feature = "testing"))]
pub(crate) use on::pass;

#[cfg(any(test, feature = "testing"))]
mod on {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Wanted {
        name: String,
        passes: AtomicU64,
        signal: i32,
    }

    fn wanted() -> &'static Option<Wanted> {
        static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();
        WANTED.get_or_init(|| {
            let text = std::env::var("PERSIST_FAIL").ok()?;
            let (name, passes) = text.split_once('=')?;
            Some(Wanted {
                name: name.to_owned(),
                passes: AtomicU64::new(passes.parse().ok()?),
                signal: match std::env::var("PERSIST_FAIL_SIGNAL").as_deref() {
                    Ok("STOP") => libc::SIGSTOP,
                    _ => libc::SIGKILL,
                },
            })
        })
    }

    /// Pass a step.
    pub(crate) fn pass(step: &str) {
        if let Some(w) = wanted()
            && step.starts_with(w.name.as_str())
            && w.passes.fetch_sub(1, Ordering::SeqCst) == 1
        {
            // SAFETY: a plain system call. The signal goes to this thread, which receives it before it
            // continues.
            unsafe {
                libc::raise(w.signal);
            }
        }
    }
}

/// A step at which a test may kill the process: `fail_point!("cow.replaced")`.
macro_rules! fail_point {
    ($step:literal) => {
        #[cfg(any(test, feature = "testing"))]
        $crate::raw::failpoint::pass($step);
    };
}

pub(crate) use fail_point;
