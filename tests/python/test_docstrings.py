"""Every example in a docstring of the module runs, and prints what it shows."""

from __future__ import annotations

import asyncio
import collections
import collections.abc
import doctest
import re
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import persist
import pytest


class Person(persist.Object):
    def __init__(self, name: str, age: int) -> None:
        self.name, self.age = name, age


def documented() -> Iterator[tuple[str, str]]:
    """Return the names of the module and of its classes that have examples, and their docstrings."""
    objects: dict[str, Any] = {"persist": persist}
    for name in persist.__all__:
        there = getattr(persist, name)
        objects[name] = there
        if isinstance(there, type):
            objects.update({f"{name}.{k}": v for k, v in vars(there).items()})
    for name, there in objects.items():
        doc = getattr(there, "__doc__", None)
        if isinstance(doc, str) and ">>>" in doc:
            yield name, doc


DOCUMENTED = dict(documented())


def test_there_are_examples() -> None:
    assert {"Dict", "List", "Store", "Store.transaction", "Dict.lock", "root", "persist"} <= DOCUMENTED.keys()


# The types whose methods are described where they come from.
BUILTIN = {
    "Dict": dict, "List": list, "Set": set, "Deque": collections.deque, "Counter": collections.Counter,
    "OrderedDict": collections.OrderedDict, "DefaultDict": collections.defaultdict, "SortedDict": dict, "Store": dict,
    "KeysView": collections.abc.KeysView, "ValuesView": collections.abc.ValuesView,
    "ItemsView": collections.abc.ItemsView,
}  # fmt: skip


def is_shown(name: str, seen: frozenset[str] = frozenset()) -> bool:
    """Return whether a name has an example, or its docstring refers to one that has: see `Dict.lock`."""
    if name in DOCUMENTED:
        return True
    there: Any = persist
    for part in name.split("."):
        there = getattr(there, part, None)
    said = re.findall(r"`(?:persist\.)?([\w.]+)(?:\([^`]*\))?`", getattr(there, "__doc__", None) or "")
    beside = f"{name.split('.')[0]}." if "." in name else ""
    return any(
        is_shown(other, seen | {name})
        for word in said
        for other in (word, f"{beside}{word}")
        if other not in seen | {name}
    )


def test_every_public_function_has_an_example() -> None:
    wanted = []
    for name in persist.__all__:
        there = getattr(persist, name)
        if not isinstance(there, type):
            wanted += [name] * callable(there)
        elif not issubclass(there, BaseException):
            wanted += [name] * (name not in BUILTIN)
            own = set(vars(there)) - set(dir(BUILTIN.get(name, object)))
            wanted += [f"{name}.{k}" for k in own if not k.startswith("_") and callable(getattr(there, k))]
    assert len(wanted) > 70
    assert sorted(name for name in wanted if not is_shown(name)) == []


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory, without a store from the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERSIST_STORE", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", DOCUMENTED)
def test_example(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Names that an example may use without a definition.
    store = persist.open(home / "example.store")
    root = store.root
    monkeypatch.setattr(Person, "__module__", "people")
    people = types.ModuleType("people")
    people.Person = Person  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "people", people)
    root.update(x=1, a=100, b=0, Joe=Person("Joe", 27))
    monkeypatch.setitem(sys.modules, "myapp", types.ModuleType("myapp"))
    names = {"persist": persist, "store": store, "root": root}
    try:
        test = doctest.DocTestParser().get_doctest(DOCUMENTED[name], names, name, None, None)
        # Classes of the example are found as those of a module.
        vars(people).update(test.globs)
        test.globs = vars(people)
        awaiting = [e for e in test.examples if e.source.startswith("async ")]
        for example in awaiting:
            made: dict[str, Any] = {}
            exec(f"async def main():\n{textwrap.indent(example.source, '    ')}", names, made)
            asyncio.run(made["main"]())
            test.examples.remove(example)
        runner = doctest.DocTestRunner()
        said: list[str] = []
        runner.run(test, out=said.append)
        assert runner.failures == 0, "".join(said)
        assert runner.tries + len(awaiting) > 0
    finally:
        # `persist.root()` leaves its store open until the program ends.
        for opened in [store, *names.values(), *persist._roots.values()]:
            if isinstance(opened, persist.Store):
                opened.close()
