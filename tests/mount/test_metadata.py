"""Modes, owners, times and extended attributes: what tools set is in the store, and follows its entry."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import persist
import pytest
from conftest import CLASS, TYPE, Mount, run

MTIME = 981173106789000000


def put(mnt: Mount, name: str) -> None:
    """Set everything that a tool can set."""
    path = mnt.path / name
    os.chmod(path, 0o640)
    os.chown(path, 1, 2)
    os.setxattr(path, "user.note", b"a\0b")
    os.setxattr(path, "user.empty", b"")
    os.utime(path, ns=(MTIME - 7, MTIME))


def assert_put(path: Path) -> None:
    st = path.stat()
    assert oct(st.st_mode & 0o7777) == "0o640"
    assert (st.st_uid, st.st_gid) == (1, 2)
    assert (st.st_atime_ns, st.st_mtime_ns) == (MTIME - 7, MTIME)
    assert st.st_ctime_ns > MTIME
    assert os.getxattr(path, "user.note") == b"a\0b"
    assert os.getxattr(path, "user.empty") == b""
    assert {"user.note", "user.empty", TYPE} <= set(os.listxattr(path))


def assert_default(path: Path) -> None:
    st = path.stat()
    assert st.st_mode & 0o7777 == 0o644 and st.st_uid == os.getuid()
    assert [name for name in os.listxattr(path) if not name.startswith("user.persist.")] == []


@pytest.mark.parametrize("end", ["again", "die"])
def test_what_tools_set_outlives_the_mount(mnt: Mount, end: str) -> None:
    mnt.sh("echo x > f; mkdir d; echo y > d/g; mkdir d/o")
    mnt.list("l", "a", "b", "c")
    os.setxattr(mnt.path / "d/o", CLASS, b"people:Person")
    mnt.sh("echo z > d/o/name")
    names = ["f", "d/g", "d/o/name", "l/1", "d/o", "l", "d"]
    for name in names:
        put(mnt, name)
    for _ in range(2):
        for name in names:
            assert_put(mnt.path / name)
        assert_default(mnt.path / "l/0")
        getattr(mnt, end)()
    persist_command = Path(sys.executable).parent / "persist"
    check = subprocess.run([persist_command, "check", mnt.store], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    with persist.open(mnt.store) as store:
        # The other door does not see it.
        assert sorted(store.root) == ["d", "f", "l"] and len(store.root["d"]) == 2
        assert list(store.root["l"]) == ["a", "b", "c"]


def test_it_follows_its_entry(mnt: Mount) -> None:
    mnt.sh("echo x > f; echo y > g; mkdir d")
    put(mnt, "f")
    mnt.sh("mv f d/h")
    assert_put(mnt.path / "d/h")
    mnt.sh("mv d/h g")
    assert_put(mnt.path / "g")
    with persist.open(mnt.store) as store:
        # Another value is another content: it has another time, the rest stays.
        store.root["g"] = "new"
        st = (mnt.path / "g").stat()
        assert st.st_mode & 0o7777 == 0o640 and st.st_mtime_ns > MTIME
        # An entry of the same name is another entry.
        del store.root["g"]
        store.root["g"] = "x"
    assert_default(mnt.path / "g")
    mnt.sh("rm g; echo x > g")
    assert_default(mnt.path / "g")
    mnt.again()
    assert_default(mnt.path / "g")


def test_it_follows_the_items_of_a_list(mnt: Mount) -> None:
    mnt.list("l", "a", "b", "c", "d")
    put(mnt, "l/2")
    put(mnt, "l/3")
    with persist.open(mnt.store) as store:
        items = store.root["l"]
        items.insert(0, "new")
        del items[1]
        assert list(items) == ["new", "b", "c", "d"]
        assert_put(mnt.path / "l/@2")
        items.pop(2)
        assert_put(mnt.path / "l/@2")
        assert_default(mnt.path / "l/@1")
        items.append("last")
        items.clear()
        items.append("x")
    assert_default(mnt.path / "l/@0")


def test_a_restored_list_keeps_it(mnt: Mount) -> None:
    mnt.sh("mkdir l; echo c > l/2; echo a > l/0; echo b > l/1; echo e > l/4")
    for name in ("l/2", "l/1", "l/4"):
        put(mnt, name)
    mnt.set_type("l", "list")
    mnt.again()
    for name in ("l/2", "l/1", "l/4"):
        assert_put(mnt.path / name)
    assert_default(mnt.path / "l/0")
    # The waiting entry joins the list and keeps it.
    mnt.sh("echo d > l/3")
    assert mnt.items("l") == list("abcde")
    assert_put(mnt.path / "l/4")
    os.setxattr(mnt.path / "l", TYPE, b"dict")
    (fourth,) = [name for name in os.listdir(mnt.path / "l") if "4" in name]
    assert_put(mnt.path / "l" / fourth)


def test_exchange_keeps_it(mnt: Mount) -> None:
    mnt.sh("echo x > f; echo y > g")
    put(mnt, "f")
    run(
        "python3 -c 'import ctypes; libc = ctypes.CDLL(None, use_errno=True); "
        'assert libc.renameat2(-100, b"f", -100, b"g", 2) == 0\'',
        mnt.path,
    )
    assert (mnt.path / "f").read_text() == "y\n"
    assert_put(mnt.path / "g")
    assert_default(mnt.path / "f")


def test_editors_and_installers_keep_modes(mnt: Mount) -> None:
    mnt.sh("printf '#!/bin/sh\\necho ran\\n' > s; chmod 755 s; sed -i s/ran/again/ s; ./s | grep again")
    assert (mnt.path / "s").stat().st_mode & 0o7777 == 0o755
    mnt.sh("install -m 711 s t; cp -p s u; mkdir -m 2750 d")
    mnt.again()
    assert mnt.sh("./s; ./t; ./u") == "again\n" * 3
    modes = {name: (mnt.path / name).stat().st_mode & 0o7777 for name in "stud"}
    assert modes == {"s": 0o755, "t": 0o711, "u": 0o755, "d": 0o2750}


def test_times_of_change(mnt: Mount) -> None:
    mnt.sh("echo x > f; echo y > g")
    before = (mnt.path / "f").stat()
    os.chmod(mnt.path / "f", 0o600)
    after = (mnt.path / "f").stat()
    assert after.st_ctime_ns > before.st_ctime_ns and after.st_mtime_ns == before.st_mtime_ns
    os.utime(mnt.path / "f", ns=(2**60, 2**61))
    st = (mnt.path / "f").stat()
    assert (st.st_atime_ns, st.st_mtime_ns) == (2**60, 2**61)
    assert before.st_ctime_ns < st.st_ctime_ns < 2**60 * 2


def test_extended_attributes(mnt: Mount) -> None:
    mnt.sh("echo x > f")
    path = mnt.path / "f"

    def fails(code: int, call: Callable[[], Any]) -> None:
        with pytest.raises(OSError) as e:
            call()
        assert e.value.errno == code, e.value

    fails(errno.ENODATA, lambda: os.getxattr(path, "user.a"))
    fails(errno.ENODATA, lambda: os.removexattr(path, "user.a"))
    fails(errno.ENODATA, lambda: os.setxattr(path, "user.a", b"", os.XATTR_REPLACE))
    os.setxattr(path, "user.a", b"1", os.XATTR_CREATE)
    fails(errno.EEXIST, lambda: os.setxattr(path, "user.a", b"", os.XATTR_CREATE))
    os.setxattr(path, "user.a", b"2", os.XATTR_REPLACE)
    large = bytes(range(256)) * 256
    os.setxattr(path, "user.large", large)
    os.setxattr(path, "user.ünï", b"Wert")
    assert sorted(os.listxattr(path)) == ["user.a", "user.large", TYPE, "user.ünï"]
    os.removexattr(path, "user.a")
    mnt.again()
    assert sorted(os.listxattr(path)) == ["user.large", TYPE, "user.ünï"]
    assert os.getxattr(path, "user.large") == large
    fails(errno.EOPNOTSUPP, lambda: os.setxattr(path, "trusted.x", b""))
    for n in range(20):
        try:
            os.setxattr(path, f"user.{n}", large)
        except OSError as e:
            assert e.errno == errno.ENOSPC
            break
    else:
        pytest.fail("no bound")
    assert path.read_text() == "x\n"


def test_the_same_content_written_again_is_a_change(mnt: Mount) -> None:
    """`make` compares times, not contents."""
    mnt.sh("echo x > f; echo 5 > n; touch -d '2001-02-03 04:05:06' f n")
    for command in ("echo x > f", "echo 5 > n", "printf x | dd of=f conv=notrunc 2>&1"):
        mnt.sh(f"touch -d '2001-02-03 04:05:06' f n; {command}")
        name = "n" if "> n" in command else "f"
        assert mnt.sh(f"cat {name}") in ("x\n", "5\n")
        assert (mnt.path / name).stat().st_mtime_ns > MTIME, command


def test_an_exclusive_lock_needs_a_writable_descriptor(mnt: Mount) -> None:
    """A reader can not stop the writers of the other door."""
    mnt.sh("echo x > f")
    with open(mnt.path / "f") as f:
        with pytest.raises(OSError) as e:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert e.value.errno == errno.EBADF
        fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with open(mnt.path / "f", "r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # The command opens the file again, for writing.
    mnt.sh("flock f echo done")


def test_a_lock_of_another_holds(mnt: Mount) -> None:
    """A change of metadata is a change: a locked entry refuses it."""
    mnt.sh("echo x > f; mkdir d")
    with persist.open(mnt.store) as store, store.root["d"].lock():
        with pytest.raises(BlockingIOError):
            os.chmod(mnt.path / "d", 0o700)
        os.chmod(mnt.path / "f", 0o600)


def test_snapshots_have_it(mnt: Mount) -> None:
    mnt.sh("echo x > f; mkdir d")
    put(mnt, "f")
    put(mnt, "d")
    with persist.open(mnt.store) as store:
        store.snapshot("s")
    mnt.sh("rm f; rmdir d")
    assert_put(mnt.path / ".persist/snapshots/s/f")
    assert_put(mnt.path / ".persist/snapshots/s/d")


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_after_a_remount_rsync_moves_what_changed(mnt: Mount, tmp_path: Path) -> None:
    with persist.open(mnt.store) as store:
        store.root["d"] = {f"k{n}": n for n in range(1000)}
        store.root["l"] = [str(n) for n in range(100)]
    run(f"rsync -aX {mnt.path}/ saved/", tmp_path)
    mnt.down()
    with persist.open(mnt.store) as store:
        store.root["d"]["k500"] = -1
        store.root["l"][7] = "seven"
        store.root["d"]["new"] = 0
    mnt.up()
    moved = run(f"rsync -aX --out-format=%n --exclude=.persist {mnt.path}/ saved/", tmp_path).stdout.split()
    assert [name for name in moved if not name.endswith("/")] == ["d/k500", "d/new", "l/7"]
    mnt.again()
    assert run(f"rsync -aXi {mnt.path}/ saved/", tmp_path).stdout == ""
