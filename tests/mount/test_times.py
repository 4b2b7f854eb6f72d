"""Times of directories and of many files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import persist
import pytest
from conftest import Mount

OLD = 981173106789000000


def mtime(mnt: Mount, name: str) -> int:
    return (mnt.path / name).stat().st_mtime_ns


def old(mnt: Mount, name: str) -> None:
    os.utime(mnt.path / name, ns=(OLD, OLD))


CONTENTS = [
    "echo other > d/f",
    "echo more >> d/f",
    "printf X | dd of=d/f conv=notrunc 2>&1",
    "truncate -s 2 d/f",
    "truncate -s 2000000 d/f",
    "head -c 3000000 /dev/zero > d/f",
    "echo 7 > d/n",
    "setfattr -n user.persist.type -v bytes d/f",
    "setfattr -n user.note -v x d/f; chmod 600 d/f; touch d/f",
    "cat d/f; ls -l d; > d/f",
    "echo x > d/l/0; echo y > d/l/@1",
]
ENTRIES = [
    "touch d/new",
    "mkdir d/new",
    "ln -s f d/new",
    "rm d/f",
    "rmdir d/e",
    "mv d/f d/g",
    "mv d/f .",
    "mv e d/new",
    "mv d/f d/n",
    "echo other > d/f; mkdir d/new",
]


@pytest.fixture
def tree(mnt: Mount) -> Mount:
    mnt.sh("mkdir d d/e e; echo file > d/f; echo 5 > d/n")
    mnt.set_type("d/n", "int")
    mnt.list("d/l", "a", "b")
    return mnt


@pytest.mark.parametrize("command", CONTENTS)
def test_a_content_does_not_move_the_time_of_its_directory(tree: Mount, command: str) -> None:
    for directory in ("d", "d/l"):
        old(tree, directory)
    tree.sh(command)
    tree.sh(command)
    for _ in range(2):
        assert (mtime(tree, "d"), mtime(tree, "d/l")) == (OLD, OLD)
        # Its file has the time of the change.
        if " d/f" in command and "setfattr" not in command:
            assert mtime(tree, "d/f") > OLD
        tree.again()


@pytest.mark.parametrize("command", ENTRIES)
def test_an_entry_does(tree: Mount, command: str) -> None:
    tree.sh("echo before > d/f")
    old(tree, "d")
    tree.sh("echo between > d/n 2>&1; echo 6 > d/n")
    tree.sh(command)
    after = mtime(tree, "d")
    assert after > OLD
    tree.again()
    assert mtime(tree, "d") == after


def test_python_changes_a_container(tree: Mount) -> None:
    """To Python the value of an entry is a part of its container, also right after a command has changed another."""
    with persist.open(tree.store) as store:
        for n in range(20):
            old(tree, "d")
            (tree.path / "d/f").write_text(f"x{n}\n")
            store.root["d"]["n"] = n
            assert mtime(tree, "d") > OLD


def test_each_change_by_python_has_a_time_of_its_own(tree: Mount) -> None:
    """Else rsync and make miss a change that follows another one within milliseconds."""
    with persist.open(tree.store) as store:
        d, last = store.root["d"], 0
        for n in range(200):
            d["n"] = n % 7
            times = mtime(tree, "d"), mtime(tree, "d/n")
            assert min(times) > last, n
            last = max(times)


def test_the_times_of_many_files_outlive_the_mount(mounts: Callable[..., Mount]) -> None:
    mnt = mounts()
    count = 140_000
    with persist.open(mnt.store) as store:
        store.root["d"] = {f"k{n}": n for n in range(count)}

    def times() -> dict[str, Any]:
        with os.scandir(mnt.path / "d") as entries:
            return {entry.name: entry.stat().st_mtime_ns for entry in entries}

    before = times()
    assert len(before) == count
    with persist.open(mnt.store) as store:
        store.root["d"]["k5"] = "other"
    mnt.again()
    after = times()
    assert {name for name in before if after[name] != before[name]} == {"k5"}


def test_a_file_has_the_time_of_a_write_before_it_is_closed(tree: Mount) -> None:
    """Also where the content is built aside, and by a stat of the name."""
    path = tree.path / "x"
    with open(path, "w") as f:
        times = [os.fstat(f.fileno()).st_mtime_ns]
        for n in range(3):
            begun = time.time_ns()
            f.write(f"line {n}\n")
            f.flush()
            told, named = os.fstat(f.fileno()), os.stat(path)
            # The kernel's clock of files counts in ticks; the mount's does not.
            assert begun <= told.st_mtime_ns == told.st_ctime_ns <= time.time_ns()
            assert named.st_mtime_ns == told.st_mtime_ns > times[-1]
            times.append(told.st_mtime_ns)
        os.posix_fallocate(f.fileno(), 0, 100)
        told = os.fstat(f.fileno())
        assert told.st_size == 100 and told.st_ctime_ns > times[-1]
        os.utime(f.fileno(), ns=(1_000_000_000, 2_000_000_000))
        assert os.fstat(f.fileno()).st_mtime_ns == 2_000_000_000
    assert path.stat().st_mtime_ns == 2_000_000_000


def test_a_moved_file_keeps_its_time_after_a_remount(mnt: Mount, root: Any) -> None:
    """Within a directory, and into one of which nothing was shown; also where the directory becomes an object."""
    root["d"] = {"f": 1, "k": 2}
    root["e"] = {}
    root["o"] = {"x": 3}
    shown = {name: (mnt.path / name).stat().st_mtime_ns for name in ("d/f", "d/k", "o/x")}
    mnt.sh("mv d/f d/g; mv d/k e/k")
    mnt.set_type("o", "object")
    root["d"]["other"] = root["e"]["other"] = 1
    mnt.sh("echo 1 > o/other")
    expected = {"d/g": shown["d/f"], "e/k": shown["d/k"], "o/x": shown["o/x"]}
    for again in (lambda: None, mnt.again):
        again()
        assert {name: (mnt.path / name).stat().st_mtime_ns for name in expected} == expected


def test_a_transaction_shows_the_old_times_until_its_commit(mnt: Mount, store: Any) -> None:
    root = store.root
    root["d"] = {"f": 1, "g": 2}
    old(mnt, "d")
    before = {name: mtime(mnt, name) for name in ("d", "d/f", "d/g")}
    time.sleep(0.05)
    with store.transaction():
        root["d"]["f"] = 3
        root["d"]["new"] = 4
        assert {name: mtime(mnt, name) for name in before} == before
        assert (mnt.path / "d/f").read_text() == "1\n"
    assert (mnt.path / "d/f").read_text() == "3\n"
    assert mtime(mnt, "d") > before["d"]
    assert mtime(mnt, "d/f") > before["d/f"]
    assert mtime(mnt, "d/g") == before["d/g"]


def test_another_content_has_a_later_time_at_the_same_time_of_its_container(mnt: Mount, root: Any) -> None:
    root["d"] = {"f": 0}
    seen = [mtime(mnt, "d/f")]
    for n in range(1, 200):
        root["d"]["f"] = n % 10
        seen.append(mtime(mnt, "d/f"))
    assert seen == sorted(set(seen))


@pytest.fixture
def two(mounts: Callable[..., Mount]) -> tuple[Mount, Mount]:
    return mounts(), mounts(at="other.mnt")


def test_a_time_that_another_mount_sets_back_tells_of_no_state(two: tuple[Mount, Mount]) -> None:
    """The number of links is counted again, although time and number of entries are what they were."""
    first, second = two
    first.sh("mkdir d d/a; echo x > d/f")
    old(first, "d")
    for name, links in [("b", 2), ("a", 3), ("c", 2), ("a", 3)]:
        assert (first.path / "d").stat().st_nlink == 5 - links
        change = f"rmdir d/a; touch d/{name}" if links == 2 else f"rm d/[bc]; mkdir d/{name}"
        second.sh(change)
        old(second, "d")
        found = (first.path / "d").stat()
        assert (found.st_nlink, found.st_mtime_ns, found.st_size) == (links, OLD, 2), name


@pytest.mark.parametrize("again", [False, True])
def test_a_time_that_is_set_is_shown(two: tuple[Mount, Mount], again: bool) -> None:
    """Also where it is the one of the container, for which the first mount shows the time before a content changed."""
    first, second = two
    first.sh("mkdir d; echo x > d/f")
    old(first, "d")
    first.sh("echo other > d/f")
    assert mtime(first, "d") == OLD
    if again:
        first.again()
    there = mtime(second, "d")
    os.utime(second.path / "d", ns=(there, there))
    assert (mtime(first, "d"), mtime(second, "d")) == (there, there)
    os.utime(first.path / "d", ns=(there, there))
    first.again()
    assert mtime(first, "d") == there


def test_the_time_of_a_directory_is_set_and_its_change_is_now(mnt: Mount) -> None:
    mnt.sh("mkdir d; touch -m -d '2001-02-03 04:05:06' d")
    found = (mnt.path / "d").stat()
    assert found.st_mtime_ns // 10**9 == OLD // 10**9
    assert abs(found.st_ctime - time.time()) < 60
