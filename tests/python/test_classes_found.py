"""An instance is stored only if its class can be found again; a generic object gets its class once that exists."""

from __future__ import annotations

import dataclasses
import gc
import pickle
import re
import sys
import types
from pathlib import Path
from typing import Any, Generic, TypeVar

import persist
import pytest

T = TypeVar("T")


class Person(persist.Object):
    class Address(persist.Object):
        pass

    def greet(self) -> str:
        return f"Hi {self.name}"  # type: ignore[attr-defined]


class Box(persist.Object, Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value


@dataclasses.dataclass
class Point(persist.Object):
    x: int = 0


class Replaced(persist.Object):
    pass


Old = Replaced


class Replaced(persist.Object):  # type: ignore[no-redef]
    pass


def local() -> type[persist.Object]:
    class Local(persist.Object):
        pass

    return Local


def made(name: str, module: str) -> type[persist.Object]:
    return type(name, (persist.Object,), {"__module__": module})


UNFOUND = [
    local(),
    Old,
    made("Nowhere", __name__),
    made("Any", "no_such_module"),
    made("Sub.Deep", __name__),
    made("loads", "pickle"),
    type("Local", (local(),), {}),
]


@pytest.mark.parametrize("cls", UNFOUND, ids=lambda cls: cls.__qualname__)
def test_a_class_that_no_import_finds_is_refused(root: persist.Dict, cls: Any) -> None:
    value = cls()
    value.x = 1
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(value)
    root["l"] = []
    name = cls.__name__
    for store, place in [
        (lambda: root.__setitem__("x", value), ""),
        (lambda: root.__setitem__("x", [{"a": value}]), r" at value\[0\]\['a'\]"),
        (lambda: root["l"].append(value), ""),
    ]:
        with pytest.raises(TypeError, match=f"^cannot store '{name}'{place}; .*{cls.__module__}.*top level"):
            store()
    assert root == {"l": []}
    assert vars(value) == {"x": 1}
    assert persist.copy_out(value) is value


def test_a_class_cannot_be_set_that_is_not_found(root: persist.Dict) -> None:
    root["p"] = Person()
    with pytest.raises(TypeError, match="Local.*top level"):
        root["p"].__class__ = local()
    assert type(root["p"]) is Person
    assert persist.class_name(root["p"]) == f"{__name__}:Person"


def test_classes_that_are_found(root: persist.Dict) -> None:
    root["all"] = [Person(), Person.Address(), Box(1), Point(2), persist.Object()]
    gc.collect()
    kinds = [type(value) for value in root["all"]]
    assert kinds == [Person, Person.Address, Box, Point, persist.Object]


def test_a_class_of_the_main_program_is_stored(script: Any) -> None:
    out = script.run(
        """
        import persist
        class Mine(persist.Object):
            pass
        with persist.open('s') as store:
            store.root['m'] = Mine()
            print(persist.class_name(store.root['m']))
        with persist.open('s') as store:
            print(type(store.root['m']).__name__)
        """
    )
    name, cls = out.split()
    assert re.fullmatch(r"__main__:Mine@/.*/program0\.py", name)
    assert cls == "Mine"


@pytest.fixture
def late(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a store with an object `p` of a class that does not exist yet, and what makes it exist."""
    name = "late_module"
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)

    class Late(persist.Object):
        kind = "late"

        def greet(self) -> str:
            return f"Hi {self.name}"  # type: ignore[attr-defined]

        def __len__(self) -> int:
            return 3

    Late.__module__, Late.__qualname__ = name, "Late"
    module.Late = Late  # type: ignore[attr-defined]
    with persist.open(path) as store:
        p = Late()
        p.name = "Ann"  # type: ignore[attr-defined]
        store.root["p"] = p
        del p
    monkeypatch.delitem(sys.modules, name)
    with persist.open(path) as store:
        yield store.root, lambda: monkeypatch.setitem(sys.modules, name, module)


def test_a_held_object_gets_its_class_when_it_is_read_again(late: Any) -> None:
    root, define = late
    held = root["p"]
    assert type(held) is persist.Object
    define()
    assert root["p"] is held
    assert type(held).__name__ == "Late"
    assert held.greet() == "Hi Ann"
    assert len(held) == 3


def test_a_held_object_gets_its_class_when_it_is_used(late: Any) -> None:
    root, define = late
    held = root["p"]
    with pytest.raises(AttributeError):
        held.greet()
    held.own = 1
    define()
    assert held.greet() == "Hi Ann"
    assert (held.kind, held.own, held.name) == ("late", 1, "Ann")
    assert type(held).__name__ == "Late"
    assert root["p"] is held
    with pytest.raises(AttributeError, match="'Late' object has no attribute 'missing'"):
        _ = held.missing


def test_a_held_object_is_an_instance_once_its_class_exists(late: Any) -> None:
    root, define = late
    held = root["p"]
    define()
    late_class = sys.modules["late_module"].Late
    for _ in range(2):
        assert isinstance(held, late_class)
    assert held.__class__ is late_class


def test_a_generic_object_of_no_class_stays_one(root: persist.Dict) -> None:
    root["o"] = persist.Object()
    o = root["o"]
    assert not hasattr(o, "x")
    assert type(root["o"]) is persist.Object is o.__class__
