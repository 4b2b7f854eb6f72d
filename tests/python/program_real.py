"""Steps on the store: each in its thread or task, one after the other, compared with the model.

1. Exactly one actor acts at a time. Each outcome is therefore determined, and does not depend on the machine's speed.
2. Each store is opened twice. A step that the model expects to be blocked uses the opening whose waits end after 2 ms.
   All others use the patient opening, so that an unexpected wait shows as a failure and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import persist
from program_machine import NO_EFFECT, Machine, Unresolved
from program_model import Expected, plain, plain_real
from program_steps import DICT, LIST, READS, Step

PATIENT, HASTY = 60.0, 0.002
# The time within which a step ends, unless it hangs.
STEP = 120.0


class Thing(persist.Object):
    """The class of stored objects."""


class Stop(Exception):
    """Leaves a block."""


class Failure(Exception):
    """The store differs from the model."""


class Threaded:
    """An actor that is a thread."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.body, daemon=True)
        self.thread.start()

    def body(self) -> None:
        while (job := self.jobs.get()) is not None:
            self.results.put(outcome(job))
            job = None

    def call(self, job: Callable[[], Any], _awaits: Any = None) -> Any:
        self.jobs.put(job)
        return self.results.get(timeout=STEP)

    def end(self) -> None:
        self.jobs.put(None)
        self.thread.join(STEP)


class Loop:
    """A thread that runs tasks."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(STEP)
        self.loop.close()


class Tasked:
    """An actor that is a task of a loop."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.jobs: asyncio.Queue[Any]
        started = threading.Event()

        def start() -> None:
            self.jobs = asyncio.Queue()
            self.task = loop.loop.create_task(self.body())
            started.set()

        loop.loop.call_soon_threadsafe(start)
        started.wait(STEP)

    async def body(self) -> None:
        while (job := await self.jobs.get()) is not None:
            sync, awaits = job
            if awaits is None:
                self.results.put(outcome(sync))
            else:
                try:
                    self.results.put((await awaits(), None))
                except Exception as e:
                    self.results.put((None, e.with_traceback(None)))
            job = sync = awaits = None
        self.results.put((None, None))

    def call(self, job: Callable[[], Any], awaits: Any = None) -> Any:
        self.loop.loop.call_soon_threadsafe(self.jobs.put_nowait, (job, awaits))
        return self.results.get(timeout=STEP)

    def end(self) -> None:
        self.loop.loop.call_soon_threadsafe(self.jobs.put_nowait, None)
        self.results.get(timeout=STEP)


def outcome(job: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return job(), None
    except Exception as e:
        return None, e.with_traceback(None)


class Real:
    """Stores, and the actors that use them."""

    def __init__(self, home: Path, stores: int, threads: list[int], age: float | None = 1.0) -> None:
        self.paths = [home / f"{n}.store" for n in range(stores)]
        self.age = age
        self.openings: list[list[persist.Store]] = []
        for path in self.paths:
            self.openings.append(self.open(path))
        self.loops = {t: Loop() for t in set(threads) if threads.count(t) > 1}
        self.actors = [Tasked(self.loops[t]) if t in self.loops else Threaded() for t in threads]
        # Proxies of both openings, locks and transactions that the program keeps.
        self.handles: dict[int, tuple[Any, Any]] = {}
        self.locks: dict[int, persist.Lock[Any]] = {}
        self.blocks: dict[tuple[int, int], list[Any]] = {}

    def open(self, path: Path) -> list[persist.Store]:
        return [persist.open(path, max_age=self.age, lock_timeout=t) for t in (PATIENT, HASTY)]

    def close(self) -> None:
        self.locks, self.handles, self.blocks = {}, {}, {}
        for actor in self.actors:
            actor.end()
        for loop in self.loops.values():
            loop.end()
        for pair in self.openings:
            for store in pair:
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
        awaits = self.awaits(step, hasty) if isinstance(real_actor, Tasked) else None
        try:
            return real_actor.call(self.sync_job(step, hasty), awaits)  # type: ignore[no-any-return]
        except queue.Empty:
            raise Failure(f"the step did not end within {STEP:g} s") from None

    def state(self, actor: int, s: int) -> Any:
        value, error = self.actors[actor].call(lambda: canonical(self.openings[s][False].root))
        if error:
            raise Failure(f"the whole of store {s} cannot be read: {error!r}")
        return value


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
    return blocked


def judge(step: Step, expected: Expected, value: Any, error: Exception | None) -> bool:
    """Compare an outcome with the allowed ones; return whether the step was blocked."""
    kinds = [c.__name__ for c in type(error).__mro__] if error else []
    if error and any(name in kinds for name in expected.blocked):
        if expected.undo:
            expected.undo()
        return True
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
    opening = real.openings[s][False]

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
            await asyncio.sleep(0)
            if leave:
                raise Stop

        with modelled(leave), contextlib.suppress(Stop):
            if form == "run":
                await opening.run_async(work)
            else:
                async with opening.transaction_async():
                    await work()

    real_actor = real.actors[actor]
    awaits = (lambda: block_async(tree)) if isinstance(real_actor, Tasked) and tree[1] == "async" else None
    try:
        _, error = real_actor.call(lambda: block(tree), awaits)
    except queue.Empty:
        raise Failure(f"the block did not end within {STEP:g} s") from None
    if error:
        raise error if isinstance(error, Failure) else Failure(f"{error!r} came out of a block")
