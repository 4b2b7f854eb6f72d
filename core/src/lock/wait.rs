//! Waiting for locks: try, look for a deadlock, queue, sleep, and look up again from time to time.
//!
//! Invariants:
//! 1. Nothing sleeps with the latch held, and the latch is never held across a call of the caller's
//!    `interrupted`.
//! 2. A sleep is at most `SLICE`, after which dead holders, the deadline and interruption are looked
//!    at: a lost wake costs a slice, a killed holder's lock is free within a few.
//! 3. However the wait ends, by an error or a panic of `interrupted` too, the request leaves the
//!    queue: cancelled under the latch, or abandoned where the latch cannot be had in time.
//! 4. What was granted before the request could be cancelled is kept, and reported as success.

use super::beyond::Beyond;
use super::contest::{self, Contest};
use super::env::Env;
use super::{
    Cancelled, LockMode, Owner, Owners, Queued, Release, Request, Standing, Table, Target, Ticket, Wakes,
};
use crate::error::{Error, Result};
use crate::ids::ObjectId;
use std::time::{Duration, Instant};

/// The longest sleep between two looks around.
pub const SLICE: Duration = Duration::from_millis(20);

/// How long one look at the table waits for the latch: a request without patience must still get an answer.
const LATCH: Duration = Duration::from_millis(50);

/// How long a release waits for the latch when all notes of deferred releases are taken.
const WITHOUT_ROOM: Duration = Duration::from_secs(30);

/// How often one request gets past dead owners before it believes the answer.
const RECOVERIES: usize = 64;

/// Asked at every look around; true ends the wait.
pub type Interrupted<'a> = Option<&'a mut dyn FnMut() -> bool>;

/// Takes a lock, waiting at most `timeout` (None: for ever; zero: not at all). A thread's lock counts
/// one level more; that of a mount's owner is converted.
///
/// `Error::Timeout` names a holder, `Error::Deadlock` a member of the circle, and `Error::Interrupted`
/// follows a true answer of `interrupted`; the lock is not held then.
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

/// Waits until a change of an entry (or of the whole container) is this owner's to make, and leaves
/// a reservation that keeps lockers out until it is made. The caller tries the change again and then
/// calls `Table::release_reservations`, best under the same latch; also when it gives up.
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
/// it), the release is noted and done before any later request is judged (`deferred`): it never fails for the
/// latch. `Error::NotLocked` is told only where the latch was free.
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
            // Without room for the note only the latch is left, which a stopped process may hold.
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

/// Why nothing came of a try: the latch was not to be had, or the operation failed.
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

/// Runs `f` under the latch and wakes, after leaving it, whom it granted something.
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

/// Whether an error means only that the latch was busy.
fn is_busy(error: &Error) -> bool {
    matches!(error, Error::Timeout { .. } | Error::WouldBlock { .. })
}

/// A deadline and a caller who may want to stop.
///
/// The clock is read when the first try has failed, and not before.
struct Patience<'a> {
    timeout: Option<Duration>,
    begun: Option<Instant>,
    interrupted: Interrupted<'a>,
}

