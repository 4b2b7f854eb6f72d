"""Fixtures of the mount's tests: real mounts with the real kernel, each in its own directory.

1. No test relies on a sleep: every wait polls for a condition and ends at a deadline.
2. Mounts and processes of a test are ended when the test ends, however it ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import persist
import pytest

TOP = Path(__file__).resolve().parent.parent.parent
DEADLINE = 100.0
MAX_WAIT = float(os.environ.get("PERSIST_MOUNT_PATIENCE", "250"))
TYPE = "user.persist.type"
CLASS = "user.persist.class"


def binary() -> str:
    """Return the program under test: $PERSIST_MOUNT, the one beside this Python, or the last one built."""
    named = os.environ.get("PERSIST_MOUNT")
    if named:
        return named
    for path in (
        Path(sys.executable).parent / "mount.persist",
        TOP / "target/release/mount-persist",
        TOP / "target/debug/mount-persist",
    ):
        if path.exists():
            return str(path)
    raise RuntimeError("mount.persist is not built: run scripts/setup, or set PERSIST_MOUNT")


def wait_until(fact: Callable[[], Any], what: str = "", timeout: float = DEADLINE) -> Any:
    """Poll until `fact()` is true and return its result; fail the test at the deadline."""
    end = time.monotonic() + timeout
    while True:
        said = fact()
        if said:
            return said
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout} s without success for {what or fact}")
        time.sleep(0.005)


def run(command: str, cwd: Path, check: bool = True, **kw: Any) -> subprocess.CompletedProcess[str]:
    """Run a shell command in a directory."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        errors="replace",
        **kw,
    )
    if check and done.returncode != 0:
        pytest.fail(f"{command!r} gave {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


class Mount:
    """One mounted store."""

    def __init__(self, store: Path, path: Path, options: str = "") -> None:
        self.store, self.path, self.options = store, path, options
        path.mkdir(exist_ok=True)
        self.up()

    def up(self) -> None:
        command = [binary(), str(self.store), str(self.path), "-o", self.options or "rw"]
        if not self.store.exists():
            command += ["-o", "create"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 0, done.stderr
        assert os.path.ismount(self.path)

    def down(self) -> None:
        """Unmount, and wait until the store is closed."""
        subprocess.run(["umount", str(self.path)], check=True, capture_output=True, timeout=DEADLINE)
        wait_until(lambda: not self.pids(), "the mount's process to end")

    def again(self) -> None:
        self.down()
        self.up()

    def die(self) -> None:
        """Kill the process that serves the mount, and mount the store again."""
        self.kill()
        wait_until(lambda: not self.pids(), "the mount's process to end")
        subprocess.run(["umount", "-l", str(self.path)], check=True, capture_output=True, timeout=DEADLINE)
        self.up()

    def pids(self) -> list[int]:
        """Return the processes that serve this mount."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if os.fsencode(str(self.path)) in words and os.fsencode(str(self.store)) in words:
                    found.append(int(entry.name))
        return found

    def mounted(self) -> bool:
        """Return whether it is mounted, even if its process has died."""
        return any(
            line.split()[1] == str(self.path) for line in Path("/proc/mounts").read_text().splitlines()
        )

    def kill(self) -> None:
        """End a mount that does not answer any more: processes that wait for it get an error."""
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)

    def clean(self) -> None:
        if self.mounted():
            done = subprocess.run(["umount", str(self.path)], capture_output=True, timeout=DEADLINE)
            if done.returncode != 0:
                subprocess.run(
                    ["umount", "-l", str(self.path)], check=False, capture_output=True, timeout=DEADLINE
                )
        end = time.monotonic() + DEADLINE
        while self.pids() and time.monotonic() < end:
            time.sleep(0.005)
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)

    def sh(self, command: str, check: bool = True) -> str:
        """Run a shell command inside the mount and return its output."""
        done = run(command, self.path, check)
        return done.stdout

    def fails(self, command: str) -> str:
        """Run a shell command that must fail, and return its error message."""
        done = run(command, self.path, check=False)
        assert done.returncode != 0, f"{command!r} succeeded: {done.stdout}"
        return done.stderr

    def type(self, name: str) -> str:
        return os.getxattr(self.path / name, TYPE).decode()

    def set_type(self, name: str, kind: str) -> None:
        os.setxattr(self.path / name, TYPE, kind.encode())

    def typed(self, name: str, kind: str, text: str) -> None:
        """Create a file of that type."""
        (self.path / name).write_text(text)
        self.set_type(name, kind)

    def list(self, name: str, *items: str) -> None:
        """Create a list of strs."""
        (self.path / name).mkdir()
        self.set_type(name, "list")
        for n, item in enumerate(items):
            (self.path / name / str(n)).write_text(item + "\n")

    def names(self, name: str) -> list[int]:
        """Return the names of a list, in order."""
        return sorted(int(n) for n in os.listdir(self.path / name))

    def items(self, name: str) -> list[str]:
        """Return the files of a list, in order."""
        return [(self.path / name / str(n)).read_text().removesuffix("\n") for n in self.names(name)]


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Callable[..., Mount]]:
    """Return a function that makes mounts: `mounts("name", options)`; the same name means the same store."""
    made: list[Mount] = []
    # A request without an answer cannot be interrupted, not even by a test's timeout.
    watchdog = threading.Timer(MAX_WAIT, lambda: [mount.kill() for mount in made])
    watchdog.daemon = True
    watchdog.start()

    def make(name: str = "a", options: str = "", at: str = "") -> Mount:
        mount = Mount(tmp_path / f"{name}.store", tmp_path / (at or f"{name}.mnt"), options)
        made.append(mount)
        return mount

    yield make
    watchdog.cancel()
    for mount in reversed(made):
        mount.clean()


@pytest.fixture
def mnt(mounts: Callable[..., Mount]) -> Mount:
    return mounts()


@pytest.fixture
def store(mnt: Mount) -> Iterator[Any]:
    """The mounted store, opened by Python."""
    with persist.open(mnt.store, lock_timeout=5) as store:
        yield store


@pytest.fixture
def root(store: Any) -> Any:
    return store.root


@pytest.fixture
def processes() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts programs, which are killed when the test ends."""
    started: list[subprocess.Popen[str]] = []

    def start(command: str, cwd: Path) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            ["bash", "-c", command],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def graph(top: Path) -> Any:
    """Return the object graph as the mount shows it: types, classes, values, keys, shared references."""
    seen: dict[int, int] = {}

    def walk(path: Path) -> Any:
        ino = path.stat().st_ino
        if ino in seen:
            return ("again", seen[ino])
        seen[ino] = len(seen)
        kind = os.getxattr(path, TYPE)
        names = set(os.listxattr(path))
        cls = os.getxattr(path, CLASS) if CLASS in names else None
        entries = {}
        # Homes first, so that numbers do not depend on the places of references.
        children = sorted(path.iterdir(), key=lambda p: (p.is_symlink(), p.name))
        for child in children:
            if child.is_symlink() or child.is_dir():
                entries[child.name] = walk(child)
            else:
                entries[child.name] = (os.getxattr(child, TYPE), child.read_bytes())
        return (kind, cls, entries)

    return walk(top)


def need(*programs: str) -> None:
    """Fail, instead of skipping, if a program that the tests need is missing."""
    missing = [p for p in programs if shutil.which(p) is None]
    assert not missing, f"install {missing}"
