"""A completed change is not repeated, even if the wait for its durability ends early."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import persist
import pytest

COMMITTING = """
import sys, persist
with persist.open(sys.argv[1], durability="commit") as store:
    print("there", flush=True)
    n = 0
    while True:
        n += 1
        store.root["other"] = n
"""


@pytest.fixture
def committing(path: Path) -> Iterator[int]:
    """Return a process that commits all the time."""
    with subprocess.Popen([sys.executable, "-c", COMMITTING, path], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"there\n"
            yield child.pid
        finally:
            os.kill(child.pid, signal.SIGCONT)
            child.kill()


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        while Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1][0] not in "tT":
            time.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_the_exception() -> None:
    assert issubclass(persist.DurabilityUnknown, persist.Error)
    assert issubclass(persist.DurabilityUnknown, OSError)
    # It is not an exception that means "try again".
    assert not issubclass(persist.DurabilityUnknown, TimeoutError)


def test_a_change_that_waits_for_a_stopped_process_is_done_once(path: Path, committing: int) -> None:
    with persist.open(path, durability="commit", lock_timeout=0.15) as store:
        root = store.root
        root["list"] = []
        values = root["list"]
        want: list[int] = []
        unknown = 0
        end = time.monotonic() + 60
        n = 0
        while unknown < 4 and time.monotonic() < end:
            n += 1
            time.sleep(0.0003 * (n % 7))
            with stopped(committing):
                try:
                    if n % 2:
                        values.append(n)
                    else:
                        with store.transaction():
                            values.append(n)
                    want.append(n)
                except persist.DurabilityUnknown as e:
                    assert e.errno is not None and "do not repeat it" in str(e)
                    want.append(n)
                    unknown += 1
                except persist.LockTimeout:
                    # The process was stopped in an operation: nothing was changed.
                    pass
            while True:
                with contextlib.suppress(persist.LockTimeout):
                    assert list(values) == want
                    break
        assert want
        # Most runs reach this; where flushes take no time, it may not happen.
        print(f"{unknown} of {n} waits met their bound")
        store.sync()


class Rings(Exception):
    pass


def ring(*_: object) -> None:
    raise Rings


def test_a_signal_ends_the_wait_for_the_disk_and_says_that_the_change_is_done(path: Path, committing: int) -> None:
    """Once each, also by `Store.run`, which repeats nothing that is done."""
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with persist.open(path, durability="commit", lock_timeout=1000) as store:
            store.root["list"] = []
            values = store.root["list"]
            want: list[int] = []
            known, n, end = 0, 0, time.monotonic() + 100
            while known < 4 and time.monotonic() < end:
                n += 1
                time.sleep(0.0003 * (n % 7))
                is_done: bool | None = True
                with stopped(committing):
                    signal.setitimer(signal.ITIMER_REAL, 0.1)
                    try:
                        if n % 2:
                            values.append(n)
                        else:
                            store.run(lambda: values.append(n))  # noqa: B023
                    except Rings as e:
                        if isinstance(e.__cause__, persist.DurabilityUnknown):
                            assert "do not repeat it" in str(e.__cause__)
                            known += 1
                        else:
                            # Raised in a wait before the change, or just after the call.
                            is_done = None
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                found = list(values)
                if is_done or found != want:
                    want.append(n)
                assert found == want
            assert known, f"none of {n} waits was for the disk"
            store.sync()
    finally:
        signal.signal(signal.SIGALRM, before)
