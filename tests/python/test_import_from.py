"""`persist.import_from`: shelves and files of pickle, JSON and SQLite, each in one transaction."""

from __future__ import annotations

import dbm.dumb
import json
import os
import pickle
import shelve
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import persist
import pytest


class Unstorable:
    """A value that no store holds."""


def shelf(path: Path, entries: dict[str, Any]) -> Path:
    with shelve.open(str(path)) as made:
        made.update(entries)
    return path


def dumb_shelf(path: Path, entries: dict[str, Any]) -> Path:
    with shelve.Shelf(dbm.dumb.open(str(path))) as made:
        made.update(entries)
    return path


def pickled(path: Path, value: object) -> Path:
    path.write_bytes(pickle.dumps(value))
    return path


def as_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def database(path: Path, script: str) -> Path:
    with sqlite3.connect(path) as made:
        made.executescript(script)
    made.close()
    return path


ENTRIES = {"a": 1, "b": {"c": [1, 2.5, None, True, b"\xff"]}, "": "ä"}
PLAIN = {"a": 1, "b": {"c": [1, 2.5, None, True]}, "": "ä"}


@pytest.mark.parametrize(
    ("make", "name", "entries"),
    [
        (shelf, "old.shelf", ENTRIES),
        (dumb_shelf, "old", ENTRIES),
        (pickled, "old.pickle", {**ENTRIES, 7: "a key", None: []}),
        (as_json, "old.json", PLAIN),
    ],
)
def test_a_dict_is_added_to_a_dict(
    tmp_path: Path,
    store: persist.Store,
    make: Callable[[Path, object], Path],
    name: str,
    entries: dict[Any, Any],
) -> None:
    source = make(tmp_path / name, entries)
    store.root["kept"] = 1
    store.root["a"] = "replaced"
    assert persist.import_from(source, store.root, allow_pickle=True) == len(entries)
    assert persist.copy_out(store.root) == {"kept": 1, **entries}
    store.root["below"] = {}
    assert persist.import_from(os.fsencode(source), store.root["below"], allow_pickle=True) == len(entries)
    assert persist.copy_out(store.root["below"]) == entries
    # A store is its root.
    store.root.clear()
    assert persist.import_from(str(source), store, allow_pickle=True) == len(entries)
    assert persist.copy_out(store.root) == entries


def test_the_kind_is_found_by_the_content(tmp_path: Path, root: persist.Dict[Any, Any]) -> None:
    for n, source in enumerate(
        [
            pickled(tmp_path / "one", {"x": 1}),
            as_json(tmp_path / "two", {"x": 1}),
            database(tmp_path / "three", "CREATE TABLE x (a INTEGER PRIMARY KEY)"),
            shelf(tmp_path / "four", {"x": 1}),
        ]
    ):
        root[str(n)] = {}
        assert persist.import_from(source, root[str(n)], allow_pickle=True) == 1
        assert list(root[str(n)]) == ["x"]
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbf [1]")
    root["l"] = []
    assert persist.import_from(tmp_path / "bom", root["l"]) == 1
    # Protocol 0 begins with any letter.
    (tmp_path / "text.pkl").write_bytes(pickle.dumps({"old": 1}, 0))
    assert persist.import_from(tmp_path / "text.pkl", root, allow_pickle=True) == 1
    (tmp_path / "unknown").write_bytes(pickle.dumps({"old": 1}, 0))
    with pytest.raises(ValueError, match="unknown is of an unknown kind: pass kind=, one of 'shelve'"):
        persist.import_from(tmp_path / "unknown", root)
    assert persist.import_from(tmp_path / "unknown", root, kind="pickle", allow_pickle=True) == 1
    with pytest.raises(ValueError, match="kind must be one of .*, not 'xml'"):
        persist.import_from(tmp_path / "unknown", root, kind="xml")  # type: ignore[arg-type]


def test_a_list_is_added_to_a_list(tmp_path: Path, root: persist.Dict[Any, Any]) -> None:
    root["l"] = [0]
    assert persist.import_from(as_json(tmp_path / "a.json", [1, {"x": []}]), root["l"]) == 2
    assert persist.import_from(pickled(tmp_path / "a.pkl", [b"2"]), root["l"], allow_pickle=True) == 1
    assert persist.copy_out(root["l"]) == [0, 1, {"x": []}, b"2"]


