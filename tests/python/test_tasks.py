"""Owners: a thread's running task, in asyncio, trio and gevent. Each task is a separate owner."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from typing import Any, Callable

import persist
import pytest


class Stop(Exception):
    pass


async def until(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 100)


def test_a_second_task_gets_an_error_at_once(store: persist.Store, root: persist.Dict) -> None:
    root.update(d={}, e={}, x=0)

    async def main() -> None:
        inside, leave = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            with pytest.raises(Stop), store.transaction():
                root["d"]["x"] = 1
                inside.set()
                await until(leave)
                assert store.in_transaction
                root["x"] = 1
                raise Stop

        async def second() -> None:
            await until(inside)
            started = time.monotonic()
            assert not store.in_transaction
            for use in [
                lambda: root.__setitem__("x", 2),
                lambda: root["e"].update(x=2),
                lambda: root["e"].__setitem__("x", 2),
                lambda: store.transaction().__enter__(),
                lambda: store.run(lambda: None),
            ]:
                with pytest.raises(persist.OtherTask, match="async with"):
                    use()
            assert root["e"] == {}
            assert time.monotonic() - started < 20
            leave.set()

        await asyncio.gather(first(), second())
        root["x"] = 2

    asyncio.run(main())
    assert root == {"d": {}, "e": {}, "x": 2}


def test_an_acknowledged_write_is_not_undone_by_another_transaction(
    store: persist.Store, root: persist.Dict
) -> None:
    """The case of the issue: the second task's write was lost when the first failed."""
    root.update(log=[], n=0)

    async def main() -> None:
        async def fails() -> None:
            with pytest.raises(Stop):
                async with store.transaction_async():
                    root["log"].append("never")
                    await asyncio.sleep(0.001)
                    raise Stop

        async def writes(n: int) -> None:
            async with store.transaction_async():
                await asyncio.sleep(0)
                root["log"].append(n)

        await asyncio.gather(*(fails() if n % 3 == 0 else writes(n) for n in range(60)))

    asyncio.run(main())
    assert sorted(root["log"]) == [n for n in range(60) if n % 3]


def test_increments_of_many_tasks(store: persist.Store, root: persist.Dict) -> None:
    root["n"] = 0

    async def main() -> None:
        async def one(n: int) -> None:
            if n % 2:
                async with store.transaction_async():
                    seen = root["n"]
                    await asyncio.sleep(0)
                    root["n"] = seen + 1
            else:

                async def change() -> None:
                    seen = root["n"]
                    await asyncio.sleep(0)
                    root["n"] = seen + 1

                await store.run_async(change)

        await asyncio.gather(*(one(n) for n in range(300)))

    asyncio.run(main())
    assert root["n"] == 300


def test_two_tasks_get_no_lock_together(store: persist.Store, root: persist.Dict) -> None:
    root["d"] = {"n": 0}
    d = root["d"]

    async def main() -> None:
        locked, leave = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            with d.lockExcl():
                locked.set()
                await until(leave)
                d["n"] += 1

        async def second() -> None:
            await until(locked)
            started = time.monotonic()
            for use in [d.lockExcl, d.lockShared, lambda: d.lock(key="n"), lambda: d.update(n=5)]:
                with pytest.raises(persist.OtherTask, match="async with"):
                    use()
            with pytest.raises(persist.LockTimeout):
                d.lock(timeout=0)
            with pytest.raises(persist.NotLocked):
                d.unlock()
            expected = r"after .* s waiting for root\['d'\]: locked exclusively by a task"
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


def test_the_loop_runs_while_a_task_waits_for_another_thread(store: persist.Store, root: persist.Dict) -> None:
    root["n"] = 0
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with store.transaction():
            root["n"] += 1
            inside.set()
            leave.wait(100)

    async def main() -> None:
        turns = 0

        async def wait() -> None:
            async with store.transaction_async():
                root["n"] += 1

        waiting = asyncio.ensure_future(wait())
        while turns < 50:
            await asyncio.sleep(0)
            turns += 1
        assert not waiting.done()
        leave.set()
        await asyncio.wait_for(waiting, 100)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(100)
    asyncio.run(main())
    thread.join()
    assert root["n"] == 2


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


