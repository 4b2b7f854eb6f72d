"""The speed of persist compared with alternatives (`bench_candidates`), in one run: medians of interleaved rounds. Keys
come in random order.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_durable
import bench_frozen
import bench_liveness
import bench_mount
import bench_safety
import bench_values
import bench_watch
import persist
from bench_candidates import Candidate, available
from bench_report import aim, table

SLICE = 0.05  # seconds of one candidate in one round


def per_op(act: Callable[[list[str]], None], keys: list[str]) -> float:
    """Nanoseconds for an operation, over at most SLICE seconds."""
    n, done, spent, at = 100, 0, 0.0, 0
    while spent < SLICE and done < len(keys):
        part = keys[at : at + n]
        begin = time.perf_counter()
        act(part)
        spent += time.perf_counter() - begin
        done += len(part)
        at += n
        n *= 2
    return spent / done * 1e9


def measure(classes: list[type[Candidate]], n: int, objects: bool, rounds: int, aims: list[str]) -> None:
    home = Path(tempfile.mkdtemp(prefix="persist-bench-"))
    try:
        candidates = []
        for c in classes:
            one = c(home)
            (one.fill_objects if objects else one.fill)(n)
            candidates.append(one)
        keys = [f"key {i}" for i in range(n)]
        for act, what in (("get_age", "attribute get"), ("set_age", "attribute set")) if objects else (
            ("get", "get"), ("set", "set"),
        ):  # fmt: skip
            took: dict[str, list[float]] = {c.name: [] for c in candidates}
            for _ in range(rounds):
                sample = random.sample(keys, min(n, 100_000)) * max(1, 20_000 // n)
                for c in random.sample(candidates, len(candidates)):
                    took[c.name].append(per_op(getattr(c, act), sample))
            table(f"{what}, {n:,} entries (ns)", {k: statistics.median(v) for k, v in took.items()}, "dict")
            medians = {k: statistics.median(v) for k, v in took.items()}
            most = 3 if act.startswith("get") else 5
            aim(aims, f"{what} at {n:,}: within {most}x of dict", medians["persist"] / medians["dict"], most)
            for other in medians.keys() - {"dict", "persist"}:
                aim(
                    aims,
                    f"{what} at {n:,}: {other} at least 5x slower",
                    medians[other] / medians["persist"],
                    5,
                    True,
                )
        if objects:
            held(candidates, keys, rounds, aims)
        for one in candidates:
            one.close()
    finally:
        shutil.rmtree(home)


def held(candidates: list[Candidate], keys: list[str], rounds: int, aims: list[str]) -> None:
    """Measure attributes of objects that the program holds, without the path to them."""
    for write in False, True:
        took: dict[str, list[float]] = {}
        for _ in range(rounds):
            for c in candidates:
                if c.name in ("dict", "persist"):
                    mine: list[Any] = [c.d[k] for k in random.sample(keys, min(len(keys), 50_000))]  # type: ignore[attr-defined]
                    begin = time.perf_counter()
                    if write:
                        for o in mine:
                            o.age = 7
                    else:
                        for o in mine:
                            o.age  # noqa: B018
                    took.setdefault(c.name, []).append((time.perf_counter() - begin) / len(mine) * 1e9)
        what = "attribute set" if write else "attribute get"
        medians = {k: statistics.median(v) for k, v in took.items()}
        table(f"{what}, object in hand (ns)", medians, "dict")
        most = 5 if write else 3
        aim(
            aims,
            f"{what}, object in hand: within {most}x of a plain object's",
            medians["persist"] / medians["dict"],
            most,
        )


SCRIPTS = {
    "python -c pass": "pass",
    "dict": "d = {}\nd['x'] = d.get('x', 0) + 1",
    "persist": "import persist, sys\nwith persist.open(sys.argv[1]) as s:\n    s.root['x'] = s.root.get('x', 0) + 1",
    "lmdb": "import lmdb, sys\ne = lmdb.open(sys.argv[1], subdir=False, sync=False)\nwith e.begin(write=True) as t:\n"
    "    t.put(b'x', b'%d' % (int(t.get(b'x', b'0')) + 1))\ne.close()",
    "shelve": "import shelve, sys\nwith shelve.open(sys.argv[1]) as d:\n    d['x'] = d.get('x', 0) + 1",
    "sqlite3": "import sqlite3, sys\nd = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    "d.execute('PRAGMA synchronous=OFF')\nd.execute('CREATE TABLE IF NOT EXISTS t (k PRIMARY KEY, v)')\n"
    "d.execute('INSERT INTO t VALUES (\"x\", 1) ON CONFLICT DO UPDATE SET v = v + 1')\nd.close()",
    "diskcache": "import diskcache, sys\nwith diskcache.Cache(sys.argv[1], sqlite_synchronous=0) as d:\n"
    "    d.incr('x')",
    "ZODB": "import ZODB, transaction, sys\nd = ZODB.DB(sys.argv[1])\nc = d.open()\nr = c.root()\n"
    "r['x'] = r.get('x', 0) + 1\ntransaction.commit()\nc.close()\nd.close()",
}


def whole_process(names: set[str], others: str, rounds: int, aims: list[str]) -> None:
    home = Path(tempfile.mkdtemp(prefix="persist-bench-"))
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, code in random.sample(list(SCRIPTS.items()), len(SCRIPTS)):
            if name in names or name == "python -c pass":
                env = {**os.environ, "PYTHONPATH": others} if name in ("lmdb", "diskcache", "ZODB") else None
                argv = [sys.executable, "-c", code, str(home / name.replace(" ", "-"))]
                begin = time.perf_counter()
                subprocess.run(argv, check=True, env=env, stderr=subprocess.DEVNULL)
                took.setdefault(name, []).append((time.perf_counter() - begin) * 1000)
    shutil.rmtree(home)
    medians = {k: statistics.median(v) for k, v in took.items()}
    table("open, increment, close: a whole process (ms)", medians, "python -c pass")
    aim(aims, "a short script: ms above python -c pass", medians["persist"] - medians["python -c pass"], 3)


def opening(rounds: int, big: int, aims: list[str]) -> None:
    home = Path(tempfile.mkdtemp(prefix="persist-bench-"))
    sizes = [10, big]
    for n in sizes:
        with persist.open(home / f"{n}.store") as s:
            s.root.update({f"key {i}": i for i in range(n)})
    took: dict[str, list[float]] = {f"{n:,} entries": [] for n in sizes}
    for _ in range(rounds):
        for n in sizes:
            begin = time.perf_counter()
            with persist.open(home / f"{n}.store") as s:
                s.root["key 7"]
            took[f"{n:,} entries"].append((time.perf_counter() - begin) * 1e6)
    shutil.rmtree(home)
    medians = {k: statistics.median(v) for k, v in took.items()}
    table("open, get, close (us)", medians, "10 entries")
    aim(aims, f"opening {big:,} entries beside 10", medians[f"{big:,} entries"] / medians["10 entries"], 1.5)


def main() -> None:
    p = argparse.ArgumentParser(prog="bench")
    p.add_argument("--others", required=True, help=argparse.SUPPRESS)
    p.add_argument("--engine", required=True, help=argparse.SUPPRESS)
    p.add_argument("--ceiling", required=True, help=argparse.SUPPRESS)
    p.add_argument(
        "part", nargs="?", choices=["all", "python", "safety", "mount"], default="all", help="only this part"
    )
    p.add_argument(
        "--quick", dest="size", action="store_const", const="quick", default="full", help="smaller sizes, fewer rounds"
    )
    # For a test, which shows that everything runs; the figures say nothing.
    p.add_argument("--tiny", dest="size", action="store_const", const="tiny", help=argparse.SUPPRESS)
    a = p.parse_args()
    a.quick = a.size != "full"
    sys.path.append(a.others)
    rounds, big, many = (3, 100_000, 10_000) if a.quick else (7, 1_000_000, 100_000)
    aims: list[str] = []
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cpus; medians of {rounds} interleaved rounds")
    classes = available()
    if a.part == "all":
        measure(classes, 1000, False, rounds, aims)
        measure(classes, big, False, rounds, aims)
        measure(classes, many, True, rounds, aims)
        whole_process({c.name for c in classes}, a.others, rounds * 4, aims)
        opening(rounds * 4, big, aims)
    if a.part in ("all", "python"):
        bench_values.values(a.size, aims)
        bench_watch.watch(a.size, aims)
        bench_frozen.frozen(a.size, aims)
    if a.part in ("all", "safety"):
        bench_safety.undo(a.engine, rounds)
        bench_safety.stall(a.engine, a.quick, aims)
        bench_safety.hot(a.engine, rounds, aims)
        bench_liveness.liveness(a.quick, aims)
    if a.part in ("all", "mount"):
        bench_mount.mount(a.ceiling, a.quick, aims)
    if a.part == "all":
        durable = {c.name for c in classes} & {"persist", "lmdb", "sqlite3"}
        bench_durable.durable(durable, a.others, rounds, aims)
    print("\naims")
    print("\n".join(aims))


if __name__ == "__main__":
    main()
