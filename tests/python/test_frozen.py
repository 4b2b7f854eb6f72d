"""Views of a moment: `store.frozen()` stays as it is while threads, tasks and processes change the store."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import persist
import pytest
from conftest import Script


class Person(persist.Object):
    def __init__(self, name: str, age: int) -> None:
        self.name, self.age = name, age


def fill(root: Any) -> None:
    root["n"] = 1
    root["l"] = list(range(300))
    root["d"] = {"x": {"y": [1, "two", 3.5]}, 5: b"bytes" * 900}
    root["joe"] = Person("Joe", 27)
    root["again"] = root["joe"]
    root["s"] = {1, 2}


def change(root: Any, n: int) -> None:
    root["n"] = n
    root["l"].append(n)
    root["l"][0] = -n
    root["d"] = {"new": n}
    root["joe"].age = n
    root["s"].add(n)
    root[f"k{n}"] = "x" * 3000


def test_a_view_stays_as_it_is(store: Any) -> None:
    root = store.root
    fill(root)
    was = persist.copy_out(root, objects=dict)
    with store.frozen() as view:
        for n in range(2, 40):
            change(root, n)
            if n % 10 == 0:
                store.sync()
        del root["joe"]
        assert persist.copy_out(view.root, objects=dict) == was
        assert view["n"] == 1 and root["n"] == 39
        assert view["joe"].age == 27 and view["joe"] is view["again"]
        assert list(view["l"]) == list(range(300)) and root["l"][-1] == 39
        assert [key for key in view] == ["n", "l", "d", "joe", "again", "s"]
        assert persist.copy_out(view["d"]) == {"x": {"y": [1, "two", 3.5]}, 5: b"bytes" * 900}
        assert copy.deepcopy(view["d"]) == persist.copy_out(view["d"])
        assert view["s"] == {1, 2}
        assert (view.mode, view.closed, view.in_transaction) == ("r", False, False)
        assert view.opened_snapshot is None and view.path == store.path
    assert view.closed
    with pytest.raises(ValueError, match="closed"):
        view["n"]
    with pytest.raises(ValueError, match="closed"):
        view.frozen()


def test_a_view_is_read_only(store: Any) -> None:
    store.root["d"] = {"a": 1}
    with store.frozen() as view:
        held = view["d"]
        for attempt in (
            lambda: view.__setitem__("x", 1),
            lambda: held.update(b=2),
            lambda: held.clear(),
            lambda: view.sync(),
            lambda: view.gc(),
            lambda: view.snapshot("s"),
            lambda: view.drop_snapshot("s"),
            lambda: view.transaction().__enter__(),
        ):
            with pytest.raises(OSError):
                attempt()
        with pytest.raises(ValueError, match="cannot be locked"):
            held.lock_exclusive()
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(held)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(view)
        # What is stored elsewhere is a copy.
        store.root["copy"] = held
    assert store.root["copy"] == {"a": 1} and store.root["copy"] is not store.root["d"]
    with pytest.raises((persist.ViewEnded, ValueError)):
        held["a"]


def test_views_of_several_moments_and_of_a_view(store: Any) -> None:
    views = []
    for n in range(10):
        store["n"] = n
        views.append(store.frozen())
    with views[3].frozen() as again:
        assert again["n"] == 3
    assert views[3]["n"] == 3
    for n in (7, 0, 9, 4, 3):
        assert views[n]["n"] == n
        views[n].close()
        store["n"] = -1
        store.sync()
    for n in (1, 2, 5, 6, 8):
        assert views[n]["n"] == n
    del views
    gc.collect()
    store.snapshot("s")
    store["n"] = 100
    with store.at("s") as snapshot, snapshot.frozen() as view:
        assert view["n"] == -1


def test_a_view_shows_the_state_before_an_open_transaction(store: Any) -> None:
    store["n"] = 1
    with store.transaction():
        store["n"] = 2
        store["more"] = ["x" * 5000]
        view = store.frozen()
        assert view["n"] == 1 and "more" not in view and store["n"] == 2
    assert view["n"] == 1 and store["n"] == 2
    with pytest.raises(RuntimeError, match="undo"), store.transaction():
        store["n"] = 3
        inside = store.frozen()
        raise RuntimeError("undo")
    assert inside["n"] == 2 and view["n"] == 1 and store["n"] == 2
    # A thread has a transaction open.
    begun, go = threading.Event(), threading.Event()

    def changes() -> None:
        with store.transaction():
            store["n"] = 4
            begun.set()
            assert go.wait(60)

    thread = threading.Thread(target=changes)
    thread.start()
    assert begun.wait(60)
    with store.frozen() as beside:
        assert beside["n"] == 2
        go.set()
        thread.join()
        assert beside["n"] == 2 and store["n"] == 4
    view.close()
    inside.close()


def test_a_closed_store_ends_its_views(path: Path) -> None:
    with persist.open(path) as store:
        store["n"] = 1
        view = store.frozen()
        assert view["n"] == 1
        held = view.root
    for use in (lambda: view["n"], lambda: held["n"], lambda: view.frozen()["n"]):
        with pytest.raises(ValueError):
            use()
    view.close()
    with persist.open(path) as store:
        assert store["n"] == 1


def test_threads_read_a_view_beside_writers(store: Any) -> None:
    store.root["d"] = {str(i): 0 for i in range(200)}
    errors: list[BaseException] = []
    done = threading.Event()

    def writes() -> None:
        n = 0
        while not done.is_set():
            n += 1
            with store.transaction():
                for i in range(0, 200, 7):
                    store["d"][str(i)] = n
            if n % 20 == 0:
                store.sync()

    def reads() -> None:
        try:
            for _ in range(15):
                with store.frozen() as view:
                    once = persist.copy_out(view["d"])
                    assert len({once[str(i)] for i in range(0, 200, 7)}) == 1
                    assert dict(view["d"].items()) == once
        except BaseException as e:
            errors.append(e)

    writer = threading.Thread(target=writes)
    readers = [threading.Thread(target=reads) for _ in range(3)]
    for thread in (writer, *readers):
        thread.start()
    for thread in readers:
        thread.join()
    done.set()
    writer.join()
    assert not errors, errors


def test_tasks_read_a_view(store: Any) -> None:
    store["n"] = 0

    async def reads() -> None:
        with store.frozen() as view:
            was = view["n"]
            for _ in range(20):
                await asyncio.sleep(0)
                assert view["n"] == was

    async def writes() -> None:
        for n in range(30):
            async with store.transaction_async():
                store["n"] = n
                await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(writes(), reads(), reads())

    asyncio.run(both())
    assert store["n"] == 29


def test_a_large_copy_is_of_one_moment(store: Any) -> None:
    store.root["d"] = {str(i): [0] for i in range(3000)}
    stop = threading.Event()

    def writes() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            with store.transaction():
                for i in range(0, 3000, 500):
                    store["d"][str(i)][0] = n

    thread = threading.Thread(target=writes)
    thread.start()
    try:
        for _ in range(5):
            out = persist.copy_out(store.root["d"])
            assert len(out) == 3000 and len({out[str(i)][0] for i in range(0, 3000, 500)}) == 1
    finally:
        stop.set()
        thread.join()
    # In a transaction it is the transaction's state.
    with store.transaction():
        store["d"]["0"][0] = -5
        assert persist.copy_out(store["d"])["0"] == [-5]


HOLDER = """
    import sys
    import persist

    store = persist.open(sys.argv[1])
    view = store.frozen()
    print(view['n'], flush=True)
    for line in sys.stdin:
        print(view['n'], flush=True)
"""


def test_views_of_other_processes(script: Script, path: Path) -> None:
    with persist.open(path) as store:
        store["n"] = 1
        holder = script.start(HOLDER, path)
        assert holder.stdin is not None and holder.stdout is not None
        assert int(holder.stdout.readline()) == 1
        for n in range(2, 30):
            store["n"] = n
            store[f"k{n}"] = "x" * 4000
            store.sync()
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert int(holder.stdout.readline()) == 1
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        for n in range(4):
            store["n"] = n
            store.sync()
    checked = subprocess.run(
        [Path(sys.executable).parent / "persist", "check", path], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
