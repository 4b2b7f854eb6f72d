"""Fairness between processes: those that take one lock repeatedly each get their share of the acquisitions."""

from __future__ import annotations

from pathlib import Path

import persist
import pytest
from conftest import Script

# Each process counts in its own word; the second half of the words says which processes run.
LOOP = """
    import mmap, persist, sys, time
    path, counters, me, processes, total, hold = *sys.argv[1:3], *map(int, sys.argv[3:6]), float(sys.argv[6])
    with open(counters, "r+b") as f:
        words = memoryview(mmap.mmap(f.fileno(), 0)).cast("Q")
    store = persist.open(path, lock_timeout=100)
    d = store.root["d"]
    taken, running = words[:processes], words[processes:]
    running[me] = 1
    while sum(running) < processes:
        time.sleep(0.001)
    while sum(taken) < total:
        d.lockExcl()
        taken[me] += 1
        if hold:
            time.sleep(hold)
        d.unlock()
"""
# The machine can favour one process for a while, the lock must not: a lock that does is unfair in each round.
ROUNDS = 5


def shares(script: Script, path: Path, processes: int, total: int, hold: float) -> list[float]:
    """Return the share of each process, in per cent, while all of them run."""
    counters = path.with_name("counters")
    counters.write_bytes(bytes(2 * 8 * processes))
    started = [script.start(LOOP, path, counters, n, processes, total, hold) for n in range(processes)]
    for process in started:
        script.finish(process)
    taken = memoryview(counters.read_bytes()).cast("Q").tolist()[:processes]
    # Each process can find the total incomplete once and take the lock once more.
    assert total <= sum(taken) < total + processes
    return [100 * n / sum(taken) for n in taken]


# Without a hold, requests contend and are seldom queued. A hold is longer than a request contends, so all are queued.
@pytest.mark.parametrize(("total", "hold"), [(300_000, 0), (200, 0.002)], ids=["contended", "queued"])
@pytest.mark.parametrize(("processes", "least", "most"), [(2, 25, 75), (4, 8, 50)])
def test_each_process_gets_its_share(
    path: Path, script: Script, processes: int, least: float, most: float, total: int, hold: float
) -> None:
    with persist.open(path) as store:
        store.root["d"] = {}
    seen: list[list[float]] = []
    for _ in range(ROUNDS):
        seen.append(shares(script, path, processes, total, hold))
        if all(least <= share <= most for share in seen[-1]):
            return
    pytest.fail(f"shares in per cent, by round: {seen}")
