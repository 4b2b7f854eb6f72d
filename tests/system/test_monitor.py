"""The death of the daemon ends every request, also while a thread of it waits in the kernel for the lock of a directory
(fuse/src/command/monitor.rs). The mount stays, and answers ENOTCONN.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import persist
import pytest
from acceptance import BIN, DEADLINE, clean_env, mounted, wait_until

TRIES = 40
# The numbers of system calls: openat, and newfstatat or statx.
CALLS = {
    "x86_64": {"open": {"257"}, "stat": {"262", "332"}},
    "aarch64": {"open": {"56"}, "stat": {"79", "291"}},
}


@contextlib.contextmanager
def daemon(store: Path, point: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a mount whose daemon can be stopped and killed."""
    point.mkdir(exist_ok=True)
    persist.open(store).close()
    argv = [str(BIN / "mount.persist"), "-F", str(store), str(point), "-o", "lockwait=100"]
    null = subprocess.DEVNULL
    with subprocess.Popen(argv, env=clean_env(PERSIST_LEASES="eager"), stdin=null, stderr=null) as process:
        try:
            wait_until(lambda: mounted(point) and child_of(process.pid), what="the mount")
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                subprocess.run(["umount", "-l", str(point)], check=False)
                process.kill()


def child_of(pid: int) -> int:
    """Return the monitor of a daemon; 0: there is none."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text() == "persist-monitor\n":
                return int(child)
    return 0


def rests(pid: int) -> bool:
    """Return whether the thread of the leases, which looks twice a second while there are any, sleeps for longer."""

    def sleeps() -> list[str]:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        status = [(task / "status").read_text() for task in tasks if (task / "comm").read_text() == "leases\n"]
        return [row for text in status for row in text.splitlines() if row.startswith("voluntary")]

    before = sleeps()
    time.sleep(1.2)
    return bool(before) and sleeps() == before


def is_in_kernel(pid: int, name: str) -> bool:
    """Return whether a thread waits uninterruptibly in the kernel."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            if (task / "comm").read_text() == f"{name}\n":
                return (task / "stat").read_text().rpartition(")")[2].split()[0] == "D"
    return False


def sleeps_in(pid: int, call: str) -> bool:
    """Return whether a process sleeps in a system call. A call that the kernel answers by itself does not sleep."""
    words = Path(f"/proc/{pid}/syscall").read_text().split()
    return words[0] in CALLS[platform.machine()][call]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def answers_not_connected(point: Path) -> bool:
    try:
        os.listdir(point)
    except OSError as e:
        return e.errno == errno.ENOTCONN
    return False


def test_a_daemon_is_killed_while_it_waits_for_a_directory(store: Path, tmp_path: Path) -> None:
    point = tmp_path / "mnt"
    with persist.open(store) as opened, daemon(store, point) as process:
        opened.root["d"] = {"x": "text"}
        d = opened.root["d"]
        monitor = child_of(process.pid)
        for turn in range(TRIES):
            # The request of `touch` holds the lock of the directory in the kernel, and waits for that of Python.
            with d.lock():
                (point / "d" / "x").stat()
                touch = subprocess.Popen(["touch", str(point / "d" / f"new{turn}")], stderr=subprocess.PIPE)
                wait_until(partial(sleeps_in, touch.pid, "open"), what="the request")
                d["x"] = f"text {turn}"
                waits = is_in_kernel(process.pid, "leases")
                if waits:
                    process.kill()
                    touch.wait(DEADLINE)
            _, message = touch.communicate(timeout=DEADLINE)
            if waits:
                break
        else:
            pytest.fail("the daemon never waited for the directory")
        assert touch.returncode != 0 and b"touch" in message
        assert process.wait(DEADLINE) == -signal.SIGKILL
        wait_until(lambda: answers_not_connected(point), what="the end of the connection")
        wait_until(lambda: is_gone(monitor), what="the end of the monitor")
        assert d["x"] == f"text {turn}"
        assert mounted(point), "an operator must not write into the directory below by mistake"
        subprocess.run(["umount", str(point)], check=True)


