"""What a program should know and no call raises: records of `logging.getLogger("persist")`."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

import persist
import pytest
from conftest import Script, wait_until

HOLDER = """
    import os, signal, sys, persist
    store = persist.open(sys.argv[1])
    if sys.argv[2] == "lock":
        store.root.lock_exclusive()
    store.root["n"] = 1
    print("ready", flush=True)
    sys.stdin.read()
"""


def killed(script: Script, path: Path, what: str) -> int:
    holder = script.start(HOLDER, path, what)
    assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    return int(holder.pid)


def said(caplog: pytest.LogCaptureFixture, *parts: str) -> Any:
    """Return whether a record of the logger has all of these parts."""
    return any(r.name == "persist" and all(part in r.getMessage() for part in parts) for r in caplog.records)


def test_a_store_whose_processes_were_killed(
    script: Script, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed(script, path, "none")
    with persist.open(path) as store:
        assert store.root["n"] == 1
        assert said(caplog, str(path), "have ended without closing it")
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


def test_locks_of_a_process_that_was_killed(
    script: Script, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with persist.open(path) as store:
        killed(script, path, "lock")
        store.root["n"] = 2
        wait_until(lambda: said(caplog, str(path), "has ended with locks or waits"))


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("none", "INFO:persist:{}: process {} has ended without closing the store"),
        ("lock", "WARNING:persist:{}: process {} has ended with locks or waits: they are released"),
    ],
)
def test_a_process_that_was_killed_beside_others(script: Script, path: Path, what: str, told: str) -> None:
    with persist.open(path):
        pid = killed(script, path, what)
        opening = script.start(
            """
            import logging, sys, persist
            logging.basicConfig(level=logging.INFO, stream=sys.stdout)
            persist.open(sys.argv[1])
            """,
            path,
        )
        out, _ = opening.communicate(timeout=100)
        assert told.format(path, pid) in out.splitlines()


def test_a_watch_that_falls_behind(store: persist.Store, caplog: pytest.LogCaptureFixture) -> None:
    with store.root.watch() as watch:
        for n in range(200_000):
            store.root["n"] = n
        kinds = [next(watch).kind]
    assert kinds == ["overflow"]
    wait_until(lambda: said(caplog, "a watch fell behind"))


def test_a_value_of_a_type_that_is_not_registered(
    store: persist.Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "persist")
    store.root["a"] = persist.Opaque("app.logged", "x")
    for _ in range(3):
        assert store.root["a"].name == "app.logged"
    assert said(caplog, "'app.logged'", "is not registered")
    assert len(caplog.records) == 1


def test_records_that_are_dropped_are_counted(store: persist.Store, caplog: pytest.LogCaptureFixture) -> None:
    watches = [store.root.watch() for _ in range(300)]
    for n in range(200_000):
        store.root["n"] = n
    # No record is delivered while the main thread waits for another.
    thread = threading.Thread(target=lambda: [watch.poll() for watch in watches])
    thread.start()
    thread.join()
    wait_until(lambda: said(caplog, "dropped"))
    behind = [r for r in caplog.records if "a watch fell behind" in r.getMessage()]
    (dropped,) = (r for r in caplog.records if "dropped" in r.getMessage())
    assert dropped.getMessage() == f"{300 - len(behind)} records were dropped: too many waited"
    assert dropped.levelno == logging.WARNING and dropped is caplog.records[-1]
    # The next ones are delivered again, and nothing is told twice.
    caplog.clear()
    for n in range(200_000):
        store.root["n"] = n
    assert [change.kind for change in [watches[0].poll()] if change] == ["overflow"]
    wait_until(lambda: said(caplog, "a watch fell behind"))
    assert not said(caplog, "dropped")
    for watch in watches:
        watch.close()
