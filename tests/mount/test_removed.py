"""Removed files that are open: all handles keep one content and its attributes, and everything is freed at the end."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Mount, binary, wait_until

MIB = 1 << 20
LIBC = ctypes.CDLL(None, use_errno=True)
REMOVALS = ("unlink", "replaced", "replaced in a list", "removed from a list", "unlink of an item that waits")


def check(mnt: Mount) -> int:
    """Check the store, and return how many segments it uses."""
    command = Path(sys.executable).parent / "persist"
    done = subprocess.run([command, "check", mnt.store], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("segments")]
    return int(line.split()[1])


def free_waiting(root: Any) -> None:
    """Each change frees a part of what waits to be freed."""
    for n in range(200):
        root["tick"] = n


def prepared(mnt: Mount, how: str, value: bytes) -> tuple[Path, Callable[[], None]]:
    """Make a file, and return it with what removes it."""
    if "list" in how or "item" in how:
        mnt.list("l", "x", "y", "z")
        path = mnt.path / "l" / ("7" if "waits" in how else "1")
    else:
        path = mnt.path / "f"
    path.write_bytes(value)
    if "replaced" not in how:
        return path, path.unlink
    new = mnt.path / "new"
    new.write_text("new\n")
    return path, lambda: os.replace(new, path)


@pytest.mark.parametrize("size", [0, 5, 5000, 3 * MIB])
@pytest.mark.parametrize("how", REMOVALS)
def test_all_handles_keep_one_file(mnt: Mount, how: str, size: int) -> None:
    content = os.urandom(size)
    path, remove = prepared(mnt, how, content)
    path.chmod(0o640)
    os.setxattr(path, "user.note", b"mine")
    os.utime(path, ns=(10**18, 10**18))
    with open(path, "rb", buffering=0) as reader, open(path, "r+b", buffering=0) as writer:
        remove()
        for f in (reader, writer):
            st = os.fstat(f.fileno())
            assert (st.st_mode & 0o7777, st.st_nlink, st.st_size) == (0o640, 0, size)
            assert st.st_mtime_ns == 10**18
            assert os.getxattr(f.fileno(), "user.note") == b"mine"
            assert os.pread(f.fileno(), 4 * MIB, 0) == content
        # Any bytes, at any place: they are seen at once.
        end = size + 10_000
        assert os.pwrite(writer.fileno(), b"\xff\x00end", end) == 5
        assert os.fstat(reader.fileno()).st_size == end + 5
        assert os.pread(reader.fileno(), 100, end) == b"\xff\x00end"
        assert os.pread(reader.fileno(), 4 * MIB, 0) == content + bytes(10_000) + b"\xff\x00end"
        os.ftruncate(writer.fileno(), 3)
        assert os.pread(reader.fileno(), 100, 0) == (content + bytes(3))[:3]
        os.fchmod(reader.fileno(), 0o400)
        os.setxattr(reader.fileno(), "user.note", b"new")
        os.fsync(writer.fileno())
        assert os.fstat(writer.fileno()).st_mode & 0o7777 == 0o400
        assert os.getxattr(writer.fileno(), "user.note") == b"new"
        # By its link in /proc it can be opened again, and shares the content.
        with open(f"/proc/self/fd/{writer.fileno()}", "r+b", buffering=0) as again:
            again.write(b"XYZ")
        assert os.pread(reader.fileno(), 100, 0) == b"XYZ"
        if "replaced" in how:
            assert path.read_text() == "new\n" and path.stat().st_mode & 0o7777 == 0o644
        else:
            assert not path.exists()


@pytest.mark.parametrize("how", REMOVALS)
def test_python_sees_only_the_removal(mnt: Mount, root: Any, how: str) -> None:
    path, remove = prepared(mnt, how, b"\xffold")
    before = persist_value(root)
    assert b"\xffold" in before or "waits" in how
    with open(path, "r+b", buffering=0) as f:
        remove()
        f.write(b"later")
        after = persist_value(root)
        assert b"\xffold" not in after and b"later" not in after
        assert "replaced" not in how or b"new\n" in after
    root["end"] = 1
    assert persist_value(root) == after


def persist_value(root: Any) -> list[Any]:
    return list(root.get("l", [])) + [root.get("f")]


def test_a_removed_number_takes_any_content(mnt: Mount, root: Any) -> None:
    root["n"] = 5
    with open(mnt.path / "n", "r+b", buffering=0) as f, open(mnt.path / "n", "rb", buffering=0) as g:
        os.unlink(mnt.path / "n")
        assert g.read() == b"5\n"
        f.write(b"no number")
        assert os.pread(g.fileno(), 100, 0) == b"no number"
    assert "n" not in root


def test_a_new_file_has_its_name_for_itself(mnt: Mount) -> None:
    """The usual way of temporary files, also where the name is used again."""
    for n in range(5):
        with open(mnt.path / "t", "w+b", buffering=0) as f:
            os.unlink(mnt.path / "t")
            f.write(b"%d" % n * 100)
            with open(mnt.path / "t", "xb", buffering=0) as other:
                other.write(b"other")
                os.unlink(mnt.path / "t")
                assert os.pread(f.fileno(), 1000, 0) == b"%d" % n * 100
                assert os.fstat(f.fileno()).st_size == 100
                assert os.fstat(other.fileno()).st_ino != os.fstat(f.fileno()).st_ino
    with tempfile.TemporaryFile(dir=mnt.path) as f:
        f.write(b"x" * 3 * MIB)
        f.flush()
        f.seek(0)
        assert f.read() == b"x" * 3 * MIB
    assert not list(mnt.path.iterdir())


def test_a_mapping_stays(mnt: Mount) -> None:
    (mnt.path / "f").write_bytes(b"a" * 10_000)
    with open(mnt.path / "f", "r+b", buffering=0) as f, open(mnt.path / "f", "rb", buffering=0) as g:
        with mmap.mmap(f.fileno(), 0) as shared:
            os.unlink(mnt.path / "f")
            shared[5000:5003] = b"xyz"
            shared.flush()
            assert os.pread(g.fileno(), 3, 5000) == b"xyz"


def test_tools_make_no_files_without_a_name(mnt: Mount) -> None:
    with pytest.raises(OSError) as refused:
        os.open(mnt.path, os.O_TMPFILE | os.O_RDWR)
    assert refused.value.errno == errno.EOPNOTSUPP


def test_a_removed_directory(mnt: Mount) -> None:
    (mnt.path / "d").mkdir(mode=0o700)
    fd = os.open(mnt.path / "d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rmdir(mnt.path / "d")
        st = os.fstat(fd)
        assert (st.st_nlink, st.st_mode & 0o7777) == (0, 0o700)
        assert os.listdir(fd) == []
        with pytest.raises(FileNotFoundError):
            os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [5, 3 * MIB])
def test_exchanged_files_keep_their_handles(mnt: Mount, size: int) -> None:
    one, two = os.urandom(size), os.urandom(size)
    (mnt.path / "a").write_bytes(one)
    (mnt.path / "b").write_bytes(two)
    (mnt.path / "a").chmod(0o600)
    with open(mnt.path / "a", "r+b", buffering=0) as a, open(mnt.path / "b", "rb", buffering=0) as b:
        names = [os.fsencode(mnt.path / name) for name in "ab"]
        assert LIBC.renameat2(-100, names[0], -100, names[1], 2) == 0
        assert (mnt.path / "a").read_bytes() == two and (mnt.path / "b").read_bytes() == one
        os.unlink(mnt.path / "b")
        os.pwrite(a.fileno(), b"abc", 0)
        assert os.pread(a.fileno(), 4 * MIB, 0) == b"abc" + one[3:]
        assert os.fstat(a.fileno()).st_mode & 0o7777 == 0o600
        assert os.pread(b.fileno(), 4 * MIB, 0) == two
        assert os.fstat(b.fileno()).st_nlink == 1


@pytest.mark.parametrize("end", ["close", "kill", "remount"])
def test_nothing_is_left(mnt: Mount, root: Any, end: str) -> None:
    """The space is freed at the last close, and also if the process of the mount dies."""
    free_waiting(root)
    for round in range(2):
        for n in range(20):
            (mnt.path / f"f{n}").write_bytes(os.urandom(200_000))
        open_files = [open(mnt.path / f"f{n}", "r+b", buffering=0) for n in range(20)]
        for n in range(20):
            os.unlink(mnt.path / f"f{n}")
        assert all(os.pwrite(f.fileno(), b"x" * 1000, 300_000) == 1000 for f in open_files)
        if end == "kill":
            mnt.kill()
        for f in open_files:
            try:
                f.close()
            except OSError:
                assert end == "kill"
        if end == "kill":
            wait_until(lambda: not mnt.pids(), "the mount's process to end")
            subprocess.run(["umount", "-l", mnt.path], check=True)
            mnt.up()
        elif end == "remount":
            mnt.again()
        free_waiting(root)
        if round == 0:
            before = check(mnt)

    def freed() -> bool:
        free_waiting(root)
        # What waits is freed while nothing is changed for 20 ms. The check itself takes a snapshot, which is a change.
        time.sleep(0.3)
        return check(mnt) <= before

    wait_until(freed, f"the segments to be {before} again")


def test_a_remount_does_not_end_what_is_open(mnt: Mount) -> None:
    """The kernel refuses to make a filesystem with removed open files read-only."""
    command = [binary(), str(mnt.store), str(mnt.path), "-o"]
    (mnt.path / "f").write_bytes(b"\xffcontent")
    with open(mnt.path / "f", "r+b", buffering=0) as f:
        os.unlink(mnt.path / "f")
        refused = subprocess.run([*command, "remount,ro"], capture_output=True, text=True)
        assert refused.returncode == 32 and "busy" in refused.stderr
        subprocess.run([*command, "remount,rw"], check=True)
        assert os.pread(f.fileno(), 100, 0) == b"\xffcontent"
        assert os.pwrite(f.fileno(), b"new", 1) == 3
        assert os.fstat(f.fileno()).st_nlink == 0
    wait_until(lambda: subprocess.run([*command, "remount,ro"], capture_output=True).returncode == 0)


@pytest.mark.parametrize("unlinks", [False, True])
def test_open_beside_removal(mnt: Mount, unlinks: bool) -> None:
    """A file that is opened while it is replaced or removed is either open, with its content, or not there."""
    end = threading.Event()
    wrong: list[str] = []

    def opens() -> None:
        while not end.is_set():
            try:
                with open(mnt.path / "f", "rb", buffering=0) as f:
                    if (found := f.read()) != b"content":
                        wrong.append(repr(found))
                    os.fstat(f.fileno())
            except FileNotFoundError as e:
                if not unlinks:
                    wrong.append(str(e))
            except OSError as e:
                wrong.append(str(e))

    threads = [threading.Thread(target=opens) for _ in range(3)]
    (mnt.path / "t").write_bytes(b"content")
    os.rename(mnt.path / "t", mnt.path / "f")
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            (mnt.path / "t").write_bytes(b"content")
            if unlinks:
                os.unlink(mnt.path / "f")
            os.rename(mnt.path / "t", mnt.path / "f")
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:5]


def test_what_python_removes_is_gone(mnt: Mount, root: Any) -> None:
    root["f"] = b"\xff" * 200_000
    with open(mnt.path / "f", "r+b", buffering=0) as f:
        del root["f"]
        for call in (lambda: os.fstat(f.fileno()), lambda: os.pwrite(f.fileno(), b"x", 0)):
            with pytest.raises(OSError) as gone:
                call()
            assert gone.value.errno == errno.ESTALE
        # The descriptor is open by its name, as long as it lives: what Python makes there is its content.
        root["f"] = b"\xfenew"
        assert os.pread(f.fileno(), 100, 0) == b"\xfenew"


def test_locks_of_a_removed_file(mnt: Mount) -> None:
    (mnt.path / "f").write_text("x")
    with open(mnt.path / "f", "r+b") as f, open(mnt.path / "f", "r+b") as g:
        os.unlink(mnt.path / "f")
        (mnt.path / "f").write_text("y")
        fcntl.flock(f, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(mnt.path / "f", "r+b") as new:
            fcntl.flock(new, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("how", ["unlink", "replace"])
def test_an_item_that_got_another_name(mnt: Mount, root: Any, how: str) -> None:
    """Python inserts an item, so that the names are renumbered: the open file is still that of its item."""
    root["l"] = ["x", "y"]
    with open(mnt.path / "l/1", "r+b", buffering=0) as f:
        root["l"].insert(0, "first")
        assert mnt.items("l") == ["first", "x", "y"]
        last = mnt.path / "l" / str(mnt.names("l")[-1])
        with open(last, "rb", buffering=0) as g:
            if how == "unlink":
                last.unlink()
            else:
                (mnt.path / "new").write_text("new\n")
                os.replace(mnt.path / "new", last)
            assert os.pwrite(f.fileno(), b"Y", 0) == 1
            for one in (f, g):
                assert os.pread(one.fileno(), 10, 0) == b"Y\n"
                assert os.fstat(one.fileno()).st_nlink == 0
    assert root["l"] == (["first", "x"] if how == "unlink" else ["first", "x", "new"])
