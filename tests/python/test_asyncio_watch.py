"""`async for` over changes, waiting for items, and many tasks of several processes that wait."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import persist
import pytest
from conftest import Script

LONG = 100


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_changes_for_async_for(root: persist.Dict) -> None:
    async def main() -> None:
        found: list[Any] = []
        ready = asyncio.Event()

        async def follow() -> None:
            with root.watch() as watch:
                ready.set()
                async for change in watch:
                    found.append((change.kind, change.key))
                    if change.key == "end":
                        break

        task = asyncio.ensure_future(follow())
        await ready.wait()
        await asyncio.sleep(0.01)
        root["a"] = 1
        await asyncio.sleep(0.01)
        await asyncio.to_thread(root.update, b=1, end=1)
        await asyncio.wait_for(task, LONG)
        assert found == [("insert", "a"), ("insert", "b"), ("insert", "end")]

    asyncio.run(main())


def test_the_loop_ends_by_time_and_by_close(root: persist.Dict) -> None:
    async def main() -> None:
        started = time.monotonic()
        assert [change async for change in root.watch(timeout=0.05)] == []
        assert time.monotonic() - started >= 0.05
        watch = root.watch()

        async def follow() -> int:
            return len([change async for change in watch])

        task = asyncio.ensure_future(follow())
        await asyncio.sleep(0.01)
        assert not task.done()
        watch.close()
        assert await asyncio.wait_for(task, LONG) == 0

    asyncio.run(main())


def test_a_store_that_is_closed_ends_the_wait(path: Path) -> None:
    async def main() -> None:
        store = persist.open(path)

        async def follow() -> None:
            async for _ in store.root.watch():
                pass

        task = asyncio.ensure_future(follow())
        await asyncio.sleep(0.01)
        store.close()
        with pytest.raises(ValueError, match="closed store"):
            await asyncio.wait_for(task, LONG)

    asyncio.run(main())


def test_many_tasks_take_one_thread_and_one_descriptor(root: persist.Dict) -> None:
    root["d"] = {str(n): {"x": 0} for n in range(200)}

    async def main() -> None:
        async def follow(n: int) -> None:
            with root["d"][str(n)].watch() as watch:
                async for change in watch:
                    assert change.key == "x"
                    return

        tasks = [asyncio.ensure_future(follow(n)) for n in range(200)]
        await asyncio.sleep(0.05)
        assert len(threads_named("persist-bells")) == 1
        before = descriptors()
        others = [asyncio.ensure_future(follow(n)) for n in range(200)]
        await asyncio.sleep(0.05)
        assert descriptors() == before and len(threads_named("persist-bells")) == 1
        for n in range(200):
            root["d"][str(n)]["x"] = 1
        await asyncio.wait_for(asyncio.gather(*tasks, *others), LONG)

    started = descriptors()
    for _ in range(3):
        asyncio.run(main())
    assert descriptors() <= started + 3


def threads_named(name: str) -> list[str]:
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as file:
                if file.read().strip() == name:
                    found.append(task)
        except OSError:
            pass
    return found


@pytest.mark.parametrize("end", ["turns", "cancel"])
def test_tasks_that_wait_for_a_thread_take_one_thread(path: Path, end: str) -> None:
    """Let 400 tasks wait for a lock and a transaction of another thread: one thread more, and each gets its turn."""
    held, go = threading.Event(), threading.Event()

    def hold(store: persist.Store) -> None:
        with store.root.lock(), store.transaction():
            held.set()
            assert go.wait(LONG)

    async def main(store: persist.Store) -> None:
        begun, turns = 0, 0

        async def change() -> None:
            nonlocal begun, turns
            begun += 1
            async with store.transaction_async():
                turns += 1

        async def lock() -> None:
            nonlocal begun, turns
            begun += 1
            async with store.root.lock_async(timeout=LONG):
                turns += 1

        before = len(os.listdir("/proc/self/task"))
        tasks = [asyncio.ensure_future(wait()) for wait in (change, lock) for _ in range(200)]
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert len(os.listdir("/proc/self/task")) <= before + 1
        assert begun == 400 and turns == 0 and not any(task.done() for task in tasks)
        if end == "cancel":
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=LONG)
            assert all(task.cancelled() for task in tasks)
        go.set()
        if end == "turns":
            await asyncio.wait_for(asyncio.gather(*tasks), LONG)
        assert turns == (400 if end == "turns" else 0)

    with persist.open(path, lock_timeout=LONG) as store:
        holder = threading.Thread(target=hold, args=(store,))
        holder.start()
        try:
            assert held.wait(LONG)
            asyncio.run(main(store))
        finally:
            go.set()
            holder.join(LONG)
        with store.root.lock(timeout=LONG), store.transaction():
            store.root["after"] = 1
        assert store.root == {"after": 1}


def test_a_cancelled_task_waits_no_more_and_loses_no_change(root: persist.Dict) -> None:
    root["l"] = []
    items = root["l"]

    async def main() -> None:
        watch = root.watch()

        async def one() -> Any:
            async for change in watch:
                return change.key

        task = asyncio.ensure_future(one())
        taker = asyncio.ensure_future(items.pop_wait_async())
        await asyncio.sleep(0.01)
        for waiting in (task, taker):
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        root["x"] = 1
        items.append(1)
        assert await asyncio.wait_for(one(), LONG) == "x"
        assert items == [1]

    asyncio.run(main())


def test_items_are_awaited(store: persist.Store, root: persist.Dict) -> None:
    root["l"] = []
    items = root["l"]

    async def main() -> None:
        with pytest.raises(persist.LockTimeout, match=r"an item of root\['l'\]"):
            await items.pop_wait_async(timeout=0.01)
        with pytest.raises(TimeoutError):
            await items.wait_async(0)
        takers = [asyncio.ensure_future(items.pop_wait_async(timeout=LONG)) for _ in range(20)]
        waiting = asyncio.ensure_future(items.wait_async())
        await asyncio.sleep(0.01)
        items.extend(range(21))
        await asyncio.wait_for(waiting, LONG)
        assert sorted(await asyncio.wait_for(asyncio.gather(*takers), LONG)) == list(range(20))
        assert items == [20]
        async with store.transaction_async():
            items.clear()
            with pytest.raises(persist.Error, match="inside a transaction"):
                await items.pop_wait_async(timeout=LONG)

    asyncio.run(main())


def test_a_loop_of_changes_lets_other_tasks_run(root: persist.Dict) -> None:
    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        with root.watch() as watch:
            for n in range(1000):
                root[n] = n
            task = asyncio.ensure_future(other())
            seen = 0
            async for _ in watch:
                seen += 1
                if seen == 1000:
                    break
            assert turns > 5
            task.cancel()

    asyncio.run(main())


def test_loops_of_several_threads(root: persist.Dict) -> None:
    root["n"] = 0
    ends: list[Any] = []
    ready = threading.Barrier(4)

    async def follow() -> None:
        with root.watch() as watch:
            await asyncio.to_thread(ready.wait, LONG)
            async for change in watch:
                ends.append(change.key)
                return

    threads = [threading.Thread(target=lambda: asyncio.run(follow())) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait(LONG)
    root["n"] = 1
    for thread in threads:
        thread.join(LONG)
    assert ends == ["n"] * 3


TASKS = """
    import asyncio, persist, sys

    async def main():
        with persist.open(sys.argv[1], lock_timeout=100) as store:
            root = store.root
            done = 0

            async def counts(n):
                nonlocal done
                for _ in range(5):
                    if n % 3 == 0:
                        async with store.transaction_async():
                            seen = root["n"]
                            await asyncio.sleep(0)
                            root["n"] = seen + 1
                    elif n % 3 == 1:
                        async with root.lock_async(key="m"):
                            seen = root["m"]
                            await asyncio.sleep(0)
                            # Not beside the transaction of another task.
                            async with store.transaction_async():
                                root["m"] = seen + 1
                    else:
                        async def change():
                            seen = root["n"]
                            await asyncio.sleep(0)
                            root["n"] = seen + 1
                        await store.run_async(change)
                done += 1

            async def ticks():
                # The loop is never blocked for long.
                import time
                longest, last = 0, time.monotonic()
                while done < 30:
                    await asyncio.sleep(0.001)
                    now = time.monotonic()
                    longest, last = max(longest, now - last), now
                return longest

            *_, longest = await asyncio.gather(*(counts(n) for n in range(30)), ticks())
            assert longest < 20, longest

    asyncio.run(main())
