"""Versions of classes: `__persist_version__`, `__upgrade__`; classes that were renamed."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import persist
import pytest


class Person(persist.Object):
    """Version 2: `name` became `first` and `last`."""

    __persist_version__ = 2
    ran: list[Any] = []

    def __init__(self, first: str, last: str) -> None:
        self.first, self.last = first, last

    def full(self) -> str:
        return f"{self.first} {self.last}"

    def __upgrade__(self, from_version: int) -> None:
        Person.ran.append(from_version)
        assert from_version == 1
        self.first, self.last = self.name.split()  # type: ignore[attr-defined]
        del self.name  # type: ignore[attr-defined]


class Quiet(persist.Object):
    __persist_version__ = 3


class Failing(persist.Object):
    __persist_version__ = 2

    def __upgrade__(self, from_version: int) -> None:
        self.half = 1
        raise ZeroDivisionError


class Renamed(persist.Object):
    def hello(self) -> str:
        return "hello"


@pytest.fixture(autouse=True)
def forget() -> None:
    Person.ran.clear()


def old(store: persist.Store, cls: type = Person, **attributes: Any) -> None:
    """Store an object as a program without versions has stored it."""
    made = persist.Object()
    vars(made).update(attributes or {"name": "Ann Lee"})
    store.root["p"] = made
    made.__class__ = cls
    del made
    gc.collect()


@pytest.fixture
def with_old(path: Path) -> Path:
    with persist.open(path) as store:
        old(store)
    Person.ran.clear()
    return path


def test_a_new_object_has_the_version_of_its_class(path: Path) -> None:
    with persist.open(path) as store:
        store.root["p"] = Person("Ann", "Lee")
        assert vars(store.root["p"])["__persist_version__"] == 2
    with persist.open(path) as store:
        assert store.root["p"].full() == "Ann Lee"
    assert Person.ran == []


USES: dict[str, Any] = {
    "get": lambda p: p.first == "Ann",
    "method": lambda p: p.full() == "Ann Lee",
    "set": lambda p: setattr(p, "age", 1) or True,
    "del": lambda p: delattr(p, "last") or True,
    "vars": lambda p: vars(p)["last"] == "Lee",
    "lock": lambda p: p.lock().release() or True,
}


@pytest.mark.parametrize("use", USES)
def test_the_first_use_upgrades(with_old: Path, use: str) -> None:
    with persist.open(with_old) as store:
        p = store.root["p"]
        assert isinstance(p, Person)
        assert Person.ran == []
        assert USES[use](p)
        assert Person.ran == [1]
        assert "name" not in vars(p)
    del p
    with persist.open(with_old) as store:
        assert store.root["p"].first == "Ann"
        assert vars(store.root["p"])["__persist_version__"] == 2
    assert Person.ran == [1]


def test_a_reader_does_not_upgrade(with_old: Path) -> None:
    with persist.open(with_old, "r") as store:
        p = store.root["p"]
        assert p.name == "Ann Lee"  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            _ = p.first
    assert Person.ran == []


def test_a_rollback_takes_the_upgrade_back_and_it_runs_again(with_old: Path) -> None:
    with persist.open(with_old) as store:
        p = store.root["p"]
        with pytest.raises(ZeroDivisionError):
            with store.transaction():
                assert p.first == "Ann"
                assert p.last == "Lee"
                raise ZeroDivisionError
        with persist.open(with_old, "r") as reader:
            assert reader.root["p"].name == "Ann Lee"
        assert p.full() == "Ann Lee"
    assert Person.ran == [1, 1]


def test_an_upgrade_that_raises_changes_nothing(path: Path) -> None:
    with persist.open(path) as store:
        old(store, Failing, a=1)
        p = store.root["p"]
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                _ = p.a
        with persist.open(path, "r") as reader:
            assert set(vars(reader.root["p"])) == {"a"}
        assert not store.in_transaction


def test_a_class_without_upgrade_only_gets_the_version(path: Path) -> None:
    with persist.open(path) as store:
        old(store, Quiet, a=1)
        assert store.root["p"].a == 1
        assert vars(store.root["p"])["__persist_version__"] == 3


def test_an_object_of_a_newer_version_stays_as_it_is(path: Path) -> None:
    with persist.open(path) as store:
        store.root["p"] = Person("Ann", "Lee")
        vars(store.root["p"])["__persist_version__"] = 7
    gc.collect()
    with persist.open(path) as store:
        assert store.root["p"].full() == "Ann Lee"
        assert vars(store.root["p"])["__persist_version__"] == 7
    assert Person.ran == []


def test_a_version_must_be_a_number() -> None:
    bad = type("Bad", (persist.Object,), {"__persist_version__": "2", "__module__": __name__})
    globals()["Bad"] = bad
    store = persist.open(f"/dev/shm/persist-test-{os.getpid()}")
    try:
        with pytest.raises(TypeError, match="__persist_version__.*int"):
            store.root["b"] = bad()
    finally:
        store.close()
        del globals()["Bad"]
        for file in Path("/dev/shm").glob(f"persist-test-{os.getpid()}*"):
            file.unlink()


def test_copies_keep_the_version(with_old: Path, tmp_path: Path) -> None:
    with persist.open(with_old, "r") as store:
        made = persist.copy_out(store.root["p"])
    with persist.open(tmp_path / "other") as other:
        other.root["p"] = made
        del made
        gc.collect()
        assert Person.ran == []
        # A copy is a use of what is copied.
        assert copy.copy(other.root["p"]).first == "Ann"
    assert Person.ran == [1]


def first_name(p: Any) -> tuple[str, int]:
    return p.first, len(Person.ran)


def test_processes_upgrade_once(with_old: Path) -> None:
    with persist.open(with_old, lock_timeout=100) as store:
        spawn: Any = multiprocessing.get_context("spawn")
        with spawn.Pool(4) as pool:
            results = pool.map(first_name, [store.root["p"]] * 16, chunksize=1)
        assert {name for name, _ in results} == {"Ann"}
        assert vars(store.root["p"])["__persist_version__"] == 2


def test_threads_upgrade_once(with_old: Path) -> None:
    with persist.open(with_old, lock_timeout=100) as store:
        p = store.root["p"]
        begin, names = threading.Barrier(4), []

        def use() -> None:
            begin.wait(100)
            names.append(p.first)

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert names == ["Ann"] * 4
    assert Person.ran == [1]


# --- renamed classes --------------------------------------------------------------------------------


def with_class(path: Path, name: str) -> None:
    """Store objects of a class that does not exist."""
    module, qualname = name.split(":")
    made = types.ModuleType(module)
    cls = type(qualname, (persist.Object,), {"__module__": module})
    setattr(made, qualname, cls)
    sys.modules[module] = made
    try:
        with persist.open(path) as store:
            store.root["a"] = cls()
            store.root["l"] = [cls(), {"x": cls()}]
            store.root["l"][0].n = 1
            store.root["l"][0].itself = store.root["l"][0]
    finally:
        del sys.modules[module]
    gc.collect()


def test_an_alias_gives_objects_of_an_old_name_their_class(path: Path) -> None:
    with_class(path, "an_old_module:Name")
    with persist.open(path) as store:
        held = store.root["a"]
        assert type(held) is persist.Object
        persist.alias("an_old_module:Name", Renamed)
        assert store.root["a"] is held
        assert held.hello() == "hello"
        assert type(store.root["l"][1]["x"]) is Renamed
        assert persist.class_name(held) == "an_old_module:Name"
        store.root["new"] = Renamed()
        assert persist.class_name(store.root["new"]) == f"{__name__}:Renamed"


def test_bad_aliases() -> None:
    for name in ("", "Name", ":Name", "module:"):
        with pytest.raises(ValueError, match="module:Class"):
            persist.alias(name, Renamed)
    for cls in (None, 5, "Renamed"):
        with pytest.raises(TypeError):
            persist.alias("a:B", cls)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int.*Object"):
        persist.alias("a:B", int)


def rename(path: Path, old: str, new: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "persist"), "rename-class", str(path), old, new]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_the_command_renames_a_class_in_the_store(path: Path) -> None:
    with_class(path, "a_lost_module:Name")
    with persist.open(path) as store:
        store.root["other"] = Person("Ann", "Lee")
        # The new class has objects already, and the old one is used beside the program.
        store.root["new"] = Renamed()
        held = store.root["a"]
        done = rename(path, "a_lost_module:Name", f"{__name__}:Renamed")
        assert (done.returncode, done.stdout, done.stderr) == (0, "3 objects renamed\n", "")
        assert store.root["a"] is held
        assert held.hello() == "hello"
        first = store.root["l"][0]
        assert type(first) is Renamed
        assert (first.n, first.itself) == (1, first)
        assert type(store.root["l"][1]["x"]) is Renamed
        assert type(store.root["other"]) is Person
        assert persist.class_name(store.root["new"]) == f"{__name__}:Renamed"
    assert rename(path, "a_lost_module:Name", "b:B").stdout == "0 objects renamed\n"
    check = [str(Path(sys.executable).parent / "persist"), "check", str(path)]
    assert subprocess.run(check, capture_output=True, timeout=100).returncode == 0


def test_the_command_renames_many_in_long_containers(path: Path) -> None:
    with persist.open(path) as store:
        store.root["l"] = [Renamed() for _ in range(1000)]
        store.root["d"] = {n: Renamed() for n in range(1000)}
        store.root["again"] = store.root["l"]
        deep = store.root
        for _ in range(50):
            deep["next"] = {"o": Renamed()}
            deep = deep["next"]
    assert rename(path, f"{__name__}:Renamed", "b:B").stdout == "2050 objects renamed\n"
    with persist.open(path, "r") as store:
        assert {persist.class_name(o) for o in store.root["l"]} == {"b:B"}
        assert {persist.class_name(o) for o in store.root["d"].values()} == {"b:B"}


def test_wrong_uses_of_the_command(path: Path) -> None:
    missing = rename(path, "a:A", "b:B")
    assert missing.returncode == 1
    assert not path.exists()
    with persist.open(path):
        pass
    for old, new in [("A", "b:B"), ("a:A", "B"), ("", "b:B"), ("a:", "b:B"), ("a:A", ":B")]:
        wrong = rename(path, old, new)
        assert wrong.returncode == 1
        assert "MODULE:CLASS" in wrong.stderr
