"""One lock manager for Python and the mount (P4): which request waits for which holder, for how long, and what ends it.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import persist
import pytest
from acceptance import DEADLINE, Processes, best_of, finish, line, sh, tell, wait_until

# Hold the flock of a file until a line comes; report when it is locked.
FLOCK = 'exec 9<>"$1" && flock 9 && echo locked && read -r _ && flock -u 9 && echo unlocked'


@pytest.fixture
def doors(store: Path, mount: Callable[..., Path]) -> Iterator[tuple[persist.Store, Path]]:
    with persist.open(store, lock_timeout=100) as opened:
        opened.root["x"] = 0
        opened.root["y"] = 0
        # All waits are longer than a slow machine takes for everything else.
        yield opened, mount(store, options="lockwait=100")


class Waiter:
    """A thread with an action that has to wait; it reports the end and the result."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.act = act
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        try:
            self.act()
        except BaseException as e:
            self.error = e
        self.done.set()

    def waits(self, seconds: float = 0.3) -> bool:
        return not self.done.wait(seconds)

    def finish(self, timeout: float = DEADLINE) -> None:
        assert self.done.wait(timeout), f"still waiting after {timeout} s"
        if self.error:
            raise self.error


def test_a_flock_keeps_python_out(doors: tuple[persist.Store, Path], procs: Processes) -> None:
    store, mnt = doors
    root = store.root
    shell = procs.start("flock", mnt / "x", "sh", "-c", "echo locked; read -r _")
    line(shell, "locked")
    with pytest.raises(persist.LockTimeout):
        root.lockExcl(timeout=0.1)
    with pytest.raises(persist.LockTimeout):
        root.lock(key="x", timeout=0.1)
    with root.lock(key="y", timeout=0):
        pass
    assert root["x"] == 0  # reads never wait
    change = Waiter(lambda: root.__setitem__("x", 1))
    locker = Waiter(lambda: lock_unlock(root))
    assert change.waits() and locker.waits()
    assert root["x"] == 0
    tell(shell)
    finish(shell)
    change.finish()
    locker.finish()
    assert root["x"] == 1


def test_messages_name_path_mode_pid_and_command(doors: tuple[persist.Store, Path], procs: Processes) -> None:
    store, mnt = doors
    shell = procs.start("sh", "-c", FLOCK, "sh", mnt / "x")
    line(shell, "locked")
    holder = f'(flock, pid {shell.pid}, "sh")'
    with pytest.raises(persist.LockTimeout) as timeout:
        store.root.lock(key="x", timeout=0.1)
    expected = r"timed out after 0\.\d s waiting for root\['x'\]: locked exclusively through the mount "
    assert re.fullmatch(expected + re.escape(holder), str(timeout.value))
    with pytest.raises(persist.LockTimeout, match=r"waiting for root: an entry of it is locked exclusively through"):
        store.root.lockShared(timeout=0.1)
    # The same names in the list of the mount and of the command.
    with store.root.lock(key="y"):
        mine = rf"root\['y'\] .*\bX +held .*a thread of process {os.getpid()} \([^)]+\), its main thread"
        theirs = rf"root\['x'\] .*\bX +held .*the mount {re.escape(holder)}"
        for listed in (sh("persist locks $1", store.path), sh("cat $1/.persist/locks", mnt)):
            assert re.search(mine, listed) and re.search(theirs, listed), listed
    tell(shell)
    finish(shell)


def lock_unlock(obj: persist.Dict) -> None:
    obj.lockExcl()
    obj.unlock()


def test_a_flock_on_the_lock_file_holds_the_container(
    doors: tuple[persist.Store, Path], procs: Processes
) -> None:
    store, mnt = doors
    shell = procs.bash(FLOCK, mnt / ".persist.lock")
    line(shell, "locked")
    for attempt in (
        lambda: store.root.lockExcl(timeout=0.05),
        lambda: store.root.lockShared(timeout=0.05),
        lambda: store.root.lock(key="y", timeout=0.05),
    ):
        with pytest.raises(persist.LockTimeout):
            attempt()
    change = Waiter(lambda: store.root.__setitem__("new", 1))
    assert change.waits()
    tell(shell)
    line(shell, "unlocked")
    change.finish()
    assert store.root["new"] == 1


def test_a_python_lock_keeps_the_shell_out(doors: tuple[persist.Store, Path], procs: Processes) -> None:
    store, mnt = doors
    root = store.root
    root.lockExcl()
    out = sh('flock -n "$1" true; echo $?', mnt / "x")
    assert out == "1\n"
    out = sh('flock -n "$1" true; echo $?', mnt / ".persist.lock")
    assert out == "1\n"
    writer = procs.bash('echo started; echo 1 >"$1" && echo written', mnt / "x")
    line(writer, "started")
    for _ in range(20):
        assert sh('cat "$1"', mnt / "x") == "0\n"  # reads never wait
    assert writer.poll() is None and root["x"] == 0, "the write did not wait for the lock"
    root.unlock()
    line(writer, "written")
    assert root["x"] == 1
    assert sh('flock -n "$1" true; echo $?', mnt / "x") == "0\n"