impl<'a> Patience<'a> {
    fn new(timeout: Option<Duration>, interrupted: Interrupted<'a>) -> Patience<'a> {
        Patience {
            timeout,
            begun: None,
            interrupted,
        }
    }

    /// The time that is left; None: without end.
    fn left(&mut self) -> Option<Duration> {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        self.timeout.map(|t| t.saturating_sub(begun.elapsed()))
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

    /// How long to sleep at most, now.
    fn slice(&mut self) -> Duration {
        self.left().unwrap_or(SLICE).min(SLICE)
    }
}

/// A request in a queue, which it leaves when this is dropped.
struct Place<'e, E: Env> {
    env: &'e E,
    ticket: Option<Ticket>,
}

impl<E: Env> Place<'_, E> {
    /// Takes the request back. None: it had to be abandoned, since the latch is not to be had.
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

/// Recovers the dead processes of these owners. Return whether there were any.
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

/// The answer to one try.
enum Start {
    Granted,
    Waiting(Ticket, u32),
    /// Why not; and who would have to be dead to make it untrue.
    Refused(Error, Owners),
}

fn start<E: Env>(
    env: &E,
    request: &Request,
    may_wait: bool,
    patience: &mut Patience<'_>,
    beyond: &mut Beyond,
) -> Result<Start> {
    loop {
        let tried = latch(env, Some(LATCH), |table, wakes| {
            let (holder, deadlock) = if may_wait {
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
            let blocker = holder.owner;
            let (what, holder) = (request.target.to_string(), env.describe(&blocker));
            let error = if deadlock {
                Error::Deadlock { what, holder }
            } else {
                Error::Timeout { what, holder }
            };
            // A circle may go through any process, not only through that of the first holder.
            let suspects = if deadlock {
                table.processes()?
            } else {
                Owners::from_elem(blocker, 1)
            };
            Ok(Start::Refused(error, suspects))
        });
        match tried {
            Ok(start) => return Ok(start),
            Err(Failure::Latch(error)) if is_busy(&error) => {
                if patience.is_over() {
                    return Err(error);
                }
                if patience.is_interrupted() {
                    return Err(Error::Interrupted);
                }
                beyond.meet_latch(env)?;
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
    let mut patience = Patience::new(timeout, interrupted);
    let mut recoveries = 0;
    let mut beyond = Beyond::new(request, timeout.is_none(), true);
    let mut contest = Contest::new(env.barges() && !request.owner.kind.is_mount(), may_wait);
    let (ticket, mut seen) = loop {
        let queue = may_wait && contest.is_over();
        match start(env, request, queue, &mut patience, &mut beyond)? {
            Start::Granted => {
                contest.granted();
                return Ok(());
            }
            Start::Waiting(ticket, seen) => break (ticket, seen),
            Start::Refused(..) if may_wait && !queue => {
                // Whether the caller wants to stop is asked in the queue: asking may take long, this phase is short.
                contest.pause(env, request.target.id, patience.left());
            }
            Start::Refused(error, mut suspects) => {
                suspects.retain(|p| !p.same_process(&request.owner));
                recoveries += 1;
                if recoveries > RECOVERIES || !recover_dead_owners(env, &suspects)? {
                    return Err(error);
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
        // A task of the same thread in the way is looked for at once.
        if !std::mem::take(&mut first) && !contest::spin(env, |table| table.is_signalled(ticket, seen)) {
            env.sleep(ticket.signal, seen, patience.slice());
        }
        let due = beyond.due(env);
        let looked = latch(env, Some(LATCH), |table, wakes| {
            let standing = table.standing(ticket, wakes)?;
            let waits = due.is_some() && matches!(standing, Standing::Waiting { .. });
            let awaited = if waits { table.awaited(ticket)? } else { Vec::new() };
            Ok((standing, awaited))
        });
        let mut circle = Ok(());
        match looked {
            Ok((Standing::Granted, _)) => {
                place.ticket = None;
                return Ok(());
            }
            Ok((Standing::Waiting { sibling: true, .. }, _)) => {
                return match place.leave() {
                    Some(Ok(Cancelled::Granted)) => Ok(()),
                    _ => Err(Error::OtherTask {
                        what: format!("{} is locked", request.target),
                    }),
                };
            }
            Ok((
                Standing::Waiting {
                    seen: now, blockers, ..
                },
                awaited,
            )) => {
                seen = now;
                // Whoever is gone makes room at once: then look again before giving up.
                if recoveries < RECOVERIES && recover_dead_owners(env, &blockers)? {
                    recoveries += 1;
                    continue;
                }
                if let Some(due) = due {
                    circle = beyond.looked(env, due, &awaited);
                }
            }
            Err(Failure::Latch(error)) if is_busy(&error) => circle = beyond.meet_latch(env),
            Err(failure) => return Err(failure.into_error()),
        }
        let reason = if let Err(error) = circle {
            error
        } else if patience.is_interrupted() {
            Error::Interrupted
        } else if patience.is_over() {
            Error::Timeout {
                what: request.target.to_string(),
                holder: String::new(),
            }
        } else {
            continue;
        };
        return match place.leave() {
            Some(Ok(Cancelled::Granted)) => Ok(()),
            Some(Ok(Cancelled::Withdrawn(holder))) => Err(named(env, reason, holder.map(|h| h.owner))),
            Some(Err(error)) => Err(error),
            None => Err(named(env, reason, None)),
        };
    }
}

/// Puts the holder's name into a timeout.
fn named<E: Env>(env: &E, reason: Error, holder: Option<Owner>) -> Error {
    match reason {
        Error::Timeout { what, holder: none } if none.is_empty() => {
            let holder = holder.map_or_else(|| "a transaction".to_string(), |o| env.describe(&o));
            Error::Timeout { what, holder }
        }
        other => other,
    }
}
