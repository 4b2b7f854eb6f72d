//! Waiting for locks: try, detect deadlocks, queue, sleep, and check again at intervals.
//!
//! Invariants:
//! 1. No thread sleeps with the latch held, or holds the latch across a call of the caller's `interrupted`.
//! 2. A sleep lasts at most `SLICE`. Then the waiter checks for dead holders, the deadline and interruption.
//!    So a lost wake-up costs one slice, and a killed holder's lock is free within a few slices.
//! 3. However the wait ends, even by an error or a panic of `interrupted`, the request leaves the queue: it
//!    is cancelled under the latch, or abandoned if the latch cannot be acquired in time.
//! 4. A grant that precedes the cancellation is kept, and reported as success.

use crate::error::{Error, Result};
use crate::ids::ObjectId;
use crate::lock::waiting::contest::{self, Contest};
use crate::lock::waiting::cross_store::CrossStoreCheck;
use crate::lock::waiting::env::Env;
use crate::lock::{
    Cancelled, Holder, LockMode, Owner, Owners, Queued, Release, Request, Table, Target, Ticket, WaitState,
    Wakes,
};
use std::time::{Duration, Instant};

/// The longest sleep between two checks.
pub const SLICE: Duration = Duration::from_millis(20);

/// How long one check of the table waits for the latch: a request with a zero timeout must still get an
/// answer.
const LATCH: Duration = Duration::from_millis(50);

/// How long a release waits for the latch when no free note for a deferred release is left.
const WITHOUT_ROOM: Duration = Duration::from_secs(30);

/// How many recoveries of dead owners one request performs before it returns the refusal.
const RECOVERIES: usize = 64;

/// The caller's interruption check, called at every check; true ends the wait.
pub type Interrupted<'a> = Option<&'a mut dyn FnMut() -> bool>;

/// Acquire a lock, waiting at most `timeout` (None: no bound; zero: no wait). A thread's lock gains one
/// level; that of a mount's owner is converted.
///
/// `Error::Timeout` names a holder and `Error::Deadlock` a member of the cycle. `Error::Interrupted` follows
/// a true answer of `interrupted`. After an error the lock is not held.
pub fn acquire<E: Env>(
    env: &E,
    owner: &Owner,
    target: &Target,
    mode: LockMode,
    timeout: Option<Duration>,
    interrupted: Interrupted<'_>,
) -> Result<()> {
    obtain(env, &Request::lock(*owner, *target, mode)?, timeout, interrupted)
}

/// As `acquire`, without waiting. Return false if another owner has the lock, or if the latch is not free: the answer
/// names no holder, and costs little.
pub fn try_acquire<E: Env>(env: &E, request: &Request) -> Result<bool> {
    if env.unlatched(|table| table.seems_blocked(request)) {
        return Ok(false);
    }
    let tried = latch(env, Some(Duration::ZERO), |table, wakes| {
        table.try_lock(request, wakes)
    });
    match tried {
        Ok(holder) => Ok(holder.is_none()),
        Err(Failure::Latch(error)) if is_busy(&error) => Ok(false),
        Err(failure) => Err(failure.into_error()),
    }
}

/// Wait until this owner may change an entry (or the whole container), and leave a reservation that blocks
/// lockers until the change is made. The caller retries the change and then calls
/// `Table::release_reservations`, preferably under the same latch, also when it gives up.
pub fn wait_change<E: Env>(
    env: &E,
    owner: &Owner,
    id: ObjectId,
    key: Option<u64>,
    timeout: Option<Duration>,
    interrupted: Interrupted<'_>,
) -> Result<()> {
    obtain(env, &Request::change(*owner, id, key), timeout, interrupted)
}

/// Release what an owner holds. If the latch is not free within `SLICE` (a transaction of another process has
/// it), the release is recorded and performed before any later request is decided (`deferred`). So a release
/// never fails because of the latch. `Error::NotLocked` is returned only if the latch was free.
pub fn release<E: Env>(env: &E, owner: &Owner, what: Release) -> Result<()> {
    let mut begun = None;
    loop {
        let done = latch(env, Some(LATCH), |table, wakes| match what {
            Release::Level(target) => table.unlock(owner, &target, wakes),
            Release::LevelOf(target, mode) => table.unlock_mode(owner, &target, mode, wakes),
            Release::Locks => table.unlock_all(owner, wakes),
            Release::Reservations => table.release_reservations(owner, wakes),
        });
        match done {
            Ok(()) => return Ok(()),
            // Without a free note the release needs the latch, which a stopped process may hold.
            Err(Failure::Latch(e)) if is_busy(&e) => {
                if env.unlatched(|table| table.defer(owner, what)) {
                    return Ok(());
                }
                if begun.get_or_insert_with(Instant::now).elapsed() >= WITHOUT_ROOM {
                    return Err(e);
                }
            }
            Err(failure) => return Err(failure.into_error()),
        }
    }
}

/// Why a try failed: the latch was not available, or the operation failed.
enum Failure {
    Latch(Error),
    Operation(Error),
}

