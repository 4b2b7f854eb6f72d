"""Tasks as owners: the running task of a thread, in asyncio, trio and gevent, owns its locks."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from pathlib import Path
from typing import Any

import persist
import pytest


async def until(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 100)


def test_two_tasks_get_no_lock_together(store: persist.Store, root: persist.Dict) -> None:
    root["d"] = {"n": 0}
    d = root["d"]

    async def main() -> None:
        locked, leave = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            with d.lockExcl():
                d["n"] = d["n"]
                locked.set()
                await until(leave)
                d["n"] += 1

        async def second() -> None:
            await until(locked)
            started = time.monotonic()
            # The last operation of the thread was one of the owner's.
            with pytest.raises(persist.OtherTask):
                d["n"] = 5
            for use in [d.lockExcl, d.lockShared, lambda: d.lock(key="n"), lambda: d.update(n=5)]:
                with pytest.raises(persist.OtherTask, match="async with"):
                    use()
            with pytest.raises(persist.LockTimeout):
                d.lock(timeout=0)
            with pytest.raises(persist.NotLocked):
                d.unlock()
            expected = r"after .* s waiting for root\['d'\]: locked exclusively by task \"Task-\d+\" of"
            with pytest.raises(persist.LockTimeout, match=expected):
                async with d.lock_async(timeout=0.05):
                    pass
            assert time.monotonic() - started < 20
            waiting = asyncio.ensure_future(third())
            await asyncio.sleep(0.01)
            assert not waiting.done()
            leave.set()
            await asyncio.wait_for(waiting, 100)

        async def third() -> None:
            async with d.lock_async() as got:
                assert got is d
                d["n"] += 1

        await asyncio.gather(first(), second())

    asyncio.run(main())
    assert d["n"] == 2
    with d.lockExcl(timeout=0):
        pass


def test_locks_in_turn(store: persist.Store, root: persist.Dict) -> None:
    root["d"] = {"n": 0}
    d = root["d"]

    async def main() -> None:
        async def one(n: int) -> None:
            if n % 2:
                async with d.lock_async():
                    await work()
            else:
                held = await d.lock_async(key="n", timeout=100)
                try:
                    await work()
                finally:
                    held.release()

        async def work() -> None:
            seen = d["n"]
            await asyncio.sleep(0)
            d["n"] = seen + 1

        await asyncio.gather(*(one(n) for n in range(200)))

    asyncio.run(main())
    assert d["n"] == 200


def test_a_deadlock_of_tasks_is_found_at_once(store: persist.Store, root: persist.Dict) -> None:
    root.update(a={}, b={})

    async def main() -> list[Any]:
        both = asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else None

        async def take(first: str, second: str) -> str:
            async with root[first].lock_async():
                if both:
                    await both.wait()
                else:
                    await asyncio.sleep(0.1)
                async with root[second].lock_async(timeout=100):
                    return "both"

        return await asyncio.gather(take("a", "b"), take("b", "a"), return_exceptions=True)

    started = time.monotonic()
    ends = asyncio.run(main())
    assert sorted(str(type(e).__name__) for e in ends) == ["Deadlock", "str"]
    assert time.monotonic() - started < 50


def test_a_cancelled_task_leaves_nothing(store: persist.Store, root: persist.Dict) -> None:
    root["d"] = {}
    d = root["d"]

    async def main() -> None:
        async def waits_for_lock() -> None:
            async with d.lock_async():
                raise AssertionError("it is held by another")

        async def waits_for_transaction() -> None:
            async with store.transaction_async():
                raise AssertionError("another is open")

        with d.lockExcl():
            task = asyncio.ensure_future(waits_for_lock())
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        with store.transaction():
            root["x"] = 1
            task = asyncio.ensure_future(waits_for_transaction())
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with store.transaction_async(), d.lock_async(timeout=0):
            root["x"] = 2

    asyncio.run(main())
    with d.lockExcl(timeout=0):
        root["x"] = 3


def test_a_task_that_is_collected_leaves_no_lock(store: persist.Store, root: persist.Dict) -> None:
    root["d"] = {}

    async def main() -> None:
        async def take() -> None:
            root["d"].lockExcl()

        await asyncio.create_task(take())
        async with root["d"].lock_async(timeout=100):
            root["d"]["x"] = 1

    asyncio.run(main())
    with root["d"].lockExcl(timeout=10):
        pass


def test_unlocking_what_is_not_held_confuses_no_tasks(path: Path) -> None:
    """During another owner's transaction, unlocking without a lock is not reported; the tasks stay separate owners."""
    with persist.open(path, lock_timeout=0.02) as store:
        root = store.root
        root["x"] = 1

        async def main() -> None:
            async def other() -> None:
                assert root["x"] == 1
                with pytest.raises(persist.OtherTask):
                    root["x"] = 3

            async with store.transaction_async():
                root["x"] = 2
                thread = threading.Thread(target=root.unlock)
                thread.start()
                thread.join()
                await asyncio.create_task(other())

        asyncio.run(main())
        assert root["x"] == 2


