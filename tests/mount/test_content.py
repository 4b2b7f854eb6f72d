"""One content of a file for all that have it open: what is written is seen, and stored, when it is written."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import sqlite3
import subprocess
import sys
from typing import Any

import persist
import pytest
from conftest import Mount


def test_a_file_opened_for_appending_can_be_cut(mnt: Mount, root: Any) -> None:
    with open(mnt.path / "f", "a+") as f:
        f.write("hello\n")
        f.flush()
        f.truncate(0)
        f.write("new\n")
    assert (mnt.path / "f").read_text() == "new\n"
    assert root["f"] == "new"


def test_truncating_and_appending_at_once(mnt: Mount) -> None:
    (mnt.path / "f").write_text("old content\n")
    fd = os.open(mnt.path / "f", os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    os.write(fd, b"ab")
    os.write(fd, b"cd\n")
    os.close(fd)
    assert (mnt.path / "f").read_text() == "abcd\n"


def test_a_log_that_is_cut_by_name_continues_at_its_beginning(mnt: Mount, root: Any) -> None:
    """As logrotate does with copytruncate."""
    with open(mnt.path / "log", "a") as f:
        f.write("line 1\n")
        f.flush()
        os.truncate(mnt.path / "log", 0)
        f.write("line 2\n")
        f.flush()
        assert root["log"] == "line 2"
    assert (mnt.path / "log").read_text() == "line 2\n"


def test_a_file_that_is_cut_by_name_while_it_is_written(mnt: Mount) -> None:
    (mnt.path / "f").write_text("abcdefgh\n")
    with open(mnt.path / "f", "r+") as f:
        f.write("X")
        f.flush()
        os.truncate(mnt.path / "f", 3)
    assert (mnt.path / "f").read_text() == "Xbc"


@pytest.mark.parametrize("length", [100, 9_000, 300_000])
def test_two_writers_of_different_ranges_both_count(mnt: Mount, root: Any, length: int) -> None:
    (mnt.path / "f").write_text("a" * length + "\n")
    one = os.open(mnt.path / "f", os.O_RDWR)
    two = os.open(mnt.path / "f", os.O_RDWR)
    os.pwrite(one, b"X", 0)
    os.pwrite(two, b"Y", length // 2)
    assert os.pread(one, 1, length // 2) == b"Y"
    os.close(one)
    os.close(two)
    wanted = "X" + "a" * (length // 2 - 1) + "Y" + "a" * (length - length // 2 - 1)
    assert (mnt.path / "f").read_text() == wanted + "\n"
    assert root["f"] == wanted


def test_a_reader_sees_what_is_appended(mnt: Mount, root: Any) -> None:
    log = logging.Logger("log")
    handler = logging.FileHandler(mnt.path / "log")
    log.addHandler(handler)
    log.warning("one")
    with open(mnt.path / "log") as reader:
        assert reader.read() == "one\n"
        log.warning("two")
        assert reader.read() == "two\n"
        assert root["log"] == "one\ntwo"
    handler.close()


def test_tail_follows(mnt: Mount) -> None:
    (mnt.path / "log").write_text("one\n")
    tail = subprocess.Popen(
        ["tail", "-n", "+1", "-s", "0.01", "-f", mnt.path / "log"], stdout=subprocess.PIPE
    )
    assert tail.stdout is not None
    try:
        assert tail.stdout.readline() == b"one\n"
        with open(mnt.path / "log", "a") as f:
            for n in range(20):
                f.write(f"{n}\n")
                f.flush()
                assert tail.stdout.readline() == f"{n}\n".encode()
    finally:
        tail.kill()
        tail.wait()
        tail.stdout.close()


def test_a_new_file_has_one_size_and_content_for_all(mnt: Mount) -> None:
    """A size that another program is shown cuts what a shared mapping holds (SIGBUS)."""
    with open(mnt.path / "new", "w+b") as f:
        f.truncate(8192)
        with mmap.mmap(f.fileno(), 8192) as shared:
            shared[0:3] = b"abc"
            shared[5000:5003] = b"def"
            assert "8192" in mnt.sh("ls -l new")
            assert os.stat(mnt.path / "new").st_size == 8192
            assert (shared[0:3], shared[5000:5003]) == (b"abc", b"def")
            shared.flush()
        with open(mnt.path / "new", "rb") as reader:
            assert reader.read()[5000:5003] == b"def"
    content = (mnt.path / "new").read_bytes()
    assert len(content) == 8192 and content[:3] == b"abc" and content[5000:5003] == b"def"


def test_a_mapping_shared_by_two_opens(mnt: Mount) -> None:
    (mnt.path / "f").write_bytes(b"\xff" * 8192)
    with open(mnt.path / "f", "r+b") as one, open(mnt.path / "f", "r+b") as two:
        with mmap.mmap(one.fileno(), 8192) as a, mmap.mmap(two.fileno(), 8192) as b:
            a[0] = 1
            b[5000] = 2
            mnt.sh("ls -l f; cat f > /dev/null")
            assert (a[5000], b[0]) == (2, 1)
    content = (mnt.path / "f").read_bytes()
    assert (content[0], content[5000], len(content)) == (1, 2, 8192)


def test_a_deleted_or_replaced_file_keeps_its_content_while_it_is_open(mnt: Mount) -> None:
    for n, how in enumerate(["rm f", "echo other > g; mv g f"]):
        (mnt.path / "f").write_bytes(b"ab\xff" * (2 + 40_000 * n))
        with open(mnt.path / "f", "r+b", buffering=0) as f:
            f.write(b"X")
            mnt.sh(how)
            size = 3 * (2 + 40_000 * n)
            assert os.fstat(f.fileno()).st_size == size
            f.seek(0)
            assert f.read() == b"Xb\xff" + b"ab\xff" * (1 + 40_000 * n)
            f.write(b"more")
            f.seek(size)
            assert f.read() == b"more"


def test_opening_for_reading_can_truncate(mnt: Mount) -> None:
    (mnt.path / "f").write_text("abc\n")
    fd = os.open(mnt.path / "f", os.O_RDONLY | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0 and os.read(fd, 9) == b""
    os.close(fd)
    assert (mnt.path / "f").read_bytes() == b""


def test_characters_may_be_cut_between_writes(mnt: Mount, root: Any) -> None:
    text = "ä€𐍈x" * 3000
    (mnt.path / "f").write_text("start\n")
    data = text.encode() + b"\n"
    with open(mnt.path / "f", "ab", buffering=0) as f:
        for at in range(0, len(data), 4099):
            f.write(data[at : at + 4099])
    assert root["f"] == "start\n" + text
    # Content that is not text in the end becomes bytes.
    fd = os.open(mnt.path / "f", os.O_WRONLY)
    os.pwrite(fd, b"\xff", 3)
    os.close(fd)
    assert root["f"][:7] == b"sta\xfft\n\xc3"


EURO = "€".encode()


@pytest.mark.parametrize("how", ["read", "truncate", "write before", "type", "other", "close", "new", "die"])
def test_a_character_that_stays_cut(mnt: Mount, root: Any, how: str) -> None:
    """The bytes of a cut character are a part of the file for its writer, and become bytes if they stay cut."""
    if how != "new":
        (mnt.path / "f").write_text("start")
    f = open(mnt.path / "f", "a+b", buffering=0)
    f.write(b"more" + EURO[:2])
    old = b"" if how == "new" else b"start"
    wanted = old + b"more" + EURO[:2]
    assert os.fstat(f.fileno()).st_size == len(wanted)
    # The characters before it are stored.
    assert root["f"].encode() == wanted[:-2]
    if how == "read":
        f.seek(0)
        assert f.read() == wanted
        f.write(EURO[2:])
        wanted += EURO[2:]
    elif how == "truncate":
        f.truncate(len(wanted) - 1)
        assert os.fstat(f.fileno()).st_size == len(wanted) - 1
        f.truncate(len(wanted) - 2)
        wanted = wanted[:-2]
    elif how == "write before":
        os.pwrite(f.fileno(), b"!", 0)  # O_APPEND: at the end
        wanted += b"!"
    elif how == "type":
        mnt.set_type("f", "bytes")
    elif how == "other":
        with open(mnt.path / "f", "ab", buffering=0) as other:
            other.write(b"other")
        f.write(EURO[2:])
        wanted = old + b"moreother" + EURO
    elif how == "die":
        mnt.die()
        wanted = wanted[:-2]
    with contextlib.suppress(OSError):
        f.close()
    found = root["f"]
    assert (found.encode() if isinstance(found, str) else found) == wanted
    is_text = how in ("read", "truncate", "other", "die")
    assert isinstance(found, str) == is_text


def test_what_was_written_survives_the_death_of_the_mount(mnt: Mount, root: Any) -> None:
    (mnt.path / "f").write_text("start\n")
    f = open(mnt.path / "f", "a", buffering=1)
    f.write("acknowledged\n")
    mnt.die()
    assert root["f"] == "start\nacknowledged"
    with contextlib.suppress(OSError):
        f.close()


def test_sqlite_in_wal_mode_beside_ls(mnt: Mount) -> None:
    db = sqlite3.connect(mnt.path / "db", isolation_level=None)
    assert db.execute("pragma journal_mode=wal").fetchone() == ("wal",)
    db.execute("create table t(a)")
    for n in range(50):
        db.execute("insert into t values(?)", (n,))
        if n % 10 == 0:
            mnt.sh("ls -l")
            other = sqlite3.connect(mnt.path / "db")
            assert other.execute("select count(*) from t").fetchone() == (n + 1,)
            other.close()
    db.close()
    db = sqlite3.connect(mnt.path / "db")
    assert db.execute("select count(*) from t").fetchone() == (50,)
    db.close()


def test_sqlite_of_three_processes_keeps_every_commit(mnt: Mount) -> None:
    db = sqlite3.connect(mnt.path / "db")
    db.execute("create table t(a)")
    db.commit()
    db.close()
    code = """if True:
        import sqlite3, sys
        db = sqlite3.connect(sys.argv[1], timeout=60)
        db.execute("pragma synchronous=off")
        for n in range(20):
            db.execute("insert into t values(1)")
            db.commit()
    """
    programs = [subprocess.Popen([sys.executable, "-c", code, mnt.path / "db"]) for _ in range(3)]
    assert [program.wait(timeout=120) for program in programs] == [0, 0, 0]
    db = sqlite3.connect(mnt.path / "db")
    assert db.execute("select count(*) from t").fetchone() == (60,)
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    db.close()


def test_a_gap_before_what_is_written_is_zeros(mnt: Mount, root: Any) -> None:
    (mnt.path / "f").write_text("ab\n")
    with open(mnt.path / "f", "r+b") as f:
        f.seek(40 << 20)
        f.write(b"end\n")
    assert root["f"] == "ab\n" + "\0" * ((40 << 20) - 3) + "end"
    os.truncate(mnt.path / "f", 10)
    assert root["f"] == "ab\n" + "\0" * 7


def test_a_small_write_into_a_large_file_changes_few_pages(mnt: Mount, root: Any) -> None:
    with open(mnt.path / "f", "wb") as f:
        f.write(b"\xff" * (32 << 20))
    with persist.open(mnt.store) as store:
        store.sync()
        before = store.stat()["file_pages"]
        for n in range(20):
            with open(mnt.path / "f", "r+b") as f:
                f.seek(n << 20)
                f.write(b"X")
        store.sync()
        # Replacing the value would take 8,000 pages each time.
        assert store.stat()["file_pages"] - before < 4000
    content = root["f"]
    assert content.count(b"X") == 20 and len(content) == 32 << 20
