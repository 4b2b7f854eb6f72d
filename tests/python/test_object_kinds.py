"""Classes of objects of every kind: frozen, with slots, of attrs, generic; attributes that are not stored."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs
import persist
import pytest

T = TypeVar("T")
# Python 3.9 has no dataclasses with slots: there the classes are as others.
SLOTS: dict[str, Any] = {"slots": True} if sys.version_info >= (3, 10) else {}


@dataclasses.dataclass(frozen=True)
class Frozen(persist.Object):
    x: int
    tags: Any = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Derived(Frozen):
    y: int = 0

    def __post_init__(self) -> None:
        super().__setattr__("sum", self.x + self.y)


@dataclasses.dataclass(**SLOTS)
class Slots(persist.Object):
    x: int
    tags: Any = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, **SLOTS)
class FrozenSlots(persist.Object):
    x: int
    tags: Any = dataclasses.field(default_factory=list)


class Plain(persist.Object):
    __slots__ = ("x", "tags", "__hidden")

    def __init__(self, x: int, tags: Any = None) -> None:
        self.x, self.tags, self.__hidden = x, tags, 7

    def hidden(self) -> int:
        return self.__hidden


class More(Plain):
    __slots__ = ("z",)


@attrs.define
class Attrs(persist.Object):
    x: int
    tags: Any = attrs.field(factory=list)


@attrs.frozen
class AttrsFrozen(persist.Object):
    x: int
    tags: Any = attrs.field(factory=list)


@attrs.frozen(slots=False)
class AttrsFrozenDict(persist.Object):
    x: int
    tags: Any = attrs.field(factory=list)


@attrs.define
class AttrsChecked(persist.Object):
    x: int = attrs.field(converter=int, validator=attrs.validators.ge(0))
    tags: Any = attrs.field(factory=list)


class Gen(persist.Object, Generic[T]):
    def __init__(self, x: T, tags: Any = None) -> None:
        self.x, self.tags = x, tags


KINDS: list[Any] = [
    Frozen,
    Derived,
    Slots,
    FrozenSlots,
    Plain,
    More,
    Attrs,
    AttrsFrozen,
    AttrsFrozenDict,
    AttrsChecked,
    Gen,
    Gen[int],
]
FROZEN = (Frozen, Derived, FrozenSlots, AttrsFrozen, AttrsFrozenDict)


@pytest.fixture(params=KINDS, ids=lambda kind: str(getattr(kind, "__name__", kind)))
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_it_is_stored_and_read_back(path: Path, kind: Any) -> None:
    cls = typing.get_origin(kind) or kind
    with persist.open(path) as store:
        made = kind(1, [2])
        assert (made.x, made.tags) == (1, [2])
        store.root["o"] = made
        assert store.root["o"] is made
        assert (made.x, type(made.tags)) == (1, persist.List)
    with persist.open(path) as store:
        o = store.root["o"]
        assert type(o) is cls
        assert (o.x, o.tags) == (1, [2])
        assert {"x", "tags"} <= set(vars(o))
        o.tags.append(3)
        assert o.tags == [2, 3]


def test_a_change_is_in_the_store(path: Path, kind: Any) -> None:
    cls = typing.get_origin(kind) or kind
    with persist.open(path) as store:
        store.root["o"] = kind(1, [])
        o = store.root["o"]
        if cls in FROZEN:
            for change in (lambda: setattr(o, "x", 2), lambda: delattr(o, "x")):
                with pytest.raises(AttributeError):
                    change()
        else:
            o.x = 2
            del o.tags
            with pytest.raises(AttributeError):
                _ = o.tags
    with persist.open(path) as store:
        assert store.root["o"].x == (1 if cls in FROZEN else 2)


def test_copies_are_transient_and_can_be_stored(root: persist.Dict, kind: Any) -> None:
    cls = typing.get_origin(kind) or kind
    root["o"] = kind(1, [2])
    o = root["o"]
    transient = kind(1, [2])
    copies = [copy.copy(o), copy.deepcopy(o), persist.copy_out(o), copy.copy(transient)]
    if isinstance(kind, type):
        copies.append(pickle.loads(pickle.dumps(transient)))
    for n, made in enumerate(copies):
        assert type(made) is cls
        assert (made.x, made.tags) == (1, [2])
        with pytest.raises(ValueError, match="not in a store"):
            made.lock()
        root[f"again{n}"] = made
        assert root[f"again{n}"].x == 1
    assert pickle.loads(pickle.dumps(o)) is o


def test_a_rolled_back_instance_can_be_stored_again(store: persist.Store, kind: Any) -> None:
    made = kind(1, [2])
    with pytest.raises(ZeroDivisionError):
        with store.transaction():
            store.root["o"] = made
            raise ZeroDivisionError
    store.root["o"] = made
    assert (made.x, made.tags) == (1, [2])
    assert store.root["o"] is made


def test_classes_with_generated_comparisons(root: persist.Dict) -> None:
    for cls in (Frozen, Slots, FrozenSlots, Attrs, AttrsFrozen):
        root["a"], root["b"] = cls(1, [2]), cls(1, [2])
        assert root["a"] == root["b"]
        assert repr(root["a"]) == f"{cls.__name__}(x=1, tags=[2])"
    root["a"] = FrozenSlots(1, "t")
    assert len({root["a"], FrozenSlots(1, "t")}) == 1
    assert dataclasses.replace(root["a"], x=5).x == 5
    assert attrs.evolve(AttrsFrozen(1), x=5).x == 5


def test_a_generated_init_of_a_derived_class(root: persist.Dict) -> None:
    root["o"] = Derived(1, [], 2)
    assert root["o"].sum == 3


def test_private_names_in_slots(root: persist.Dict) -> None:
    root["o"] = More(1)
    root["o"].z = 3
    gc.collect()
    assert (root["o"].hidden(), root["o"].z) == (7, 3)


def test_converters_and_validators_of_attrs_are_used(root: persist.Dict) -> None:
    root["o"] = AttrsChecked("5")
    o = root["o"]
    o.x = "6"
    assert (o.x, vars(o)["x"]) == (6, 6)
    with pytest.raises(ValueError, match="-1"):
        o.x = -1
    assert o.x == 6


def test_type_arguments_are_not_stored(path: Path) -> None:
    with persist.open(path) as store:
        made = Gen[int](1)
        store.root["o"] = made
        assert made.__orig_class__ == Gen[int]  # type: ignore[attr-defined]
        assert "__orig_class__" not in vars(made)
        made.__orig_class__ = Gen[str]  # type: ignore[attr-defined]
        assert "__orig_class__" not in vars(made)
    with persist.open(path) as store:
        assert not hasattr(store.root["o"], "__orig_class__")


# --- attributes that are not stored -----------------------------------------------------------------


class Client(persist.Object):
    __transient__ = {"conn", "cache"}
    cache: Any = None

    def __init__(self, host: str) -> None:
        self.host, self.conn = host, object()


class Special(Client):
    __transient__ = {"extra"}


@dataclasses.dataclass
class Job(persist.Object):
    __transient__ = {"handle"}
    name: str
    handle: Any = None
    other: Any = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(**SLOTS)
class SlotJob(persist.Object):
    __transient__ = frozenset({"handle"})
    name: str
    handle: Any = None


def test_a_transient_attribute_lives_in_the_instance_only(path: Path) -> None:
    with persist.open(path) as store:
        client = Client("a.example")
        conn = client.conn
        store.root["c"] = client
        assert client.conn is conn
        assert set(vars(client)) == {"host"}
        client.cache = {1: object()}
        assert set(vars(client)) == {"host"}
        assert 1 in client.cache
        del client.cache
        assert client.cache is None
        with pytest.raises(AttributeError, match="cache"):
            del client.cache
    del client
    with persist.open(path) as store:
        client = store.root["c"]
        assert client.host == "a.example"
        assert client.cache is None
        with pytest.raises(AttributeError, match="'Client' object has no attribute 'conn'"):
            _ = client.conn
        client.conn = conn
        assert store.root["c"].conn is conn


@pytest.mark.parametrize("cls", [Job, SlotJob])
def test_a_transient_field_of_a_dataclass(path: Path, cls: Any) -> None:
    with persist.open(path) as store:
        job = cls("j", print)
        store.root["j"] = job
        assert job.handle is print
        assert "handle" not in vars(job)
        job.handle = len
        assert job.handle is len
    del job
    with persist.open(path) as store:
        job = store.root["j"]
        assert job.name == "j"
        if cls is Job:
            assert job.handle is None
        job.handle = object()
        assert set(vars(job)) <= {"name", "other"}


def test_transient_names_are_inherited(root: persist.Dict) -> None:
    made = Special("h")
    made.extra, made.cache = object(), object()
    root["s"] = made
    assert set(vars(made)) == {"host"}
    assert made.extra is not None


def test_what_an_older_program_has_stored_is_not_seen(root: persist.Dict) -> None:
    client = Client("h")
    root["c"] = client
    vars(client)["conn"] = "stored"
    assert client.conn != "stored"


def test_copies_are_without_transient_attributes(root: persist.Dict) -> None:
    root["c"] = Client("h")
    for made in (copy.copy(root["c"]), copy.deepcopy(root["c"]), copy.copy(Client("h"))):
        assert made.host == "h"
        assert not hasattr(made, "conn")


def test_transient_names_must_be_a_set() -> None:
    with pytest.raises(TypeError, match="__transient__.*set"):
        type("Bad", (persist.Object,), {"__transient__": "conn"})()


def test_a_rolled_back_instance_keeps_them(store: persist.Store) -> None:
    client = Client("h")
    conn = client.conn
    with pytest.raises(ZeroDivisionError):
        with store.transaction():
            store.root["c"] = client
            raise ZeroDivisionError
    assert client.conn is conn
    store.root["c"] = client
    assert client.conn is conn


# --- main programs ----------------------------------------------------------------------------------

MAIN = """
    import persist, sys
    class C(persist.Object):
        def hello(self):
            return '{hello}'
    with persist.open('s') as store:
        if 'c' not in store.root:
            store.root['c'] = C()
        c = store.root['c']
        print(persist.class_name(c), type(c).__name__)
        if '{alias}':
            persist.alias('{alias}', C)
            del c
            print(store.root['c'].hello())
