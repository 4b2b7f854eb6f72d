"""Long new contents: in the store and not in memory, others see the old value or the new one, nothing leaks."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Mount, binary, wait_until

MIB = 1 << 20


def memory(mnt: Mount) -> int:
    """The memory of the daemon, without the pages of the store's file that it has mapped."""
    (pid,) = mnt.pids()
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def segments(store: Any, mnt: Mount) -> int:
    """The pieces of memory that the store uses. Each change frees a part of what waits."""
    for n in range(200):
        store.root["tick"] = n
    store.gc()
    command = Path(sys.executable).parent / "persist"
    done = subprocess.run([command, "check", mnt.store], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("segments")]
    return int(line.split()[1])


def test_memory_does_not_grow_with_a_file(mnt: Mount, store: Any) -> None:
    store.root["f"] = b"old"
    before, most = memory(mnt), 0
    data = os.urandom(MIB)
    with open(mnt.path / "f", "wb", buffering=0) as f:
        for n in range(256):
            f.write(data)
            if n % 16 == 0:
                most = max(most, memory(mnt) - before)
                assert store.root["f"] == b"old"
    most = max(most, memory(mnt) - before)
    with open(mnt.path / "f", "rb", buffering=0) as f:
        for _ in range(256):
            assert f.read(MIB) == data
            most = max(most, memory(mnt) - before)
    # The file is more than four times as long.
    assert most < 64 * MIB
    assert (mnt.path / "f").stat().st_size == 256 * MIB


def test_no_change_of_python_waits_for_the_end_of_a_long_file(mnt: Mount, store: Any) -> None:
    waits: list[float] = []
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            begin = time.monotonic()
            store.root["n"] = len(waits)
            waits.append(time.monotonic() - begin)

    counter = threading.Thread(target=count)
    begin = time.monotonic()
    counter.start()
    mnt.sh("dd if=/dev/zero of=f bs=1M count=256 2>&1")
    took = time.monotonic() - begin
    done.set()
    counter.join()
    # The whole file in one change would be a good part of the time.
    assert max(waits) < took / 4, (max(waits), took)


@pytest.mark.parametrize("text", [True, False])
def test_others_see_the_old_value_or_the_new_one(mnt: Mount, store: Any, text: bool) -> None:
    old, new = ("a" * 3_000_000, "ä€x" * 1_000_001) if text else (b"\xff" * 3_000_000, b"\xfe" * 4_000_000)
    store.root["f"] = old
    stop = threading.Event()
    wrong: list[int] = []

    def read() -> None:
        while not stop.is_set():
            if store.root["f"] not in (old, new):
                wrong.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(6):
        value = (new, old)[n % 2]
        with open(mnt.path / "f", "wb") as f:
            data = value.encode() + b"\n" if isinstance(value, str) else value
            for at in range(0, len(data), 100_003):
                f.write(data[at : at + 100_003])
        assert store.root["f"] == value
    stop.set()
    reader.join()
    assert not wrong


def test_all_that_can_be_done_with_a_long_new_file(mnt: Mount, store: Any) -> None:
    """Beside a file of the same content on another filesystem."""
    store.root["f"] = "old"
    other = mnt.path.parent / "other"
    pattern = bytes(range(256)) * 4096
    fds = [os.open(path, os.O_RDWR | os.O_TRUNC | os.O_CREAT) for path in (mnt.path / "f", other)]

    def both(call: Any) -> None:
        results = [call(fd) for fd in fds]
        assert results[0] == results[1]
        sizes = [os.fstat(fd).st_size for fd in fds]
        assert sizes[0] == sizes[1]

    both(lambda fd: os.write(fd, pattern * 3))
    both(lambda fd: os.pread(fd, 1000, 3 * MIB - 500))
    both(lambda fd: os.pwrite(fd, b"middle", 1_500_000))
    both(lambda fd: os.pread(fd, 100, 1_499_990))
    both(lambda fd: os.pwrite(fd, b"far", 40 * MIB))
    both(lambda fd: hashlib.sha256(os.pread(fd, 8 * MIB, 35 * MIB)).digest())
    both(lambda fd: os.ftruncate(fd, 5 * MIB))
    both(lambda fd: os.ftruncate(fd, 100))
    both(lambda fd: os.pread(fd, 200, 0))
    both(lambda fd: os.ftruncate(fd, 2 * MIB))
    both(lambda fd: os.pwrite(fd, pattern, 2 * MIB - 1))
    both(lambda fd: os.pread(fd, 300, 2 * MIB - 100))
    assert store.root["f"] == "old"
    for fd in fds:
        os.fsync(fd)
    assert store.root["f"] == other.read_bytes() == (mnt.path / "f").read_bytes()
    both(lambda fd: os.pwrite(fd, b"after", 7))
    for fd in fds:
        os.close(fd)
    assert store.root["f"] == other.read_bytes()


