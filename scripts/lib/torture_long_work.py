"""The steady workloads of the long runs: torture_long_work.py WORKLOAD STORE SECONDS [MOUNT].

A worker repeats one action. For each window of time it reports the median and the 99th percentile of the action's time,
and of a piece of plain Python that always does the same work: a temporarily busy machine is therefore not mistaken for
growth.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

WINDOWS = 40
MIB = 1 << 20

Work = Callable[[], None]


def counter(root: Any, store: Any) -> Work:
    root["n"] = 0

    def work() -> None:
        for _ in range(200):
            root["n"] += 1

    return work


def churn(root: Any, store: Any) -> Work:
    """Add and remove entries of a dict, 10,000 at a time."""
    d = root["d"] = {}
    d, rng = root["d"], random.Random(1)

    def work() -> None:
        for _ in range(100):
            d[rng.randrange(20_000)] = "x" * rng.randrange(100)
            d.pop(rng.randrange(20_000), None)

    return work


def queue(root: Any, store: Any) -> Work:
    """Use a list as a queue."""
    root["q"] = [{"n": n} for n in range(1000)]
    q = root["q"]

    def work() -> None:
        for n in range(50):
            q.append({"n": n})
            q.pop(0)

    return work


def objects(root: Any, store: Any) -> Work:
    """Create objects, link them in cycles, and drop them."""
    import persist

    # Found by its name, as the class of what is stored must be.
    global Thing

    class Thing(persist.Object):
        pass

    rng = random.Random(1)
    root["o"] = {}
    held = root["o"]

    def work() -> None:
        for _ in range(20):
            thing = Thing()
            thing.name, thing.parts = "thing", [{"of": 1}]
            held[rng.randrange(500)] = thing
            thing.me = thing
        held.pop(rng.randrange(500), None)

    return work


def large(root: Any, store: Any) -> Work:
    """Write a value of 20 MB repeatedly."""
    numbers = iter(range(1 << 60))

    def work() -> None:
        root["b"] = bytes([next(numbers) % 251]) * 20_000_000

    return work


def nested(root: Any, store: Any) -> Work:
    """Replace a dict of 20,000 entries by another."""
    value = {f"key {i}": {"n": i} if i % 10 == 0 else i for i in range(20_000)}

    def work() -> None:
        root["m"] = value

    return work


def savepoints(root: Any, store: Any) -> Work:
    """Run transactions with inner blocks, of which some fail."""
    root.update(l=[], d={})
    log, d, rng = root["l"], root["d"], random.Random(1)

    def work() -> None:
        with store.transaction():
            log.append({"n": 1})
            for n in range(5):
                try:
                    with store.transaction():
                        d[rng.randrange(500)] = [n] * 10
                        if n % 2:
                            raise ValueError
                except ValueError:
                    pass
            if len(log) > 200:
                del log[:100]

    return work


def locks(root: Any, store: Any) -> Work:
    """Take a lock in turn with another process."""
    if "locked" not in root:
        root["locked"] = {"n": 0}
    locked = root["locked"]

    def work() -> None:
        for _ in range(50):
            with locked.lock():
                locked["n"] += 1

    return work


def files(point: str) -> Work:
    """Write, rename over others, and remove files on the mount."""
    numbers = iter(range(1 << 60))

    def write(at: str, text: bytes) -> None:
        # Not open(), which checks whether the file is a terminal.
        fd = os.open(at, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, text)
        os.close(fd)

    def work() -> None:
        n = next(numbers)
        at = f"{point}/f{n % 50}"
        write(at + ".new", b"text\n" * (n % 400))
        os.rename(at + ".new", at)
        os.mkdir(f"{point}/dir")
        write(f"{point}/dir/x", b"1\n")
        os.remove(f"{point}/dir/x")
        os.rmdir(f"{point}/dir")
        if n % 3 == 0:
            os.remove(at)

    return work


SHORT = """
import os, persist, sys
with persist.open(sys.argv[1]) as store:
    store.root["opened"] = store.root.get("opened", 0) + 1
    if os.fork() == 0:
        store.root["forked"] = store.root.get("forked", 0) + 1
        os._exit(0)
    os.wait()
"""


def short(root: Any, store: Any) -> Work:
    """Run processes that open the store, fork, and end; some are killed. This process opens and closes it, too."""
    import persist

    path, numbers = store.path, iter(range(1 << 60))

    def work() -> None:
        child = subprocess.Popen([sys.executable, "-c", SHORT, path], stdin=subprocess.DEVNULL)
        with persist.open(path) as mine:
            mine.root["mine"] = mine.root.get("mine", 0) + 1
        if next(numbers) % 4 == 0:
            child.kill()
        child.wait()

    return work


# Each with the approximate bytes of its live data, and the number of its processes.
WORKLOADS: dict[str, tuple[Callable[..., Work], int, int]] = {
    "counter": (counter, 1000, 1),
    "churn": (churn, 2 * MIB, 1),
    "queue": (queue, MIB, 1),
    "objects": (objects, MIB, 1),
    "large": (large, 20_000_000, 1),
    "nested": (nested, 3 * MIB, 1),
    "savepoints": (savepoints, MIB, 1),
    "locks": (locks, 1000, 2),
    "mount": (files, MIB, 1),
    "short": (short, 1000, 1),
}


def reference() -> float:
    """Always the same work in Python."""
    begin, d = time.perf_counter(), {}
    for n in range(1000):
        d[n & 511] = n
    return time.perf_counter() - begin


def worker(name: str, path: str, seconds: float, point: str) -> None:
    if point:
        work = WORKLOADS[name][0](point)
    else:
        import persist

        # It must live as long as the process.
        store = persist.open(path, lock_timeout=300)
        work = WORKLOADS[name][0](store.root, store)
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        window = time.monotonic() + seconds / WINDOWS
        took, plain = [], []
        while not took or time.monotonic() < window:
            begin = time.perf_counter()
            work()
            took.append(time.perf_counter() - begin)
            plain.append(reference())
        took.sort()
        plain.sort()
        half, most = len(took) // 2, len(took) * 99 // 100
        figures = {"n": len(took), "p50": took[half], "p99": took[most], "plain": plain[half], "plain99": plain[most]}
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    worker(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else "")
