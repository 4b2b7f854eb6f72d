//! The slow, obvious lock manager: lists of holds and queues, no intentions, no memory layout. Two requests
//! conflict if their owners differ, their targets overlap and one is exclusive, but not two locks of one mount on
//! one target.

use super::verify::{State, hold_name, wait_name};
use crate::lock::{LockMode, Owner, OwnerKind, Request, Target};

#[derive(Clone, Debug)]
struct RefHold {
    owner: Owner,
    target: Target,
    shared: u32,
    exclusive: u32,
    reserved: u32,
}

#[derive(Clone, Debug)]
struct RefWait {
    request: Request,
    signal: u32,
    granted: bool,
    /// Levels before the grant.
    was: (u32, u32),
    abandoned: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Reference {
    holds: Vec<RefHold>,
    /// All queues in one list: only the order within a container matters.
    waits: Vec<RefWait>,
}

#[derive(PartialEq, Debug)]
pub(super) enum RefQueued {
    Granted,
    /// Waiting; the value is the index of the wait, whose signal is set later.
    Waiting(usize),
    Deadlock,
}

fn overlap(a: &Target, b: &Target) -> bool {
    a.id == b.id && (a.key.is_none() || b.key.is_none() || a.key == b.key)
}

fn clash(a: &Request, b: &Request) -> bool {
    let both_mount = a.owner.kind.is_mount() && b.owner.kind.is_mount();
    let is_lock = |r: &Request| !r.change && matches!(r.owner.kind, OwnerKind::Flock | OwnerKind::Posix);
    let one_mount = is_lock(a) && is_lock(b) && a.owner.same_process(&b.owner) && a.target == b.target;
    let excused = (a.change && b.change) || ((a.change || b.change) && both_mount) || one_mount;
    a.owner != b.owner && overlap(&a.target, &b.target) && (a.exclusive || b.exclusive) && !excused
}

impl RefHold {
    /// Return the hold as requests: those that would acquire it again.
    fn parts(&self) -> impl Iterator<Item = Request> {
        let lock = Request {
            owner: self.owner,
            target: self.target,
            exclusive: self.exclusive > 0,
            change: false,
        };
        let change = Request {
            exclusive: true,
            change: true,
            ..lock
        };
        let has_lock = self.shared + self.exclusive > 0;
        has_lock
            .then_some(lock)
            .into_iter()
            .chain((self.reserved > 0).then_some(change))
    }
}

impl Reference {
    pub(super) fn state(&self) -> State {
        let mut state = State::default();
        for h in &self.holds {
            state.holds.insert(
                hold_name(&h.owner, &h.target),
                (h.shared, h.exclusive, h.reserved),
            );
        }
        for w in &self.waits {
            let r = &w.request;
            if w.granted {
                state.granted.insert(w.signal);
            } else {
                let name = wait_name(&r.owner, &r.target, r.exclusive, r.change, w.signal);
                state.queues.entry(r.target.id.0).or_default().push(name);
            }
        }
        state
    }

    fn held_against(&self, r: &Request) -> Vec<Owner> {
        let clashing = |h: &&RefHold| h.parts().any(|p| clash(&p, r));
        self.holds.iter().filter(clashing).map(|h| h.owner).collect()
    }

    /// Return the indices of waits, and the owners, that wait for `target` directly or indirectly.
    fn reach(&self, target: Owner) -> (Vec<usize>, Vec<Owner>) {
        let (mut waits, mut owners) = (vec![], vec![target]);
        loop {
            let before = waits.len();
            for (i, w) in self.waits.iter().enumerate() {
                if w.granted || waits.contains(&i) {
                    continue;
                }
                let by_hold = self.held_against(&w.request).iter().any(|o| owners.contains(o));
                let by_queue = self.waits[..i].iter().any(|a| {
                    !a.granted && owners.contains(&a.request.owner) && clash(&a.request, &w.request)
                });
                if by_hold || by_queue {
                    waits.push(i);
                    owners.push(w.request.owner);
                }
            }
            if waits.len() == before {
                return (waits, owners);
            }
        }
    }

    /// Return None if the request is free, or Some(place) if it is blocked and belongs before that wait.
    fn judge(&self, r: &Request) -> Option<usize> {
        let (reaching, _) = self.reach(r.owner);
        let mut ahead = false;
        let mut place = self.waits.len();
        for (i, w) in self.waits.iter().enumerate() {
            if !w.granted && clash(&w.request, r) {
                if reaching.contains(&i) {
                    place = i;
                    break;
                }
                ahead = true;
            }
        }
        (ahead || !self.held_against(r).is_empty()).then_some(place)
    }

    fn take(&mut self, r: &Request) -> (u32, u32) {
        let found = self
            .holds
            .iter()
            .position(|h| h.owner == r.owner && h.target == r.target);
        let i = found.unwrap_or_else(|| {
            let (owner, target) = (r.owner, r.target);
            self.holds.push(RefHold {
                owner,
                target,
                shared: 0,
                exclusive: 0,
                reserved: 0,
            });
            self.holds.len() - 1
        });
        let h = &mut self.holds[i];
        let was = (h.shared, h.exclusive);
        if r.change {
            h.reserved += 1;
        } else if r.owner.kind.is_mount() {
            (h.shared, h.exclusive) = if r.exclusive { (0, 1) } else { (1, 0) };
        } else if r.exclusive || h.exclusive > 0 {
            h.exclusive += 1;
        } else {
            h.shared += 1;
        }
        was
    }