def test_trio(store: persist.Store, root: persist.Dict) -> None:
    trio = pytest.importorskip("trio")
    root.update(n=0, d={"n": 0})

    async def one() -> None:
        async with store.transaction_async():
            seen = root["n"]
            await trio.sleep(0)
            root["n"] = seen + 1

    async def locked() -> None:
        async with root["d"].lock_async():
            seen = root["d"]["n"]
            await trio.sleep(0)
            root["d"]["n"] = seen + 1

    async def main() -> None:
        for work in one, locked:
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(work)

        async def told() -> None:
            with pytest.raises(persist.OtherTask):
                root["n"] = 0
            with pytest.raises(persist.LockTimeout):
                root["d"].lockExcl(timeout=0)

        with root["d"].lockExcl(), store.transaction():
            root["n"] += 1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(told)

    trio.run(main)
    assert (root["n"], root["d"]["n"]) == (101, 100)


def test_gevent(path: Path, script: Any) -> None:
    """Greenlets wait for each other without stopping the hub: 500 of 500."""
    pytest.importorskip("gevent")
    out = script.run(
        """
        import gevent.monkey
        gevent.monkey.patch_all()
        import gevent, persist, sys
        store = persist.open(sys.argv[1], lock_timeout=100)
        root = store.root
        root.update(n=0, m=0, d={"n": 0})

        def one(i):
            with store.transaction():
                seen = root["n"]
                gevent.sleep(0)
                root["n"] = seen + 1
            with root["d"].lockExcl():
                seen = root["d"]["n"]
                gevent.sleep(0)
                root["d"]["n"] = seen + 1
            if i % 10 == 0:
                try:
                    with store.transaction():
                        root["m"] += 100
                        gevent.sleep(0)
                        raise ValueError
                except ValueError:
                    pass
            else:
                root["m"] += 1

        gevent.joinall([gevent.spawn(one, i) for i in range(500)], raise_error=True)
        print(root["n"], root["d"]["n"], root["m"])
        store.close()
        """,
        path,
    )
    assert out.split() == ["500", "500", "450"]


def test_threads_of_a_loop_are_owners_of_their_own(store: persist.Store, root: persist.Dict) -> None:
    root["n"] = 0

    def work() -> None:
        for _ in range(20):
            with store.transaction():
                root["n"] += 1

    async def main() -> None:
        loop = asyncio.get_running_loop()
        jobs: list[Any] = [loop.run_in_executor(None, work) for _ in range(4)]

        async def here() -> None:
            for _ in range(20):
                async with store.transaction_async():
                    root["n"] += 1

        await asyncio.gather(here(), *jobs)

    asyncio.run(main())
    assert root["n"] == 100


def test_the_exception_of_a_signal_handler_is_never_lost(store: persist.Store) -> None:
    """Reads, writes and transactions ask the frameworks for the running task, in functions that a signal interrupts."""
    pytest.importorskip("trio")
    root = store.root
    root["x"] = 0

    class Alarm(Exception):
        pass

    def raises(_signum: int, _frame: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, raises)
    try:
        for n in range(300):
            deadline = time.monotonic() + 60
            with pytest.raises(Alarm):
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + n % 17 * 0.00003)
                while time.monotonic() < deadline:
                    root["x"] += 1
                    with store.transaction():
                        root["x"] += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
