"""Waiting without blocking the thread: `Store.transaction_async()`, `Store.run_async()`, `lock_async()`.

Tasks of one process that wait for the transaction of a store stand in a line: its first tries again when a transaction
of this process has ended, and from time to time, because those of other processes do not say when they end. A request
for a lock stands in the store's own queue, beside those of other processes; here it is only looked at.

Imported by the first use. Works in asyncio and, where the program has imported it, in trio.
"""

from __future__ import annotations

import sys
import time

from . import Conflict

_SHORTEST, _LONGEST = 0.0005, 0.01


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
                self.loop.call_soon_threadsafe(self._done, future)
            except RuntimeError:  # The loop was closed.
                pass

    @staticmethod
    def _done(future):
        if not future.done():
            future.set_result(None)

    async def sleep(self, seconds):
        self.future = future = self.loop.create_future()
        timer = self.loop.call_later(seconds, self._done, future)
        try:
            await future
        finally:
            self.future = None
            timer.cancel()


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

    async def sleep(self, seconds):
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
    """Let the first task that waits for a transaction look again, and all that wait for locks."""
    first = True
    for is_lock, waiter in list(waiters):
        if is_lock or first:
            waiter.wake()
        first = first and is_lock


async def _wait(waiters, is_lock, attempt, deadline, late):
    """Call `attempt` until it gives something; at the deadline raise what `late` gives."""
    entry = (is_lock, _waiter())
    waiters.append(entry)
    pause = _SHORTEST
    try:
        while True:
            await entry[1].sleep(pause)
            if is_lock or next((e for e in waiters if not e[0]), entry) is entry:
                got = attempt()
                if got:
                    return got
            if deadline is not None and time.monotonic() >= deadline:
                raise late()
            pause = min(pause * 1.5, _LONGEST)
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
        if transaction._inside or not any(not is_lock for is_lock, _ in waiters):
            if transaction._try_enter():
                return self
        await _wait(
            waiters, False, transaction._try_enter, _deadline(transaction._timeout), transaction._late
        )
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
                return await _wait(
                    request.waiters, True, request.poll, _deadline(self._timeout), request.timeout
                )
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
