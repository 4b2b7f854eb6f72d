"""Files and directories in everyday shell use."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from pathlib import Path

import pytest
from conftest import Mount, wait_until


def test_echo_and_cat(mnt: Mount) -> None:
    mnt.sh("echo Joe > name")
    assert mnt.sh("cat name") == "Joe\n"
    assert mnt.type("name") == "str"
    assert (mnt.path / "name").stat().st_size == 4


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a", b"a\n", b"a\n\n", b"a\nb", b"\0\n", b"\xff\xfe", b"\xff\n"]
)
def test_every_byte_sequence_is_read_back(mnt: Mount, content: bytes) -> None:
    file = mnt.path / "f"
    file.write_bytes(content)
    assert file.read_bytes() == content
    assert file.stat().st_size == len(content)
    mnt.again()
    assert file.read_bytes() == content


def test_directories(mnt: Mount) -> None:
    mnt.sh("mkdir -p a/b/c; echo 1 > a/b/c/x; mv a/b z; cat z/c/x; test ! -e a/b")
    assert "not empty" in mnt.fails("rmdir z").lower()
    assert "into itself" in mnt.fails("mv z z/c/z") or "subdirectory of itself" in mnt.fails("mv z z/c/z")
    mnt.fails("mkdir z")
    mnt.fails("cat z")
    mnt.fails("rm z")
    mnt.sh("rm -r z a")
    assert os.listdir(mnt.path) == []


def test_rename_rules(mnt: Mount) -> None:
    mnt.sh("mkdir d e full; echo 1 > full/x; echo 2 > f")
    with pytest.raises(OSError) as e:
        os.rename(mnt.path / "d", mnt.path / "full")
    assert e.value.errno == errno.ENOTEMPTY
    with pytest.raises(NotADirectoryError):
        os.rename(mnt.path / "d", mnt.path / "f")
    with pytest.raises(IsADirectoryError):
        os.rename(mnt.path / "f", mnt.path / "d")
    os.rename(mnt.path / "full", mnt.path / "d")
    assert mnt.sh("cat d/x") == "1\n"
    mnt.sh("mv -n f d/x; cat f d/x")
    mnt.sh("mv f d/x; cat d/x")
    assert sorted(os.listdir(mnt.path)) == ["d", "e"]
    assert mnt.sh("cat d/x") == "2\n"


def test_exchange(mnt: Mount) -> None:
    mnt.sh("mkdir d; echo in > d/x; echo file > f")
    libc = __import__("ctypes").CDLL(None, use_errno=True)
    at = -100
    assert libc.renameat2(at, os.fsencode(mnt.path / "d"), at, os.fsencode(mnt.path / "f"), 2) == 0
    assert mnt.sh("cat d f/x") == "file\nin\n"


def test_appending(mnt: Mount) -> None:
    mnt.sh("echo a > f; echo b >> f; cat f")
    assert mnt.sh("cat f") == "a\nb\n"
    one = os.open(mnt.path / "f", os.O_WRONLY | os.O_APPEND)
    two = os.open(mnt.path / "f", os.O_WRONLY | os.O_APPEND)
    os.write(one, b"one\n")
    os.write(two, b"two\n")
    os.close(one)
    os.close(two)
    assert mnt.sh("cat f") == "a\nb\none\ntwo\n"


def test_writing_in_the_middle(mnt: Mount) -> None:
    file = mnt.path / "f"
    file.write_text("0123456789\n")
    with open(file, "r+b", buffering=0) as f:
        f.seek(3)
        f.write(b"xyz")
        f.seek(0)
        assert f.read() == b"012xyz6789\n"
        f.seek(0, os.SEEK_END)
        f.write(b"more\n")
        assert os.fstat(f.fileno()).st_size == 16
        # Others see it too: the file was not opened to be replaced.
        assert file.read_bytes() == b"012xyz6789\nmore\n"
        f.truncate(4)
        assert os.fstat(f.fileno()).st_size == 4
    assert file.read_bytes() == b"012x"
    os.truncate(file, 2)
    assert file.read_bytes() == b"01"
    os.truncate(file, 4)
    assert file.read_bytes() == b"01\0\0"
    mnt.sh("truncate -s 0 f")
    assert file.read_bytes() == b""
    mnt.sh("echo x > f; : > f")
    assert file.read_bytes() == b""


def test_replacing_is_atomic(mnt: Mount) -> None:
    """Readers see the old value or the new one, and never an empty file or a part of one."""
    file = mnt.path / "f"
    values = {(c * 5000 + "\n").encode() for c in "ab"}
    file.write_text("a" * 5000 + "\n")
    stop = threading.Event()
    wrong: list[bytes] = []
    found: set[bytes] = set()

    def read() -> None:
        while not stop.is_set():
            seen = file.read_bytes()
            found.add(seen)
            if seen not in values:
                wrong.append(seen[:50])
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(100):
        mnt.sh(f"head -c 5000 /dev/zero | tr '\\0' {'ab'[n % 2]} > f.new; echo >> f.new; cat f.new > f")
        if wrong:
            break
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    # The readers ran beside the writers.
    assert found == values


def test_lines_of_several_programs_come_at_once(mnt: Mount) -> None:
    mnt.sh("echo old > f; { echo 1; cat f >&2; /bin/echo 2; cat f >&2; } > f; cat f")
    assert mnt.sh("{ echo 1; cat f >&2; /bin/echo 2; } > f; cat f") == "1\n2\n"


def test_last_close_wins(mnt: Mount) -> None:
    mnt.sh("echo old > f")
    one, two = (open(mnt.path / "f", "w") for _ in range(2))
    two.write("two\n")
    one.write("one\n")
    two.close()
    assert mnt.sh("cat f") == "two\n"
    one.close()
    assert mnt.sh("cat f") == "one\n"


def test_a_deleted_file_stays_open(mnt: Mount) -> None:
    mnt.sh("echo old > f")
    with open(mnt.path / "f", "r+") as f:
        os.unlink(mnt.path / "f")
        assert os.fstat(f.fileno()).st_nlink == 0
        f.write("new\n")
    assert not (mnt.path / "f").exists()
    with open(mnt.path / "g", "w") as f:
        f.write("g\n")
        os.rename(mnt.path / "g", mnt.path / "h")
    assert mnt.sh("cat h") == "g\n"


def test_fsync_stores(mnt: Mount) -> None:
    with open(mnt.path / "f", "w") as f:
        f.write("x\n")
        f.flush()
        os.fsync(f.fileno())
        assert mnt.sh("cat f") == "x\n"


def test_a_large_file(mnt: Mount, tmp_path: Path) -> None:
    mnt.sh(f"head -c 100000000 /dev/urandom > {tmp_path}/big; cp {tmp_path}/big b; cmp {tmp_path}/big b")
    assert mnt.type("b") == "bytes"
    assert (mnt.path / "b").stat().st_size == 100_000_000
    mnt.sh(f"mv b c; cmp {tmp_path}/big c; tail -c 5 c | cmp - <(tail -c 5 {tmp_path}/big)")
    mnt.again()
    mnt.sh(f"cmp {tmp_path}/big c; rm c")


def test_a_large_text(mnt: Mount) -> None:
    text = "é" * 200_000 + "\n"
    (mnt.path / "t").write_text(text)
    assert mnt.type("t") == "str"
    assert (mnt.path / "t").stat().st_size == len(text.encode())
    assert (mnt.path / "t").read_text() == text
    assert mnt.sh("tail -c 3 t") == "é\n"
    with open(mnt.path / "t", "a") as f:
        f.write("end\n")
    assert (mnt.path / "t").read_text() == text + "end\n"


def test_mmap(mnt: Mount) -> None:
    (mnt.path / "f").write_text("hello world\n")
    with open(mnt.path / "f", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        assert m[:5] == b"hello"
        m[:5] = b"HELLO"
        m.flush()
    wait_until(lambda: (mnt.path / "f").read_text() == "HELLO world\n", "the mapping's change")


def test_a_script_runs(mnt: Mount) -> None:
    mnt.sh("printf '#!/bin/sh\\necho ran\\n' > s; chmod +x s")
    assert mnt.sh("./s") == "ran\n"


def test_many_entries(mnt: Mount) -> None:
    mnt.sh("mkdir d; cd d; for i in $(seq 3000); do echo $i > k$i; done")
    assert sorted(os.listdir(mnt.path / "d")) == sorted(f"k{i}" for i in range(1, 3001))
    assert mnt.sh("ls -l d | wc -l") == "3001\n"
    mnt.sh("rm -r d")
    assert not (mnt.path / "d").exists()


def test_listing_while_it_changes(mnt: Mount) -> None:
    (mnt.path / "d").mkdir()
    for n in range(1000):
        (mnt.path / "d" / f"k{n}").touch()
    seen = []
    with os.scandir(mnt.path / "d") as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert sorted(seen) == sorted(f"k{n}" for n in range(1000))
    assert os.listdir(mnt.path / "d") == []


def test_modes_and_times_are_kept(mnt: Mount) -> None:
    mnt.sh("echo x > f; mkdir d; chmod 600 f; chmod 700 d; touch -d '2001-02-03 04:05:06' f d; chown 1:2 f")
    status = (mnt.path / "f").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o600, 1, 2)
    assert mnt.sh("stat -c %y f").startswith("2001-02-03 04:05:06")
    assert mnt.sh("stat -c %y d").startswith("2001-02-03 04:05:06")
    mnt.sh("mv f g")
    assert mnt.sh("stat -c '%y %a' g").startswith("2001-02-03 04:05:06")
    mnt.sh("echo y > g")
    assert not mnt.sh("stat -c %y g").startswith("2001")


def test_numbers_are_stable(mnt: Mount) -> None:
    mnt.sh("echo x > f; mkdir d; echo y > d/g")
    before = {p: (mnt.path / p).stat().st_ino for p in ("f", "d", "d/g", ".")}
    Path("/proc/sys/vm/drop_caches").write_text("2")
    assert before == {p: (mnt.path / p).stat().st_ino for p in ("f", "d", "d/g", ".")}
    assert len(set(before.values())) == 4
    listed = {e.name: e.inode() for e in os.scandir(mnt.path)}
    assert listed == {"f": before["f"], "d": before["d"]}


def test_hard_links_are_refused(mnt: Mount) -> None:
    mnt.sh("echo x > f")
    with pytest.raises(PermissionError):
        os.link(mnt.path / "f", mnt.path / "g")
    mnt.fails("mkfifo p")


def test_fallocate_and_seek(mnt: Mount) -> None:
    mnt.sh("echo hello > f")
    with open(mnt.path / "f", "r+b") as f:
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(f.fileno(), 0, os.SEEK_HOLE) == 6
        with pytest.raises(OSError) as e:
            os.lseek(f.fileno(), 10, os.SEEK_DATA)
        assert e.value.errno == errno.ENXIO


def test_free_space(mnt: Mount) -> None:
    figures = os.statvfs(mnt.path)
    assert figures.f_bavail > 0
    assert figures.f_namemax == 255


def test_a_file_that_changes_while_read(mnt: Mount) -> None:
    (mnt.path / "f").write_text("a" * 9999 + "\n")
    with open(mnt.path / "f", "rb", buffering=0) as f:
        first = f.read(4096)
        mnt.sh("echo short > f")
        rest = f.read()
        assert first + rest == b"a" * 9999 + b"\n"
        f.seek(0)
        assert f.read() == b"short\n"


def test_following_a_growing_file(mnt: Mount) -> None:
    mnt.sh("echo 1 > f")
    with open(mnt.path / "f", "rb", buffering=0) as f:
        assert f.read() == b"1\n"
        assert f.read() == b""
        mnt.sh("echo 2 >> f")
        assert f.read() == b"2\n"


def test_two_mounts_of_one_store(mounts) -> None:  # type: ignore[no-untyped-def]
    one = mounts("a")
    two = mounts("a", at="b.mnt")
    for n in range(50):
        (one.path / "f").write_text(f"{n}\n")
        assert (two.path / "f").read_text() == f"{n}\n"
        (two.path / f"d{n}").mkdir()
        assert (one.path / f"d{n}").is_dir()
        os.rename(one.path / f"d{n}", one.path / "d")
        assert not (two.path / f"d{n}").exists()
        (two.path / "d").rmdir()
