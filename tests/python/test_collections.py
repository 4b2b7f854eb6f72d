"""deque, defaultdict, OrderedDict and Counter in a store, beside those of collections."""

from __future__ import annotations

import collections
import copy
import gc
import sys
from pathlib import Path
from typing import Any

import persist
import pytest
from hypothesis import given, settings, strategies as st
from outcomes import run


class Bag(persist.Dict[str, int]):
    pass


class Thing(persist.Object):
    pass


VALUES = [
    (collections.deque([1, [2], "a"]), persist.Deque, "deque"),
    (collections.deque([1, 2, 3], maxlen=2), persist.Deque, "deque[2]"),
    (collections.OrderedDict([("b", 1), ("a", [2])]), persist.OrderedDict, "OrderedDict"),
    (collections.Counter("abracadabra"), persist.Counter, "Counter"),
    (collections.defaultdict(None, a=1), persist.DefaultDict, "defaultdict"),
    (collections.defaultdict(list, a=[1]), persist.DefaultDict, "defaultdict[builtins:list]"),
    (collections.defaultdict(collections.Counter), persist.DefaultDict, "defaultdict[collections:Counter]"),
    (collections.defaultdict(Bag), persist.DefaultDict, f"defaultdict[{__name__}:Bag]"),
]


@pytest.mark.parametrize(("value", "kind", "name"), VALUES, ids=[name for _, _, name in VALUES])
def test_it_is_kept(path: Path, tmp_path: Path, value: Any, kind: type, name: str) -> None:
    with persist.open(path) as store:
        store.root["x"] = {"y": [value, value]}
    with persist.open(path) as store:
        x = store.root["x"]["y"][0]
        assert type(x) is kind
        assert x is store.root["x"]["y"][1]
        assert persist.class_name(x) == name
        assert x == value
        assert value == x
        assert repr(x) == repr(value) or sys.version_info < (3, 12) and kind is persist.OrderedDict
        for out in (persist.copy_out(x), copy.deepcopy(x), x.copy(), copy.copy(x)):
            assert type(out) is type(value)
            assert out == value
        out = persist.copy_out(store.root)["x"]["y"]
        assert out[0] is out[1]
        if isinstance(value, collections.deque):
            assert out[0].maxlen == value.maxlen == x.maxlen
        if isinstance(value, collections.defaultdict):
            assert out[0].default_factory is value.default_factory is x.default_factory
        with persist.open(tmp_path / "other") as other:
            other.root["x"] = x
            assert type(other.root["x"]) is kind
            assert other.root["x"] == value
            assert persist.class_name(other.root["x"]) == name
        del x
        gc.collect()
        assert type(store.root["x"]["y"][0]) is kind
        with pytest.raises(TypeError):
            kind()


def test_a_default_dict_makes_what_is_missing(root: persist.Dict) -> None:
    root["d"] = collections.defaultdict(list)
    d = root["d"]
    d["a"].append(1)
    d["a"].append(2)
    assert (d, d.get("b"), "b" in d) == ({"a": [1, 2]}, None, False)
    d.default_factory = None
    with pytest.raises(KeyError):
        d["b"]
    d.default_factory = int
    d["n"] += 1
    assert d["n"] == 1
    d.default_factory = Bag
    assert type(d["bag"]) is Bag
    d.default_factory = Thing
    d["thing"].x = 1
    assert root["d"]["thing"].x == 1
    d.default_factory = set
    d["s"].add(1)
    assert d["s"] == {1}
    assert type(d | {"z": 1}) is collections.defaultdict


def test_factories_that_a_store_cannot_name_are_refused(root: persist.Dict) -> None:
    class Local(persist.Object):
        pass

    for factory in (lambda: 0, Local, Path, "".join, print):
        with pytest.raises(TypeError, match="factory of a defaultdict"):
            root["d"] = collections.defaultdict(factory)
    assert root == {}


