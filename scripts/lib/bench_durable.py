"""Commits that survive a power failure, of one process and of several at once: persist compared with lmdb and sqlite3.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import persist
from bench_report import aim, table

# A process that commits durably to an existing store for a while, and prints its commits per second.
COMMITTER = """import sys, time
name, path, key, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
if name == "persist":
    import persist
    d = persist.open(path, durability="commit").root["d"]
    def commit(n):
        d[key] = n
elif name == "lmdb":
    import lmdb
    env = lmdb.open(path, subdir=False, map_size=1 << 30)
    raw = key.encode()
    def commit(n):
        with env.begin(write=True) as t:
            t.put(raw, b"%d" % n)
else:
    import sqlite3
    db = sqlite3.connect(path, isolation_level=None, timeout=60)
    db.execute("PRAGMA synchronous=FULL")
    def commit(n):
        db.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (key, n))
for n in range(20):
    commit(n)
print("ready", flush=True)
sys.stdin.readline()
n, begin = 0, time.perf_counter()
while (now := time.perf_counter()) - begin < seconds:
    commit(n)
    n += 1
print(n / (now - begin))
"""


def durable_store(name: str, path: str) -> None:
    """Create a store of 1000 entries."""
    if name == "persist":
        with persist.open(path) as s:
            s.root["d"] = {f"key {i}": i for i in range(1000)}
    elif name == "lmdb":
        import lmdb

        with lmdb.open(path, subdir=False, map_size=1 << 30) as env, env.begin(write=True) as t:
            for i in range(1000):
                t.put(f"key {i}".encode(), b"%d" % i)
    else:
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL").fetchall()
        db.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v) WITHOUT ROWID")
        db.executemany("INSERT INTO t VALUES (?, ?)", ((f"key {i}", i) for i in range(1000)))
        db.close()


def durable(names: set[str], others: str, rounds: int, aims: list[str]) -> None:
    """Measure commits that survive a power failure: persist's durability="commit", lmdb with sync, sqlite3 in WAL mode
    with synchronous=FULL."""
    home = Path(tempfile.mkdtemp(prefix="persist-bench-", dir="."))
    try:
        for processes in 1, 8:
            took: dict[str, list[float]] = {}
            for r in range(rounds):
                for name in random.sample(sorted(names), len(names)):
                    path = str(home / f"{name}-{processes}-{r}")
                    durable_store(name, path)
                    env = {**os.environ, "PYTHONPATH": others} if name == "lmdb" else None
                    run = [
                        subprocess.Popen(
                            [sys.executable, "-c", COMMITTER, name, path, f"key {i}", "0.5"],
                            stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE,
                            text=True,
                            env=env,
                        )
                        for i in range(processes)
                    ]
                    for p in run:
                        assert p.stdout and p.stdout.readline() == "ready\n"
                    for p in run:
                        assert p.stdin
                        p.stdin.write("\n")
                        p.stdin.flush()
                    rate = sum(float(p.communicate()[0]) for p in run)
                    took.setdefault(name, []).append(1e6 / rate)
            medians = {k: statistics.median(v) for k, v in took.items()}
            table(
                f"durable commits, {processes} process{'es' * (processes > 1)} (us a commit)",
                medians,
                "persist",
            )
            best = min(v for k, v in medians.items() if k != "persist")
            what = f"durable commits of {processes}: the fastest other beside persist"
            aim(aims, what, best / medians["persist"], 2 if processes > 1 else 1, True)
    finally:
        shutil.rmtree(home)
