"""`persist.open(path, root=Class)`: the root as an instance of a class."""

from __future__ import annotations

import copy
import gc
from pathlib import Path
from typing import Any

import persist
import pytest


class App(persist.Object):
    __transient__ = {"conn"}
    made = 0

    def __init__(self) -> None:
        self.people: Any = {}
        self.count = 0
        App.made += 1

    def add(self, name: str) -> None:
        self.people[name] = {"age": 0}
        self.count += 1


class Other(persist.Object):
    pass


class New(persist.Object):
    __persist_version__ = 2

    def __upgrade__(self, from_version: int) -> None:
        self.upgraded = from_version


class Needs(persist.Object):
    def __init__(self, x: int) -> None:
        self.x = x


def test_the_root_is_an_instance(path: Path) -> None:
    App.made = 0
    for n in range(3):
        with persist.open(path, root=App) as store:
            root = store.root
            assert type(root) is App
            assert store.root is root
            root.add(f"p{n}")
            root.conn = object()
            assert App.made == 1
            assert root.count == len(root.people) == n + 1
            assert type(root.people) is persist.Dict
    with persist.open(path) as store:
        assert type(store.root) is persist.Dict
        assert store.root["count"] == 3
        assert set(store.root) == {"people", "count", "__persist_class__"}


def test_the_store_is_still_a_mapping_of_the_root(path: Path) -> None:
    with persist.open(path, root=App) as store:
        store["x"] = 1
        assert store.root.x == 1  # type: ignore[attr-defined]
        store.root.y = 2  # type: ignore[attr-defined]
        assert store["y"] == 2
        assert "y" in store
        assert set(store) >= {"x", "y"}
        assert store.get("z") is None


def test_both_forms_at_once(path: Path) -> None:
    with persist.open(path, root=App) as store, persist.open(path) as plain:
        store.root.count = 7
        assert plain.root["count"] == 7
        plain.root["count"] += 1
        assert store.root.count == 8
        plain.root["itself"] = store.root
        assert store.root.itself is plain.root  # type: ignore[attr-defined]


def test_locks_transactions_and_copies(path: Path) -> None:
    with persist.open(path, root=App) as store:
        with store.root.lock() as root:
            assert root is store.root
        with pytest.raises(ZeroDivisionError):
            with store.transaction():
                store.root.add("x")
                raise ZeroDivisionError
        assert (store.root.count, store.root.people) == (0, {})
        del store.root.count
        with pytest.raises(AttributeError, match="count"):
            _ = store.root.count
        made = copy.deepcopy(store.root)
        assert type(made) is App
        assert made.people == {}


def test_a_reader_and_a_snapshot(path: Path) -> None:
    with persist.open(path, root=App) as store:
        store.root.add("a")
        store.snapshot("s")
        store.root.add("b")
        with store.at("s") as before:
            assert type(before.root) is App
            assert before.root.count == 1
    with persist.open(path, "r", root=App) as store:
        assert store.root.count == 2
        with pytest.raises(OSError, match="read-only"):
            store.root.add("c")


def test_an_empty_store_that_is_only_read(path: Path) -> None:
    persist.open(path).close()
    with persist.open(path, "r", root=App) as store:
        assert type(store.root) is App
        assert not hasattr(store.root, "people")


def test_another_root_is_refused(path: Path, tmp_path: Path) -> None:
    with persist.open(path, root=App):
        pass
    with pytest.raises(TypeError, match=r"the\.store is an instance of .*:App, not of .*:Other"):
        persist.open(path, root=Other)
    with persist.open(tmp_path / "dict") as store:
        store.root["x"] = 1
        with pytest.raises(TypeError, match="dict with entries"):
            persist.open(tmp_path / "dict", root=App)
        assert store.root == {"x": 1}
    # The handle is closed: nothing holds the store.
    gc.collect()
    with persist.open(path) as store:
        assert store.stat()["processes"] == 1


def test_an_alias_of_the_class(path: Path) -> None:
    with persist.open(path) as store:
        store.root.update({"x": 1, "__persist_class__": "old_app:Root"})
    with pytest.raises(TypeError, match="old_app:Root"):
        persist.open(path, root=Other)
    persist.alias("old_app:Root", Other)
    with persist.open(path, root=Other) as store:
        assert store.root.x == 1  # type: ignore[attr-defined]


def test_an_upgrade_of_the_root(path: Path) -> None:
    with persist.open(path) as store:
        store.root.update({"x": 1, "__persist_class__": f"{__name__}:New"})
    with persist.open(path, root=New) as store:
        assert store.root.x == 1  # type: ignore[attr-defined]
        assert store.root.upgraded == 1
        assert store["__persist_version__"] == 2


@pytest.mark.parametrize("cls", [dict, int, "App", 5, App], ids=str)
def test_wrong_classes(path: Path, cls: Any) -> None:
    if cls is App:
        cls = App()
    with pytest.raises(TypeError, match=r"persist\.Object"):
        persist.open(path, root=cls)


def test_a_class_whose_init_fails(path: Path) -> None:
    with pytest.raises(TypeError, match="'x'"):
        persist.open(path, root=Needs)
    with persist.open(path) as store:
        assert store.root == {}
