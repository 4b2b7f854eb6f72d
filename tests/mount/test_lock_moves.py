"""Locks of files that get another name: they follow the file, towards commands and towards Python."""

from __future__ import annotations

import ctypes
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, Callable

import persist
import pytest
from conftest import Mount, wait_until

LIBC = ctypes.CDLL(None, use_errno=True)
EXCHANGE = 2
Lock = Callable[[BinaryIO, int], None]
LOCKS = [
    pytest.param(fcntl.flock, id="flock"),
    pytest.param(lambda f, how: fcntl.lockf(f, how, 10, 5), id="fcntl"),
]


@pytest.fixture
def root(mnt: Mount) -> Iterator[Any]:
    for name in "ab":
        (mnt.path / name).write_text("0123456789\n")
    with persist.open(mnt.store, lock_timeout=0.05) as store:
        yield store.root


def exchange(mnt: Mount, one: str, two: str) -> None:
    names = [os.fsencode(mnt.path / name) for name in (one, two)]
    assert LIBC.renameat2(-100, names[0], -100, names[1], EXCHANGE) == 0, os.strerror(ctypes.get_errno())


def locked(root: Any, key: Any) -> bool:
    """Return whether Python cannot change an entry."""
    try:
        root[key] = "changed"
    except persist.LockTimeout:
        return True
    return False


@pytest.mark.parametrize("lock", LOCKS)
def test_a_renamed_file_keeps_its_lock(mnt: Mount, root: Any, lock: Lock) -> None:
    with open(mnt.path / "a", "r+b") as f:
        lock(f, fcntl.LOCK_EX)
        os.rename(mnt.path / "a", mnt.path / "c")
        assert locked(root, "c")
        assert not locked(root, "a")
        os.rename(mnt.path / "c", mnt.path / "b")
        assert locked(root, "b")
        assert not locked(root, "c")
        lock(f, fcntl.LOCK_UN)
        assert not locked(root, "b")
    assert "holds" not in (mnt.path / ".persist/locks").read_text()


@pytest.mark.parametrize("lock", LOCKS)
def test_an_exchanged_file_keeps_its_lock(mnt: Mount, root: Any, lock: Lock) -> None:
    with open(mnt.path / "a", "r+b") as f, open(mnt.path / "b", "r+b") as g:
        lock(f, fcntl.LOCK_EX)
        exchange(mnt, "a", "b")
        assert locked(root, "b")
        assert not locked(root, "a")
        lock(g, fcntl.LOCK_SH)
        exchange(mnt, "a", "b")
        assert locked(root, "a") and locked(root, "b")
        lock(f, fcntl.LOCK_UN)
        assert not locked(root, "a")
        assert locked(root, "b")


@pytest.mark.parametrize("lock", LOCKS)
def test_a_removed_or_replaced_file_keeps_its_lock_for_itself(mnt: Mount, root: Any, lock: Lock) -> None:
    with open(mnt.path / "a", "r+b") as f, open(mnt.path / "b", "r+b") as g:
        lock(f, fcntl.LOCK_EX)
        lock(g, fcntl.LOCK_EX)
        os.rename(mnt.path / "b", mnt.path / "a")
        # The lock at the name is that of the file that came.
        assert locked(root, "a")
        lock(g, fcntl.LOCK_UN)
        assert not locked(root, "a")
        lock(g, fcntl.LOCK_EX)
        os.unlink(mnt.path / "a")
        assert not locked(root, "a")


@pytest.mark.parametrize("lock", LOCKS)
def test_an_item_takes_its_lock_out_of_the_list(mnt: Mount, root: Any, lock: Lock) -> None:
    root["l"] = ["x", "y"]
    with open(mnt.path / "l/0", "r+b") as f:
        lock(f, fcntl.LOCK_EX)
        assert locked(root["l"], 1)
        os.rename(mnt.path / "l/0", mnt.path / "c")
        assert not locked(root["l"], 0)
        assert locked(root, "c")
        os.rename(mnt.path / "c", mnt.path / "l/2")
        assert not locked(root, "c")
        assert locked(root["l"], 0)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_request_that_waits_follows_its_file(mnt: Mount, root: Any, lock: Lock) -> None:
    with open(mnt.path / "a", "r+b") as f, open(mnt.path / "a", "r+b") as g:
        lock(f, fcntl.LOCK_EX)
        # A child: the fcntl locks of one process do not exclude each other.
        child = os.fork()
        if child == 0:
            try:
                with open(mnt.path / "a", "r+b") as own:
                    lock(own, fcntl.LOCK_EX)
                    os.pwrite(own.fileno(), b"done", 0)
            finally:
                os._exit(0)
        wait_until(lambda: "awaited" in (mnt.path / ".persist/locks").read_text(), "the child to wait")
        os.rename(mnt.path / "a", mnt.path / "c")
        (mnt.path / "a").write_text("other\n")
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        lock(f, fcntl.LOCK_UN)
        assert os.waitpid(child, 0)[1] == 0
        assert os.pread(g.fileno(), 4, 0) == b"done"
        assert (mnt.path / "a").read_text() == "other\n"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_name_that_python_has_locked_is_not_taken(mnt: Mount, root: Any, lock: Lock) -> None:
    """A rename waits for the lock of the name, and holds the name for the owner of its file from then on."""
    with open(mnt.path / "a", "r+b") as f:
        lock(f, fcntl.LOCK_EX)
        with root.lock("c"):
            renames = threading.Thread(target=os.rename, args=(mnt.path / "a", mnt.path / "c"))
            renames.start()
            renames.join(0.2)
            assert renames.is_alive() and "c" not in root
        renames.join()
        assert locked(root, "c")
    wait_until(lambda: not locked(root, "c"), "the lock to end with its open file")