def test_a_change_gives_up_after_lockwait(store: Path, mount: Callable[..., Path]) -> None:
    with persist.open(store, lock_timeout=0.2) as opened:
        opened.root["x"] = 0
        mnt = mount(store, options="lockwait=0.2")
        with opened.root.lock(key="x"):
            for echo in "echo", "/bin/echo":
                assert "temporarily unavailable" in sh(f'{echo} 1 >"$1"', mnt / "x", ok=False)
        assert opened.root["x"] == 0


def test_a_change_in_python_gives_up_after_lock_timeout(store: Path, procs: Processes) -> None:
    with persist.open(store, lock_timeout=0.2) as opened:
        holder = procs.worker("hold", store)
        line(holder, "ready")
        line(holder, "locked")
        with pytest.raises(persist.LockTimeout, match=str(holder.pid)):
            opened.root["x"] = 1
        assert "x" not in opened.root
        tell(holder)
        line(holder, "unlocked")
        opened.root["x"] = 1


def test_a_killed_holder_frees_within_100_ms(store: Path, procs: Processes) -> None:
    """A lock is freed, both for an earlier waiter and for a request after the death."""
    with persist.open(store, lock_timeout=100) as opened:
        root = opened.root

        def freed() -> float:
            holder = procs.worker("hold", store)
            line(holder, "ready")
            line(holder, "locked")
            waiter = Waiter(lambda: lock_unlock(root))
            assert waiter.waits(0.1)
            begin = time.monotonic()
            os.kill(holder.pid, signal.SIGKILL)
            waiter.finish()
            return time.monotonic() - begin

        best_of(20, 0.1, freed)


def test_a_killed_flock_frees_within_100_ms(doors: tuple[persist.Store, Path], procs: Processes) -> None:
    store, mnt = doors

    def freed() -> float:
        shell = procs.bash(FLOCK, mnt / "x")
        line(shell, "locked")
        waiter = Waiter(lambda: store.root.__setitem__("x", 5))
        assert waiter.waits(0.1)
        begin = time.monotonic()
        os.killpg(shell.pid, signal.SIGKILL)
        waiter.finish()
        return time.monotonic() - begin

    best_of(20, 0.1, freed)


def test_a_killed_python_holder_lets_the_shell_write(
    doors: tuple[persist.Store, Path], store: Path, procs: Processes
) -> None:
    opened, mnt = doors
    holder = procs.worker("hold_key", store, "x")
    line(holder, "ready")
    line(holder, "locked")
    assert sh('flock -n "$1" true; echo $?', mnt / "x") == "1\n"
    writer = procs.bash('echo started; echo 9 >"$1" && echo written', mnt / "x")
    line(writer, "started")
    os.kill(holder.pid, signal.SIGKILL)
    line(writer, "written")
    assert opened.root["x"] == 9


def test_a_deadlock_is_found_at_once(store: Path, procs: Processes) -> None:
    with persist.open(store) as opened:
        opened.root["a"] = {}
        opened.root["b"] = {}
        one = procs.worker("crosswise", store, "a", "b")
        two = procs.worker("crosswise", store, "b", "a")
        for child in one, two:
            line(child, "ready")
            line(child, "locked")
        tell(one)
        tell(two)
        both, deadlock = sorted(finish(child).split() for child in (one, two))
        # A timeout did not end it: these requests wait without a limit.
        assert (both, deadlock) == (["both"], ["deadlock"])


def test_shared_locks_go_together_and_keep_changes_out(
    doors: tuple[persist.Store, Path], procs: Processes
) -> None:
    store, mnt = doors
    store.root.lockShared()
    shared = procs.bash('exec 9<"$1" && flock -s -n 9 && echo locked && read -r _', mnt / ".persist.lock")
    line(shared, "locked")
    assert sh('flock -n -x "$1" true; echo $?', mnt / ".persist.lock") == "1\n"
    store.root.unlock()
    change = Waiter(lambda: store.root.__setitem__("x", 3))
    assert change.waits()
    tell(shared)
    change.finish()
    assert store.root["x"] == 3


def test_a_waiting_shell_can_be_interrupted(doors: tuple[persist.Store, Path], procs: Processes) -> None:
    store, mnt = doors
    store.root.lockExcl()
    waiter = procs.bash('echo started; exec flock "$1" true', mnt / "x")
    line(waiter, "started")
    wait_until(lambda: Path(f"/proc/{waiter.pid}/comm").read_text() == "flock\n")
    waiter.terminate()
    waiter.wait(timeout=DEADLINE)
    assert waiter.returncode == -signal.SIGTERM
    store.root.unlock()
