"""Containers and values of the Python module beside what else keeps them: medians of interleaved rounds.

1. Each way of one table does the same work on the same content. Keys come in random order.
2. What others keep survives the death of the process and no power failure, as persist's default: sqlite3 in WAL mode
   without sync, autocommit. A set or an array that is pickled is written as a whole with each change.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import importlib
import io
import pickle
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import persist
from bench_report import aim, table

# Does the operation with each of these numbers.
Act = Callable[[list[int]], object]


class Sizes(NamedTuple):
    entries: int
    rounds: int
    # Seconds of one way in one round.
    piece: float
    # Numbers in a large array.
    numbers: int


SIZES = {
    "full": Sizes(100_000, 7, 0.05, 1 << 20),
    "quick": Sizes(10_000, 3, 0.02, 1 << 18),
    # Shows that it runs, and measures nothing.
    "tiny": Sizes(200, 1, 0.0, 1 << 10),
}


def per_op(act: Act, numbers: list[int], piece: float) -> float:
    """Return the nanoseconds for an operation, over at most `piece` seconds."""
    n, done, spent = 1, 0, 0.0
    while not done or (spent < piece and done < len(numbers)):
        part = numbers[done : done + n]
        begin = time.perf_counter()
        act(part)
        spent += time.perf_counter() - begin
        done += len(part)
        n *= 2
    return spent / done * 1e9


def compare(title: str, ways: dict[str, Act], base: str, sizes: Sizes, unit: float = 1.0) -> dict[str, float]:
    """Measure the ways in turn, print their table, and return the medians, in `unit` nanoseconds."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(sizes.rounds):
        numbers = random.sample(range(sizes.entries), sizes.entries)
        for name, act in random.sample(list(ways.items()), len(ways)):
            took[name].append(per_op(act, numbers, sizes.piece) / unit)
    medians = {name: statistics.median(all_of_name) for name, all_of_name in took.items()}
    table(title, medians, base)
    return medians


def each(act: Callable[[], object]) -> Act:
    """Return what does the same for each number, and keeps no result."""

    def acts(numbers: list[int]) -> None:
        for _ in numbers:
            act()

    return acts