def test_without_a_monitor_the_kernel_keeps_no_names(store: Path, tmp_path: Path) -> None:
    point = tmp_path / "mnt"
    with persist.open(store) as opened, daemon(store, point) as process:
        opened.root["d"] = {"x": "text"}
        wait_until(partial(rests, process.pid), what="the rest of the daemon")
        os.kill(child_of(process.pid), signal.SIGKILL)
        # The daemon notices it also while it rests. A name is kept for a second at most.
        wait_until(lambda: child_of(process.pid) == 0, what="the end of the monitor")

        def asks_for_a_name() -> bool:
            (point / "d" / "x").stat()
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: is_stopped(process.pid), what="the stop")
            look = subprocess.Popen(["stat", str(point / "d" / "x")], stdout=subprocess.DEVNULL)
            try:
                wait_until(lambda: look.poll() is not None or sleeps_in(look.pid, "stat"), what="the look")
                return look.poll() is None
            finally:
                process.send_signal(signal.SIGCONT)
                assert look.wait(DEADLINE) == 0

        wait_until(asks_for_a_name, what="a request for a name")
        opened.root["d"]["x"] = "longer text"
        assert (point / "d" / "x").stat().st_size == 12


def test_a_monitor_ends_with_its_mount(store: Path, tmp_path: Path) -> None:
    for end in ("umount", "umount -l", "TERM", "KILL"):
        point = tmp_path / "mnt"
        with daemon(store, point) as process:
            monitor = child_of(process.pid)
            (point / "x").write_text("1\n")
            if end.startswith("umount"):
                subprocess.run([*end.split(), str(point)], check=True)
            else:
                process.send_signal(getattr(signal, f"SIG{end}"))
            assert process.wait(DEADLINE) == (-signal.SIGKILL if end == "KILL" else 0)
            wait_until(partial(is_gone, monitor), what=f"the end of the monitor after {end}")
            if mounted(point):
                assert end == "KILL" and answers_not_connected(point)
                subprocess.run(["umount", str(point)], check=True)


def test_a_monitor_aborts_only_the_mount_that_it_was_started_for(store: Path, tmp_path: Path) -> None:
    """Another mount is at the place when the daemon of the first, which was unmounted lazily, dies."""
    point = tmp_path / "mnt"
    with daemon(store, point) as first, open(point / "x", "w") as held:
        monitor = child_of(first.pid)
        subprocess.run(["umount", "-l", str(point)], check=True)
        with daemon(tmp_path / "other.store", point):
            first.kill()
            first.wait(DEADLINE)
            wait_until(lambda: is_gone(monitor), what="the end of the monitor")
            (point / "y").write_text("2\n")
            assert (point / "y").read_text() == "2\n"
        with contextlib.suppress(OSError):
            held.close()


@pytest.mark.parametrize("end", ["umount", "KILL"])
def test_a_late_monitor_does_not_abort_the_next_mount(store: Path, tmp_path: Path, end: str) -> None:
    """The next mount at the place gets the number of the device, and the monitor of the first comes late."""
    point = tmp_path / "mnt"
    for _ in range(TRIES):
        with daemon(store, point) as first:
            monitor, device = child_of(first.pid), point.stat().st_dev
            os.kill(monitor, signal.SIGSTOP)
            wait_until(partial(is_stopped, monitor), what="the stop")
            if end == "KILL":
                first.kill()
                first.wait(DEADLINE)
            subprocess.run(["umount", "-l", str(point)], check=True)
            first.wait(DEADLINE)
            with daemon(store, point):
                same = point.stat().st_dev == device
                os.kill(monitor, signal.SIGCONT)
                wait_until(partial(is_gone, monitor), what="the end of the monitor")
                (point / "y").write_text("2\n")
                assert (point / "y").read_text() == "2\n"
        # Other programs mount filesystems, too.
        if same:
            return
    pytest.fail("the number of the device was never used again")
