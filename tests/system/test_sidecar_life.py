"""Processes that hold something and do not respond: stopped, ended without a close, or a forked child that lives on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import persist
import pytest
from acceptance import Processes, line, tell

STOPPED = """
import persist, sys
with persist.open(sys.argv[1]) as store:
    root = store.root
    if sys.argv[2] == "lock":
        root["a"].lockExcl()
        print("holds", flush=True)
        sys.stdin.readline()
        root["a"]["x"] = 1
        root["a"].unlock()
    else:
        with store.transaction():
            root["a"]["x"] = 1
            print("holds", flush=True)
            sys.stdin.readline()
    print("done", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("what", ["lock", "latch"])
def test_a_stopped_holder_is_named_and_continues(store: Path, procs: Processes, what: str) -> None:
    with persist.open(store, lock_timeout=0.5) as opened:
        opened.root["a"] = {"x": 0}
        opened.root["b"] = 0
        child = procs.python(STOPPED, store, what)
        line(child, "holds")
        os.kill(child.pid, signal.SIGSTOP)
        for change in (
            lambda: opened.root["a"].update(x=2),
            lambda: opened.root["a"].lock(timeout=0.3).__enter__(),
        ):
            if what == "latch" and change is not None:
                # The latch excludes all changes.
                with pytest.raises(persist.LockTimeout, match=rf"\b{child.pid}\b"):
                    opened.root["b"] = 1
            begin = time.monotonic()
            with pytest.raises(persist.LockTimeout, match=rf"\b{child.pid}\b"):
                change()
            assert time.monotonic() - begin > 0.25
        if what == "lock":
            # Only the locked entry is blocked.
            opened.root["b"] = 1
            assert opened.root["a"]["x"] == 0
        # It was not taken for dead: it still holds its lock.
        tell(child)
        os.kill(child.pid, signal.SIGCONT)
        line(child, "done")
        assert opened.root["a"]["x"] == 1
        opened.root["a"]["x"] = 3
        with opened.root["a"].lock(timeout=100):
            opened.root["b"] = 2
        assert opened.stat()["processes"] == 2


def in_thread(f: Callable[[], object]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            f()
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(100)
    assert not thread.is_alive() and failed == []


def test_a_thread_that_ends_leaves_nothing_locked(store: Path, procs: Processes) -> None:
    with persist.open(store, lock_timeout=100) as opened:
        root = opened.root
        root["a"] = {"x": 0}

        def forget_unlock() -> None:
            root["a"].lockExcl()
            root["a"].lockExcl()
            root["a"]["x"] = 1
            root.lock(key="b", shared=True).__enter__()

        in_thread(forget_unlock)
        # From this thread, and from another process.
        with root["a"].lock(timeout=100):
            root["a"]["x"] += 1
        child = procs.worker("hold", store, "a")
        line(child, "ready")
        line(child, "locked")
        tell(child)
        line(child, "unlocked")

        left = opened.transaction()

        def forget_commit() -> None:
            left.__enter__()
            root["a"]["x"] = 100
            root["c"] = {}

        in_thread(forget_commit)
        root["d"] = 1
        assert persist.copy_out(root) == {"a": {"x": 2}, "d": 1}
        with pytest.raises(persist.TransactionAborted):
            left.__exit__(None, None, None)
        tell(child)


def live_on(ready: object, sign: object, opened: persist.Store, change: bool) -> None:
    if change:
        opened.root["child"] = 1
    ready.set()  # type: ignore[attr-defined]
    sign.wait(200)  # type: ignore[attr-defined]
    opened.root["later"] = 1


# The test forks with threads on purpose (newer interpreters warn of it).
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("change", [False, True])
def test_a_forked_child_that_lives_on_does_not_keep_close_from_saving(
    store: Path, tmp_path: Path, change: bool
) -> None:
    fork = multiprocessing.get_context("fork")
    ready, sign = fork.Event(), fork.Event()
    with persist.open(store) as opened:
        opened.root["parent"] = 1
        child = fork.Process(target=live_on, args=(ready, sign, opened, change))
        child.start()
        try:
            assert ready.wait(100)
            opened.root["after"] = 2
        except BaseException:
            child.kill()
            raise
    # Closed, while the child has it open: a power failure would leave the file without its sidecar.
    cut = tmp_path / "cut.store"
    shutil.copyfile(store, cut)
    with persist.open(cut) as left:
        assert persist.copy_out(left.root) == {"parent": 1, "after": 2} | ({"child": 1} if change else {})
    sign.set()
    child.join(100)
    assert child.exitcode == 0
    with persist.open(store) as opened:
        assert opened.root["later"] == 1
