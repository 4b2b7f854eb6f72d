"""Every example in a docstring of the module runs, and prints what it shows."""

from __future__ import annotations

import asyncio
import doctest
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
