"""`persist.register_dataclass`: classes that do not derive from `persist.Object`."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import attrs
import persist
import pydantic
import pytest

# Python 3.9 has no dataclasses with slots: there the classes are as others.
SLOTS: dict[str, Any] = {"slots": True} if sys.version_info >= (3, 10) else {}


@persist.register_dataclass
@dataclasses.dataclass
class Job:
    name: str
    tags: Any = dataclasses.field(default_factory=list)
    done: bool = False

    def finish(self) -> None:
        self.done = True

    @property
    def title(self) -> str:
        return self.name.title()


@persist.register_dataclass
@dataclasses.dataclass
class Derived(Job):
    extra: int = 0

    def finish(self) -> None:
        super().finish()
        self.extra += 1


@persist.register_dataclass
@dataclasses.dataclass(**SLOTS)
class SlotJob:
    name: str
    tags: Any = dataclasses.field(default_factory=list)
    done: bool = False

    def finish(self) -> None:
        self.done = True


@persist.register_dataclass
@dataclasses.dataclass(frozen=True)
class Point:
    name: str
    tags: Any = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "upper", self.name.upper())


@persist.register_dataclass
@dataclasses.dataclass(frozen=True, **SLOTS)
class SlotPoint:
    name: str
    tags: Any = None


@persist.register_dataclass
@attrs.define
class Attrs:
    name: str
    tags: Any = attrs.field(factory=list)
    done: bool = attrs.field(default=False, converter=bool)

    def finish(self) -> None:
        self.done = True


@persist.register_dataclass
@attrs.frozen
class AttrsPoint:
    name: str
    tags: Any = attrs.field(factory=list)


@persist.register_dataclass
class Model(pydantic.BaseModel):
    name: str
    tags: list[int] = []
    done: bool = False

    def finish(self) -> None:
        self.done = True


@persist.register_dataclass
class CheckedModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(validate_assignment=True)
    name: str
    tags: list[int] = []
    done: bool = False
    _private: int = pydantic.PrivateAttr(default=5)

    def finish(self) -> None:
        self.done = True


@persist.register_dataclass
class FrozenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    name: str
    tags: list[int] = []


class Unregistered(pydantic.BaseModel):
    name: str


MUTABLE: list[Any] = [Job, Derived, SlotJob, Attrs, Model, CheckedModel]
FROZEN: list[Any] = [Point, SlotPoint, AttrsPoint, FrozenModel]


@pytest.mark.parametrize("cls", MUTABLE)
def test_no_change_of_a_mutable_instance_is_lost(path: Path, cls: Any) -> None:
    with persist.open(path) as store:
        plain = cls(name="a", tags=[1])
        store.root["j"] = plain
        job = store.root["j"]
        assert isinstance(job, cls)
        assert isinstance(job, persist.Object)
        assert store.root["j"] is job
        assert (job.name, job.tags, job.done) == ("a", [1], False)
        job.name = "b"
        job.tags.append(2)
        job.finish()
        # What was stored is a copy, as of a dict.
        assert (plain.name, plain.tags, plain.done) == ("a", [1], False)
    del job
    gc.collect()
    with persist.open(path) as store:
        job = store.root["j"]
        assert (job.name, job.tags, job.done) == ("b", [1, 2], True)
        assert persist.class_name(job) == f"{__name__}:{cls.__name__}"
        assert type(job).__name__ == cls.__name__


@pytest.mark.parametrize("cls", FROZEN)
def test_a_frozen_instance_is_a_value(path: Path, cls: Any) -> None:
    with persist.open(path) as store:
        store.root["p"] = cls(name="a", tags=[1])
    with persist.open(path) as store:
        p = store.root["p"]
        assert type(p) is cls
        assert (p.name, p.tags) == ("a", [1])
        assert type(p.tags) is persist.List
        p.tags.append(2)
        assert store.root["p"].tags == [1, 2]
        assert store.root["p"] == p
        with pytest.raises((AttributeError, pydantic.ValidationError)):
            p.name = "b"
        store.root["l"] = [p]
        assert store.root["l"][0].tags is p.tags
    assert p.name == "a"


@pytest.mark.parametrize("cls", MUTABLE + FROZEN)
def test_copies_are_plain_instances(root: persist.Dict, cls: Any) -> None:
    plain = cls(name="a", tags=[1])
    root["x"] = {"inner": [plain]}
    stored = root["x"]["inner"][0]
    out = persist.copy_out(root["x"])["inner"][0]
    for made in (out, copy.deepcopy(stored), copy.deepcopy(root["x"])["inner"][0]):
        assert type(made) is cls
        assert type(made.tags) is list
        assert made == plain
    shallow = copy.copy(stored)
    assert type(shallow) is cls
    assert shallow.tags is stored.tags
    assert persist.copy_out(root, objects=dict)["x"]["inner"][0]["name"] == "a"
    again = pickle.loads(pickle.dumps(persist.copy_out(stored)))
    assert again == plain
    if cls in MUTABLE:
        assert pickle.loads(pickle.dumps(stored)) is stored


@pytest.mark.parametrize("cls", MUTABLE + FROZEN)
def test_stored_twice(root: persist.Dict, cls: Any) -> None:
    plain = cls(name="a", tags=[1])
    root["x"] = [plain, plain]
    if cls in MUTABLE:
        assert root["x"][0] is root["x"][1]
    root["y"] = root["x"][0]
    assert root["y"].tags == [1]


def test_other_attributes_than_fields_are_kept(root: persist.Dict) -> None:
    root["p"] = Point("a")
    assert root["p"].upper == "A"
    job = Job("a")
    job.more = 1  # type: ignore[attr-defined]
    root["j"] = job
    assert root["j"].more == 1
    assert root["j"].title == "A"


def test_methods_call_those_of_bases(root: persist.Dict) -> None:
    root["d"] = Derived("a")
    root["d"].finish()
    assert (root["d"].done, root["d"].extra) == (True, 1)
    assert isinstance(root["d"], Job)


def test_dataclass_functions_take_proxies(root: persist.Dict) -> None:
    root["j"] = Job("a")
    assert dataclasses.is_dataclass(root["j"])
    assert dataclasses.replace(persist.copy_out(root["j"]), name="b") == Job("b")
    assert root["j"] == Job("a")
    assert Job("a") == root["j"]
    assert root["j"] != Job("b")
    assert repr(root["j"]) == "Job(name='a', tags=[], done=False)"
    root["s"] = SlotJob("a")
    assert root["s"] == SlotJob("a")


def test_models_of_pydantic(root: persist.Dict) -> None:
    root["m"] = CheckedModel(name="a", tags=[1])
    m = root["m"]
    assert m.model_dump() == {"name": "a", "tags": [1], "done": False}
    assert m == CheckedModel(name="a", tags=[1])
    assert repr(m) == "CheckedModel(name='a', tags=[1], done=False)"
    assert persist.copy_out(m)._private == 5
    with pytest.raises(pydantic.ValidationError):
        m.tags = ["x"]
    assert m.tags == [1]
    m.tags = ["7"]
    assert m.tags == [7]
    with pytest.raises(ValueError, match="no field"):
        m.other = 1
    with pytest.raises(AttributeError):
        _ = m.nothing


def test_json(root: persist.Dict) -> None:
    root["x"] = [Job("a", [1]), Point("p")]
    text = '[{"name": "a", "tags": [1], "done": false}, {"name": "p", "tags": [], "upper": "P"}]'
    assert json.dumps(root["x"], default=persist.to_json) == text


class Local:
    @persist.register_dataclass
    @dataclasses.dataclass
    class Inner:
        other: Any = None


def test_cycles(root: persist.Dict) -> None:
    a, b = Local.Inner(), Local.Inner()
    a.other, b.other = b, a
    root["a"] = a
    assert root["a"].other.other is root["a"]
    out = persist.copy_out(root["a"])
    assert out.other.other is out
    assert type(out) is Local.Inner


def test_deep_values_are_a_recursion_error(root: persist.Dict) -> None:
    value = SlotPoint("end")
    for _ in range(100_000):
        value = SlotPoint("p", value)
    root["deep"] = value
    with pytest.raises(RecursionError):
        root["deep"]
    while value is not None:  # Not by recursion.
        value = value.tags


def test_a_class_that_is_not_registered_there(path: Path, script: Any) -> None:
    with persist.open(path) as store:
        store.root["j"] = Job("a", [1])
    out = script.run(
        """
        import persist, sys
        with persist.open(sys.argv[1]) as store:
            j = store.root['j']
            print(type(j).__name__, j.name, j.tags, persist.class_name(j).split(':')[1])
            j.name = 'b'
        """,
        path,
    )
    assert out.split() == ["Object", "a", "[1]", "Job"]
    with persist.open(path) as store:
        assert store.root["j"].name == "b"


def test_what_is_not_registered(root: persist.Dict) -> None:
    with pytest.raises(TypeError, match="cannot store 'Unregistered'"):
        root["u"] = Unregistered(name="a")

    @persist.register_dataclass
    @dataclasses.dataclass
    class Inside:
        x: int = 0

    with pytest.raises(TypeError, match="Inside.*top level"):
        root["i"] = [Inside()]
    root["e"] = []
    with pytest.raises(TypeError, match=r"value\.tags\[0\]"):
        root["j"] = Job("a", [object()])
    assert root == {"e": []}


def test_what_cannot_be_registered() -> None:
    class Bare:
        pass

    @dataclasses.dataclass
    class OfList(list):  # type: ignore[type-arg]
        x: int = 0

    for wrong in (Bare, OfList, int, 5, None, Job("a")):
        with pytest.raises(TypeError):
            persist.register_dataclass(wrong)  # type: ignore[type-var]
    assert persist.register_dataclass(persist.Object) is persist.Object
    assert persist.register_dataclass(Job) is Job


def test_a_transaction_takes_changes_back(store: persist.Store) -> None:
    store.root["j"] = Job("a")
    with pytest.raises(ZeroDivisionError):
        with store.transaction():
            store.root["j"].name = "b"
            store.root["k"] = Job("new")
            raise ZeroDivisionError
    assert store.root["j"].name == "a"
    assert "k" not in store.root


class Versioned:
    __persist_version__ = 2

    def __upgrade__(self, from_version: int) -> None:
        self.y = self.x + from_version  # type: ignore[attr-defined]


@persist.register_dataclass
@dataclasses.dataclass
class Upgraded(Versioned):
    __transient__ = {"conn"}
    x: int
    conn: Any = None


def test_versions_and_transient_attributes(root: persist.Dict) -> None:
    root["u"] = Upgraded(1)
    assert not hasattr(root["u"], "y")
    assert vars(root["u"])["__persist_version__"] == 2
    u = root["u"]
    u.conn = object()
    assert "conn" not in vars(u)
    del u
    vars(root["u"])["__persist_version__"] = 1
    gc.collect()
    assert root["u"].y == 2
