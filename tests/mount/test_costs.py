"""What the mount costs: requests of the kernel for a command, and wake-ups of a mount that is not in use."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Callable

import persist
from conftest import Mount, wait_until

# A lease lives one second: within this time a thread that looks for expired ones wakes.
WINDOW = 1.5
TRIES = 50


def threads(mnt: Mount) -> dict[str, list[Path]]:
    """Return the threads of the mount's process, by name."""
    (pid,) = mnt.pids()
    found: dict[str, list[Path]] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        found.setdefault((task / "comm").read_text().strip(), []).append(task)
    return found


def figure(path: Path, name: str) -> int:
    return int(next(line.split()[1] for line in path.read_text().splitlines() if line.startswith(name)))


def sleeps(mnt: Mount, names: list[str]) -> int:
    """Return how often threads of these names have slept."""
    all_threads = threads(mnt)
    tasks = [task for name in names for task in all_threads[name]]
    return sum(figure(task / "status", "voluntary_ctxt_switches:") for task in tasks)


def requests(mnt: Mount) -> int:
    """Return how often the threads that answer requests have read something: each request is one `read`."""
    answering = [name for name in threads(mnt) if name.startswith("fuser-")]
    assert answering
    return sum(figure(task / "io", "syscr:") for name in answering for task in threads(mnt)[name])


def test_a_mount_that_is_not_used_does_not_wake(mnt: Mount, root: Any) -> None:
    root["d"] = {"x": "text"}
    names = ["leases", "sync", "events"]

    def rests() -> bool:
        before = sleeps(mnt, names)
        time.sleep(WINDOW)
        return sleeps(mnt, names) == before

    for _ in range(2):
        assert os.listdir(mnt.path / "d") == ["x"]
        assert (mnt.path / "d" / "x").read_text() == "text\n"
        wait_until(rests, "the mount to rest")
        # It notices what happens then: a lease, and a change.
        assert os.listdir(mnt.path / "d") == ["x"]
        root["d"]["x"] = "other"
        assert (mnt.path / "d" / "x").read_text() == "other\n"
        root["d"]["x"] = "text"


def test_changes_beside_a_mount_that_rests_become_durable(mounts: Callable[..., Mount]) -> None:
    """Without a bound on their age, the mount makes them so."""
    mnt = mounts(options="max_age=none")
    with persist.open(mnt.store, max_age=None) as store:
        time.sleep(WINDOW)
        for n in range(3):
            store.root["n"] = n
            assert store.stat()["undurable_age"] is not None
            wait_until(lambda: store.stat()["undurable_age"] is None, "the change to be durable")


def test_a_new_file_is_not_looked_up_again(mnt: Mount) -> None:
    """The kernel keeps the entry and the attributes that a `create` brings, as tools expect that set them."""

    def tried(n: int) -> int:
        path = mnt.path / f"file {n}"
        before = requests(mnt)
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        assert os.fstat(file).st_size == 0
        os.chmod(path, 0o600)
        os.utime(path, (5, 6))
        os.close(file)
        # A lookup, a create, two changes of attributes and a flush. The release comes later, perhaps after the count.
        return requests(mnt) - before

    counts = []
    for n in range(TRIES):
        counts.append(tried(n))
        if counts[-1] <= 6:
            break
    assert min(counts) <= 6, counts


def changed_attributes(mnt: Mount, path: Path) -> int:
    """Set attributes of a file twice, and look at them. Return the number of requests."""
    mode = 0o600 + os.stat(path).st_mode % 2 ^ 1
    before = requests(mnt)
    os.chmod(path, mode)
    assert os.stat(path).st_mode & 0o777 == mode
    os.utime(path, (5, mode))
    assert os.stat(path).st_mtime == mode
    return requests(mnt) - before


def test_a_change_of_attributes_brings_them(mnt: Mount) -> None:
    """The kernel asks for the attributes of a file neither before nor after a tool sets some of them.

    The tool has been the only one to ask for attributes for a second, and no other process has the store open.
    """
    path = mnt.path / "file"
    path.write_text("text\n")
    wait_until(lambda: changed_attributes(mnt, path) <= 2, "two requests for two changes")


def test_beside_another_process_a_change_of_attributes_does_not_bring_them(mnt: Mount, root: Any) -> None:
    """The kernel stores the answer to a change without a look at what it has learned since the request."""
    path = mnt.path / "file"
    path.write_text("text\n")
    # Longer than the second after which a thread is the only one.
    end = time.monotonic() + 2
    while time.monotonic() < end:
        assert changed_attributes(mnt, path) >= 4


def test_what_a_new_file_shows_is_never_old(mnt: Mount, root: Any) -> None:
    for n in range(TRIES):
        path = mnt.path / f"file {n}"
        with open(path, "wb", buffering=0) as file:
            assert path.stat().st_size == 0
            file.write(b"abc\n")
            assert path.stat().st_size == 4 == os.fstat(file.fileno()).st_size
            if n % 2:
                os.truncate(path, 2)
                assert path.stat().st_size == 2
        if n % 3 == 0:
            root[f"file {n}"] = "of Python"
            assert path.stat().st_size == 10 and path.read_text() == "of Python\n"
        elif n % 3 == 1:
            del root[f"file {n}"]
            assert not path.exists()
        else:
            root[f"file {n}"] = {"now": 1}
            assert path.is_dir() and os.listdir(path) == ["now"]
