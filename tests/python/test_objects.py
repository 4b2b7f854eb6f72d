"""Instances of classes: transient until stored, then part of the store."""

from __future__ import annotations

import copy
import dataclasses
import functools
import gc
import pickle
import sys
import weakref
from pathlib import Path
from typing import Any

import persist
import pytest
from pbase import pbase


class Person(pbase):
    kind = "human"
    made = 0

    def __init__(self, name: str = "", age: int = 0) -> None:
        pbase.__init__(self)
        self.name = name
        self.age = age
        Person.made += 1

    def greet(self) -> str:
        return f"{self.name} is {self.age}"

    @property
    def double(self) -> int:
        return self.age * 2

    @double.setter
    def double(self, value: int) -> None:
        self.age = value // 2

    @property
    def broken(self) -> int:
        raise AttributeError("inner trouble")

    @functools.cached_property
    def slow(self) -> str:
        return "computed"


class Dynamic(persist.Object):
    def __getattr__(self, name: str) -> str:
        if name.startswith("dyn_"):
            return name
        raise AttributeError(name)


@dataclasses.dataclass
class Point(persist.Object):
    x: int = 0
    y: int = 0


class Other:
    pass


class Slotless(persist.Object):
    __slots__ = ()


class Slotted(Slotless):
    __slots__ = ("a",)


def test_an_instance_becomes_the_proxy(root: persist.Dict) -> None:
    p = Person("Joe", 27)
    p.tags = ["a"]
    tags = p.tags
    root["Joe"] = p
    assert root["Joe"] is p
    assert p.tags is not tags
    assert type(p.tags) is persist.List
    p.age += 1
    assert root["Joe"].age == 28
    assert p.greet() == "Joe is 28"
    assert persist.class_name(p) == f"{__name__}:Person"


def test_it_comes_back_without_init(path: Path) -> None:
    with persist.open(path) as store:
        store.root["Joe"] = Person("Joe", 27)
    made = Person.made
    with persist.open(path) as store:
        joe = store.root["Joe"]
        assert type(joe) is Person
        assert (joe.greet(), joe.kind, joe.double) == ("Joe is 27", "human", 54)
        assert Person.made == made


def test_attribute_lookup_is_pythons(root: persist.Dict) -> None:
    for stored in [False, True]:
        p: Any = Person("Joe", 27)
        if stored:
            root["Joe"] = p
        p.double = 10
        assert p.age == 5
        assert "double" not in vars(p)
        p.kind = "own"
        assert (p.kind, Person.kind) == ("own", "human")
        del p.kind
        assert p.kind == "human"
        p.greet = "shadowed"
        assert p.greet == "shadowed"
        del p.greet
        assert p.greet() == "Joe is 5"
        with pytest.raises(AttributeError, match="'Person' object has no attribute 'nope'"):
            p.nope  # noqa: B018
        with pytest.raises(AttributeError, match="nope"):
            del p.nope
        with pytest.raises(AttributeError, match="inner trouble"):
            p.broken  # noqa: B018
        assert not hasattr(p, "nope")
        assert getattr(p, "nope", 1) == 1
        with pytest.raises(TypeError):
            setattr(p, 1, 2)  # type: ignore[arg-type]
        assert p.slow == "computed"
        assert vars(p)["slow"] == "computed"
        del p.slow
        assert p.__class__ is Person
        assert p.__doc__ is None
        assert p.__module__ == __name__
        setattr(p, "odd name \ud800", 1)
        assert getattr(p, "odd name \ud800") == 1
        delattr(p, "odd name \ud800")
        assert vars(p) == {"name": "Joe", "age": 5}
        assert {"name", "age", "greet", "double"} <= set(dir(p))
        assert p == p
        assert p != Person("Joe", 5)
        assert len({p, p}) == 1


def test_getattr_hook(root: persist.Dict) -> None:
    for stored in [False, True]:
        d: Any = Dynamic()
        if stored:
            root["d"] = d
        d.x = 1
        assert d.x == 1
        assert d.dyn_y == "dyn_y"
        assert not hasattr(d, "other")