def database(path: Path, table: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in "journal_mode=WAL", "synchronous=OFF", "mmap_size=1073741824":
        db.execute(f"PRAGMA {pragma}").fetchall()
    db.execute(f"CREATE TABLE t {table}")
    return db


class Bench:
    def __init__(self, home: Path, sizes: Sizes, aims: list[str]) -> None:
        self.home, self.sizes, self.aims = home, sizes, aims
        self.store = persist.open(home / "values.store")
        self.root = self.store.root

    def sets(self) -> None:
        n = self.sizes.entries
        keys = [f"key {i}" for i in range(n)]
        plain = set(keys)
        self.root["set"] = plain
        mine: persist.Set[str] = self.root["set"]
        db = database(self.home / "set.db", "(k TEXT PRIMARY KEY) WITHOUT ROWID")
        db.execute("BEGIN")
        db.executemany("INSERT INTO t VALUES (?)", ((key,) for key in keys))
        db.execute("COMMIT")
        pickled = database(self.home / "pickled.db", "(k TEXT PRIMARY KEY, v BLOB)")
        pickled.execute("INSERT INTO t VALUES ('set', ?)", (pickle.dumps(plain),))

        def whole() -> set[str]:
            found: set[str] = pickle.loads(pickled.execute("SELECT v FROM t").fetchone()[0])
            return found

        def in_set(numbers: list[int], these: Any) -> None:
            for i in numbers:
                keys[i] in these  # noqa: B015

        def in_pickled(numbers: list[int]) -> None:
            for i in numbers:
                keys[i] in whole()  # noqa: B015

        def in_table(numbers: list[int]) -> None:
            run = db.execute
            for i in numbers:
                run("SELECT 1 FROM t WHERE k = ?", (keys[i],)).fetchone()

        ways: dict[str, Act] = {
            "set": lambda numbers: in_set(numbers, plain),
            "persist": lambda numbers: in_set(numbers, mine),
            "sqlite3 table": in_table,
            "set, pickled": in_pickled,
        }
        compare(f"in, a set of {n:,} texts (ns)", ways, "set", self.sizes)

        def change(numbers: list[int], these: Any) -> None:
            for i in numbers:
                these.discard(keys[i])
                these.add(keys[i])

        def change_table(numbers: list[int]) -> None:
            run = db.execute
            for i in numbers:
                run("DELETE FROM t WHERE k = ?", (keys[i],))
                run("INSERT OR IGNORE INTO t VALUES (?)", (keys[i],))

        def change_pickled(numbers: list[int]) -> None:
            for i in numbers:
                for method in (set.discard, set.add):
                    these = whole()
                    method(these, keys[i])
                    pickled.execute("UPDATE t SET v = ?", (pickle.dumps(these),))

        ways = {
            "set": lambda numbers: change(numbers, plain),
            "persist": lambda numbers: change(numbers, mine),
            "sqlite3 table": change_table,
            "set, pickled": change_pickled,
        }
        medians = compare(f"discard and add, a set of {n:,} texts (ns)", ways, "set", self.sizes)
        slower = medians["sqlite3 table"] / medians["persist"]
        aim(self.aims, "discard and add in a set: sqlite3 at least 2x slower", slower, 2, True)
        assert (
            len(mine) == len(plain) == len(whole()) == db.execute("SELECT count(*) FROM t").fetchone()[0] == n
        )
        db.close()
        pickled.close()

    def queues(self) -> None:
        n = self.sizes.entries
        plain = collections.deque(range(n))
        self.root["deque"] = plain
        mine: persist.Deque[int] = self.root["deque"]
        db = database(self.home / "queue.db", "(n INTEGER PRIMARY KEY, v)")
        db.executemany("INSERT INTO t (v) VALUES (?)", ((i,) for i in range(min(n, 1000))))

        def move(numbers: list[int], these: Any) -> None:
            for i in numbers:
                these.append(i)
                these.popleft()

        def move_table(numbers: list[int]) -> None:
            run = db.execute
            for i in numbers:
                run("INSERT INTO t (v) VALUES (?)", (i,))
                first = run("SELECT n FROM t ORDER BY n LIMIT 1").fetchone()
                run("DELETE FROM t WHERE n = ?", first)

        ways: dict[str, Act] = {
            "deque": lambda numbers: move(numbers, plain),
            "persist": lambda numbers: move(numbers, mine),
            "sqlite3 table": move_table,
        }
        with contextlib.suppress(ImportError):
            kept = importlib.import_module("diskcache").Deque(directory=str(self.home / "diskcache"))
            kept.extend(range(min(n, 1000)))
            ways["diskcache"] = lambda numbers: move(numbers, kept)
        medians = compare(f"append and popleft, a deque of {n:,} (ns)", ways, "deque", self.sizes)
        slower = medians["sqlite3 table"] / medians["persist"]
        aim(self.aims, "append and popleft: sqlite3 at least 5x slower", slower, 5, True)
        assert len(mine) == len(plain) == n
        db.close()

    def sorted_dicts(self) -> None:
        n, width = self.sizes.entries, 100
        content = {i: i for i in range(n)}
        self.root["sorted"] = persist.SortedDict(content)
        mine: persist.SortedDict[int, int] = self.root["sorted"]
        db = database(self.home / "sorted.db", "(k INTEGER PRIMARY KEY, v)")
        db.execute("BEGIN")
        db.executemany("INSERT INTO t VALUES (?, ?)", content.items())
        db.execute("COMMIT")
        maps: dict[str, Any] = {"persist": mine}
        with contextlib.suppress(ImportError):
            maps["sortedcontainers"] = importlib.import_module("sortedcontainers").SortedDict(content)
        base = "sortedcontainers" if "sortedcontainers" in maps else "persist"

        def get(numbers: list[int], d: Any) -> None:
            for i in numbers:
                d[i]

        def replace(numbers: list[int], d: Any) -> None:
            for i in numbers:
                del d[i]
                d[i] = i

        def ranges(numbers: list[int], d: Any) -> None:
            for i in numbers:
                for _ in d.irange(i, i + width - 1):
                    pass

        def position(numbers: list[int], d: Any) -> None:
            for i in numbers:
                d.peekitem(d.bisect_left(i))

        def run(sql: str, *more: str) -> Act:
            def act(numbers: list[int]) -> None:
                for i in numbers:
                    for one in (sql, *more):
                        db.execute(one, {"i": i, "end": i + width}).fetchall()

            return act

        operations: list[tuple[str, Callable[[list[int], Any], None], Act]] = [
            ("get", get, run("SELECT v FROM t WHERE k = :i")),
            ("del and set", replace, run("DELETE FROM t WHERE k = :i", "INSERT INTO t VALUES (:i, :i)")),
            (f"irange of {width}", ranges, run("SELECT k FROM t WHERE k >= :i AND k < :end ORDER BY k")),
            ("bisect and peekitem", position, run("SELECT k, v FROM t WHERE k >= :i ORDER BY k LIMIT 1")),
        ]
        for what, act, sql in operations:
            ways: dict[str, Act] = {
                name: lambda numbers, d=d, act=act: act(numbers, d)  # type: ignore[misc]
                for name, d in maps.items()
            }
            compare(f"{what}, {n:,} sorted entries (ns)", {**ways, "sqlite3": sql}, base, self.sizes)
        assert all(list(d.items()) == list(content.items()) for d in maps.values())
        db.close()

    def copies(self) -> None:
        """Measure plain copies of a graph: what a program gets that wants to keep a state."""
        n = self.sizes.entries // 10
        graph = {f"key {i}": {"name": f"name {i}", "tags": ["a", "b"], "at": i} for i in range(n)}
        self.root["graph"] = graph
        mine, text = self.root["graph"], pickle.dumps(graph)
        assert persist.copy_out(mine) == graph

        ways = {
            "copy.deepcopy": each(lambda: copy.deepcopy(graph)),
            "pickle.loads": each(lambda: pickle.loads(text)),
            "persist": each(lambda: persist.copy_out(mine)),
        }
        medians = compare(
            f"a plain copy of {n:,} dicts with lists (us)", ways, "copy.deepcopy", self.sizes, 1e3
        )
        ratio = medians["persist"] / medians["copy.deepcopy"]
        aim(self.aims, "copy_out beside copy.deepcopy of the same graph", ratio, 1.5)

    def arrays(self) -> None:
        try:
            np = importlib.import_module("numpy")
        except ImportError as e:
            print(f"\narrays: left out ({e})")
            return
        for count, unit, name in (100, 1.0, "ns"), (self.sizes.numbers, 1e3, "us"):
            array = np.arange(count, dtype=np.float64)
            d = self.root
            d["array"] = array
            file = self.home / "array.npy"
            np.save(file, array)
            db = database(self.home / f"array{count}.db", "(k TEXT PRIMARY KEY, v BLOB)")
            db.execute("INSERT INTO t VALUES ('array', ?)", (pickle.dumps(array),))

            def read(d: Any = d) -> Any:
                return d["array"]

            def write(d: Any = d, array: Any = array) -> None:
                d["array"] = array

            def read_row(db: sqlite3.Connection = db) -> Any:
                return pickle.loads(db.execute("SELECT v FROM t").fetchone()[0])

            def write_row(db: sqlite3.Connection = db, array: Any = array) -> None:
                db.execute("UPDATE t SET v = ?", (pickle.dumps(array, 5),))

            def read_file(file: Path = file, np: Any = np) -> Any:
                return np.load(file)

            def write_file(file: Path = file, np: Any = np, array: Any = array) -> None:
                # Complete or not there, as with the others.
                new, out = file.with_suffix(".new"), io.BytesIO()
                np.save(out, array)
                new.write_bytes(out.getvalue())
                new.rename(file)

            assert all(np.array_equal(act(), array) for act in (read, read_row, read_file))
            reads = {"persist": read, "sqlite3, pickled": read_row, "np.load": read_file}
            writes = {"persist": write, "sqlite3, pickled": write_row, "np.save": write_file}
            for what, acts, base in ("read", reads, "np.load"), ("write", writes, "np.save"):
                ways = {way: each(act) for way, act in acts.items()}
                medians = compare(
                    f"{what} an array of {count:,} floats ({name})", ways, base, self.sizes, unit
                )
                bound, ratio = 1.0, medians["persist"] / medians[base]
                aim(self.aims, f"{what} an array of {count:,} floats: no slower than a file", ratio, bound)
            db.close()


def values(size: str, aims: list[str]) -> None:
    """Measure sets, queues, sorted dicts, copies and arrays."""
    home = Path(tempfile.mkdtemp(prefix="persist-bench-"))
    try:
        bench = Bench(home, SIZES[size], aims)
        with bench.store:
            bench.sets()
            bench.queues()
            bench.sorted_dicts()
            bench.copies()
            bench.arrays()
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    found: list[str] = []
    values(sys.argv[1] if len(sys.argv) > 1 else "full", found)
    print("\n".join(found))