def test_content_and_container_must_fit(tmp_path: Path, root: persist.Dict[Any, Any]) -> None:
    root["l"] = []
    held = as_json(tmp_path / "list.json", [1])
    with pytest.raises(
        TypeError, match="list.json holds a list, and is imported into a Dict: import it into a List"
    ):
        persist.import_from(held, root)
    held = as_json(tmp_path / "number.json", 1)
    with pytest.raises(TypeError, match="number.json holds a int, and .*: store the value itself"):
        persist.import_from(held, root)
    for source in (
        shelf(tmp_path / "s", {"x": 1}),
        database(tmp_path / "db", "CREATE TABLE x (a)"),
        as_json(tmp_path / "dict.json", {}),
    ):
        with pytest.raises(
            TypeError, match="holds a dict, and is imported into a List: .* a Dict or a Store"
        ):
            persist.import_from(source, root["l"], allow_pickle=True)
    with pytest.raises(TypeError, match="into a Dict, a List or a Store, not 'dict'"):
        persist.import_from(held, {})  # type: ignore[arg-type]
    assert persist.copy_out(root) == {"l": []}


def test_shared_containers_stay_shared(tmp_path: Path, root: persist.Dict[Any, Any]) -> None:
    shared: list[Any] = [1]
    ring: dict[str, Any] = {"shared": shared, "again": {"deep": shared}}
    ring["ring"] = ring
    persist.import_from(pickled(tmp_path / "ring.pickle", ring), root, allow_pickle=True)
    assert root["shared"] is root["again"]["deep"]
    assert root["ring"]["ring"] is root["ring"] and root["ring"]["shared"] is root["shared"]
    root["l"] = []
    persist.import_from(pickled(tmp_path / "list.pickle", [shared, shared]), root["l"], allow_pickle=True)
    assert root["l"][0] is root["l"][1]


def test_a_pickle_is_read_only_if_that_is_allowed(tmp_path: Path, root: persist.Dict[Any, Any]) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    for kind, source in (
        ("pickle", pickled(tmp_path / "evil.pickle", {"x": Evil()})),
        ("shelve", shelf(tmp_path / "evil.shelf", {"x": Evil()})),
    ):
        with pytest.raises(ValueError, match=f"evil.*: a {kind} file can run code .* allow_pickle=True"):
            persist.import_from(source, root)
    assert not (tmp_path / "ran").exists() and len(root) == 0


@pytest.mark.parametrize("make", [shelf, dumb_shelf, pickled])
def test_what_cannot_be_stored_is_named_and_nothing_is_stored(
    tmp_path: Path, root: persist.Dict[Any, Any], make: Callable[[Path, object], Path]
) -> None:
    root["kept"] = 1
    source = make(tmp_path / "old.pickle", {"a": 1, "b": {"c": [0, Unstorable()]}, "d": 2})
    with pytest.raises(TypeError, match=r"^cannot store 'Unstorable' at value\['b'\]\['c'\]\[1\]; "):
        persist.import_from(source, root, allow_pickle=True)
    assert persist.copy_out(root) == {"kept": 1}
    source = make(tmp_path / "top.pickle", {"a": 1, "b": Unstorable()})
    with pytest.raises(TypeError, match=r"^cannot store 'Unstorable' at value\['b'\]; "):
        persist.import_from(source, root, allow_pickle=True)
    assert persist.copy_out(root) == {"kept": 1}


def test_a_list_with_what_cannot_be_stored_adds_nothing(tmp_path: Path, root: persist.Dict[Any, Any]) -> None:
    root["l"] = [1]
    source = pickled(tmp_path / "l.pickle", [2, Unstorable()])
    with pytest.raises(TypeError, match=r"^cannot store 'Unstorable' at value\[1\]; "):
        persist.import_from(source, root["l"], allow_pickle=True)
    assert persist.copy_out(root) == {"l": [1]}


def test_an_import_inside_a_transaction_is_undone_with_it(tmp_path: Path, store: persist.Store) -> None:
    source = as_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(RuntimeError), store.transaction():
        persist.import_from(source, store)
        assert store.root["x"] == 1
        raise RuntimeError
    assert len(store.root) == 0