def test_dict_of_a_stored_instance_is_live(root: persist.Dict) -> None:
    root["p"] = Person("Joe", 1)
    p = root["p"]
    attributes = p.__dict__
    attributes["age"] = 2
    assert p.age == 2
    attributes.update(extra=1)
    assert p.extra == 1
    assert attributes == {"name": "Joe", "age": 2, "extra": 1}
    p.__dict__ = {"name": "Ann"}
    assert attributes == {"name": "Ann"}
    with pytest.raises(TypeError):
        p.__dict__ = 5


def test_dataclasses_and_equality(root: persist.Dict) -> None:
    root["p"] = Point(1, 2)
    assert root["p"] == Point(1, 2)
    assert root["p"] != Point(1, 3)
    assert repr(root["p"]) == "Point(x=1, y=2)"
    assert dataclasses.asdict(root["p"]) == {"x": 1, "y": 2}
    root["p"].x = 5
    assert root["p"].x == 5


def test_generic_objects(root: persist.Dict) -> None:
    o: Any = persist.Object()
    o.x = 1
    root["o"] = o
    del o
    gc.collect()
    assert type(root["o"]) is persist.Object
    assert persist.class_name(root["o"]) == ""
    with pytest.raises(TypeError):
        persist.Object(1)
    with pytest.raises(TypeError, match="Other"):
        root["x"] = Other()