def test_savepoints_and_conflicts_in_tasks(store: persist.Store, root: persist.Dict) -> None:
    root["d"] = {}

    async def main() -> None:
        held, leave = asyncio.Event(), asyncio.Event()

        async def holder() -> None:
            async with root["d"].lock_async():
                held.set()
                await until(leave)

        async def worker() -> None:
            await until(held)
            with pytest.raises(persist.Conflict):
                async with store.transaction_async():
                    root["x"] = 1
                    with pytest.raises(Stop):
                        async with store.transaction_async():
                            root["x"] = 2
                            raise Stop
                    assert root["x"] == 1
                    with pytest.raises(persist.Conflict):
                        root["d"]["x"] = 1
                    # Another task of the thread continues during the wait.
                    await asyncio.create_task(other())
                    with pytest.raises(persist.Conflict):
                        root["y"] = 1
            assert not store.in_transaction
            calls = 0

            async def change() -> None:
                nonlocal calls
                calls += 1
                if calls == 2:
                    leave.set()
                root["z"] = calls
                root["d"]["x"] = calls

            await store.run_async(change)
            assert calls > 1
            assert root["d"]["x"] == calls

        async def other() -> None:
            assert not store.in_transaction
            root["other"] = 1

        await asyncio.gather(holder(), worker())

    asyncio.run(main())
    assert set(root) == {"d", "other", "z"}


def test_what_concerns_the_whole_store_is_done_as_the_running_task(
    store: persist.Store, root: persist.Dict
) -> None:
    """The transaction of another task, open or dead, does not belong to the caller."""
    root["d"] = {}

    async def main() -> None:
        held, begun, leave = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def holder() -> None:
            async with root["d"].lock_async():
                held.set()
                await until(leave)

        async def worker(conflicts: bool) -> None:
            await until(held)
            dead = pytest.raises(persist.Conflict) if conflicts else contextlib.nullcontext()
            with dead:
                async with store.transaction_async():
                    root["x"] = 1
                    if conflicts:
                        with pytest.raises(persist.Conflict):
                            root["d"]["x"] = 1
                    begun.set()
                    await until(leave)

        async def other(conflicts: bool) -> None:
            await until(begun)
            try:
                assert store.stat()["processes"] == 1
                for call in [store.sync, store.gc, lambda: store.snapshot(f"s{conflicts}")]:
                    # Each operation of the other task is the engine's last one before the next call.
                    if conflicts:
                        call()
                    else:
                        with pytest.raises(persist.LockTimeout):
                            call()
                assert [s.name for s in store.snapshots()] == ["sTrue"] * conflicts
            finally:
                leave.set()

        for conflicts in False, True:
            await asyncio.gather(holder(), worker(conflicts), other(conflicts))
            held, begun, leave = asyncio.Event(), asyncio.Event(), asyncio.Event()

    with persist.open(store.path, lock_timeout=0.05) as hasty:
        store, root = hasty, hasty.root
        asyncio.run(main())


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


def test_a_generator_may_be_closed_by_another_task(store: persist.Store, root: persist.Dict) -> None:
    async def main() -> None:
        async def numbers() -> Any:
            async with store.transaction_async():
                root["x"] = 1
                yield 1
                yield 2

        async def start() -> Any:
            generator = numbers()
            async for _ in generator:
                return generator

        generator = await asyncio.create_task(start())
        with pytest.raises(persist.OtherTask):
            root["y"] = 1
        await generator.aclose()
        root["y"] = 1

    asyncio.run(main())
    assert root == {"y": 1}


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


def leave_elsewhere(leave: Callable[[], object]) -> None:
    thread = threading.Thread(target=leave)
    thread.start()
    thread.join(100)
    assert not thread.is_alive()


def test_a_block_is_left_in_another_thread(store: persist.Store, root: persist.Dict) -> None:
    root["x"] = 0

    def generate(value: int) -> Any:
        with store.transaction():
            root["x"] = value
            yield

    kept = generate(1)
    next(kept)
    leave_elsewhere(lambda: next(kept, None))
    assert not store.in_transaction
    assert root["x"] == 1
    undone = generate(2)
    next(undone)
    leave_elsewhere(undone.close)
    assert root["x"] == 1
    # No owner waits for the transaction that was left behind.
    leave_elsewhere(lambda: root.update(x=3))
    assert root["x"] == 3


def test_an_inner_block_that_is_left_in_another_thread(store: persist.Store, root: persist.Dict) -> None:
    root["x"] = 0

    def generate() -> Any:
        with store.transaction():
            root["x"] += 1
            yield

    with store.transaction():
        kept = generate()
        next(kept)
        leave_elsewhere(lambda: next(kept, None))
        root["y"] = 1
    assert root == {"x": 1, "y": 1}
    with pytest.raises(persist.TransactionAborted, match="another thread"), store.transaction():
        undone = generate()
        next(undone)
        leave_elsewhere(undone.close)
        root["y"] = 2
    assert root == {"x": 1, "y": 1}
    leave_elsewhere(lambda: root.update(x=3))


def test_a_transaction_that_is_dropped_is_rolled_back(store: persist.Store, root: persist.Dict) -> None:
    with pytest.warns(ResourceWarning, match="never left"):
        kept = store.transaction().__enter__()
        root["x"] = 1
        del kept
    assert not store.in_transaction
    leave_elsewhere(lambda: root.update(y=1))
    assert root == {"y": 1}
