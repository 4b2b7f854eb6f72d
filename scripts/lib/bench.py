"""How fast persist is beside what else there is, in one run: medians of interleaved rounds.

Every candidate does the same work with the promise nearest to persist's default (a finished change
survives the death of the process, not a power cut): lmdb without sync, one transaction a set;
sqlite3 in WAL mode without sync, autocommit; shelve with the best dbm there is, flushed never; ZODB
with a commit a set and its flush taken out. Gets of lmdb run inside one
open transaction, its fastest way, and once more with a transaction each. Keys come in random order.
"""

from __future__ import annotations

import argparse
import dbm
import importlib
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_safety
import persist
from bench_report import aim, table
from pbase import pbase

SLICE = 0.05  # seconds that one candidate works in one round


class Person(pbase):
    def __init__(self, age: int) -> None:
        pbase.__init__(self)
        self.name = "somebody"
        self.age = age


class Plain:
    def __init__(self, age: int) -> None:
        self.name = "somebody"
        self.age = age


class Candidate:
    """A mapping of str to int (or to objects with an age), and how to get and set in it."""

    name = ""

    def __init__(self, home: Path) -> None:
        self.path = str(home / self.name)

    def fill(self, n: int) -> None: ...
    def fill_objects(self, n: int) -> None: ...
    def get(self, keys: list[str]) -> None: ...
    def set(self, keys: list[str]) -> None: ...
    def get_age(self, keys: list[str]) -> None: ...
    def set_age(self, keys: list[str]) -> None: ...
    def close(self) -> None: ...


class Mapping(Candidate):
    """What gives values by d[key] and objects that are changed in place."""

    d: Any

    def get(self, keys: list[str]) -> None:
        d = self.d
        for k in keys:
            d[k]

    def set(self, keys: list[str]) -> None:
        d = self.d
        for k in keys:
            d[k] = 7

    def get_age(self, keys: list[str]) -> None:
        d = self.d
        for k in keys:
            d[k].age  # noqa: B018

    def set_age(self, keys: list[str]) -> None:
        d = self.d
        for k in keys:
            d[k].age = 7


class Dict(Mapping):
    name = "dict"

    def fill(self, n: int) -> None:
        self.d = {f"key {i}": i for i in range(n)}

    def fill_objects(self, n: int) -> None:
        self.d = {f"key {i}": Plain(i) for i in range(n)}


class Persist(Mapping):
    name = "persist"

    def fill(self, n: int) -> None:
        self.store = persist.open(self.path)
        self.store.root["d"] = {f"key {i}": i for i in range(n)}
        self.d = self.store.root["d"]

    def fill_objects(self, n: int) -> None:
        self.store = persist.open(self.path)
        self.store.root["d"] = {f"key {i}": Person(i) for i in range(n)}
        self.d = self.store.root["d"]

    def close(self) -> None:
        self.store.close()


class Lmdb(Candidate):
    name = "lmdb"

    def open(self) -> None:
        import pickle

        import lmdb

        self.dumps, self.loads = pickle.dumps, pickle.loads
        self.env = lmdb.open(self.path, map_size=1 << 32, sync=False, metasync=False, subdir=False)

    def fill(self, n: int) -> None:
        self.open()
        with self.env.begin(write=True) as t:
            for i in range(n):
                t.put(f"key {i}".encode(), b"%d" % i)

    def fill_objects(self, n: int) -> None:
        self.open()
        with self.env.begin(write=True) as t:
            for i in range(n):
                t.put(f"key {i}".encode(), self.dumps(Plain(i)))

    def get(self, keys: list[str]) -> None:
        with self.env.begin() as t:
            get = t.get
            for k in keys:
                int(get(k.encode()))

    def set(self, keys: list[str]) -> None:
        begin = self.env.begin
        for k in keys:
            with begin(write=True) as t:
                t.put(k.encode(), b"%d" % 7)

    def get_age(self, keys: list[str]) -> None:
        with self.env.begin() as t:
            for k in keys:
                self.loads(t.get(k.encode())).age  # noqa: B018

    def set_age(self, keys: list[str]) -> None:
        for k in keys:
            with self.env.begin(write=True) as t:
                o = self.loads(t.get(k.encode()))
                o.age = 7
                t.put(k.encode(), self.dumps(o))

    def close(self) -> None:
        self.env.close()


class LmdbOwn(Lmdb):
    """A transaction for every get, as every get of persist sees the newest state."""

    name = "lmdb, own txn"

    def get(self, keys: list[str]) -> None:
        begin = self.env.begin
        for k in keys:
            with begin() as t:
                int(t.get(k.encode()))

    def get_age(self, keys: list[str]) -> None:
        begin = self.env.begin
        for k in keys:
            with begin() as t:
                self.loads(t.get(k.encode())).age  # noqa: B018


class Shelve(Mapping):
    name = "shelve"

    def open(self) -> None:
        import shelve

        self.d = shelve.open(self.path)

    def fill(self, n: int) -> None:
        self.open()
        for i in range(n):
            self.d[f"key {i}"] = i

    def fill_objects(self, n: int) -> None:
        self.open()
        for i in range(n):
            self.d[f"key {i}"] = Plain(i)

    def set_age(self, keys: list[str]) -> None:
        d = self.d
        for k in keys:
            o = d[k]
            o.age = 7
            d[k] = o

    def close(self) -> None:
        self.d.close()


