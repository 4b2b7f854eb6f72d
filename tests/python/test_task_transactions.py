"""Transactions of tasks: two tasks never share one, and a block may be left in another task or thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
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
