"""Steps on the store: each in its thread, task or greenlet, one after the other, compared with the model.

1. Exactly one actor acts at a time. Each outcome is therefore determined, and does not depend on the machine's speed.
2. Each store is opened three times. One opening only reads: it shows what is committed. A step that the model expects
   to be blocked uses the opening whose waits end after 2 ms. All others use the patient opening, so that an unexpected
   wait shows as a failure and nothing else.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import persist
from program_actors import STEP, Actor, has_async_forms, outcome, start
from program_machine import NO_EFFECT, Machine, Unresolved
from program_model import Expected, plain, plain_real
from program_steps import DICT, LIST, READS, Step

PATIENT, HASTY = 60.0, 0.002


class Thing(persist.Object):
    """The class of stored objects."""


class Stop(Exception):
    """Leaves a block."""


class Failure(Exception):
    """The store differs from the model."""


class Real:
    """Stores, and the actors that use them."""

    def __init__(
        self, home: Path, stores: int, actors: list[Actor], age: float | None = 1.0, durability: str = "checkpoint"
    ) -> None:
        self.paths = [home / f"{n}.store" for n in range(stores)]
        self.age, self.durability = age, durability
        self.steps = 0
        self.openings: list[list[persist.Store]] = []
        for path in self.paths:
            self.openings.append(self.open(path))
        self.actors, self.loops = start(actors)
        self.kinds = [kind for kind, _ in actors]
        # Proxies of both openings, locks and transactions that the program keeps.
        self.handles: dict[int, tuple[Any, Any]] = {}
        self.locks: dict[int, persist.Lock[Any]] = {}
        self.blocks: dict[tuple[int, int], list[Any]] = {}

    def open(self, path: Path) -> list[persist.Store]:
        """Open a store three times: patient, hasty, and for reading only."""
        options: dict[str, Any] = {"max_age": self.age, "durability": self.durability}
        pair = [persist.open(path, lock_timeout=t, **options) for t in (PATIENT, HASTY)]
        return [*pair, persist.open(path, "r", lock_timeout=PATIENT)]

    def close(self) -> None:
        self.locks, self.handles, self.blocks = {}, {}, {}
        for actor in self.actors:
            actor.end()
        for loop in self.loops:
            loop.end()
        for openings in self.openings:
            for store in openings:
                store.close()

    # --- what steps name -------------------------------------------------------------------------

    def find(self, s: int, ref: Any, hasty: bool) -> Any:
        if isinstance(ref, int):
            return self.handles[ref][hasty]
        at: Any = self.openings[s][hasty].root
        for key in ref:
            at = getattr(at, key) if isinstance(at, Thing) else at[key]
        return at

    def build(self, v: Any, hasty: bool) -> Any:
        if not isinstance(v, tuple):
            return v
        if v[0] == "R":
            return self.find(v[1], v[2], hasty)
        if v[0] == "T":
            inner = self.build(v[1], hasty)
            return [inner, inner]
        if v[0] == "L":
            return [self.build(i, hasty) for i in v[1]]
        made = {k: self.build(i, hasty) for k, i in v[1]}
        if v[0] == "D":
            return made
        thing = Thing()
        for k, i in made.items():
            setattr(thing, k, i)
        return thing

    # --- steps -----------------------------------------------------------------------------------

    def data(self, step: Step, hasty: bool) -> Any:
        _, name, s, ref, args = step
        target = self.find(s, ref, hasty)
        made = [self.build(v, hasty) for v in args]
        if isinstance(target, Thing):
            if name == "vars":
                return {k: canonical(v) for k, v in vars(target).items()}
            if name == "setattr":
                return setattr(target, *made)
            if name == "delattr":
                return delattr(target, made[0])
            return canonical(getattr(target, made[0]))
        table = DICT if isinstance(target, persist.Dict) else LIST
        result = table[name](target, *made)
        if isinstance(result, (list, tuple)):
            return [canonical(v) for v in result]
        return canonical(result)

    def sync_job(self, step: Step, hasty: bool) -> Callable[[], Any]:
        """Return the step as a function for the actor."""
        actor, name, s, ref, args = step
        store = self.openings[s][hasty]
        if name == "begin":
            return lambda: self.blocks.setdefault((actor, s), []).append(store.transaction().__enter__())
        if name == "end":
            block = self.blocks[actor, s].pop()
            if args[0]:
                return lambda: block.__exit__(None, None, None) and None
            return lambda: block.__exit__(Stop, Stop(), None) and None
        if name == "keep":

            def keep() -> None:
                self.handles[args[0]] = (self.find(s, ref, False), self.find(s, ref, True))

            return keep
        if name == "drop":
            return lambda: self.handles.pop(args[0], None) and None
        if name == "release":
            return lambda: self.locks.pop(args[0]).release()
        if name in ("unlock", "lockExcl", "lockShared", "lock", "lock_async"):
            return lambda: self.lock(step, hasty)
        if name in NO_EFFECT:
            return lambda: self.whole(step, store)
        return lambda: self.data(step, hasty)

    def lock(self, step: Step, hasty: bool) -> None:
        _, form, s, ref, args = step
        target = self.find(s, ref, hasty)
        key = () if args[0] == ("whole",) else (args[0],)
        if form == "unlock":
            return target.unlock(*key)
        _, shared, now, number = args
        timeout = 0 if now else HASTY if hasty else PATIENT
        if form == "lockExcl":
            target.lockExcl(*key, timeout=timeout)
        elif form == "lockShared":
            target.lockShared(*key, timeout=timeout)
        else:
            self.locks[number] = target.lock(*key, shared=shared, timeout=timeout)

    def awaits(self, step: Step, hasty: bool) -> Any:
        """Return the asynchronous form, where there is one."""
        actor, name, s, ref, args = step
        store = self.openings[s][hasty]

        async def begin() -> None:
            block = store.transaction_async()
            await block.__aenter__()
            self.blocks.setdefault((actor, s), []).append(block._transaction)

        async def lock() -> None:
            key, shared, now, number = args
            keys = () if key == ("whole",) else (key,)
            timeout = 0 if now else HASTY if hasty else PATIENT
            self.locks[number] = await self.find(s, ref, hasty).lock_async(*keys, shared=shared, timeout=timeout)

        if name == "begin" and args[0]:
            return begin
        return lock if name == "lock_async" else None

    def whole(self, step: Step, store: persist.Store) -> Any:
        _, name, s, _, args = step
        if name == "sync":
            store.sync()
        elif name == "gc":
            store.gc()
        elif name == "stat":
            store.stat()
        elif name == "snapshot":
            store.snapshot(*args)
        elif name == "drop snapshot":
            store.drop_snapshot(*args)
        elif name == "at":
            with store.at(*args) as view:
                return canonical(view.root)
        else:
            self.reopen(s)
        return None

    def reopen(self, s: int) -> None:
        for store in self.openings[s]:
            store.close()
        self.openings[s] = self.open(self.paths[s])

    # --- comparing -------------------------------------------------------------------------------

    def call(self, actor: int, step: Step, hasty: bool) -> tuple[Any, Exception | None]:
        real_actor = self.actors[actor]
        awaits = self.awaits(step, hasty) if has_async_forms(self.kinds[actor]) else None
        try:
            return real_actor.call(self.sync_job(step, hasty), awaits)  # type: ignore[no-any-return]
        except queue.Empty:
            raise Failure(f"the step did not end within {STEP:g} s") from None

    def state(self, actor: int, s: int) -> Any:
        value, error = self.actors[actor].call(lambda: canonical(self.openings[s][False].root))
        if error:
            raise Failure(f"the whole of store {s} cannot be read: {error!r}")
        return value

    def committed(self, s: int) -> Any:
        """Return the state that an opening for reading shows to a thread that has no transaction."""
        return canonical(self.openings[s][2].root)


def canonical(value: Any) -> Any:
    return plain_real(persist.copy_out(value), Thing)


def run_step(machine: Machine, real: Real, step: Step) -> bool:
    """Run a step on both sides, compare, and return whether it was blocked. Raise Unresolved if it refers to something
    that does not exist."""
    actor, name, s, ref, args = step
    blocked = False
    if name == "block":
        run_block(machine, real, step)
    else:
        reopened = name == "reopen"
        expected = machine.step(step)
        if reopened:
            real.blocks, real.handles = {}, {n: h for n, h in real.handles.items() if n in machine.handles}
            real.locks = {n: lock for n, lock in real.locks.items() if n in machine.named}
        hasty = bool(expected.blocked) and name not in ("unlock", "end")
        blocked = judge(step, expected, *real.call(actor, step, hasty))
        for number in list(real.locks):
            if number not in machine.named and number != (args[0] if name == "release" else None):
                # `unlock` has already ended it: a second release does nothing.
                real.locks.pop(number)
    for other, store in enumerate(machine.stores):
        if (other == s or name == "block") and name not in READS and machine.readable(other, actor):
            there, wanted = real.state(actor, other), plain(store.root)
            if there != wanted:
                raise Failure(f"store {other} is\n  {there}\ninstead of\n  {wanted}")
    real.steps += 1
    if real.steps % 5 == 0 and real.committed(s) != (wanted := machine.committed(s)):
        raise Failure(f"store {s}, opened for reading, is\n  {real.committed(s)}\ninstead of\n  {wanted}")
    return blocked


def judge(step: Step, expected: Expected, value: Any, error: Exception | None) -> bool:
    """Compare an outcome with the allowed ones; return whether the step was blocked."""
    kinds = [c.__name__ for c in type(error).__mro__] if error else []
    if error and any(name in kinds for name in expected.blocked):
        if expected.undo:
            expected.undo()
        return True
    if "DurabilityUnknown" in kinds and not expected.error and (expected.both or not expected.blocked):
        # Done; only the wait of the hasty opening for the flush has ended.
        return False
    wanted = expected.error or f"the value {expected.value!r}" * (not expected.any) or "success"
    if expected.blocked and not expected.both:
        wanted = " or ".join(expected.blocked)
    elif not error and not expected.error and (expected.any or value == expected.value):
        return False
    elif error and type(error).__name__ == expected.error:
        return False
    got = repr(error) if error else f"the value {value!r}"
    raise Failure(f"{got}\ninstead of\n  {wanted}")


def check_block(machine: Machine, step: Step) -> None:
    """Run a block only if nothing blocks it: other steps test the locks."""
    actor, _, s, _, _ = step
    store = machine.stores[s]
    if actor in store.dead or any(levels for held in store.locks.values() for levels in held.values()):
        raise Unresolved
    if any(st.tx and st.tx.owner != actor for st in machine.stores):
        raise Unresolved


def model_block(machine: Machine, step: Step) -> None:
    """Run a block on the model alone."""
    actor, _, s, _, (tree,) = step

    def block(part: tuple[Any, ...]) -> None:
        machine.begin(s, actor)
        for sub in part[3]:
            if sub[0] == "block":
                block(sub)
                continue
            with contextlib.suppress(Unresolved):
                machine.step(sub)
        machine.end(s, actor, not part[2])

    block(tree)


def run_block(machine: Machine, real: Real, step: Step) -> None:
    """Run a block as a program writes it. Its steps are judged in it."""
    actor, _, s, _, (tree,) = step
    check_block(machine, step)
    opening, real_actor = real.openings[s][False], real.actors[actor]

    @contextlib.contextmanager
    def modelled(leave: bool) -> Iterator[None]:
        machine.begin(s, actor)
        yield
        machine.end(s, actor, not leave)

    def inner(body: list[Any]) -> Iterator[tuple[Any, ...]]:
        for part in body:
            if part[0] == "block":
                yield part
                continue
            try:
                expected = machine.step(part)
            except Unresolved:
                continue
            judge(part, expected, *outcome(lambda part=part: real.data(part, False)))

    def block(part: tuple[Any, ...]) -> None:
        _, form, leave, body = part

        def work() -> None:
            for sub in inner(body):
                block(sub)
            if not has_async_forms(real.kinds[actor]):
                real_actor.rest()
            if leave:
                raise Stop

        with modelled(leave), contextlib.suppress(Stop):
            if form == "run":
                opening.run(work)
            else:
                with opening.transaction():
                    work()

    async def block_async(part: tuple[Any, ...]) -> None:
        _, form, leave, body = part

        async def work() -> None:
            for sub in inner(body):
                await block_async(sub)
            await real_actor.rest()
            if leave:
                raise Stop

        with modelled(leave), contextlib.suppress(Stop):
            if form == "run":
                await opening.run_async(work)
            else:
                async with opening.transaction_async():
                    await work()

    is_async = has_async_forms(real.kinds[actor]) and tree[1] == "async"
    awaits = (lambda: block_async(tree)) if is_async else None
    try:
        _, error = real_actor.call(lambda: block(tree), awaits)
    except queue.Empty:
        raise Failure(f"the block did not end within {STEP:g} s") from None
    if error:
        raise error if isinstance(error, Failure) else Failure(f"{error!r} came out of a block")
