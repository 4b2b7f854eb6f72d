"""The bound on loss from Python: changes older than max_age are in a checkpoint, and its thread costs little."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import persist
import pytest


def until(what: str, come: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not come():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.005)


def durable(store: persist.Store) -> bool:
    return store.stat()["undurable_age"] is None


def helpers() -> int:
    names = [p.read_text() for p in Path("/proc/self/task").glob("*/comm")]
    return sum(name.startswith("persist-helper") for name in names)


def after_a_cut(path: Path, key: str) -> object:
    """Return the content of the file alone."""
    copy = path.with_suffix(".copy")
    shutil.copyfile(path, copy)
    with persist.open(copy, "r") as store:
        found = store.root.get(key)
    for left in path.parent.glob(copy.name + "*"):
        left.unlink()
    return found


def test_older_than_the_bound_is_durable(tmp_path: Path) -> None:
    path = tmp_path / "a.store"
    store = persist.open(path, max_age=0.05)
    for n in range(3):
        store.root["x"] = n
        until("durability", lambda: durable(store))
        assert after_a_cut(path, "x") == n
    store.close()
    until("the end of the thread", lambda: helpers() == 0)


def test_without_a_bound_nothing_is_flushed(tmp_path: Path) -> None:
    path = tmp_path / "a.store"
    with persist.open(path, max_age=None) as store, persist.open(tmp_path / "b.store", max_age=0.05) as other:
        store.root["x"] = 0
        store.sync()
        before = store.stat()["checkpoint"]
        store.root["x"] = 1
        changed = time.time()
        # Several times the other store's bound, whose helper is this process's only one.
        for n in range(5):
            other.root["x"] = n
            until("durability elsewhere", lambda: durable(other))
        assert helpers() == 1
        # The age is that of the change, and grows.
        age = store.stat()["undurable_age"]
        assert 0 <= age <= time.time() - changed + 0.05
        until("a greater age", lambda: store.stat()["undurable_age"] > age)
        assert store.stat()["checkpoint"] == before
        assert after_a_cut(path, "x") == 0
        # A later opening of this process can set a bound.
        with persist.open(path, max_age=0.05):
            until("durability", lambda: durable(store))
        assert after_a_cut(path, "x") == 1


@pytest.mark.parametrize("wrong", [0, -1, float("nan")])
def test_wrong_bounds(tmp_path: Path, wrong: float) -> None:
    with pytest.raises(ValueError):
        persist.open(tmp_path / "a.store", max_age=wrong)


def test_a_process_ends_at_once(tmp_path: Path) -> None:
    program = """
import persist, sys
store = persist.open(sys.argv[1], max_age=3600)
store.root['x'] = 1
"""
    for end in ("store.close()", "", "import os; os._exit(0)"):
        subprocess.run(
            [sys.executable, "-c", program + end, str(tmp_path / "a.store")], check=True, timeout=120
        )
    with persist.open(tmp_path / "a.store") as store:
        assert store.root["x"] == 1


def test_a_forked_child(tmp_path: Path) -> None:
    path = tmp_path / "a.store"
    with persist.open(path, max_age=0.05) as store:
        store.root["parent"] = 1
        child = os.fork()
        if child == 0:
            code = 1
            try:
                store.root["child"] = 1
                until("durability in the child", lambda: durable(store))
                code = 0 if helpers() == 1 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert after_a_cut(path, "child") == 1


def test_a_thread_that_keeps_the_interpreter_does_not_delay_durability(tmp_path: Path) -> None:
    """The helper is a thread without the interpreter, and does not wait for its turn."""
    path = tmp_path / "a.store"
    usleep = ctypes.PyDLL(None).usleep
    with persist.open(path, max_age=0.05) as store:
        store.root["x"] = -1
        until("durability", lambda: durable(store))
        for n in range(50):
            store.root["x"] = n
            # This call does not let other threads of Python run.
            usleep(500_000)
            if after_a_cut(path, "x") == n:
                return
    pytest.fail("no change became durable while a thread kept the interpreter")