    /// Grant every request that can be granted in each queue, in order.
    fn grant_pending(&mut self) {
        'again: loop {
            for i in 0..self.waits.len() {
                let r = self.waits[i].request;
                let behind = self.waits[..i]
                    .iter()
                    .any(|a| !a.granted && clash(&a.request, &r));
                if !self.waits[i].granted && !behind && self.held_against(&r).is_empty() {
                    self.waits[i].was = self.take(&r);
                    self.waits[i].granted = true;
                    continue 'again;
                }
            }
            return;
        }
    }

    fn change(&mut self, owner: &Owner, target: Option<&Target>, f: impl Fn(&mut RefHold)) -> bool {
        let before = self.state();
        for h in &mut self.holds {
            if h.owner == *owner && target.is_none_or(|t| h.target == *t) {
                f(h);
            }
        }
        self.holds.retain(|h| h.shared + h.exclusive + h.reserved > 0);
        let changed = self.state() != before;
        self.grant_pending();
        changed
    }

    /// Do the work that every call that may wait does first.
    fn sweep(&mut self) {
        let mut gone: Vec<u32> = self
            .waits
            .iter()
            .filter(|w| w.abandoned)
            .map(|w| w.signal)
            .collect();
        gone.sort_unstable();
        for signal in gone {
            let i = self.waits.iter().position(|w| w.signal == signal).unwrap();
            let w = self.waits.remove(i);
            let (r, was) = (w.request, w.was);
            if w.granted {
                let mount = r.owner.kind.is_mount();
                self.change(&r.owner, Some(&r.target), |h| {
                    if r.change {
                        h.reserved = h.reserved.saturating_sub(1);
                    } else if !mount {
                        one_less(h);
                    } else if was.0 > 0 {
                        if h.exclusive + h.shared + h.reserved > 0 {
                            (h.shared, h.exclusive) = (1, 0);
                        }
                    } else if was.1 == 0 {
                        (h.shared, h.exclusive) = (0, 0);
                    }
                });
            }
            self.grant_pending();
        }
    }

    pub(super) fn try_lock(&mut self, r: &Request) -> bool {
        self.sweep();
        let free = self.judge(r).is_none();
        if free {
            self.take(r);
            self.grant_pending();
        }
        free
    }

    pub(super) fn enqueue(&mut self, r: &Request) -> RefQueued {
        self.sweep();
        let Some(place) = self.judge(r) else {
            self.take(r);
            self.grant_pending();
            return RefQueued::Granted;
        };
        let wait = RefWait {
            request: *r,
            signal: u32::MAX,
            granted: false,
            was: (0, 0),
            abandoned: false,
        };
        self.waits.insert(place, wait);
        let (waits, owners) = self.reach(r.owner);
        let by_hold = self.held_against(r).iter().any(|o| owners.contains(o));
        let by_queue = waits
            .iter()
            .any(|i| *i < place && clash(&self.waits[*i].request, r));
        if by_hold || by_queue {
            self.waits.remove(place);
            return RefQueued::Deadlock;
        }
        RefQueued::Waiting(place)
    }

    pub(super) fn name(&mut self, place: usize, signal: u32) {
        self.waits[place].signal = signal;
    }

    pub(super) fn granted(&mut self, signal: u32) -> bool {
        self.sweep();
        let i = self.waits.iter().position(|w| w.signal == signal).unwrap();
        let granted = self.waits[i].granted;
        if granted {
            self.waits.remove(i);
        }
        granted
    }

    /// Return true if the request had been granted.
    pub(super) fn cancel(&mut self, signal: u32) -> bool {
        self.sweep();
        let i = self.waits.iter().position(|w| w.signal == signal).unwrap();
        let granted = self.waits.remove(i).granted;
        self.grant_pending();
        granted
    }

    pub(super) fn abandon(&mut self, signal: u32) {
        self.waits
            .iter_mut()
            .find(|w| w.signal == signal)
            .unwrap()
            .abandoned = true;
    }

    pub(super) fn unlock(&mut self, owner: &Owner, target: &Target) -> bool {
        self.change(owner, Some(target), one_less)
    }

    pub(super) fn unset(&mut self, owner: &Owner, target: &Target) {
        self.change(owner, Some(target), |h| (h.shared, h.exclusive) = (0, 0));
    }

    pub(super) fn release_reservation(&mut self, owner: &Owner, target: &Target) -> bool {
        self.change(owner, Some(target), |h| h.reserved = h.reserved.saturating_sub(1))
    }

    pub(super) fn release_reservations(&mut self, owner: &Owner) {
        self.change(owner, None, |h| h.reserved = 0);
    }

    pub(super) fn unlock_all(&mut self, owner: &Owner) {
        self.change(owner, None, |h| (h.shared, h.exclusive) = (0, 0));
    }

    pub(super) fn release_owners(&mut self, gone: impl Fn(&Owner) -> bool) {
        self.waits.retain(|w| !gone(&w.request.owner));
        self.holds.retain(|h| !gone(&h.owner));
        self.grant_pending();
    }

    pub(super) fn blocked(&self, r: &Request) -> bool {
        !self.held_against(r).is_empty()
    }

    pub(super) fn request(owner: Owner, target: Target, mode: LockMode) -> Request {
        Request {
            owner,
            target,
            exclusive: mode == LockMode::Exclusive,
            change: false,
        }
    }
}

fn one_less(h: &mut RefHold) {
    if h.exclusive > 0 {
        h.exclusive -= 1;
    } else {
        h.shared = h.shared.saturating_sub(1);
    }
}