"""


def test_many_tasks_of_several_processes(path: Path, script: Script) -> None:
    with persist.open(path) as store:
        store.root.update(n=0, m=0)
        for process in [script.start(TASKS, path) for _ in range(3)]:
            script.finish(process)
        assert store.root == {"n": 3 * 100, "m": 3 * 50}


HOLDER = """
    import persist, sys
    store = persist.open(sys.argv[1])
    KIND
    print("held", flush=True)
    sys.stdin.read()
    STOP
"""


@pytest.mark.parametrize("how", ["end", "kill"])
@pytest.mark.parametrize("kind", ["lock", "transaction"])
def test_a_task_continues_when_another_process_is_done(path: Path, script: Script, kind: str, how: str) -> None:
    begin = {
        "lock": "held = store.root.lock()",
        "transaction": "held = store.transaction(); held.__enter__(); store.root['x'] = 1",
    }[kind]
    stop = {"lock": "held.release()", "transaction": "held.__exit__()"}[kind]
    holder = script.start(HOLDER.replace("KIND", begin).replace("STOP", stop), path)
    assert holder.stdout and holder.stdout.readline() == "held\n"

    async def main(store: persist.Store) -> None:
        async def wait() -> None:
            if kind == "lock":
                async with store.root.lock_async(timeout=LONG):
                    pass
            else:
                async with store.transaction_async():
                    store.root["y"] = 1

        waiting = [asyncio.ensure_future(wait()) for _ in range(3)]
        with pytest.raises(TimeoutError):
            async with store.root.lock_async(timeout=0.05):
                pass
        assert not any(task.done() for task in waiting)
        cancelled = waiting.pop(0)
        cancelled.cancel()
        if how == "kill":
            holder.kill()
        else:
            assert holder.stdin
            holder.stdin.close()
            holder.stdin = None
        await asyncio.wait_for(asyncio.gather(*waiting), LONG)
        assert cancelled.cancelled()

    with persist.open(path, lock_timeout=LONG) as store:
        asyncio.run(main(store))
    holder.wait(LONG)
    with persist.open(path) as store, store.root.lock(timeout=0), store.transaction():
        pass


def test_trio(root: persist.Dict) -> None:
    trio = pytest.importorskip("trio")
    root["l"] = []
    found: list[Any] = []

    async def follow() -> None:
        async for change in root.watch(timeout=LONG):
            found.append(change.key)
            return

    async def take() -> None:
        found.append(await root["l"].pop_wait_async(timeout=LONG))

    async def main() -> None:
        with trio.fail_after(LONG):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
                nursery.start_soon(take)
                await trio.sleep(0.02)
                root["l"].append("item")
                root["x"] = 1

    trio.run(main)
    assert sorted(found) == ["item", "x"]


@pytest.mark.parametrize("where", ["thread", "task"])
def test_a_transaction_elsewhere_does_not_block_the_loop(
    store: persist.Store, root: persist.Dict, where: str
) -> None:
    root["l"] = []
    items = root["l"]
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with store.transaction():
            items.append("item")
            inside.set()
            leave.wait(LONG)

    async def main() -> None:
        ending = asyncio.Event()

        async def hold_in_task() -> None:
            async with store.transaction_async():
                items.append("item")
                inside.set()
                await ending.wait()

        holding = asyncio.to_thread(hold) if where == "thread" else hold_in_task()
        holder = asyncio.ensure_future(holding)
        while not inside.is_set():
            await asyncio.sleep(0.001)

        async def follow() -> Any:
            with items.watch() as watch:
                async for change in watch:
                    return change.kind

        waiting = [asyncio.ensure_future(it) for it in (follow(), items.pop_wait_async(timeout=LONG))]
        with pytest.raises(TimeoutError):
            await items.pop_wait_async(timeout=0.02)
        assert not any(task.done() for task in waiting)
        leave.set()
        ending.set()
        # The change was committed after `watch()`, which could not begin before.
        assert await asyncio.wait_for(asyncio.gather(*waiting), LONG) == ["overflow", "item"]
        await holder

    asyncio.run(main())
