"""`List.wait` and `List.pop_wait`: workers that need not poll."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import persist
import pytest
from conftest import Script, wait_until

LONG = 100


def test_an_item_is_taken_at_once(root: persist.Dict) -> None:
    root["l"] = [1, {"a": 2}, 3]
    items = root["l"]
    items.wait()
    items.wait(0)
    assert items.pop_wait() == 1 and items.pop_wait(-1, 0) == 3
    taken = items.pop_wait(timeout=0)
    assert isinstance(taken, persist.Dict) and taken == {"a": 2}
    assert items == []


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_time_out(root: persist.Dict, timeout: float) -> None:
    root["l"] = []
    items = root["l"]
    calls = [
        lambda: items.wait(timeout),
        lambda: items.pop_wait(timeout=timeout),
        lambda: items.pop_wait(0, timeout),
    ]
    for call in calls:
        begun = time.monotonic()
        with pytest.raises(persist.LockTimeout, match=r"waiting for an item of root\['l'\]") as e:
            call()
        assert isinstance(e.value, TimeoutError) and time.monotonic() - begun >= timeout
        assert (e.value.path, e.value.holder) == ("root['l']", None)
    items.append(1)
    with pytest.raises(persist.LockTimeout):
        items.pop_wait(1, timeout)
    for bad in (-1, "x"):
        with pytest.raises((ValueError, TypeError)):
            items.pop_wait(0, bad)  # type: ignore[arg-type]
    assert items == [1]


def test_a_wait_ends_with_an_item_and_with_a_signal(root: persist.Dict) -> None:
    root["l"] = []
    items = root["l"]
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(items.pop_wait(timeout=LONG)))
    thread.start()
    time.sleep(0.02)
    items.append("x")
    thread.join(LONG)
    assert got == ["x"] and items == []
    threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        items.pop_wait()
    items.append("y")
    assert items.pop_wait() == "y"


def test_no_wait_inside_a_transaction(store: persist.Store, root: persist.Dict) -> None:
    root["l"] = []
    with store.transaction():
        with pytest.raises(persist.Error, match="inside a transaction"):
            root["l"].wait()
        root["l"].append(1)
        assert root["l"].pop_wait() == 1


def test_a_list_that_goes(root: persist.Dict) -> None:
    root["l"] = []
    items = root["l"]
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            items.wait(timeout=0.2)
        except persist.LockTimeout as e:
            errors.append(e)

    thread = threading.Thread(target=wait)
    thread.start()
    del root["l"]
    thread.join(LONG)
    # The list itself is kept by its proxy.
    assert "not in the graph" in str(errors[0])


WORKER = """
    import persist, sys
    with persist.open(sys.argv[1]) as store:
        jobs, done = store.root["jobs"], store.root["done"]
        print("ready", flush=True)
        while (job := jobs.pop_wait(timeout=100)) is not None:
            done.append(job)
"""


def test_one_of_several_processes_gets_each_item(path: Path, script: Script) -> None:
    with persist.open(path) as store:
        store.root.update(jobs=[], done=[])
        jobs, done = store.root["jobs"], store.root["done"]
        workers = [script.start(WORKER, path) for _ in range(4)]
        for worker in workers:
            assert worker.stdout and worker.stdout.readline() == "ready\n"
        for n in range(0, 200, 2):
            jobs.extend([n, n + 1])
            if n % 20 == 0:
                time.sleep(0.005)
        wait_until(lambda: len(done) == 200)
        # One that is killed while it waits takes nothing.
        workers[0].kill()
        workers[0].wait()
        jobs.extend([None] * 3)
        for worker in workers[1:]:
            script.finish(worker)
        assert sorted(done) == list(range(200)) and jobs == []


def test_a_deque_gives_its_items_to_those_that_wait(root: persist.Dict) -> None:
    root["q"] = collections.deque([1, 2], maxlen=5)
    queue = root["q"]
    assert [queue.get(), queue.get(timeout=0)] == [1, 2]
    with pytest.raises(TimeoutError):
        queue.get(timeout=0.01)
    assert asyncio.run(later(queue, 7)) == 7
    assert list(queue) == []


async def later(queue: persist.Deque, item: int) -> object:
    """Return what a task gets that waits before there is an item."""
    waiting = asyncio.ensure_future(queue.get_async(timeout=LONG))
    await asyncio.sleep(0)
    queue.append(item)
    return await waiting


def fillable() -> dict[str, tuple[object, Callable[[Any], object]]]:
    """Return empty containers, and what puts an entry into each."""
    return {
        "Dict": ({}, lambda c: c.update(a=1)),
        "List": ([], lambda c: c.append(1)),
        "Set": (set(), lambda c: c.add(1)),
        "Deque": (collections.deque(), lambda c: c.appendleft(1)),
        "bounded Deque": (collections.deque(maxlen=2), lambda c: c.append(1)),
        "SortedDict": (persist.SortedDict(), lambda c: c.update({1: 1})),
        "OrderedDict": (collections.OrderedDict(), lambda c: c.update(a=1)),
    }


@pytest.mark.parametrize("what", fillable())
def test_a_wait_for_any_container(store: persist.Store, path: Path, script: Script, what: str) -> None:
    value, fill = fillable()[what]
    store.root["c"] = value
    c = store.root["c"]
    for timeout in (0, 0.05):
        with pytest.raises(persist.LockTimeout, match=r"waiting for an (item|entry) of root\['c'\]") as e:
            c.wait(timeout)
        assert e.value.path == "root['c']"
        with pytest.raises(persist.LockTimeout, match=r"waiting for an (item|entry) of root\['c'\]"):
            asyncio.run(wait_async(c, timeout))
    for bad in (-1, "x"):
        with pytest.raises((ValueError, TypeError)):
            c.wait(bad)
        with pytest.raises((ValueError, TypeError)):
            c.wait_async(bad)
    other = script.start(
        """
        import persist, sys
        with persist.open(sys.argv[1]) as store:
            print("ready", flush=True)
            store.root["c"].wait(timeout=100)
            print(len(store.root["c"]), flush=True)
        """,
        path,
    )
    assert other.stdout is not None and other.stdout.readline() == "ready\n"
    thread = threading.Thread(target=lambda: c.wait(LONG))
    thread.start()

    async def both() -> None:
        asyncio.get_running_loop().call_later(0.05, fill, c)
        await c.wait_async(timeout=LONG)

    asyncio.run(both())
    thread.join(LONG)
    assert not thread.is_alive() and script.finish(other) == "1\n"
    c.wait()
    asyncio.run(wait_async(c, 0))


async def wait_async(c: Any, timeout: float) -> None:
    await c.wait_async(timeout)
