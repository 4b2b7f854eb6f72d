"""Locks: flock and fcntl on the mount are the store's locks."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import subprocess
from pathlib import Path
from typing import Callable

import pytest
from conftest import Mount, wait_until

Start = Callable[..., "subprocess.Popen[str]"]


def try_flock(path: os.PathLike[str], how: int) -> bool:
    """Return whether another open file gets the lock at once."""
    with open(path, "r+" if how & fcntl.LOCK_EX else "r") as f:
        try:
            fcntl.flock(f, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_flock(mnt: Mount) -> None:
    mnt.sh("echo x > f; echo y > g; mkdir d")
    with open(mnt.path / "f", "r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert not try_flock(mnt.path / "f", fcntl.LOCK_EX)
        assert not try_flock(mnt.path / "f", fcntl.LOCK_SH)
        assert try_flock(mnt.path / "g", fcntl.LOCK_EX)
        assert " X held " in mnt.sh("cat .persist/locks")
        fcntl.flock(f, fcntl.LOCK_SH)
        assert try_flock(mnt.path / "f", fcntl.LOCK_SH)
        assert not try_flock(mnt.path / "f", fcntl.LOCK_EX)
        # Plain commands are not blocked: they may be children of the holder.
        mnt.sh("echo z > f; cat f")
    wait_until(lambda: try_flock(mnt.path / "f", fcntl.LOCK_EX), "the lock to end with its file")


def test_flock_command(mnt: Mount, processes: Start) -> None:
    mnt.sh("echo 0 > n")
    script = "for i in $(seq 20); do flock n sh -c 'v=$(cat n); echo $((v + 1)) > n'; done"
    children = [processes(script, mnt.path) for _ in range(3)]
    for child in children:
        assert child.wait(60) == 0
    assert mnt.sh("cat n") == "60\n"


def test_the_directory_lock(mnt: Mount) -> None:
    mnt.sh("mkdir d; echo x > d/f")
    with open(mnt.path / "d/.persist.lock", "w") as whole:
        fcntl.flock(whole, fcntl.LOCK_EX)
        assert not try_flock(mnt.path / "d/f", fcntl.LOCK_EX)
        assert not try_flock(mnt.path / "d/.persist.lock", fcntl.LOCK_SH)
    wait_until(lambda: try_flock(mnt.path / "d/f", fcntl.LOCK_EX), "the lock to end")
    with open(mnt.path / "d/f", "r+") as one:
        fcntl.flock(one, fcntl.LOCK_EX)
        assert not try_flock(mnt.path / "d/.persist.lock", fcntl.LOCK_EX)


def test_list_items_lock_the_list(mnt: Mount) -> None:
    mnt.list("l", "a", "b")
    with open(mnt.path / "l/0", "r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert not try_flock(mnt.path / "l/1", fcntl.LOCK_EX)


def test_waiting_and_signals(mnt: Mount, processes: Start) -> None:
    mnt.sh("echo x > f")
    with open(mnt.path / "f", "r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        waiter = processes("exec flock f echo got", mnt.path)
        doomed = processes("exec flock f echo never", mnt.path)

        def asleep(child: subprocess.Popen[str]) -> bool:
            return "request_wait" in Path(f"/proc/{child.pid}/wchan").read_text()

        wait_until(lambda: asleep(waiter) and asleep(doomed), "both to wait")
        # Other requests are served during the wait.
        mnt.sh("echo y > g; cat g")
        doomed.send_signal(signal.SIGTERM)
        assert doomed.wait(100) == -signal.SIGTERM
        assert waiter.poll() is None
    out, _ = waiter.communicate(timeout=100)
    assert out == "got\n"


def test_fcntl(mnt: Mount, processes: Start) -> None:
    mnt.sh("echo 0123456789 > f")
    whole = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with open(mnt.path / "f", "r+") as f:
        fcntl.fcntl(f, fcntl.F_SETLK, whole)
        code = (
            "import fcntl, struct, sys; f = open('f', 'r+');"
            "got = fcntl.fcntl(f, fcntl.F_GETLK, struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 0, 0));"
            "kind, _, _, _, pid = struct.unpack('hhqqi', got); print(kind, pid);"
            "\ntry: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB); print('free')\nexcept OSError as e: print(e.errno)"
        )
        said = subprocess.run(
            ["python3", "-c", code], cwd=mnt.path, capture_output=True, text=True, timeout=100
        )
        assert said.stdout.split() == [str(fcntl.F_WRLCK), str(os.getpid()), str(errno.EAGAIN)], said
        # Any close of the file by this process ends them, as POSIX specifies.
        with open(mnt.path / "f"):
            pass
        said = subprocess.run(
            ["python3", "-c", code], cwd=mnt.path, capture_output=True, text=True, timeout=100
        )
        assert said.stdout.split()[-1] == "free", said


def test_a_killed_holder(mnt: Mount, processes: Start) -> None:
    mnt.sh("echo x > f")
    holder = processes("exec flock f sh -c 'echo held; exec sleep 100'", mnt.path)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert not try_flock(mnt.path / "f", fcntl.LOCK_EX)
    os.killpg(holder.pid, signal.SIGKILL)
    wait_until(lambda: try_flock(mnt.path / "f", fcntl.LOCK_EX), "the lock to end with its holder")


def test_locks_between_mounts(mounts) -> None:  # type: ignore[no-untyped-def]
    one, two = mounts("a"), mounts("a", at="b.mnt")
    one.sh("echo x > f")
    with open(one.path / "f", "r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert not try_flock(two.path / "f", fcntl.LOCK_SH)
    wait_until(lambda: try_flock(two.path / "f", fcntl.LOCK_EX), "the lock to end")


def fails(call, *args) -> bool:  # type: ignore[no-untyped-def]
    try:
        call(*args)
    except OSError:
        return True
    return False


def test_locks_end_with_the_mount(mounts) -> None:  # type: ignore[no-untyped-def]
    one, two = mounts("a"), mounts("a", at="b.mnt")
    one.sh("echo x > f")
    fd = os.open(one.path / "f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    one.kill()
    wait_until(lambda: try_flock(two.path / "f", fcntl.LOCK_EX), "a dead mount's lock to end")
    # The kernel may answer from its cache for a second.
    wait_until(lambda: fails(os.stat, one.path / "f"), "the dead mount to answer nothing")
    with pytest.raises(OSError):
        os.close(fd)
