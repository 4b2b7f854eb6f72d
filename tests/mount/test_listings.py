"""Listings of directories that the kernel keeps: never stale, and answered without attributes (P9)."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import persist
import pytest
from conftest import Mount

ROUNDS = 150
MANY = 400  # entries, more than one reply has room for


def shown(directory: Path) -> dict[str, tuple[bool, int]]:
    """Return what a listing and a look at each entry show: whether it is a directory, and its size."""
    with os.scandir(directory) as entries:
        found = {}
        for entry in entries:
            stat = entry.stat(follow_symlinks=False)
            found[entry.name] = (entry.is_dir(follow_symlinks=False), stat.st_size)
    return found


def expected(d: Any) -> dict[str, tuple[bool, int]]:
    """Return what they should show of a dict of strs and dicts."""
    return {
        k: (isinstance(v, persist.Dict), len(v) if isinstance(v, persist.Dict) else len(v) + 1)
        for k, v in d.items()
    }


def change(d: Any, rng: random.Random) -> None:
    """Change a dict in a random way: entries come, go, get another content, and become directories and files again."""
    kind, key = rng.randrange(6), f"name {rng.randrange(MANY)}"
    if kind == 0:
        d.pop(key, None)
    elif kind == 1:
        d[key] = {"x": rng.randrange(9)}
    elif kind == 2:
        d[f"new {rng.randrange(10**6)}"] = "new"
    elif kind == 3:
        d.update({f"name {n}": "y" * rng.randrange(50) for n in range(rng.randrange(MANY))})
    else:
        d[key] = "x" * rng.randrange(100)


@pytest.mark.parametrize("size", [5, MANY])
def test_a_listing_after_a_change_of_python_shows_the_change(mnt: Mount, root: Any, size: int) -> None:
    root["d"] = {f"name {n}": f"text {n}" for n in range(size)}
    d, rng = root["d"], random.Random(size)
    for turn in range(ROUNDS):
        # The second of two listings finds the directory kept.
        for _ in range(rng.randrange(3)):
            assert shown(mnt.path / "d") == expected(d), turn
        change(d, rng)
        assert shown(mnt.path / "d") == expected(d), turn


def test_a_listing_after_a_change_of_a_command_shows_the_change(mnt: Mount, root: Any) -> None:
    root["d"] = {f"name {n}": f"text {n}" for n in range(MANY)}
    d, rng = root["d"], random.Random(1)
    for turn in range(ROUNDS):
        for _ in range(rng.randrange(3)):
            shown(mnt.path / "d")
        name = mnt.path / "d" / f"name {rng.randrange(MANY)}"
        kind = rng.randrange(4)
        if kind == 0 and name.is_file():
            name.unlink()
        elif kind == 1 and not name.exists():
            name.mkdir()
        elif kind == 2 and name.is_file():
            name.rename(mnt.path / "d" / f"moved {turn}")
        elif not name.is_dir():
            name.write_text("x" * rng.randrange(100) + "\n")
        assert shown(mnt.path / "d") == expected(d), turn


def test_a_list_keeps_its_names_in_order_in_each_listing(mnt: Mount, root: Any) -> None:
    root["l"] = [f"text {n}" for n in range(MANY)]
    items = root["l"]
    rng = random.Random(2)
    for _ in range(ROUNDS):
        for _ in range(rng.randrange(3)):
            shown(mnt.path / "l")
        if rng.randrange(2) and len(items) > 1:
            del items[rng.randrange(len(items))]
        else:
            items.append("x" * rng.randrange(100))
        found = shown(mnt.path / "l")
        by_name = [size for _, (_, size) in sorted((int(name), what) for name, what in found.items())]
        assert by_name == [len(text) + 1 for text in items]


def test_links_of_a_directory_count_what_comes_and_goes(mnt: Mount, root: Any) -> None:
    root["d"] = {}
    directory, rng = mnt.path / "d", random.Random(3)
    for turn in range(ROUNDS):
        name = directory / f"name {rng.randrange(20)}"
        kind = rng.randrange(5)
        if kind < 2 and not name.exists():
            name.mkdir()
        elif kind == 2 and not name.exists():
            name.touch()
        elif name.is_dir():
            name.rmdir()
        elif name.exists():
            name.unlink()
        if rng.randrange(4) == 0:
            root["d"][f"name {rng.randrange(20)}"] = rng.choice(["", {}])
        assert directory.stat().st_nlink == 2 + sum(e.is_dir() for e in directory.iterdir()), turn
    assert all(e.stat().st_nlink == 2 for e in directory.iterdir() if e.is_dir())


def links(mnt: Mount, name: str) -> int:
    return (mnt.path / name).stat().st_nlink


def long_ago(mnt: Mount, name: str) -> None:
    """Set a time: the mount keeps what it counts in a directory that has not changed for a while."""
    os.utime(mnt.path / name, ns=(10**18, 10**18))


def test_links_of_a_directory_whose_time_comes_again(mnt: Mount, root: Any) -> None:
    mnt.sh("mkdir -p new d/a; echo x > d/f")
    long_ago(mnt, "d")
    assert links(mnt, "d") == 3
    mnt.sh("mv d/f f; mv new d/f")
    long_ago(mnt, "d")
    assert links(mnt, "d") == 4
    root["d"]["f"] = 5
    long_ago(mnt, "d")
    assert links(mnt, "d") == 3


@pytest.mark.parametrize("waits", [False, True])
def test_links_of_a_directory_where_a_symlink_becomes_a_directory(mnt: Mount, root: Any, waits: bool) -> None:
    mnt.sh("mkdir b")
    if waits:
        mnt.sh("ln -s ../a b/y")
        long_ago(mnt, "b")
        assert links(mnt, "b") == 2
        mnt.sh("mkdir a")
    else:
        root["a"] = {}
        root["b"]["y"] = root["a"]
        long_ago(mnt, "b")
    assert links(mnt, "b") == 2 and (mnt.path / "b/y").is_symlink()
    del root["a"]
    directory = (mnt.path / "b/y").is_dir() and not (mnt.path / "b/y").is_symlink()
    assert links(mnt, "b") == 2 + directory
    assert directory or waits


def test_links_of_a_directory_that_is_looked_at_in_a_transaction(mnt: Mount, store: Any) -> None:
    root = store.root
    root["d"] = {"k": 5, "a": {}}
    with store.transaction():
        root["d"]["k"] = {}
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            assert links(mnt, "d") == 3
    assert links(mnt, "d") == 4