def test_a_factory_that_is_not_imported_is_not_called(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "factory_of_test.py").write_text("import persist\nclass F(persist.Object): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import factory_of_test  # type: ignore[import-not-found]

    with persist.open(path) as store:
        store.root["d"] = collections.defaultdict(factory_of_test.F, a=1)
    del sys.modules["factory_of_test"]
    with persist.open(path) as store:
        d = store.root["d"]
        assert d["a"] == 1
        with pytest.raises(TypeError, match="'factory_of_test:F' of a defaultdict is not imported"):
            d["b"]
        assert repr(d).startswith("defaultdict(<the factory")
        # What names no class that a store can name is not called, although it is imported.
        persist._persist._set_class(d, "defaultdict[os:getcwd]")  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match="is not imported"):
            d["b"]
        assert d == {"a": 1}


def test_they_contain_themselves(root: persist.Dict) -> None:
    for value in (collections.deque(), collections.defaultdict(list), collections.OrderedDict()):
        if isinstance(value, collections.deque):
            value.append(value)
        else:
            value["me"] = value
        root["x"] = value
        x = root["x"]
        inner = x[0] if isinstance(value, collections.deque) else x["me"]
        assert inner is x
        out = persist.copy_out(x)
        assert (out[0] if isinstance(value, collections.deque) else out["me"]) is out


def test_subclasses_of_them_are_refused(root: persist.Dict) -> None:
    class MyDeque(collections.deque):  # type: ignore[type-arg]
        pass

    class MyCounter(collections.Counter):  # type: ignore[type-arg]
        pass

    class MySet(set):  # type: ignore[type-arg]
        pass

    for value in (MyDeque(), MyCounter(), MySet(), collections.UserDict(), collections.ChainMap()):
        with pytest.raises(TypeError, match="cannot store"):
            root["x"] = value


