"""Reading other stores: `persist.import_from()`.

1. A file is imported in one transaction: completely or not at all.
2. Unpickling can run code, so that pickles and shelves are read only with `allow_pickle=True`.

Imported by the first use.
"""

from __future__ import annotations

import itertools
import os

from ._persist import Dict, List, Store, _transaction_of

_KINDS = ("shelve", "pickle", "json", "sqlite")
_SQLITE = b"SQLite format 3\0"
# Rows of a table that are stored by one operation.
_ROWS = 1000


def import_from(source, into, kind, allow_pickle):
    """See `persist.import_from`."""
    path = os.path.abspath(os.fsdecode(source))
    if isinstance(into, Store):
        into = into.root
    if not isinstance(into, (Dict, List)):
        name = type(into).__name__
        raise TypeError(f"the content of a file is imported into a Dict, a List or a Store, not '{name}'")
    if kind is None:
        kind = _kind(path)
    elif kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, _KINDS))}, not {kind!r}")
    if kind in ("shelve", "pickle") and not allow_pickle:
        raise ValueError(
            f"{path}: a {kind} file can run code when it is read; pass allow_pickle=True if you trust its source"
        )
    if kind == "shelve":
        return _shelve(path, into)
    if kind == "sqlite":
        return _sqlite(path, into)
    value = _pickle(path) if kind == "pickle" else _json(path)
    with _transaction_of(into):
        return _add(path, into, value)


def _kind(path):
    """Return what a file is, from its content; from its name where the content leaves it open."""
    import dbm

    begin = _begin(path)
    if begin.startswith(_SQLITE):
        return "shelve" if _is_shelf(path) else "sqlite"
    if dbm.whichdb(path):
        return "shelve"
    if not os.path.exists(path):
        raise FileNotFoundError(2, "there is no file to import, and no shelf", path)
    suffix = os.path.splitext(path)[1].lower()
    if begin.startswith(b"\x80") or suffix in (".pickle", ".pkl"):
        return "pickle"
    if suffix == ".json" or begin.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return "json"
    raise ValueError(f"{path} is of an unknown kind: pass kind=, one of {', '.join(map(repr, _KINDS))}")


def _begin(path):
    """Return the first bytes of a file; none if it does not exist: a shelf can consist of files with suffixes."""
    try:
        with open(path, "rb") as file:
            return file.read(1024)
    except FileNotFoundError:
        return b""


def _is_shelf(path):
    """True for a database that `dbm.sqlite3` made, the default of shelve since Python 3.13."""
    with _Database(path) as database:
        columns = [row[1:3] for row in database.execute("PRAGMA table_info('Dict')")]
        return _tables(database) == ["Dict"] and columns == [("key", "BLOB"), ("value", "BLOB")]


def _json(path):
    import json

    with open(path, "rb") as file:
        return json.load(file)


def _pickle(path):
    import pickle

    with open(path, "rb") as file:
        value = pickle.load(file)
        if file.read(1):
            raise ValueError(
                f"{path} holds more than one pickle: load them one by one, and store what they hold"
            )
        return value


def _shelve(path, into):
    _check(path, into, {})
    with _transaction_of(into):
        # A value at a time, because all together may not fit into memory.
        return sum(_add(path, into, {key: value}) for key, value in _shelf(path))


def _shelf(path):
    """Give the entries of a shelf."""
    if _begin(path).startswith(_SQLITE):
        # Read here, since `dbm.sqlite3` is new in Python 3.13.
        import pickle

        with _Database(path) as database:
            for key, value in database.execute("SELECT key, value FROM Dict"):
                yield key.decode(), pickle.loads(value)
    else:
        import shelve

        with shelve.open(path, "r") as shelf:
            yield from shelf.items()


def _check(path, into, value):
    """Raise an error if the content of the file does not fit the container."""
    wanted = dict if isinstance(into, Dict) else list
    if not isinstance(value, wanted):
        there = "dict" if isinstance(value, dict) else type(value).__name__
        advice = {"dict": "a Dict or a Store", "list": "a List"}.get(there)
        advice = f"import it into {advice}" if advice else "store the value itself"
        raise TypeError(f"{path} holds a {there}, and is imported into a {type(into).__name__}: {advice}")


def _add(path, into, value):
    """Add the entries of a dict, or the items of a list, and return their number.

    All are copied in by one operation, so that containers which they share stay shared, and an error names the place
    within the whole. The copy is then unpacked. It is seen only by this transaction.
    """
    _check(path, into, value)
    if isinstance(into, List):
        into.append(value)
        copy = into.pop()
        into.extend(copy)
    else:
        name = next(name for name in map("import {}".format, itertools.count()) if name not in into)
        into[name] = value
        copy = into.pop(name)
        into.update(copy)
    return len(copy)


class _Database:
    """A connection to a database, for reading the state of one moment."""

    def __init__(self, path):
        import sqlite3
        import urllib.parse

        self.connection = sqlite3.connect(f"file:{urllib.parse.quote(path)}?mode=ro", uri=True)

    def __enter__(self):
        self.connection.isolation_level = None
        self.connection.execute("BEGIN")
        return self.connection

    def __exit__(self, *_exc):
        self.connection.close()


def _tables(database):
    found = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
    )
    return [name for (name,) in found]


def _sqlite(path, into):
    _check(path, into, {})
    with _Database(path) as database, _transaction_of(into):
        tables = _tables(database)
        for name in tables:
            quoted = '"' + name.replace('"', '""') + '"'
            info = database.execute(f"PRAGMA table_info({quoted})").fetchall()
            # A row: number, name, type, whether not null, default, place in the primary key.
            key = [row[1] for row in info if row[5]]
            rows = database.execute(f"SELECT * FROM {quoted}")
            columns = [column[0] for column in rows.description]
            made = (dict(zip(columns, row)) for row in rows)
            if len(key) == 1:
                into[name] = {}
                _keyed(path, name, into[name], made, key[0])
            else:
                into[name] = []
                _listed(into[name], made)
        return len(tables)


def _parts(rows):
    """Split an iterator into lists."""
    return iter(lambda: list(itertools.islice(rows, _ROWS)), [])


def _listed(table, rows):
    for part in _parts(rows):
        table.extend(part)


def _keyed(path, name, table, rows, key):
    """Store rows under their primary key."""
    count = 0
    for part in _parts(rows):
        table.update({row[key]: row for row in part})
        count += len(part)
        # SQLite allows NULL several times in a primary key that is not an integer.
        if len(table) != count:
            raise ValueError(f"{path}: several rows of the table {name!r} have one key in the column {key!r}")