def test_damaged_files_change_nothing(tmp_path: Path, root: persist.Dict[Any, Any]) -> None:
    pickled(tmp_path / "cut.pickle", {"x": [1] * 100})
    os.truncate(tmp_path / "cut.pickle", 50)
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        persist.import_from(tmp_path / "cut.pickle", root, allow_pickle=True)
    (tmp_path / "two.pickle").write_bytes(pickle.dumps({"x": 1}) + pickle.dumps({"y": 1}))
    with pytest.raises(ValueError, match="two.pickle holds more than one pickle"):
        persist.import_from(tmp_path / "two.pickle", root, allow_pickle=True)
    (tmp_path / "cut.json").write_text('{"x": 1')
    with pytest.raises(json.JSONDecodeError):
        persist.import_from(tmp_path / "cut.json", root)
    damaged = database(
        tmp_path / "db", "CREATE TABLE a (x PRIMARY KEY); INSERT INTO a VALUES (CAST(x'ff' AS TEXT))"
    )
    with pytest.raises(sqlite3.OperationalError, match="UTF-8"):
        persist.import_from(damaged, root)
    with pytest.raises(FileNotFoundError) as e:
        persist.import_from(tmp_path / "missing", root)
    assert e.value.filename == str(tmp_path / "missing")
    assert len(root) == 0


def test_tables_become_dicts_by_primary_key_or_lists(tmp_path: Path, root: persist.Dict[Any, Any]) -> None:
    source = database(
        tmp_path / "with space?.db",
        """
        CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, photo BLOB, height REAL);
        INSERT INTO person VALUES (7, 'Joe', x'00ff', 1.8), (9, NULL, NULL, NULL);
        CREATE TABLE [a "word"] (word TEXT PRIMARY KEY) WITHOUT ROWID;
        INSERT INTO [a "word"] VALUES ('ä');
        CREATE TABLE pair (a, b, PRIMARY KEY (a, b));
        INSERT INTO pair VALUES (1, 2), (1, 3);
        CREATE TABLE log (line TEXT);
        INSERT INTO log VALUES ('x'), ('x');
        CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT);
        CREATE VIEW ignored AS SELECT * FROM log;
        CREATE INDEX of_log ON log (line);
        """,
    )
    assert persist.import_from(source, root) == 5
    assert persist.copy_out(root) == {
        "person": {
            7: {"id": 7, "name": "Joe", "photo": b"\x00\xff", "height": 1.8},
            9: {"id": 9, "name": None, "photo": None, "height": None},
        },
        'a "word"': {"ä": {"word": "ä"}},
        "pair": [{"a": 1, "b": 2}, {"a": 1, "b": 3}],
        "log": [{"line": "x"}, {"line": "x"}],
        "counted": {},
    }


def test_many_rows(tmp_path: Path, root: persist.Dict[Any, Any]) -> None:
    source = database(
        tmp_path / "db",
        """
        CREATE TABLE keyed (id INTEGER PRIMARY KEY, square);
        WITH RECURSIVE n(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n WHERE x < 2499)
        INSERT INTO keyed SELECT x, x * x FROM n;
        CREATE TABLE listed AS SELECT * FROM keyed;
        """,
    )
    persist.import_from(source, root)
    assert persist.copy_out(root["keyed"]) == {n: {"id": n, "square": n * n} for n in range(2500)}
    assert persist.copy_out(root["listed"]) == [{"id": n, "square": n * n} for n in range(2500)]


def test_rows_of_one_key_are_refused(tmp_path: Path, root: persist.Dict[Any, Any]) -> None:
    script = "CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES (NULL, 1), (NULL, 2);"
    with pytest.raises(ValueError, match="several rows of the table 't' have one key in the column 'k'"):
        persist.import_from(database(tmp_path / "db", script), root)
    assert len(root) == 0


def test_a_shelf_in_sqlite_is_a_shelf(tmp_path: Path, root: persist.Dict[Any, Any]) -> None:
    # As `dbm.sqlite3` makes it, which shelve uses since Python 3.13.
    source = database(
        tmp_path / "s",
        f"""
        CREATE TABLE Dict (key BLOB UNIQUE NOT NULL, value BLOB NOT NULL);
        INSERT INTO Dict VALUES (x'61', x'{pickle.dumps([1]).hex()}');
        """,
    )
    with pytest.raises(ValueError, match="a shelve file can run code"):
        persist.import_from(source, root)
    assert persist.import_from(source, root, allow_pickle=True) == 1
    assert persist.copy_out(root) == {"a": [1]}


def test_only_a_writable_store_takes_an_import(tmp_path: Path, path: Path) -> None:
    source = as_json(tmp_path / "a.json", {"x": 1})
    persist.open(path).close()
    with persist.open(path, "r") as store, pytest.raises((persist.Error, OSError, TypeError), match="read"):
        persist.import_from(source, store)