ITEMS = st.integers(-2, 4)
LISTS = st.one_of(st.lists(ITEMS, max_size=4), st.just(3), st.just("ab"))
DEQUES = st.one_of(st.lists(ITEMS, max_size=4).map(collections.deque), LISTS)
DEQUE_STEPS = st.one_of(
    st.tuples(
        st.sampled_from(["append", "appendleft", "remove", "count", "index", "__contains__"]),
        st.tuples(ITEMS),
    ),
    st.tuples(
        st.sampled_from(["pop", "popleft", "clear", "copy", "reverse", "__len__", "__iter__"]), st.just(())
    ),
    st.tuples(st.sampled_from(["extend", "extendleft", "__iadd__"]), st.tuples(LISTS)),
    st.tuples(
        st.sampled_from(["rotate", "__getitem__", "__delitem__", "__mul__", "__imul__"]), st.tuples(ITEMS)
    ),
    st.tuples(st.sampled_from(["insert", "__setitem__"]), st.tuples(ITEMS, ITEMS)),
    st.tuples(st.just("index"), st.tuples(ITEMS, ITEMS, ITEMS)),
    st.tuples(st.sampled_from(["__eq__", "__lt__", "__ge__", "__add__"]), st.tuples(DEQUES)),
    st.tuples(st.sampled_from(["__getitem__", "__delitem__", "rotate", "pop"]), st.tuples(st.just("x"))),
    st.tuples(st.just("__getitem__"), st.tuples(st.just(slice(0, 2)))),
    st.tuples(st.just("reopen"), st.just(())),
)
KEYS = st.sampled_from(["a", "b", "c", 1, None])
COUNTS = st.one_of(
    st.dictionaries(st.sampled_from("abc"), ITEMS, max_size=3),
    st.dictionaries(st.sampled_from("abc"), ITEMS, max_size=3).map(collections.Counter),
    st.text("abc", max_size=4),
    st.just(5),
)
COUNTER_STEPS = st.one_of(
    st.tuples(st.sampled_from(["__getitem__", "__delitem__", "pop", "get", "__contains__"]), st.tuples(KEYS)),
    st.tuples(
        st.sampled_from(["clear", "copy", "elements", "total", "most_common", "popitem", "items"]),
        st.just(()),
    ),
    st.tuples(st.sampled_from(["__pos__", "__neg__", "__len__", "__iter__", "keys", "values"]), st.just(())),
    st.tuples(
        st.sampled_from(["update", "subtract", "__add__", "__sub__", "__and__", "__or__"]), st.tuples(COUNTS)
    ),
    st.tuples(st.sampled_from(["__iadd__", "__isub__", "__iand__", "__ior__", "__eq__"]), st.tuples(COUNTS)),
    st.tuples(st.sampled_from(["__setitem__", "setdefault"]), st.tuples(KEYS, ITEMS)),
    st.tuples(st.just("most_common"), st.tuples(ITEMS)),
    st.tuples(st.just("reopen"), st.just(())),
)
DICTS = st.one_of(
    st.dictionaries(st.sampled_from("abc"), ITEMS, max_size=3),
    st.lists(st.tuples(st.sampled_from("abc"), ITEMS), max_size=3).map(collections.OrderedDict),
    st.just(5),
)
ORDERED_STEPS = st.one_of(
    st.tuples(st.sampled_from(["move_to_end", "__getitem__", "__delitem__", "pop"]), st.tuples(KEYS)),
    st.tuples(st.just("move_to_end"), st.tuples(KEYS, st.booleans())),
    st.tuples(st.just("popitem"), st.tuples(st.booleans())),
    st.tuples(st.sampled_from(["clear", "copy", "popitem", "__iter__", "__reversed__"]), st.just(())),
    st.tuples(st.sampled_from(["update", "__eq__", "__ne__", "__or__", "__ior__"]), st.tuples(DICTS)),
    st.tuples(st.sampled_from(["__setitem__", "setdefault"]), st.tuples(KEYS, ITEMS)),
    st.tuples(st.just("reopen"), st.just(())),
)
DEFAULT_STEPS = st.one_of(
    st.tuples(st.sampled_from(["__getitem__", "__delitem__", "pop", "get"]), st.tuples(KEYS)),
    st.tuples(st.sampled_from(["clear", "copy", "popitem", "__len__"]), st.just(())),
    st.tuples(st.sampled_from(["update", "__eq__", "__or__"]), st.tuples(DICTS)),
    st.tuples(st.sampled_from(["__setitem__", "setdefault"]), st.tuples(KEYS, ITEMS)),
    st.tuples(st.just("reopen"), st.just(())),
)


@settings(deadline=None, max_examples=150)
@given(
    steps=st.lists(DEQUE_STEPS, max_size=12),
    start=st.lists(ITEMS, max_size=5),
    maxlen=st.one_of(st.none(), st.integers(0, 4)),
)
def test_deques(
    tmp_path_factory: pytest.TempPathFactory, steps: Any, start: list[int], maxlen: int | None
) -> None:
    run(tmp_path_factory.mktemp("d") / "s", collections.deque(start, maxlen), steps)


@settings(deadline=None, max_examples=150)
@given(steps=st.lists(COUNTER_STEPS, max_size=12), start=st.text("abc"))
def test_counters(tmp_path_factory: pytest.TempPathFactory, steps: Any, start: str) -> None:
    run(tmp_path_factory.mktemp("c") / "s", collections.Counter(start), steps)


@settings(deadline=None, max_examples=150)
@given(steps=st.lists(ORDERED_STEPS, max_size=12), start=st.dictionaries(st.sampled_from("abcd"), ITEMS))
def test_ordered_dicts(tmp_path_factory: pytest.TempPathFactory, steps: Any, start: dict[str, int]) -> None:
    run(tmp_path_factory.mktemp("o") / "s", collections.OrderedDict(start), steps)


@settings(deadline=None, max_examples=100)
@given(steps=st.lists(DEFAULT_STEPS, max_size=12), factory=st.sampled_from([None, int, list]))
def test_default_dicts(tmp_path_factory: pytest.TempPathFactory, steps: Any, factory: Any) -> None:
    run(tmp_path_factory.mktemp("e") / "s", collections.defaultdict(factory), steps)