"""


def test_classes_of_two_main_programs_are_distinguished(script: Any) -> None:
    first = script.write("first.py", MAIN.format(hello="first", alias=""))
    second = script.write("second.py", MAIN.format(hello="second", alias=""))
    name = f"__main__:C@{first.resolve()}"
    assert script.finish(script.start_file(first)).split() == [name, "C"]
    assert script.finish(script.start_file(second)).split() == [name, "Object"]
    assert script.finish(script.start_file(first)).split() == [name, "C"]
    for alias in (name, "__main__:C"):
        third = script.write("third.py", MAIN.format(hello="third", alias=alias))
        assert script.finish(script.start_file(third)).split() == [name, "Object", "third"]


def test_a_program_that_runs_as_a_module_names_its_classes_by_that(script: Any) -> None:
    script.write("app.py", MAIN.format(hello="app", alias=""))
    run = [sys.executable, "-m", "app"]
    for _ in range(2):
        out = subprocess.run(run, cwd=script.home, check=True, capture_output=True, text=True, timeout=100)
        assert out.stdout.split() == ["app:C", "C"]
    out = script.run("import app, persist; print(type(persist.open('s').root['c']).__module__)")
    assert out.split()[-1] == "app"


def test_processes_of_a_main_program_have_its_classes(script: Any) -> None:
    out = script.run(
        """
        import multiprocessing, persist
        class C(persist.Object):
            def grow(self):
                self.n = getattr(self, 'n', 0) + 1
                return persist.class_name(C()), type(self).__name__
        def work(c):
            return c.grow()
        if __name__ == '__main__':
            with persist.open('s') as store:
                store.root['c'] = C()
                for method in ('fork', 'spawn'):
                    with multiprocessing.get_context(method).Pool(1) as pool:
                        name, cls = pool.apply(work, (store.root['c'],))
                        print(name == persist.class_name(store.root['c']), cls)
                print(store.root['c'].n)
        """
    )
    assert out.split() == ["True", "C", "True", "C", "2"]


def test_a_name_without_a_file_is_of_any_program(path: Path, script: Any) -> None:
    code = "import persist\nclass C(persist.Object): pass\npersist.open('s').root['c'] = C()"
    subprocess.run([sys.executable, "-c", code], cwd=script.home, check=True, timeout=100)
    out = script.run(MAIN.format(hello="", alias=""))
    assert out.split() == ["__main__:C", "C"]