def test_a_long_text_is_a_str(mnt: Mount, store: Any) -> None:
    text = "ä€𐍈x" * 300_000
    for name, written in (("a", text + "\n"), ("b", text), ("c", text + "\n\n")):
        (mnt.path / name).write_text(written)
        assert store.root[name] == written.removesuffix("\n")
        assert (mnt.path / name).read_text() == written
    with open(mnt.path / "d", "wb") as f:
        f.write(text.encode())
        f.seek(1)
        f.write(b"\xff")
    assert isinstance(store.root["d"], bytes)
    # What is a bytes stays one; what a number is stays, with an error.
    mnt.typed("e", "bytes", "x")
    (mnt.path / "e").write_text(text)
    assert store.root["e"] == text.encode()
    store.root["n"] = 5
    with pytest.raises(OSError), open(mnt.path / "n", "w") as f:
        f.write(text)
    assert store.root["n"] == 5


def test_items_and_types(mnt: Mount, store: Any) -> None:
    store.root["l"] = ["a", "b"]
    text = "line\n" * 500_000
    for name in ("0", "2", "5"):
        (mnt.path / "l" / name).write_text(text)
    assert list(store.root["l"]) == [text[:-1], "b", text[:-1]]
    (mnt.path / "l/3").write_text("c\n")
    (mnt.path / "l/4").write_text("d\n")
    assert list(store.root["l"]) == [text[:-1], "b", text[:-1], "c", "d", text[:-1]]
    with open(mnt.path / "t", "w") as f:
        f.write(text)
        f.flush()
        mnt.set_type("t", "bytes")
    assert store.root["t"] == text.encode()


def test_a_deleted_long_file_stays_open(mnt: Mount) -> None:
    """As tempfile makes it: the name is removed at once."""
    with open(mnt.path / "f", "w+b", buffering=0) as f:
        os.unlink(mnt.path / "f")
        data = os.urandom(3 * MIB)
        f.write(data)
        f.seek(0)
        assert f.read(MIB) == data[:MIB]
        assert os.fstat(f.fileno()).st_size == 3 * MIB
    assert not (mnt.path / "f").exists()


@pytest.mark.parametrize("end", ["kill", "unlink", "truncate", "python"])
def test_nothing_leaks(mnt: Mount, store: Any, end: str) -> None:
    store.root["f"] = "old"
    assert segments(store, mnt) < 50
    f = open(mnt.path / "f", "wb", buffering=0)
    f.write(os.urandom(20 * MIB))
    if end == "kill":
        mnt.die()
        assert (mnt.path / "f").read_text() == "old\n" and store.root["f"] == "old"
        with pytest.raises(OSError):
            f.close()
    elif end == "unlink":
        os.unlink(mnt.path / "f")
        f.close()
    elif end == "truncate":
        f.truncate(0)
        f.close()
        assert store.root["f"] == ""
    else:
        del store.root["f"]
        f.close()
    # The draft has more than 5,000.
    wait_until(lambda: segments(store, mnt) < 50, "the draft to be freed")


def test_a_remount_keeps_what_is_being_built(mnt: Mount, store: Any) -> None:
    store.root["f"] = "old"
    data = os.urandom(5 * MIB)
    with open(mnt.path / "f", "wb", buffering=0) as f:
        f.write(data)
        for _ in range(2):
            command = [binary(), str(mnt.store), str(mnt.path), "-o", "remount,rw,durability=none"]
            subprocess.run(command, check=True, timeout=60)
        for n in range(200):
            store.root["tick"] = n
        store.gc()
        assert store.root["f"] == "old"
        f.write(data)
    assert store.root["f"] == data * 2
    store.root["f"] = "old"
    wait_until(lambda: segments(store, mnt) < 50, "the file to be freed")