impl Failure {
    fn into_error(self) -> Error {
        match self {
            Failure::Latch(error) | Failure::Operation(error) => error,
        }
    }
}

/// Run `f` under the latch. After releasing the latch, wake the waiters that `f` granted.
fn latch<E: Env, R>(
    env: &E,
    at_most: Option<Duration>,
    f: impl FnOnce(&Table<'_>, &mut Wakes) -> Result<R>,
) -> std::result::Result<R, Failure> {
    let mut wakes = Wakes::new();
    let mut ran = false;
    let result = env.latched(at_most, |table| {
        ran = true;
        f(table, &mut wakes)
    });
    for signal in wakes {
        env.wake(signal);
    }
    match result {
        Ok(result) => Ok(result),
        Err(error) if ran => Err(Failure::Operation(error)),
        Err(error) => Err(Failure::Latch(error)),
    }
}

/// Return whether an error only means that the latch was busy.
fn is_busy(error: &Error) -> bool {
    matches!(error, Error::Timeout { .. } | Error::WouldBlock { .. })
}

/// A deadline and the caller's interruption check.
///
/// The clock is first read after the first try has failed.
struct Deadline<'a> {
    timeout: Option<Duration>,
    begun: Option<Instant>,
    interrupted: Interrupted<'a>,
}

impl<'a> Deadline<'a> {
    fn new(timeout: Option<Duration>, interrupted: Interrupted<'a>) -> Deadline<'a> {
        Deadline {
            timeout,
            begun: None,
            interrupted,
        }
    }

    /// Return the remaining time; None for no bound.
    fn left(&mut self) -> Option<Duration> {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        self.timeout.map(|t| t.saturating_sub(begun.elapsed()))
    }

    /// Return how long the wait has lasted.
    fn waited(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    fn is_over(&mut self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    fn is_interrupted(&mut self) -> bool {
        match &mut self.interrupted {
            Some(interrupted) => interrupted(),
            None => false,
        }
    }

    /// Return the maximum length of the next sleep.
    fn slice(&mut self) -> Duration {
        self.left().unwrap_or(SLICE).min(SLICE)
    }
}

/// A request in a queue. Dropping it removes the request from the queue.
struct Place<'e, E: Env> {
    env: &'e E,
    ticket: Option<Ticket>,
}

impl<E: Env> Place<'_, E> {
    /// Cancel the request. None means that it was abandoned, because the latch was not available.
    fn leave(&mut self) -> Option<Result<Cancelled>> {
        let ticket = self.ticket.take()?;
        match latch(self.env, Some(LATCH), |table, wakes| table.cancel(ticket, wakes)) {
            Ok(cancelled) => Some(Ok(cancelled)),
            Err(Failure::Operation(error)) => Some(Err(error)),
            Err(Failure::Latch(_)) => {
                self.env.unlatched(|table| table.abandon(ticket));
                None
            }
        }
    }
}

impl<E: Env> Drop for Place<'_, E> {
    fn drop(&mut self) {
        let _ = self.leave();
    }
}

