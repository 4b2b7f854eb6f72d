"""The candidates of scripts/bench: mappings of str to int, or to objects with an age, each at its fastest.

Every candidate does the same work with the guarantee nearest to persist's default (a finished change survives the death
of the process, not a power failure): lmdb without sync, one transaction for each set; sqlite3 in WAL mode without sync,
autocommit; diskcache, which keeps a mapping in sqlite3, likewise; shelve with the best available dbm, never flushed;
ZODB with a commit for each set and without its flush. Gets of lmdb run inside one open transaction, which is its
fastest way, and also with one transaction for each.
"""

from __future__ import annotations

import dbm
import importlib
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import persist
from pbase import pbase


class Person(pbase):
    def __init__(self, age: int) -> None:
        pbase.__init__(self)
        self.name = "a person"
        self.age = age


class Plain:
    def __init__(self, age: int) -> None:
        self.name = "a person"
        self.age = age


class Candidate:
    """A mapping of str to int (or to objects with an age), and functions to get and set in it."""

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
    """A candidate that gives values by d[key] and objects that are changed in place."""

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
    """One transaction for every get, because every get of persist sees the newest state."""

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


class DiskCache(Mapping):
    """Without eviction and without counting hits: a plain mapping."""

    name = "diskcache"

    def open(self) -> None:
        import diskcache

        self.d = diskcache.Cache(self.path, eviction_policy="none", sqlite_synchronous=0)

    def fill(self, n: int) -> None:
        self.open()
        with self.d.transact():
            for i in range(n):
                self.d[f"key {i}"] = i

    def fill_objects(self, n: int) -> None:
        self.open()
        with self.d.transact():
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


class Zodb(Mapping):
    name = "ZODB"

    def open(self) -> None:
        import transaction
        import ZODB
        import ZODB.FileStorage
        from BTrees.OOBTree import OOBTree

        # ZODB flushes to the disk at each commit; the other candidates do not.
        importlib.import_module("ZODB.FileStorage.FileStorage").fsync = None  # type: ignore[attr-defined]

        self.commit = transaction.commit
        # A cache that holds everything, which is its fastest way.
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
                self.name = "a person"
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


ALL: list[type[Candidate]] = [Dict, Persist, Lmdb, LmdbOwn, Shelve, Sqlite, DiskCache, Zodb]


def available() -> list[type[Candidate]]:
    found: list[type[Candidate]] = []
    for c in ALL:
        try:
            if c is Shelve:
                with tempfile.TemporaryDirectory() as d:
                    dbm.open(f"{d}/x", "n").close()
                    print(f"shelve uses {dbm.whichdb(f'{d}/x')}")
            elif c in (Lmdb, LmdbOwn, DiskCache, Zodb):
                importlib.import_module(c.name.split(",")[0])
        except ImportError as e:
            print(f"{c.name}: left out ({e})")
            continue
        found.append(c)
    return found