def test_unknown_and_forbidden_classes_are_generic(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened() -> Any:
        with persist.open(path) as store:
            o = store.root["o"]
            found = type(o), persist.class_name(o), o.x
        return found

    with persist.open(path) as store:
        o: Any = Plainer()
        o.x = 1
        store.root["o"] = o
        assert store.root["o"] is o
        del o
    name = f"{__name__}:Plainer"
    with monkeypatch.context() as hidden:
        hidden.delattr(sys.modules[__name__], "Plainer")
        assert opened() == (persist.Object, name, 1)
    assert opened() == (Plainer, name, 1)

    with persist.open(path) as store:
        p: Any = Person()
        p.x = 1
        store.root["o"] = p
        del p
    assert opened()[0] is Person
    monkeypatch.setattr(sys.modules[__name__], "Person", Other)
    assert opened()[0] is persist.Object
    monkeypatch.setattr(sys.modules[__name__], "Person", lambda: 1 // 0)
    assert opened()[0] is persist.Object
    monkeypatch.delattr(sys.modules[__name__], "Person")
    assert opened() == (persist.Object, f"{__name__}:Person", 1)


def test_modules_are_imported_only_if_allowed(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mod_for_persist.py").write_text(
        "import persist\nclass C(persist.Object):\n    class Inner(persist.Object): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import mod_for_persist  # type: ignore[import-not-found]

    with persist.open(path) as store:
        store.root["c"] = [mod_for_persist.C(), mod_for_persist.C.Inner()]
    del sys.modules["mod_for_persist"]
    del mod_for_persist
    with persist.open(path) as store:
        assert {type(o) for o in store.root["c"]} == {persist.Object}
    assert "mod_for_persist" not in sys.modules
    persist.allow_import("mod_for_pers")  # not a prefix by characters
    with persist.open(path) as store:
        assert type(store.root["c"][0]) is persist.Object
    persist.allow_import("mod_for_persist")
    with persist.open(path) as store:
        assert [type(o).__qualname__ for o in store.root["c"]] == ["C", "C.Inner"]
    del sys.modules["mod_for_persist"]


def test_identity_and_lifetime(root: persist.Dict) -> None:
    root["p"] = Person("Joe")
    ref = weakref.ref(root["p"])
    gc.collect()
    assert ref() is None
    p = root["p"]
    ref = weakref.ref(p)
    assert ref() is p is root["p"]
    root["d"] = {}
    d = weakref.ref(root["d"])
    assert d() is None


def test_a_weakref_callback_may_fetch_again(root: persist.Dict) -> None:
    root["p"] = Person("Joe")
    fetched = []
    p = root["p"]
    ref = weakref.ref(p, lambda _: fetched.append(root["p"]))
    del p
    assert len(fetched) == 1
    assert fetched[0] is root["p"]
    assert fetched[0].name == "Joe"
    del ref


saved = []


class Phoenix(persist.Object):
    def __del__(self) -> None:
        saved.append(self)


def test_resurrection_keeps_identity(root: persist.Dict) -> None:
    saved.clear()
    root["p"] = Phoenix()
    assert saved[0] is root["p"]
    root["p"].x = 1
    assert saved[0].x == 1


def test_cycles_of_transient_instances_are_collected() -> None:
    p: Any = Person()
    p.self = p
    ref = weakref.ref(p)
    del p
    gc.collect()
    assert ref() is None


def test_no_slots_are_as_good_as_none(root: persist.Dict) -> None:
    root["s"] = Slotless()
    root["s"].a = 1
    assert type(root["s"]) is Slotless
    assert root["s"].a == 1


def test_graphs_of_instances(root: persist.Dict) -> None:
    a, b = Person("a"), Person("b")
    a.friend, b.friend = b, a  # type: ignore[attr-defined]
    root["a"] = a
    assert root["a"].friend is b
    assert b.friend is a  # type: ignore[attr-defined]
    b.age = 5
    assert root["a"].friend.age == 5
    out = persist.copy_out(a)
    assert type(out) is Person
    assert out is not a
    assert out.friend.friend is out
    out.age = 100
    assert a.age == 0


def test_copies_are_transient_instances(root: persist.Dict) -> None:
    root["p"] = Person("Joe", 27)
    p = root["p"]
    for q in [copy.copy(p), copy.deepcopy(p), pickle.loads(pickle.dumps(persist.copy_out(p)))]:
        assert type(q) is Person
        assert vars(q) == {"name": "Joe", "age": 27}
        q.age = 1
        assert p.age == 27
        with pytest.raises(ValueError, match="not in a store"):
            q.lockExcl()


def test_class_can_be_changed(path: Path) -> None:
    with persist.open(path) as store:
        store.root["p"] = Point(1, 2)
        store.root["p"].__class__ = Person
        assert type(store.root["p"]) is Person
    with persist.open(path) as store:
        assert type(store.root["p"]) is Person


def test_bad_attributes_are_refused(root: persist.Dict) -> None:
    p: Any = Person()
    p.bad = object()
    with pytest.raises(TypeError):
        root["p"] = p
    assert "p" not in root
    p.bad = 1  # still transient
    root["p"] = p
    with pytest.raises(TypeError):
        p.bad = object()
    assert p.bad == 1
    slotted: Any = Slotted()
    slotted.a = {1: len}
    with pytest.raises(TypeError, match=r"value\[0\]\.a"):
        root["slotted"] = [slotted]
    assert "slotted" not in root
    assert slotted.a == {1: len}
    q: Any = Person()
    vars(q)[1] = 2
    with pytest.raises(TypeError, match="attribute name"):
        root["q"] = q


class Shaded(persist.Object):
    """A class with attributes that an instance may hide."""

    kind = "of the class"

    def call(self) -> str:
        return "the method"


def test_what_the_class_says_holds_while_the_instance_says_nothing(root: persist.Dict) -> None:
    root["o"] = Shaded()
    o = root["o"]
    for _ in range(200):
        assert (o.kind, o.call()) == ("of the class", "the method")
    for value in (1, "a text longer than any word of the store", [1], None, b"bytes", 2**70):
        o.kind = value
        assert o.kind == value and o.call() == "the method"
        del o.kind
        assert o.kind == "of the class"
        o.call = value
        assert o.call == value and root["o"].call == value
        del o.call
        assert o.call() == "the method"
    with pytest.raises(AttributeError):
        _ = o.missing
    o.missing = 1
    assert o.missing == 1
    o.__class__ = Plainer
    assert not hasattr(o, "kind") and o.missing == 1


class Plainer(persist.Object):
    """The class that it gets later."""