/// Recover the dead processes among these owners. Return whether there were any.
fn recover_dead_owners<E: Env>(env: &E, owners: &Owners) -> Result<bool> {
    let mut recovered = false;
    for owner in owners {
        if env.holder_is_dead(owner) {
            match env.recover_owner(owner) {
                Ok(()) => recovered = true,
                Err(error) if is_busy(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(recovered)
}

/// The result of one try.
enum Start {
    Granted,
    Waiting(Ticket, u32),
    Refused(Refusal),
}

/// A refusal, and the owners whose death would invalidate it.
struct Refusal {
    holder: Holder,
    is_deadlock: bool,
    suspects: Owners,
}

impl Refusal {
    /// Return the error. Naming an owner reads files of the kernel, so it is done without the latch, and only for a
    /// refusal that the caller gets.
    #[cold]
    fn into_error<E: Env>(self, env: &E, request: &Request, after: Duration) -> Error {
        let (what, holder) = (request.target.to_string(), env.describe(&self.holder.owner));
        if self.is_deadlock {
            return Error::Deadlock { what, holder };
        }
        let held = self.holder.held();
        Error::Timeout {
            what,
            after,
            held,
            holder,
        }
    }
}

fn start<E: Env>(
    env: &E,
    request: &Request,
    may_wait: bool,
    deadline: &mut Deadline<'_>,
    cross_store: &mut CrossStoreCheck,
) -> Result<Start> {
    loop {
        let tried = latch(env, Some(LATCH), |table, wakes| {
            let (holder, is_deadlock) = if may_wait {
                match table.enqueue(request, wakes)? {
                    Queued::Granted => return Ok(Start::Granted),
                    Queued::Waiting { ticket, seen } => return Ok(Start::Waiting(ticket, seen)),
                    Queued::Deadlock(holder) => (holder, true),
                }
            } else {
                match table.try_lock(request, wakes)? {
                    None => return Ok(Start::Granted),
                    Some(holder) => (holder, false),
                }
            };
            // A cycle may pass through any process, not only the first holder's.
            let suspects = if is_deadlock {
                table.processes()?
            } else {
                Owners::from_elem(holder.owner, 1)
            };
            Ok(Start::Refused(Refusal {
                holder,
                is_deadlock,
                suspects,
            }))
        });
        match tried {
            Ok(start) => return Ok(start),
            Err(Failure::Latch(error)) if is_busy(&error) => {
                if deadline.is_over() {
                    return Err(error);
                }
                if deadline.is_interrupted() {
                    return Err(Error::Interrupted);
                }
                cross_store.check_latch_owner(env)?;
            }
            Err(failure) => return Err(failure.into_error()),
        }
    }
}

fn obtain<E: Env>(
    env: &E,
    request: &Request,
    timeout: Option<Duration>,
    interrupted: Interrupted<'_>,
) -> Result<()> {
    let may_wait = timeout != Some(Duration::ZERO);
    let mut deadline = Deadline::new(timeout, interrupted);
    let mut recoveries = 0;
    let mut cross_store = CrossStoreCheck::new(request, timeout.is_none(), true);
    let mut contest = Contest::new(env.barges() && !request.owner.kind.is_mount(), may_wait);
    let (ticket, mut seen) = loop {
        let queue = may_wait && contest.is_over();
        // While the lock is visibly held, the latch is left to its holder, which needs it for the release.
        if may_wait && !queue && env.unlatched(|table| table.seems_blocked(request)) {
            contest.pause(env, request, deadline.left());
            continue;
        }
        match start(env, request, queue, &mut deadline, &mut cross_store)? {
            Start::Granted => {
                contest.granted();
                return Ok(());
            }
            Start::Waiting(ticket, seen) => break (ticket, seen),
            Start::Refused(..) if may_wait && !queue => {
                // The interruption check runs in the queue: it may take long, and this phase is short.
                contest.pause(env, request, deadline.left());
            }
            Start::Refused(mut refusal) => {
                refusal.suspects.retain(|p| !p.same_process(&request.owner));
                recoveries += 1;
                if recoveries > RECOVERIES || !recover_dead_owners(env, &refusal.suspects)? {
                    return Err(refusal.into_error(env, request, deadline.waited()));
                }
            }
        }
    };
    let mut place = Place {
        env,
        ticket: Some(ticket),
    };
    let mut first = env.has_tasks();
    loop {
        // A conflicting task of the same thread is detected at once.
        if !std::mem::take(&mut first) && !contest::spin(env, |table| table.is_signalled(ticket, seen)) {
            env.sleep(ticket.signal, seen, deadline.slice());
        }
        let due = cross_store.due(env);
        let checked = latch(env, Some(LATCH), |table, wakes| {
            let standing = table.wait_state(ticket, wakes)?;
            let waits = due.is_some() && matches!(standing, WaitState::Waiting { .. });
            let awaited = if waits { table.awaited(ticket)? } else { Vec::new() };
            Ok((standing, awaited))
        });
        let mut deadlock = Ok(());
        match checked {
            Ok((WaitState::Granted, _)) => {
                place.ticket = None;
                return Ok(());
            }
            Ok((WaitState::Waiting { sibling: true, .. }, _)) => {
                return match place.leave() {
                    Some(Ok(Cancelled::Granted)) => Ok(()),
                    _ => Err(Error::OtherTask {
                        what: format!("{} is locked", request.target),
                    }),
                };
            }
            Ok((
                WaitState::Waiting {
                    seen: now, blockers, ..
                },
                awaited,
            )) => {
                seen = now;
                // A dead holder's lock is freed at once: recover and try again before giving up.
                if recoveries < RECOVERIES && recover_dead_owners(env, &blockers)? {
                    recoveries += 1;
                    continue;
                }
                if let Some(due) = due {
                    deadlock = cross_store.apply(env, due, &awaited);
                }
            }
            Err(Failure::Latch(error)) if is_busy(&error) => deadlock = cross_store.check_latch_owner(env),
            Err(failure) => return Err(failure.into_error()),
        }
        let reason = if let Err(error) = deadlock {
            error
        } else if deadline.is_interrupted() {
            Error::Interrupted
        } else if deadline.is_over() {
            Error::timeout(request.target.to_string(), deadline.waited(), String::new())
        } else {
            continue;
        };
        return match place.leave() {
            Some(Ok(Cancelled::Granted)) => Ok(()),
            Some(Ok(Cancelled::Withdrawn(holder))) => Err(named(env, reason, holder)),
            Some(Err(error)) => Err(error),
            None => Err(named(env, reason, None)),
        };
    }
}

/// Add the holder's name to a timeout.
fn named<E: Env>(env: &E, reason: Error, holder: Option<Holder>) -> Error {
    match reason {
        Error::Timeout {
            what,
            after,
            held,
            holder: none,
        } if none.is_empty() => Error::Timeout {
            what,
            after,
            held: holder.map_or(held, |h| h.held()),
            holder: holder.map_or_else(|| "a transaction".to_string(), |h| env.describe(&h.owner)),
        },
        other => other,
    }
}
