"""How soon a process notices a change by another one: in a loop over `watch()`, in a task of asyncio, in `pop_wait()`;
and, for comparison, a byte in a pipe, which is the least that the kernel takes.

The other process changes something at a time that it writes into the store; both are idle otherwise.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import persist
from bench_report import aim, table

BEGIN = """
import os, persist, struct, sys, time
store = persist.open(sys.argv[1])
d, items, n = store.root["d"], store.root["items"], int(sys.argv[2])
took = []
def note(sent):
    took.append(time.clock_gettime(time.CLOCK_MONOTONIC) - sent)
"""
READERS = {
    "watch": """
with d.watch(timeout=60) as changes:
    print("ready", flush=True)
    for change in changes:
        note(d["sent"])
        if len(took) == n:
            break
""",
    "watch, asyncio": """
import asyncio
async def follow():
    with d.watch(timeout=60) as changes:
        print("ready", flush=True)
        async for change in changes:
            note(d["sent"])
            if len(took) == n:
                break
asyncio.run(follow())
""",
    "pop_wait": """
print("ready", flush=True)
while len(took) < n:
    note(items.pop_wait(timeout=60))
""",
    "a pipe": """
print("ready", flush=True)
while len(took) < n:
    note(struct.unpack("d", os.read(0, 8))[0])
""",
}
END = """
took.sort()
print(took[len(took) // 2], took[len(took) * 99 // 100], flush=True)
"""
WRITER = """
import os, persist, struct, sys, time
store = persist.open(sys.argv[1])
d, items, n, kind = store.root["d"], store.root["items"], int(sys.argv[2]), sys.argv[3]
for _ in range(n):
    time.sleep(0.002)
    now = time.clock_gettime(time.CLOCK_MONOTONIC)
    if kind == "pop_wait":
        items.append(now)
    elif kind == "a pipe":
        os.write(1, struct.pack("d", now))
    else:
        d["sent"] = now
"""


def noticed(home: Path, kind: str, n: int) -> tuple[float, float]:
    """Return the median and the 99th percentile of the delays, in microseconds."""
    path = home / "watch.store"
    with persist.open(path) as store:
        store.root.update(d={"sent": 0.0}, items=[])
        program = BEGIN + READERS[kind] + END
        from_writer, to_reader = os.pipe()
        reader = subprocess.Popen(
            [sys.executable, "-c", program, str(path), str(n)], stdin=from_writer, stdout=subprocess.PIPE, text=True
        )
        assert reader.stdout is not None
        reader.stdout.readline()
        subprocess.run([sys.executable, "-c", WRITER, str(path), str(n), kind], check=True, stdout=to_reader)
        os.close(from_writer)
        os.close(to_reader)
        median, late = map(float, reader.stdout.read().split())
        reader.wait()
    return median * 1e6, late * 1e6


def watch(size: str, aims: list[str]) -> None:
    """Measure each way to wait, in turn."""
    n, rounds = {"full": (1000, 5), "quick": (200, 3), "tiny": (10, 1)}[size]
    home = Path(tempfile.mkdtemp(prefix="persist-bench-"))
    try:
        took: dict[str, list[tuple[float, float]]] = {}
        for _ in range(rounds):
            for kind in READERS:
                took.setdefault(kind, []).append(noticed(home, kind, n))

        def of(i: int) -> dict[str, float]:
            return {kind: statistics.median(one[i] for one in those) for kind, those in took.items()}

        table("from a change to the wake-up in another process, p50 (us)", of(0), "a pipe")
        table("the same, p99 (us)", of(1), "a pipe")
        aim(aims, "from a change to the wake-up in another process: p50, us", of(0)["watch"], 150)
        beside(home, aims)
    finally:
        shutil.rmtree(home)


def beside(home: Path, aims: list[str]) -> None:
    """Measure what a watch of another container costs a change."""
    with persist.open(home / "beside.store") as store:
        store.root.update(d={"x": 0}, other={})
        d, other = store.root["d"], store.root["other"]

        def per_set() -> float:
            begin = time.perf_counter()
            for _ in range(20_000):
                d["x"] = 1
            return (time.perf_counter() - begin) / 20_000 * 1e9

        took: dict[str, list[float]] = {"not watched": [], "another is": [], "this is": []}
        for _ in range(7):
            took["not watched"].append(per_set())
            with other.watch():
                took["another is"].append(per_set())
            with d.watch():
                took["this is"].append(per_set())
        medians = {kind: statistics.median(all_of_kind) for kind, all_of_kind in took.items()}
        table("set (ns)", medians, "not watched")
        ratio = medians["another is"] / medians["not watched"]
        aim(aims, "a set beside a watch of another container", ratio, 1.5)


if __name__ == "__main__":
    found: list[str] = []
    watch("quick" if "--quick" in sys.argv else "full", found)
    print("\n".join(found))
