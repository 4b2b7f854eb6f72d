"""Locks of commands on the mount: byte ranges (fcntl) and flock, compared with tmpfs call by call."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from conftest import DEADLINE, Mount, wait_until

AGENT = Path(__file__).parent / "lock_agent.py"
END = 24
# One number with two names.
DEADLOCK = ("EDEADLK", "EDEADLOCK")
PROGRAM = """
import sqlite3, sys
path, name, mode, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
db = sqlite3.connect(path, timeout=60, isolation_level=None)
db.execute(f"pragma journal_mode={mode}")
for n in range(rounds):
    db.execute("begin immediate")
    (value,) = db.execute("select n from counter").fetchone()
    db.execute("update counter set n = ?", (value + 1,))
    db.execute("insert into log values (?, ?)", (name, n))
    db.execute("commit")
"""


class Agent:
    """A process that locks files of the mount ("m") and of tmpfs ("t")."""

    def __init__(self, paths: dict[str, str]) -> None:
        self.paths = paths
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(AGENT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self.process.pid

    def send(self, name: str, slot: int, sides: str, *args: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, slot, sides, *args]) + "\n")
        self.process.stdin.flush()

    def receive(self) -> list[Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the agent has ended"
        results: list[Any] = json.loads(line)
        return results

    def both(self, name: str, slot: int, *args: Any, sides: str = "tm") -> list[Any]:
        self.send(name, slot, sides, *args)
        return self.receive()

    def m(self, name: str, slot: int, *args: Any) -> Any:
        """Call on the mount only."""
        return self.both(name, slot, *args, sides="m")[0]

    def open(self, slot: int, sides: str = "tm") -> None:
        assert self.both("open", slot, self.paths, sides=sides) == [0] * len(sides)

    def waits(self) -> bool:
        """Return whether it sleeps in a request to the mount."""
        return "request_wait" in Path(f"/proc/{self.pid}/wchan").read_text()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


Agents = Callable[..., Agent]


@pytest.fixture
def agents(mnt: Mount) -> Iterator[Agents]:
    memory = Path("/dev/shm") / f"persist-test-{os.getpid()}"
    memory.write_text("0123456789\n")
    (mnt.path / "f").write_text("0123456789\n")
    started: list[Agent] = []

    def start(name: str = "f", slots: int = 1, sides: str = "tm") -> Agent:
        agent = Agent({"t": str(memory), "m": str(mnt.path / name)})
        started.append(agent)
        for slot in range(slots):
            agent.open(slot, sides)
        return agent

    yield start
    for agent in started:
        agent.end()
    memory.unlink()


def check(step: Any, results: list[Any], again: Callable[[], Any]) -> None:
    """Check that both answer alike. On the mount a lock that ends with its open file ends a moment after the close:
    the kernel tells the mount of the last close without waiting."""

    def like(mounted: Any) -> bool:
        expected = results[0]
        if isinstance(expected, list) and isinstance(mounted, list):
            # For an open file the kernel names no process (-1): on tmpfs if it holds, on the mount if it asks.
            n = 3 if -1 in (expected[-1], mounted[-1]) else 4
            return expected[:n] == mounted[:n]
        return bool(expected == mounted)

    if not like(results[1]):
        wait_until(lambda: like(again()), f"the answer of tmpfs: {step}, {results}", 10)


@pytest.mark.parametrize("seed", range(4))
def test_random_calls_answer_as_on_tmpfs(agents: Agents, seed: int) -> None:
    rng = random.Random(seed)
    all_agents = [agents(slots=2) for _ in range(3)]
    trail: list[Any] = []
    for _ in range(400):
        index = rng.randrange(3)
        agent, slot = all_agents[index], rng.randrange(2)
        start = rng.randrange(END)
        length = rng.choice([0, 1, 1, 2, 3, 5, 9, END])
        kind = rng.choice("rrwwu")
        ofd = rng.random() < 0.15
        what = rng.choice(["set"] * 10 + ["get"] * 4 + ["flock"] * 4 + ["reopen", "touch"])
        step: Any
        if what == "set":
            step = ("set", slot, kind, start, length, False, ofd)
        elif what == "get":
            step = ("get", slot, rng.choice("rw"), start, length, ofd)
        elif what == "flock":
            step = ("flock", slot, kind, False)
        elif what == "touch":
            step = ("touch", slot, agent.paths)
        else:
            trail.append((index, "reopen", slot))
            assert agent.both("close", slot) == [0, 0]
            agent.open(slot)
            continue
        trail.append((index, *step))
        results = agent.both(*step)
        check(trail[-20:], results, lambda agent=agent, step=step: agent.m(*step))  # type: ignore[misc]


def test_different_ranges_are_locked_at_the_same_time(agents: Agents) -> None:
    one, two = agents(), agents()
    assert one.both("set", 0, "w", 0, 10, False, False) == [0, 0]
    assert two.both("set", 0, "w", 10, 10, False, False) == [0, 0]
    assert two.both("set", 0, "w", 9, 2, False, False) == ["EAGAIN", "EAGAIN"]
    assert two.both("get", 0, "r", 5, 0, False) == [["w", 0, 10, one.pid]] * 2
    # A part is unlocked, another one is weakened, and made stronger again.
    assert one.both("set", 0, "u", 3, 4, False, False) == [0, 0]
    assert two.both("get", 0, "w", 5, 0, False) == [["w", 7, 3, one.pid]] * 2
    assert two.both("set", 0, "w", 3, 4, False, False) == [0, 0]
    assert one.both("set", 0, "r", 7, 3, False, False) == [0, 0]
    assert two.both("set", 0, "r", 7, 3, False, False) == [0, 0]
    assert one.both("set", 0, "w", 8, 1, False, False) == ["EAGAIN", "EAGAIN"]
    assert two.both("set", 0, "u", 7, 3, False, False) == [0, 0]
    assert one.both("set", 0, "w", 8, 1, False, False) == [0, 0]
    assert two.both("get", 0, "w", 7, 3, False) == [["r", 7, 1, one.pid]] * 2


def test_flock_and_fcntl_are_independent(agents: Agents) -> None:
    one, two = agents(slots=2), agents()
    assert one.both("flock", 0, "w", True) == [0, 0]
    # By the same process, through the same open file and another one, and by another process.
    assert one.both("set", 0, "w", 0, 0, True, False) == [0, 0]
    assert one.both("set", 1, "w", 0, 0, True, False) == [0, 0]
    assert one.both("set", 0, "u", 0, 0, True, False) == [0, 0]
    assert two.both("set", 0, "w", 0, 0, True, False) == [0, 0]
    # Two open files of one process exclude each other.
    assert one.both("flock", 1, "r", False) == ["EAGAIN", "EAGAIN"]


def test_lockf_beside_flock_in_one_program(mnt: Mount) -> None:
    mnt.sh("echo x > f")
    code = (
        "import fcntl; f = open('f', 'r+'); g = open('f', 'r+');"
        "fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX); fcntl.lockf(g, fcntl.LOCK_EX); print('both')"
    )
    assert mnt.sh(f'timeout 20 python3 -c "{code}"') == "both\n"


def test_a_flock_is_given_up_before_it_is_converted(agents: Agents) -> None:
    one, two = agents(), agents()
    assert one.both("flock", 0, "r", False) == [0, 0]
    assert two.both("flock", 0, "r", False) == [0, 0]
    assert one.both("flock", 0, "w", False) == ["EAGAIN", "EAGAIN"]
    assert two.both("flock", 0, "w", False) == [0, 0]
    assert two.both("flock", 0, "r", False) == [0, 0]
    # While both convert, one of them gets the lock.
    assert one.both("flock", 0, "r", False) == [0, 0]
    one.send("flock", 0, "m", "w", True)
    wait_until(one.waits, "the conversion to wait")
    assert two.m("flock", 0, "w", True) == 0
    assert two.m("flock", 0, "u", True) == 0
    assert one.receive() == [0]


def test_a_flock_lasts_until_the_last_descriptor_of_its_open_file_is_closed(agents: Agents) -> None:
    one, two = agents(), agents()
    assert one.both("flock", 0, "w", False) == [0, 0]
    assert one.both("dup", 0, 5) == [0, 0]
    child = one.both("fork", 0, sides="t")[0]
    assert one.both("close", 0) == [0, 0] and one.both("close", 5) == [0, 0]
    assert two.both("flock", 0, "w", False) == ["EAGAIN", "EAGAIN"]
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: two.m("flock", 0, "w", False) == 0, "the flock to end with its last descriptor")


def test_fcntl_locks_end_at_any_close_and_not_with_a_child(agents: Agents) -> None:
    one, two = agents(slots=2), agents()
    assert one.both("set", 0, "w", 0, 5, False, False) == [0, 0]
    assert one.both("set", 1, "w", 5, 5, False, False) == [0, 0]
    child = one.both("fork", 0, sides="t")[0]
    os.kill(child, signal.SIGKILL)
    assert two.both("set", 0, "r", 0, 0, False, False) == ["EAGAIN", "EAGAIN"]
    # A descriptor that never locked: the close itself ends the locks, when it returns.
    assert one.both("touch", 0, one.paths) == [0, 0]
    assert two.both("set", 0, "w", 0, 0, False, False) == [0, 0]


def test_locks_of_an_open_file_do_not_end_at_a_close(agents: Agents) -> None:
    one, two = agents(slots=2), agents()
    assert one.both("set", 0, "w", 0, 5, False, True) == [0, 0]
    assert one.both("set", 1, "w", 0, 5, False, True) == ["EAGAIN", "EAGAIN"]
    assert one.both("touch", 0, one.paths) == [0, 0]
    assert two.both("set", 0, "w", 0, 5, False, True) == ["EAGAIN", "EAGAIN"]
    assert one.both("close", 0) == [0, 0]
    wait_until(lambda: two.m("set", 0, "w", 0, 5, False, True) == 0, "the lock to end with its open file")


def test_waiting_for_a_range(agents: Agents) -> None:
    one, two, three = agents(), agents(), agents()
    assert one.both("set", 0, "w", 0, 10, False, False) == [0, 0]
    two.send("set", 0, "m", "w", 4, 2, True, False)
    three.send("set", 0, "m", "r", 8, 9, True, False)
    wait_until(lambda: two.waits() and three.waits(), "both to wait")
    assert one.m("set", 0, "u", 8, 2, False, False) == 0
    assert three.receive() == [0]
    assert two.waits()
    assert one.m("set", 0, "r", 0, 8, False, False) == 0
    assert one.m("get", 0, "w", 0, 0, False) == ["r", 8, 9, three.pid]
    assert two.waits()
    assert one.m("set", 0, "u", 5, 1, False, False) == 0
    assert two.waits()
    assert one.m("set", 0, "u", 4, 1, False, False) == 0
    assert two.receive() == [0]


def test_waiters_are_served_in_turn_and_take_no_thread(mnt: Mount, agents: Agents) -> None:
    holder = agents()
    assert holder.m("set", 0, "w", 0, 10, False, False) == 0
    (daemon,) = mnt.pids()
    threads = len(os.listdir(f"/proc/{daemon}/task"))
    waiters = []
    for _ in range(12):
        agent = agents()
        agent.send("set", 0, "m", "w", 5, 1, True, False)
        wait_until(agent.waits, "a waiter to wait")
        waiters.append(agent)
    assert len(os.listdir(f"/proc/{daemon}/task")) <= threads + 1
    assert "bytes 5-5 X awaited" in mnt.sh("cat .persist/locks")
    assert holder.m("set", 0, "u", 0, 0, False, False) == 0
    for n, agent in enumerate(waiters):
        assert agent.receive() == [0]
        assert all(other.waits() for other in waiters[n + 1 :])
        assert agent.m("set", 0, "u", 0, 0, False, False) == 0
    wait_until(lambda: len(os.listdir(f"/proc/{daemon}/task")) <= threads, "the thread of waiters to end")


def test_a_waiter_is_interrupted_or_killed(agents: Agents) -> None:
    one, two, three = agents(), agents(), agents()
    assert one.m("set", 0, "w", 0, 10, False, False) == 0
    assert two.m("set", 0, "r", 20, 5, False, False) == 0
    assert two.m("alarm", 0, 0.05) == 0
    assert two.m("set", 0, "w", 0, 30, True, False) == "EINTR"
    # The interrupted request has changed nothing.
    assert one.m("get", 0, "w", 0, 0, False) == ["r", 20, 5, two.pid]
    three.send("set", 0, "m", "w", 0, 10, True, False)
    wait_until(three.waits, "the waiter to wait")
    three.end()
    assert one.m("set", 0, "u", 0, 10, False, False) == 0
    assert two.m("set", 0, "w", 0, 10, False, False) == 0


def test_a_killed_holder_of_a_range(agents: Agents) -> None:
    one, two = agents(), agents()
    assert one.m("set", 0, "w", 0, 10, False, False) == 0
    two.send("set", 0, "m", "w", 5, 10, True, False)
    wait_until(two.waits, "the waiter to wait")
    one.end()
    assert two.receive() == [0]


def test_a_deadlock_is_refused(agents: Agents) -> None:
    one, two, three = agents(), agents(), agents()
    for n, agent in enumerate((one, two, three)):
        assert agent.m("set", 0, "w", n, 1, False, False) == 0
    one.send("set", 0, "m", "w", 1, 1, True, False)
    wait_until(one.waits, "the first to wait")
    two.send("set", 0, "m", "w", 2, 1, True, False)
    wait_until(two.waits, "the second to wait")
    assert three.m("set", 0, "w", 0, 1, True, False) in DEADLOCK
    assert three.m("set", 0, "u", 2, 1, False, False) == 0
    assert two.receive() == [0]
    assert two.m("set", 0, "u", 1, 1, False, False) == 0
    assert one.receive() == [0]


def test_a_removed_file_has_locks_of_its_own(mnt: Mount, agents: Agents) -> None:
    one, two = agents(), agents()
    assert one.m("set", 0, "w", 0, 10, False, False) == 0
    assert one.m("flock", 0, "w", False) == 0
    mnt.sh("rm f; echo new > f")
    three = agents(sides="m")
    assert three.m("set", 0, "w", 0, 10, False, False) == 0
    assert three.m("flock", 0, "w", False) == 0
    assert two.m("set", 0, "w", 5, 1, False, False) == "EAGAIN"
    assert two.m("get", 0, "r", 0, 0, False) == ["w", 0, 10, one.pid]
    assert one.m("set", 0, "u", 0, 0, False, False) == 0
    assert two.m("set", 0, "w", 5, 1, False, False) == 0


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite_by_three_processes(mnt: Mount, mode: str) -> None:
    path = mnt.path / "db"
    with sqlite3.connect(path, isolation_level=None) as db:
        db.execute(f"pragma journal_mode={mode}")
        db.execute("create table counter (n)")
        db.execute("create table log (name, n)")
        db.execute("insert into counter values (0)")
    db.close()
    rounds = 10
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path), str(name), mode, str(rounds)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in range(3)
    ]
    for child in children:
        _, told = child.communicate(timeout=DEADLINE)
        assert child.returncode == 0, told
    with sqlite3.connect(path) as db:
        assert db.execute("select n from counter").fetchone() == (3 * rounds,)
        assert db.execute("select count(distinct name || '.' || n) from log").fetchone() == (3 * rounds,)
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    db.close()


def test_a_range_is_the_entrys_lock_for_python(mnt: Mount, agents: Agents) -> None:
    import persist

    one, two = agents(), agents()
    with persist.open(mnt.store, lock_timeout=0.2) as store:
        root = store.root
        assert one.m("set", 0, "r", 0, 1, False, False) == 0
        with root.lock("f", shared=True):
            assert two.m("set", 0, "r", 0, 1, False, False) == 0
            assert two.m("set", 0, "w", 8, 1, False, False) == "EAGAIN"
        assert two.m("set", 0, "w", 8, 1, False, False) == 0
        with pytest.raises(persist.LockTimeout, match=str(two.pid)):
            root["f"] = "changed"
        told = mnt.sh("cat .persist/locks")
        for agent in (one, two):
            assert f'(fcntl, pid {agent.pid}, "' in told, told
        assert "root['f']" in told
        assert two.m("set", 0, "u", 0, 0, False, False) == 0
        assert one.m("set", 0, "u", 0, 0, False, False) == 0
        root["f"] = "changed"


def test_a_waiter_for_pythons_lock(mnt: Mount, agents: Agents) -> None:
    import persist

    one, two = agents(), agents()
    with persist.open(mnt.store, lock_timeout=5) as store:
        root = store.root
        root.lockExcl()
        one.send("set", 0, "m", "w", 0, 1, True, False)
        two.send("set", 0, "m", "w", 5, 1, True, False)
        wait_until(lambda: one.waits() and two.waits(), "both to wait")
        assert "awaited" in mnt.sh("cat .persist/locks")
        root.unlock()
        assert one.receive() == [0] and two.receive() == [0]
        assert one.m("set", 0, "u", 0, 0, False, False) == 0
        assert two.m("set", 0, "u", 0, 0, False, False) == 0
        # A waiter that is interrupted leaves the queue of the store.
        root.lockExcl()
        assert one.m("alarm", 0, 0.05) == 0
        assert one.m("set", 0, "w", 0, 1, True, False) == "EINTR"
        root.unlock()
        root["f"] = "free"


@pytest.mark.parametrize("last", ["command", "python"])
def test_a_deadlock_through_python_is_refused(mnt: Mount, agents: Agents, last: str) -> None:
    """Command one waits for a range of command two, which waits for Python, which waits for command one."""
    import persist

    mnt.sh("echo g > g; mkdir d; echo h > d/h")
    one, two = agents("f"), agents("g")
    one.paths, two.paths = {"m": str(mnt.path / "g")}, {"m": str(mnt.path / "d/h")}
    one.open(1, "m")
    two.open(1, "m")
    assert one.m("set", 0, "w", 0, 1, False, False) == 0
    assert two.m("set", 0, "w", 1, 1, False, False) == 0
    held, go = threading.Event(), threading.Event()
    ends: dict[str, Any] = {}
    with persist.open(mnt.store, lock_timeout=60) as store:

        def python() -> None:
            try:
                with store.root["d"].lock():
                    held.set()
                    assert go.wait(60)
                    store.root["f"] = "by python"
            except persist.Deadlock:
                ends["python"] = "EDEADLK"

        def end(name: str, agent: Agent) -> None:
            (ends[name],) = agent.receive()
            for slot in range(2):
                assert agent.m("set", slot, "u", 0, 0, False, False) == 0

        threads = [threading.Thread(target=python)]
        threads += [threading.Thread(target=end, args=a) for a in (("one", one), ("two", two))]
        threads[0].start()
        assert held.wait(60)
        two.send("set", 1, "m", "w", 0, 1, True, False)
        wait_until(two.waits, "the second command to wait for Python")
        if last == "command":
            go.set()
            wait_until(lambda: "awaited a thread of" in mnt.sh("cat .persist/locks"), "Python to wait")
        one.send("set", 1, "m", "w", 0, 9, True, False)
        if last == "python":
            wait_until(one.waits, "the first command to wait")
            go.set()
        for thread in threads[1:]:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), f"no member of the cycle is refused: {ends}"
    assert sum(got in DEADLOCK for got in ends.values()) == 1, ends
