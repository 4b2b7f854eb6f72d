"""`persist lock`: a command runs while a path of a store, or of a mount, is locked."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import persist
import pytest
from acceptance import BIN, DEADLINE, Processes, need_fuse, wait_until
from test_readme import unmount

PERSIST = str(BIN / "persist")


def lock(*args: Any) -> subprocess.CompletedProcess[str]:
    command = [PERSIST, "lock", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with persist.open(tmp_path / "a.store", lock_timeout=0.1) as store:
        store.root.update({"people": {"Joe": 25, "a/b": 1, "7": 7, 7: 8}, "list": [1, 2]})
        yield store


def held(procs: Processes, *args: Any) -> subprocess.Popen[str]:
    """Start a command that runs until its input ends, and wait until it runs."""
    child = procs.start(PERSIST, "lock", *args, "--", "sh", "-c", "echo held; exec cat")
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


def test_exit_status(store: Any) -> None:
    path = store.path
    assert lock(path, "--", "true").returncode == 0
    assert lock(path, "people/Joe", "--", "sh", "-c", "exit 7").returncode == 7
    assert lock(path, "--", "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL
    assert lock(path, "--", "/nowhere/command").returncode == 127
    assert lock(path, "--", "/etc").returncode == 126
    missing = lock(path, "people/Ann", "--", "true")
    assert missing.returncode == 1 and "Ann" in missing.stderr
    assert "--timeout" in lock(path, "--timeout", "soon", "--", "true").stderr
    assert lock(path).returncode == 2


def test_it_keeps_python_and_others_out(store: Any, procs: Processes) -> None:
    people = store.root["people"]
    for where, key in ((("people/Joe",), "Joe"), (("people/a%2Fb",), "a/b"), (("people/7",), "7")):
        child = held(procs, store.path, *where)
        with pytest.raises(persist.LockTimeout, match=f'pid {child.pid}, "persist"'):
            people[key] = 1
        people[7] = 9
        told = lock(f"{store.path}/{where[0]}", "--timeout", "0.05", "--", "true")
        assert told.returncode == 75 and f"pid {child.pid}" in told.stderr
        listed = subprocess.run([PERSIST, "locks", store.path], capture_output=True, text=True, check=True).stdout
        assert f"root['people']['{key}']" in listed and f'pid {child.pid}, "persist"' in listed
        child.communicate(timeout=DEADLINE)
        assert child.returncode == 0
        people[key] = 1
    child = held(procs, store.path, "list/0", "--shared")
    assert lock(store.path, "list", "--shared", "--", "true").returncode == 0
    assert lock(store.path, "list/1", "--timeout", "0", "--", "true").returncode == 75
    child.kill()
    child.wait()
    wait_until(lambda: lock(store.path, "list", "--timeout", "0", "--", "true").returncode == 0)


def test_on_a_mount(store: Any, procs: Processes, tmp_path: Path) -> None:
    need_fuse()
    point = tmp_path / "mnt"
    point.mkdir()
    subprocess.run([str(BIN / "mount.persist"), str(store.path), str(point)], check=True, timeout=DEADLINE)
    try:
        people = store.root["people"]
        for where, container, value in (
            ("people/Joe", people, "people/Joe"), ("people", people, "people/Joe"), ("", store.root, "list/0"),
        ):  # fmt: skip
            child = held(procs, point / where)
            with pytest.raises(persist.LockTimeout):
                container["Joe"] = 1
            assert lock(point / where, "--timeout", "0.05", "--", "true").returncode == 75
            # The command itself, and other commands, may change what is locked.
            (point / value).write_text("26\n")
            child.communicate(timeout=DEADLINE)
        assert lock(point / "people/Joe", "--shared", "--", sys.executable, "-c", "raise SystemExit(3)").returncode == 3
        assert store.root["people"]["Joe"] == 26
    finally:
        unmount(point)
