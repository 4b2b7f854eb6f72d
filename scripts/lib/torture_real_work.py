"""The work on a store whose disk logs: writers in Python and Rust, a keeper of snapshots, and the facts that follow
from their marks in the disk's log.

1. A writer's operation derives from its seed and number. Its part of the store after a number of operations is
   therefore known.
2. Two of three operations are transactions that also count `order` at the root, and their marks contain the number that
   they got. If an image's `order` is S, exactly the transactions with numbers up to S are in it, and each writer's part
   is in a state between the last of its own among them and its next one: the whole graph is the model at one moment.
3. A mark is written after the call that it reports has returned, and has its place in the log among writes and flushes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from bisect import bisect_right
from pathlib import Path
from typing import Any

import torture_writers
from torture_writers import Violation, fresh

PYTHONS, RUSTS = 2, 2
NAMES = [f"p{i}" for i in range(PYTHONS)] + [f"r{i}" for i in range(RUSTS)]
TEXTS = [0, 7, 200, 5000, 30_000]
MASK = (1 << 64) - 1
# The minimal number of operations of each writer, and of snapshots taken or dropped, however long they take.
LEAST, LEAST_KEPT = 60, 4


class Mix:
    """The generator of the writers in Rust (splitmix64)."""

    def __init__(self, seed: int, n: int) -> None:
        self.state = (seed * 1_000_003 + n) & MASK

    def below(self, n: int) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % n


def act(seed: int, n: int, node: dict[str, Any]) -> None:
    """Run operation `n` of a writer in Rust, like `act` in `fuse/examples/logged_disk/write.rs`."""
    rng = Mix(seed, n)
    kind = rng.below(8)
    if kind == 0:
        node["count"] = n
    elif kind == 1:
        node["dict"][f"k{rng.below(50)}"] = n
    elif kind == 2:
        node["dict"].pop(f"k{rng.below(50)}", None)
    elif kind == 3:
        node["list"].append(n)
    elif kind == 4:
        if len(node["list"]) > 30:
            node["list"].pop(rng.below(len(node["list"])))
        else:
            node["list"].insert(0, n)
    elif kind == 5:
        node["text"] = chr(97 + n % 26) * TEXTS[rng.below(5)]
    elif kind == 6:
        node["tree"] = {f"t{i}": list(range(i)) for i in range(rng.below(10))}
    else:
        x = rng.below(50)
        node["a"] -= x
        node["b"] += x
        node["list"].append(x)


class States:
    """A writer's part of the store after every number of operations."""

    def __init__(self, name: str, seed: int, done: int) -> None:
        model = fresh()
        self.texts = [json.dumps(model)]
        for n in range(done):
            if name.startswith("r"):
                act(seed, n, model)
            else:
                torture_writers.act(seed, n, model, torture_writers.Nothing())
            self.texts.append(json.dumps(model))


class Within:
    """The context of a Python writer's operation: inside its transaction, if any."""

    def __init__(self, transaction: Any) -> None:
        self.transaction = transaction

    def add_shared(self) -> None:
        pass

    def locked_increment(self) -> None:
        pass


def make(path: Path) -> None:
    """Create the store, with a part for every writer, and make that durable."""
    import persist

    with persist.open(path) as store:
        with store.transaction():
            store.root["order"] = {"n": 0}
            for name in NAMES:
                store.root[name] = fresh()
        store.sync()


def writer(path: str, name: str, seed: int, durability: str, seconds: float, mark: str) -> None:
    """Run a Python writer."""
    import persist

    fd = os.open(mark, os.O_WRONLY)
    end = time.monotonic() + seconds
    with persist.open(path, durability=durability) as store:
        node, order = store.root[name], store.root["order"]
        alone, inside = Within(store.transaction), Within(contextlib.nullcontext)
        n = 0
        while n < LEAST or time.monotonic() < end:
            got = 0
            if n % 3 == 0:
                torture_writers.act(seed, n, node, alone)
            else:
                with store.transaction():
                    torture_writers.act(seed, n, node, inside)
                    got = order["n"] + 1
                    order["n"] = got
            os.write(fd, f"op {name} {n} {got}".encode())
            n += 1
            if random.randrange(40) == 0:
                os.write(fd, f"sync begins {name}".encode())
                store.sync()
                os.write(fd, f"sync ended {name} {store.stat()['checkpoint']}".encode())


def keeper(path: str, durability: str, seconds: float, mark: str) -> None:
    """Take and drop snapshots."""
    import persist

    fd = os.open(mark, os.O_WRONLY)

    def tell(what: str) -> None:
        os.write(fd, what.encode())

    end, number, done = time.monotonic() + seconds, 0, 0
    names: list[str] = []
    with persist.open(path, durability=durability) as store:
        while done < LEAST_KEPT or time.monotonic() < end:
            done += 1
            if len(names) < 2 or (len(names) < 5 and random.randrange(2)):
                name = f"s{number}"
                number += 1
                tell(f"snapshot begins {name}")
                taken = store.snapshot(name)
                tell(f"snapshot ended {name} {taken.checkpoint}")
                names.append(name)
            else:
                name = names.pop(random.randrange(len(names)))
                tell(f"drop begins {name}")
                store.drop_snapshot(name)
                tell(f"drop ended {name}")
            time.sleep(random.uniform(0, seconds / 10))


