"""A writer in Python and a reader in the mount, in step: the reader looks after each change that was acknowledged, and
sees it. Used by `test_stale.py` and by `scripts/torture mount`.

The reader is a process of its own. It gets one look in a line of JSON and answers with one, so that no look begins
before the change is done, and no change before the look is answered.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import persist

READER = r"""
import json, mmap, os, sys

def read(path):
    with open(path, "rb") as f:
        return f.read().decode()

def mapped(path):
    with open(path, "rb") as f:
        if os.fstat(f.fileno()).st_size == 0:
            return ""
        with mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
            return m[:].decode()

def listed(path):
    return sorted(os.listdir(path))

def sizes(path):
    with os.scandir(path) as entries:
        return sorted([e.name, e.stat(follow_symlinks=False).st_size] for e in entries if not e.is_dir())

def type_of(path):
    return os.getxattr(path, "user.persist.type").decode()

LOOKS = {
    "size": lambda path: os.stat(path).st_size,
    "exists": os.path.lexists,
    "read": read,
    "mapped": mapped,
    "listed": listed,
    "sizes": sizes,
    "link": os.readlink,
    "type": type_of,
}

for line in sys.stdin:
    look, path = json.loads(line)
    try:
        answer = LOOKS[look](path)
    except OSError as e:
        answer = {"errno": e.errno}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
"""

Tree = dict[str, Any]


class Reader:
    """The process that looks."""

    def __init__(self) -> None:
        command = [sys.executable, "-S", "-c", READER]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def look(self, what: str, path: Path | str) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([what, str(path)]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def text_of(value: Any) -> str:
    return f"{value}\n"


def expected(tree: Any, what: str, path: list[str]) -> Any:
    """What a look at a path of the tree must answer."""
    for n, name in enumerate(path):
        if isinstance(tree, persist.Link) or not isinstance(tree, dict):
            return False if what == "exists" else {"errno": 20}
        if name not in tree:
            return False if what == "exists" else {"errno": 2}
        tree = tree[name]
        assert n == len(path) - 1 or isinstance(tree, dict)
    if what == "exists":
        return True
    if what == "listed":
        return sorted(tree)
    if what == "sizes":
        return sorted([k, size_of(v)] for k, v in tree.items() if not isinstance(v, dict))
    if what == "link":
        return str(tree)
    if what == "type":
        return type(tree).__name__
    if what == "size":
        return len(tree) if isinstance(tree, dict) else size_of(tree)
    return text_of(tree)


def size_of(value: Any) -> int:
    return len(str(value)) if isinstance(value, persist.Link) else len(text_of(value))


class Steps:
    """The writer, and what it expects."""

    FILES = ("x", "y", "z")
    DIRS = ("a", "b", "c")

    def __init__(self, store: persist.Store, mnt: Path, seed: int, daemon: int | None = None) -> None:
        self.store, self.mnt, self.daemon = store, mnt, daemon
        self.random = random.Random(seed)
        self.reader = Reader()
        self.tree: Tree = {}
        self.looks = 0
        self.slowest = 0.0
        self.log: list[str] = []
        store.root.clear()
        for name in self.DIRS:
            self.put([], name, {"x": "one", "d": {"d": {"leaf": "deep"}}, "ln": persist.Link("nowhere")})

    def close(self) -> None:
        self.reader.close()

    # ---- the two sides of a change ---------------------------------------------------------------

    def at(self, path: list[str]) -> tuple[Any, Tree]:
        there, tree = self.store.root, self.tree
        for name in path:
            there, tree = there[name], tree[name]
        return there, tree

    def put(self, path: list[str], key: str, value: Any) -> None:
        there, tree = self.at(path)
        there[key] = value
        tree[key] = copy_of(value)

    def remove(self, path: list[str], key: str) -> None:
        there, tree = self.at(path)
        if key in tree:
            del there[key]
            del tree[key]

    def directory(self) -> list[str]:
        path: list[str] = []
        tree = self.tree
        while True:
            below = [name for name, value in tree.items() if isinstance(value, dict)]
            if not below or (path and self.random.random() < 0.3):
                return path
            path.append(self.random.choice(below))
            tree = tree[path[-1]]

    def value(self) -> Any:
        text = self.random.choice("abc") * self.random.randrange(1, 40)
        return self.random.choice([text, text, text, self.random.randrange(1000), 1.5])

    def change(self) -> None:
        kind = self.random.randrange(12)
        path = self.directory()
        key = self.random.choice(self.FILES)
        self.log.append(f"{kind} {path} {key}")
        if kind < 4:
            self.put(path, key, self.value())
        elif kind < 6:
            self.remove(path, key)
        elif kind == 6:
            self.put(path, "ln", persist.Link(self.random.choice("abc") * self.random.randrange(1, 9)))
        elif kind == 7:
            there, tree = self.at(path)
            if "x" in tree and "x" not in self.DIRS:
                there["y"] = there.pop("x")
                tree["y"] = tree.pop("x")
        elif kind == 8:
            self.move()
        elif kind == 9:
            with self.store.transaction():
                for key in self.FILES:
                    self.put(path, key, self.value())
        elif kind == 10:
            there, tree = self.at(path)
            if path and len(path) < 3:
                there.clear()
                tree.clear()
                self.put(path, "x", "new")
                self.put(path, "d", {"d": {"leaf": "again"}})
        else:
            there, tree = self.at(path)
            new = {key: self.value() for key in self.FILES}
            there.update(new)
            tree.update(new)

    def move(self) -> None:
        """Move a directory, with all below it, to another name."""
        old = self.random.choice([name for name in self.tree])
        new = self.random.choice([name for name in (*self.DIRS, "m", "n") if name not in self.tree] or [old])
        if new != old and isinstance(self.tree[old], dict):
            self.store.root[new] = self.store.root.pop(old)
            self.tree[new] = self.tree.pop(old)

    # ---- looking ---------------------------------------------------------------------------------

    def look(self, what: str, path: list[str]) -> None:
        want = expected(self.tree, what, path)
        got = self.reader.look(what, self.mnt.joinpath(*path))
        self.looks += 1
        assert got == want, f"{what} of {'/'.join(path)}: {got} instead of {want}, after {self.log[-5:]}"

    def look_around(self) -> None:
        path = self.directory()
        files = [*path, self.random.choice(self.FILES)]
        _, tree = self.at(path)
        there = tree.get(files[-1])
        looks = [("exists", files), ("listed", path), ("sizes", path), ("size", path)]
        if there is None or not isinstance(there, (dict, persist.Link)):
            looks += [(what, files) for what in ("size", "read", "mapped", "type")] + [("size", files)]
        if isinstance(tree.get("ln"), persist.Link):
            looks.append(("link", [*path, "ln"]))
        for what, where in self.random.sample(looks, 3):
            self.look(what, where)

    def round(self) -> None:
        begun = time.monotonic()
        self.change()
        self.slowest = max(self.slowest, time.monotonic() - begun)
        del self.log[:-10]
        self.look_around()

    def stopped_round(self) -> None:
        """A change while the daemon is stopped; a look when it runs again."""
        assert self.daemon is not None
        self.look_around()
        os.kill(self.daemon, signal.SIGSTOP)
        try:
            self.round_without_look()
        finally:
            os.kill(self.daemon, signal.SIGCONT)
        self.look_around()

    def round_without_look(self) -> None:
        begun = time.monotonic()
        self.change()
        self.slowest = max(self.slowest, time.monotonic() - begun)


def copy_of(value: Any) -> Any:
    return {k: copy_of(v) for k, v in value.items()} if isinstance(value, dict) else value
