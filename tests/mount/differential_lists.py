"""Lists in the differential test: on the mount some directories are lists, on the tmpfs these are plain directories.

1. As long as a mount lives, the names in a list mean what they mean in a plain directory (rule 1 of lists in
   fuse/SEMANTICS.md). Names that a list cannot have are left out on both trees.
2. A fresh mount numbers the items from 0. Items that wait for lower numbers keep their names (rule 2). `Lists` follows
   which items these are, and renames those of the tmpfs when the mount is a fresh one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

# The mark of a list on the tmpfs, and the type on the mount.
MARK = ("trusted.list", b"list")
TYPE = ("user.persist.type", b"list")
# Numbers, and names of temporary files and backups.
NUMBER = re.compile(r"0|[1-9][0-9]*")
BESIDE = re.compile(r"\..*|.*~|.*\.(tmp|bak|orig|swp)|tmp[a-z0-9_]{8}|sed[A-Za-z0-9]{6}")


def is_list(path: str | Path) -> bool:
    """Return whether a directory of either tree is a list."""
    for name, value in (MARK, TYPE):
        try:
            if os.getxattr(path, name) == value:
                return True
        except OSError:
            continue
    return False


def target_of(path: str) -> str:
    """Return where a path leads to."""
    try:
        return os.path.realpath(path) if os.path.islink(path) else path
    except RecursionError:
        # The kernel gives up earlier (ELOOP).
        return path


def cannot_be(path: str) -> bool:
    """Return whether a list cannot have an entry of this path's name, or of the one that a link leads to."""
    for one in (path, target_of(path)):
        parent, _, name = one.rpartition("/")
        if not (NUMBER.fullmatch(name) or BESIDE.fullmatch(name)) and is_list(parent or "."):
            return True
    return False


class List:
    """The numbers of one list: those of its items, and those under which items wait."""

    def __init__(self) -> None:
        self.items: set[int] = set()
        self.waiting: set[int] = set()
        self.next = 0

    def see(self, names: set[int]) -> None:
        """Follow one call, which has made at most one name."""
        self.items &= names
        self.waiting &= names
        for name in names - self.items - self.waiting:
            (self.items if name <= self.next else self.waiting).add(name)
            self.next = max(self.next, name + 1) if name in self.items else self.next
        self.join()

    def join(self) -> None:
        """Items that wait join when the numbers below them have been given."""
        while self.next in self.waiting:
            self.waiting.remove(self.next)
            self.items.add(self.next)
            self.next += 1

    def number(self) -> list[tuple[int, int]]:
        """Number the items from 0. Return the old and new names of those that get others, in an order of renames."""
        renames = [(old, new) for new, old in enumerate(sorted(self.items)) if old != new]
        self.items = set(range(len(self.items)))
        self.next = len(self.items)
        self.join()
        return renames


class Lists:
    """The lists of a tmpfs."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.known: dict[int, List] = {}

    def found(self) -> Iterator[tuple[Path, List, set[int]]]:
        for folder, _, _ in os.walk(self.top):
            if is_list(folder):
                names = {int(name) for name in os.listdir(folder) if NUMBER.fullmatch(name)}
                yield Path(folder), self.known.setdefault(os.stat(folder).st_ino, List()), names

    def see(self) -> None:
        """Follow one call."""
        for _, one, names in self.found():
            one.see(names)

    def number(self) -> None:
        """The mount is a fresh one: number all items."""
        # The inner directories first: an outer one may give them another path.
        for folder, one, _ in reversed(list(self.found())):
            for old, new in one.number():
                os.rename(folder / str(old), folder / str(new))