def work(path: Path, program: Path, seed: int, durability: str, seconds: float, mark: Path) -> dict[str, int]:
    """Run all writers for this long; return their seeds."""
    seeds = {name: seed * 100 + i for i, name in enumerate(NAMES)}
    children: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str, *argv: object) -> None:
        children[name] = subprocess.Popen([*map(str, argv)], stdin=subprocess.DEVNULL)

    # An opening with a weaker durability does not weaken the store for the others.
    keeps = "checkpoint" if seed % 2 else durability
    try:
        for name in NAMES:
            args = [path, name, seeds[name], durability, seconds, mark]
            if name.startswith("r"):
                start(name, program, "write", *args)
            else:
                start(name, sys.executable, __file__, "writer", *args)
        start("keeper", sys.executable, __file__, "keeper", path, keeps, seconds, mark)
        end = time.monotonic() + seconds + 300
        for name, child in children.items():
            try:
                code = child.wait(timeout=max(1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise Violation(f"{name} does not end") from None
            if code != 0:
                raise Violation(f"{name} ended with {code}")
    finally:
        for child in children.values():
            if child.poll() is None:
                child.kill()
                child.wait()
    return seeds


Point = tuple[dict[str, int], int]  # operations of each writer, and the number that `order` had


class History:
    """The facts in the marks: of the whole run, and, advanced to a record of the log, the certain ones."""

    def __init__(self, marks: list[tuple[int, str]], seeds: dict[str, int], commits: bool) -> None:
        self.marks, self.commits = marks, commits
        total = dict.fromkeys(NAMES, 0)
        # The transactions that counted, of each writer: their numbers, and the operations that they were.
        self.numbers: dict[str, list[int]] = {name: [] for name in NAMES}
        self.operations: dict[str, list[int]] = {name: [] for name in NAMES}
        for _, what in marks:
            words = what.split()
            if words[0] == "op":
                name, n, number = words[1], int(words[2]), int(words[3])
                total[name] = n + 1
                if number:
                    self.numbers[name].append(number)
                    self.operations[name].append(n)
        self.total = sum(total.values())
        self.syncs = sum(what.startswith("sync ended") for _, what in marks)
        self.snapshots = sum(what.startswith("snapshot ended") for _, what in marks)
        self.states = {name: States(name, seeds[name], total[name]).texts for name in NAMES}
        # The end of the processed part.
        self.next = 0
        self.acked: Point = (dict.fromkeys(NAMES, 0), 0)
        self.sure: Point = (dict.fromkeys(NAMES, 0), 0)
        self.checkpoint = 0
        self.made = False
        self.begun: dict[str, Point] = {}
        self.there: set[str] = set()
        self.perhaps: set[str] = set()
        self.least: dict[str, Point] = {}  # the minimal content of a snapshot

    def keep(self, point: Point) -> None:
        """Record that none of this may be lost any more."""
        done = {name: max(n, self.sure[0][name]) for name, n in point[0].items()}
        self.sure = (done, max(point[1], self.sure[1]))

    def advance(self, cut: int) -> None:
        """Advance to the facts that are certain when the power fails at a record."""
        while self.next < len(self.marks) and self.marks[self.next][0] < cut:
            self.told(self.marks[self.next][1].split())
            self.next += 1

    def told(self, words: list[str]) -> None:
        done, order = self.acked
        what = " ".join(words[:2])
        if words[0] == "op":
            self.acked = ({**done, words[1]: int(words[2]) + 1}, max(order, int(words[3])))
            if self.commits:
                self.keep(self.acked)
        elif what == "sync begins":
            self.begun[words[2]] = self.acked
        elif what == "sync ended":
            self.keep(self.begun[words[2]])
            self.checkpoint = max(self.checkpoint, int(words[3]))
        elif what == "snapshot begins":
            self.least[words[2]] = self.acked
            self.perhaps.add(words[2])
        elif what == "snapshot ended":
            self.keep(self.least[words[2]])
            self.checkpoint = max(self.checkpoint, int(words[3]))
            self.perhaps.discard(words[2])
            self.there.add(words[2])
        elif what == "drop begins":
            self.there.discard(words[2])
            self.perhaps.add(words[2])
        elif what == "drop ended":
            self.perhaps.discard(words[2])
        elif words[0] == "made":
            self.made = True
        elif words[0] == "closed":
            self.keep(self.acked)

    def compare(self, graph: dict[str, Any], least: Point, what: str) -> None:
        """Return whether a graph is the model at one moment, and not before `least`."""
        order = graph["order"]["n"]
        if order < least[1]:
            raise Violation(f"{what}: {order} transactions are there, {least[1]} were durable")
        for name in NAMES:
            i = bisect_right(self.numbers[name], order)
            operations, states = self.operations[name], self.states[name]
            first = operations[i - 1] + 1 if i else 0
            last = operations[i] if i < len(operations) else len(states) - 1
            got = json.dumps(graph[name])
            if got in states[max(first, least[0][name]) : last + 1]:
                continue
            where = [n for n, state in enumerate(states) if state == got]
            raise Violation(
                f"{what}: {name} after {order} transactions is at {where or 'no state'}, not within {first} "
                f"to {last}; {least[0][name]} operations were durable: {got[:1000]}"
            )
        extra = set(graph) - {*NAMES, "order"}
        if extra:
            raise Violation(f"{what}: no transaction made {sorted(extra)}")


if __name__ == "__main__":
    if sys.argv[1] == "writer":
        _, _, at, me, my_seed, how, long, marks_at = sys.argv
        writer(at, me, int(my_seed), how, float(long), marks_at)
    else:
        _, _, at, how, long, marks_at = sys.argv
        keeper(at, how, float(long), marks_at)