class Sqlite(Candidate):
    name = "sqlite3"

    def open(self) -> None:
        self.db = sqlite3.connect(self.path, isolation_level=None)
        for pragma in "journal_mode=WAL", "synchronous=OFF", "mmap_size=1073741824":
            self.db.execute(f"PRAGMA {pragma}").fetchall()
        self.db.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v) WITHOUT ROWID")

    def fill(self, n: int) -> None:
        self.open()
        self.db.execute("BEGIN")
        self.db.executemany("INSERT INTO t VALUES (?, ?)", ((f"key {i}", i) for i in range(n)))
        self.db.execute("COMMIT")

    fill_objects = fill  # one column is one attribute

    def get(self, keys: list[str]) -> None:
        run = self.db.execute
        for k in keys:
            run("SELECT v FROM t WHERE k = ?", (k,)).fetchone()[0]

    def set(self, keys: list[str]) -> None:
        run = self.db.execute
        for k in keys:
            run("INSERT OR REPLACE INTO t VALUES (?, ?)", (k, 7))

    def get_age(self, keys: list[str]) -> None:
        self.get(keys)

    def set_age(self, keys: list[str]) -> None:
        run = self.db.execute
        for k in keys:
            run("UPDATE t SET v = 7 WHERE k = ?", (k,))

    def close(self) -> None:
        self.db.close()


class Zodb(Mapping):
    name = "ZODB"

    def open(self) -> None:
        import transaction
        import ZODB
        import ZODB.FileStorage
        from BTrees.OOBTree import OOBTree

        # It flushes to the disk at each commit; the others here do not.
        importlib.import_module("ZODB.FileStorage.FileStorage").fsync = None  # type: ignore[attr-defined]

        self.commit = transaction.commit
        # A cache that holds everything: its fastest way.
        self.zodb = ZODB.DB(ZODB.FileStorage.FileStorage(self.path), cache_size=2_000_000, cache_size_bytes=0)
        self.connection = self.zodb.open()
        self.d = self.connection.root()["d"] = OOBTree()

    def fill(self, n: int) -> None:
        self.open()
        self.d.update({f"key {i}": i for i in range(n)})
        self.commit()

    def fill_objects(self, n: int) -> None:
        from persistent import Persistent

        global ZPerson

        class ZPerson(Persistent):  # type: ignore[misc]
            def __init__(self, age: int) -> None:
                self.name = "somebody"
                self.age = age

        ZPerson.__qualname__ = "ZPerson"
        self.open()
        for i in range(n):
            self.d[f"key {i}"] = ZPerson(i)
        self.commit()

    def set(self, keys: list[str]) -> None:
        for k in keys:
            self.d[k] = 7
            self.commit()

    def set_age(self, keys: list[str]) -> None:
        for k in keys:
            self.d[k].age = 7
            self.commit()

    def close(self) -> None:
        self.commit()
        self.connection.close()
        self.zodb.close()


ALL: list[type[Candidate]] = [Dict, Persist, Lmdb, LmdbOwn, Shelve, Sqlite, Zodb]


def available() -> list[type[Candidate]]:
    found: list[type[Candidate]] = []
    for c in ALL:
        try:
            if c is Shelve:
                with tempfile.TemporaryDirectory() as d:
                    dbm.open(f"{d}/x", "n").close()
                    print(f"shelve uses {dbm.whichdb(f'{d}/x')}")
            elif c in (Lmdb, LmdbOwn, Zodb):
                importlib.import_module(c.name.split(",")[0])
        except ImportError as e:
            print(f"{c.name}: left out ({e})")
            continue
        found.append(c)
    return found


def per_op(act: Callable[[list[str]], None], keys: list[str]) -> float:
    """Nanoseconds an operation, over at most SLICE seconds."""
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
    """Attributes of objects that the program holds, without the way to them."""
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
    "ZODB": "import ZODB, transaction, sys\nd = ZODB.DB(sys.argv[1])\nc = d.open()\nr = c.root()\n"
    "r['x'] = r.get('x', 0) + 1\ntransaction.commit()\nc.close()\nd.close()",
}


def whole_process(names: set[str], others: str, rounds: int, aims: list[str]) -> None:
    home = Path(tempfile.mkdtemp(prefix="persist-bench-"))
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, code in random.sample(list(SCRIPTS.items()), len(SCRIPTS)):
            if name in names or name == "python -c pass":
                env = {**os.environ, "PYTHONPATH": others} if name in ("lmdb", "ZODB") else None
                argv = [sys.executable, "-c", code, str(home / name.replace(" ", "-"))]
                begin = time.perf_counter()
                subprocess.run(argv, check=True, env=env, stderr=subprocess.DEVNULL)
                took.setdefault(name, []).append((time.perf_counter() - begin) * 1000)
    shutil.rmtree(home)
    medians = {k: statistics.median(v) for k, v in took.items()}
    table("open, increment, close: a whole process (ms)", medians, "python -c pass")
    aim(aims, "a short script: ms above python -c pass", medians["persist"] - medians["python -c pass"], 3)


# One process that commits for a while, durably, to a store that is there; prints its commits a second.
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
    """A store of 1000 entries."""
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
    """Commits that survive a power cut: persist's durability="commit", lmdb with sync, sqlite3 in WAL mode with
    synchronous=FULL."""
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
    p.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds")
    a = p.parse_args()
    sys.path.append(a.others)
    rounds, big, many = (3, 100_000, 10_000) if a.quick else (7, 1_000_000, 100_000)
    aims: list[str] = []
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cpus; medians of {rounds} interleaved rounds")
    classes = available()
    measure(classes, 1000, False, rounds, aims)
    measure(classes, big, False, rounds, aims)
    measure(classes, many, True, rounds, aims)
    whole_process({c.name for c in classes}, a.others, rounds * 4, aims)
    opening(rounds * 4, big, aims)
    bench_safety.undo(a.engine, rounds)
    bench_safety.stall(a.engine, a.quick, aims)
    durable({c.name for c in classes} & {"persist", "lmdb", "sqlite3"}, a.others, rounds, aims)
    print("\naims")
    print("\n".join(aims))


if __name__ == "__main__":
    main()
