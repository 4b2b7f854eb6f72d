"""Waiting without blocking the thread: `Store.transaction_async()`, `Store.run_async()`, `lock_async()`, `watch()`.

Tasks of one process that wait for the transaction of a store stand in a line, whose first tries again when no owner has
the right to change the store. A request for a lock stands in the store's own queue, beside those of other processes.
Each loop of asyncio has a bell (an eventfd), which one thread of the process rings when a change was reported, a lock
may be granted or a transaction may begin; the loop then looks which of its tasks can go on. From time to time each task
looks by itself, too: a process that was killed rings no bell.

Imported by the first use. Works in asyncio and, where the program has imported it, in trio, whose tasks look every few
milliseconds.
"""

from __future__ import annotations

import sys
import time
import weakref

from . import Conflict
from ._persist import _Bell

_SHORTEST, _LONGEST = 0.0005, 0.01
# How often a task looks by itself.
_LOOK = 0.05
# After so many changes without a wait, other tasks run.
_TURN = 64


class _Loop:
    """A loop of asyncio: its bell, and for the future of each task that waits, what it waits for."""

    _all = weakref.WeakKeyDictionary()

    def __init__(self, loop):
        self.bell, self.waiting = _Bell(), {}
        loop.add_reader(self.bell.fileno(), self._rung)

    @classmethod
    def of(cls, loop):
        there = cls._all.get(loop)
        if there is None:
            there = cls._all[loop] = cls(loop)
        return there

    def _rung(self):
        self.bell.clear()
        # Armed first: what comes after the look rings.
        self.bell.arm()
        for future, awaited in list(self.waiting.items()):
            if awaited._ready:
                _done(future)


def _done(future):
    if not future.done():
        future.set_result(None)


class _Asyncio:
    """A task of asyncio that waits."""

    def __init__(self, asyncio):
        self.asyncio = asyncio
        self.loop = asyncio.get_running_loop()
        self.future = None

    def wake(self):
        future = self.future
        if future is not None:
            try:
                self.loop.call_soon_threadsafe(_done, future)
            except RuntimeError:  # The loop was closed.
                pass

    async def pass_on(self):
        await self.asyncio.sleep(0)

    async def sleep(self, seconds, awaited=None):
        """Sleep until `awaited` may be there, or this is woken, or the time is over (None: without a limit)."""
        self.future = future = self.loop.create_future()
        timer, there = None, None if awaited is None else _Loop.of(self.loop)
        try:
            if there is not None:
                there.waiting[future] = awaited
                there.bell.arm()
                if not awaited._ring(there.bell):
                    seconds = _LONGEST if seconds is None else min(seconds, _LONGEST)
                if awaited._ready:
                    return
            if seconds is not None:
                timer = self.loop.call_later(seconds, _done, future)
            await future
        finally:
            self.future = None
            if timer is not None:
                timer.cancel()
            if there is not None:
                there.waiting.pop(future, None)


class _Trio:
    """A task of trio that waits."""

    def __init__(self, trio):
        self.trio = trio
        self.token = trio.lowlevel.current_trio_token()
        self.event = None

    def wake(self):
        event = self.event
        if event is not None:
            try:
                self.token.run_sync_soon(event.set)
            except self.trio.RunFinishedError:
                pass

    async def pass_on(self):
        await self.trio.sleep(0)

    async def sleep(self, seconds, awaited=None):
        if awaited is not None:
            seconds = _LONGEST if seconds is None else min(seconds, _LONGEST)
        self.event = event = self.trio.Event()
        try:
            with self.trio.move_on_after(seconds):
                await event.wait()
        finally:
            self.event = None


def _waiter():
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    if asyncio is not None:
        try:
            return _Asyncio(asyncio)
        except RuntimeError:  # No loop of asyncio runs in this thread.
            pass
    if trio is not None:
        return _Trio(trio)
    raise RuntimeError("the asynchronous forms of persist need a running event loop of asyncio or trio")


def wake(waiters):
    """Let the first task that waits for a transaction look again, and those whose locks may be granted."""
    first = True
    for is_lock, waiter, awaited in list(waiters):
        if awaited._ready if is_lock else first:
            waiter.wake()
        first = first and is_lock


