"""kill -9 (P1): no acknowledged change is lost, the interrupted one is whole or absent, other processes continue."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import persist
import pytest
from acceptance import TOP, Processes, best_of, line, need_fuse, wait_until


class Acks:
    """The numbers that a worker reports, followed through a file (which outlives the worker)."""

    def __init__(self, path: Path, files: contextlib.ExitStack) -> None:
        self.file = files.enter_context(path.open("w+"))

    def last(self) -> int:
        # Not all of it: the file grows while it is read, and faster than a busy machine reads it.
        fd = self.file.fileno()
        begin = max(os.fstat(fd).st_size - 4096, 0)
        rows = os.pread(fd, 1 << 20, begin).split(b"\n")[1 if begin else 0 : -1]
        return next((int(row) for row in reversed(rows) if row.isdigit()), 0)


SHELL = """
echo ready
while :; do
    n=$(($(cat "$1/shell") + 1))
    /bin/echo $n >"$1/shell" && echo $n
done
"""


def test_a_killed_writer_loses_nothing(
    store: Path, tmp_path: Path, procs: Processes, mount: Callable[..., Path]
) -> None:
    with persist.open(store) as opened, contextlib.ExitStack() as files:
        opened.root.update(victim=0, other=0, shell=0)
        mnt = mount(store)
        acks = {name: Acks(tmp_path / name, files) for name in ("victim", "other", "shell")}
        procs.worker("acknowledge", store, "other", stdout=acks["other"].file)
        procs.bash(SHELL, mnt, stdout=acks["shell"].file)

        def continues() -> float:
            """Return how long the other writer takes to its next report."""
            begin, said = time.monotonic(), acks["other"].last()
            wait_until(lambda: acks["other"].last() > said, what="the other writer to go on")
            return time.monotonic() - begin

        continues()
        idle, waited = [continues() for _ in range(30)], []
        for _ in range(10):
            victim = procs.worker("acknowledge", store, "victim", stdout=acks["victim"].file)
            begin = acks["victim"].last()
            wait_until(lambda begin=begin: acks["victim"].last() > begin + 50, what="the victim's increments")
            os.kill(victim.pid, signal.SIGKILL)
            waited.append(continues())
            victim.wait()
            shell = acks["shell"].last()
            wait_until(lambda shell=shell: acks["shell"].last() > shell, what="the shell to go on")
            assert opened.root["victim"] - acks["victim"].last() in (0, 1)
        # Half of the ten, and in addition to the time without kills: delays by other work of the machine are not the
        # store's.
        assert sorted(waited)[5] < 0.1 + max(idle), (waited, idle)
        procs.close()
        for name in "other", "shell":
            assert opened.root[name] - acks[name].last() in (0, 1), name


def test_a_process_that_does_not_close_loses_nothing(store: Path, procs: Processes) -> None:
    code = (
        "import os, sys, persist\n"
        "root = persist.open(sys.argv[1]).root\n"
        "root['a'] = {'b': [1, 2, 'x' * 100000]}\n"
        "print('done', flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    child = procs.python(code, store)
    line(child, "done")
    child.wait()
    with persist.open(store) as opened:
        assert persist.copy_out(opened.root) == {"a": {"b": [1, 2, "x" * 100000]}}


def test_an_open_transaction_of_a_dead_process_is_undone(store: Path, procs: Processes) -> None:
    code = (
        "import os, sys, persist\n"
        "store = persist.open(sys.argv[1])\n"
        "with store.transaction():\n"
        "    store.root['list'].extend(range(1000))\n"
        "    store.root['new'] = {'k': 1}\n"
        "    store.root['n'] = 2\n"
        "    del store.root['gone']\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    before = {"list": [0], "n": 1, "gone": {"still": "here"}}
    with persist.open(store) as opened:

        def undone() -> float:
            opened.root.clear()
            opened.root.update(before)
            child = procs.python(code, store)
            line(child, "open")
            os.kill(child.pid, signal.SIGKILL)
            begin = time.monotonic()
            assert persist.copy_out(opened.root) == before
            opened.root["n"] = 3
            took = time.monotonic() - begin
            assert opened.root["n"] == 3
            return took

        best_of(20, 0.1, undone)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["kill", "power"])
def test_torture_for_twenty_seconds(mode: str) -> None:
    if mode == "kill":
        need_fuse()
    done = subprocess.run(
        # One of twenty waits may be delayed by the machine.
        [sys.executable, TOP / "scripts/lib/torture.py", mode, "20", "--limit", "1000", "--late", "0.05"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