@pytest.mark.parametrize("lock", LOCKS)
def test_a_rename_gets_its_turn(mnt: Mount, root: Any, lock: Lock) -> None:
    """Also where there is always another request for the lock of the name: it stands in the queue with them."""
    stop, turns = threading.Event(), [0, 0]

    def take_turns(n: int) -> None:
        with persist.open(mnt.store, lock_timeout=60) as store:
            while not stop.is_set():
                with store.root.lock("c"):
                    turns[n] += 1
                    # The other thread is in the queue before this one gives the lock back.
                    before, end = turns[1 - n], time.monotonic() + 0.01
                    while time.monotonic() < end and turns[1 - n] == before:
                        time.sleep(0.001)

    threads = [threading.Thread(target=take_turns, args=(n,)) for n in range(2)]
    with open(mnt.path / "a", "r+b") as f:
        lock(f, fcntl.LOCK_EX)
        try:
            for thread in threads:
                thread.start()
            wait_until(lambda: min(turns) > 3, "both threads to lock")
            os.rename(mnt.path / "a", mnt.path / "c")
        finally:
            stop.set()
            # The threads wait for the lock of the file, which it has under its new name.
            lock(f, fcntl.LOCK_UN)
            for thread in threads:
                thread.join(60)
    assert root["c"] == "0123456789" and "a" not in root


def test_reads_and_writes_beside_an_exchange_are_of_their_inode(mnt: Mount, root: Any) -> None:
    """An exchange moves inodes with their contents; opens, reads and writes of both run at the same time."""
    texts = {"a": "A" * 100, "b": "B" * 100}
    held = {name: os.open(mnt.path / name, os.O_RDWR) for name in texts}
    for name, text in texts.items():
        os.pwrite(held[name], text.encode(), 0)
    contents = {os.fstat(held[name]).st_ino: text[0].encode() for name, text in texts.items()}
    stop = threading.Event()
    errors: list[BaseException] = []

    def exchanges() -> None:
        try:
            while not stop.is_set():
                exchange(mnt, "a", "b")
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=exchanges)
    thread.start()
    try:
        for n in range(3000):
            with open(mnt.path / "ab"[n % 2], "r+b", buffering=0) as file:
                mine = contents[os.fstat(file.fileno()).st_ino]
                assert file.read(10) == mine * 10, n
                os.pwrite(file.fileno(), mine, n % 100)
                assert os.pread(file.fileno(), 100, 0) == mine * 100, n
                assert os.fstat(file.fileno()).st_size == 100, n
            fd = held["ab"[n // 2 % 2]]
            mine = contents[os.fstat(fd).st_ino]
            os.pwrite(fd, mine, n % 100)
            assert os.pread(fd, 100, 0) == mine * 100, n
    finally:
        stop.set()
        thread.join(100)
        for fd in held.values():
            os.close(fd)
    assert not errors, errors
    assert {root["a"], root["b"]} == set(texts.values())


def test_a_write_beside_a_rename_over_its_file_does_not_reach_the_new_one(mnt: Mount, root: Any) -> None:
    for n in range(300):
        (mnt.path / "new").write_text("N" * 100)
        fd = os.open(mnt.path / "b", os.O_RDWR)
        replace = threading.Thread(target=os.replace, args=(mnt.path / "new", mnt.path / "b"))
        replace.start()
        while os.fstat(fd).st_nlink:
            os.pwrite(fd, b"x", n % 100)
        os.pwrite(fd, b"x", n % 100)
        replace.join(100)
        assert os.pread(fd, 1, n % 100) == b"x"
        os.close(fd)
        assert root["b"] == "N" * 100, n