async def _wait(waiters, is_lock, awaited, attempt, deadline, late):
    """Call `attempt` until it gives something; at the deadline raise what `late` gives."""
    entry = (is_lock, _waiter(), awaited)
    waiters.append(entry)

    def is_first():
        return is_lock or next((e for e in waiters if not e[0]), entry) is entry

    pause = _SHORTEST
    try:
        while True:
            seconds = _LOOK if deadline is None else max(0, min(_LOOK, deadline - time.monotonic()))
            await entry[1].sleep(seconds, awaited if is_first() else None)
            if is_first():
                got = attempt()
                if got:
                    return got
                if awaited._ready:
                    # Another owner was faster, or the store grants it to the one that waits longest.
                    await entry[1].sleep(pause)
                    pause = min(pause * 1.5, _LONGEST)
            if deadline is not None and time.monotonic() >= deadline:
                raise late()
    finally:
        waiters.remove(entry)
        if not is_lock:
            wake(waiters)


def _deadline(timeout):
    return None if timeout is None else time.monotonic() + timeout


class Transaction:
    """What `Store.transaction_async()` returns, for `async with`."""

    __slots__ = ("_transaction",)

    def __init__(self, transaction):
        self._transaction = transaction

    async def __aenter__(self):
        transaction = self._transaction
        waiters = transaction._waiters
        # Not past the tasks that wait already; inside a transaction of this task there is nothing to wait for.
        if transaction._inside or all(is_lock for is_lock, *_ in waiters):
            if transaction._try_enter():
                return self
        deadline = _deadline(transaction._timeout)
        await _wait(waiters, False, transaction, transaction._try_enter, deadline, transaction._late)
        return self

    async def __aexit__(self, exc_type, exc_value, traceback):
        return self._transaction.__exit__(exc_type, exc_value, traceback)


class Lock:
    """What `lock_async()` returns: `async with` it, or `await` it for a lock to be released."""

    __slots__ = ("_request", "_timeout", "_held")

    def __init__(self, request, timeout):
        self._request, self._timeout, self._held = request, timeout, []

    def __await__(self):
        return self._acquire().__await__()

    async def _acquire(self):
        request = self._request
        held = request.poll()
        if held is not None:
            return held
        try:
            if self._timeout != 0:
                deadline = _deadline(self._timeout)
                return await _wait(request.waiters, True, request, request.poll, deadline, request.timeout)
            late = request.timeout()
        except BaseException:
            held = request.cancel()
            if held is not None:
                held.release()
            raise
        held = request.cancel()
        if held is not None:
            return held
        raise late

    async def __aenter__(self):
        held = await self._acquire()
        self._held.append(held)
        return held.__enter__()

    async def __aexit__(self, *exc):
        return self._held.pop().__exit__(*exc)


class Changes:
    """The changes of a `Watch`, for `async for`."""

    __slots__ = ("_at_once", "_watch")

    def __init__(self, watch):
        self._watch, self._at_once = watch, 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        watch = self._watch
        change = watch.poll()
        if change is not None:
            self._at_once += 1
            if self._at_once % _TURN == 0:
                await _waiter().pass_on()
            return change
        self._at_once = 0
        change = await next_change(watch, watch._timeout)
        if change is None:
            raise StopAsyncIteration
        return change


async def next_change(watch, timeout):
    """Return the next change; None after the timeout, or if the watch was closed."""
    deadline, waiter = _deadline(timeout), _waiter()
    while True:
        change = watch.poll()
        if change is not None or watch.closed:
            return change
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return None
        await waiter.sleep(left, watch)


async def wait_filled(items, timeout, pop, index):
    """Wait until a Dict has an entry or a List an item; remove and return the item if `pop`."""

    def attempt():
        """Return (item,), () if there is none, or None if other owners are in the way."""
        return items._try_pop(index) if pop else (None,) * (len(items) > 0)

    got = attempt()
    if got:
        return got[0]
    deadline, pause, waiter = _deadline(timeout), _SHORTEST, _waiter()
    with items.watch() as watch:
        while True:
            got = attempt()
            if got:
                return got[0]
            left = None if deadline is None else max(0, deadline - time.monotonic())
            if left == 0:
                raise items._late(timeout)
            if got is None:
                await waiter.sleep(pause if left is None else min(pause, left))
                pause = min(pause * 1.5, _LONGEST)
            else:
                pause = _SHORTEST
                await next_change(watch, left)
                while watch.poll() is not None:
                    pass


async def run(store, f, args, kwargs):
    """Await f(*args, **kwargs) in a transaction; again after a Conflict."""
    if store.in_transaction:
        async with store.transaction_async():
            return await f(*args, **kwargs)
    deadline, pause = _deadline(store.transaction()._timeout), _SHORTEST
    while True:
        try:
            async with store.transaction_async():
                return await f(*args, **kwargs)
        except Conflict:
            if time.monotonic() >= deadline:
                raise
        await _waiter().sleep(pause)
        pause = min(pause * 2, 2 * _LONGEST)
