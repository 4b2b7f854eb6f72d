"""What a view of a moment costs: to take at two sizes, and for a change beside it."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import persist
from bench_report import aim, table

# The two numbers of entries, and how many views are taken.
SIZES = {"full": (1_000, 1_000_000, 5000), "quick": (1_000, 1_000_000, 500), "tiny": (10, 100, 5)}


def taking(home: Path, n: int, rounds: int) -> float:
    """Return the median time to take a view of n entries and end it, in microseconds. Something changes in between."""
    with persist.open(home / f"frozen{n}.store") as store:
        store.root["d"] = {i: i for i in range(n)}
        took = []
        for i in range(rounds):
            store.root["d"][i % n] = -i
            begin = time.perf_counter()
            view = store.frozen()
            took.append(time.perf_counter() - begin)
            view.close()
        return statistics.median(took) * 1e6


def frozen(size: str, aims: list[str]) -> None:
    """Measure taking a view at 1e3 and at 1e6 entries (at fewer in the tiny size)."""
    few, many, rounds = SIZES[size]
    home = Path(tempfile.mkdtemp(prefix="persist-bench-"))
    try:
        took = {f"{n:,} entries": taking(home, n, rounds) for n in (few, many)}
        table("frozen: time to take a view (us)", took, f"{few:,} entries")
        small, large = took.values()
        aim(aims, "time to take a view of 1e6 entries, us", large, 20)
        aim(aims, "the same, compared with 1e3 entries", large / small, 2)
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    found: list[str] = []
    frozen("quick" if "--quick" in sys.argv else "full", found)
    print("\n".join(found))
