"""persist.Set: a set in a store, beside the builtin one."""

from __future__ import annotations

import collections.abc
import copy
import gc
import json
import pickle
from pathlib import Path
from typing import Any

import persist
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from outcomes import outcome


def test_a_set_is_copied_in_and_read_in_place(path: Path) -> None:
    with persist.open(path) as store:
        original = {1, "a", None}
        store.root["s"] = original
        s = store.root["s"]
        original.add(2)
        assert type(s) is persist.Set
        assert s == {1, "a", None}
        s.add(3)
        assert store.root["s"] is s
        assert persist.class_name(s) == "set"
    with persist.open(path) as store:
        assert store.root["s"] == {1, "a", None, 3}
        s = store.root["s"]
        del s
        gc.collect()
        assert type(store.root["s"]) is persist.Set


def test_it_is_a_set_to_others(root: persist.Dict) -> None:
    root["s"] = {1, 2, 3}
    s = root["s"]
    assert isinstance(s, collections.abc.MutableSet)
    assert not isinstance(s, (dict, list, persist.Dict, collections.abc.Mapping))
    assert sorted(s) == [1, 2, 3]
    assert (len(s), bool(s), 2 in s, 5 in s, {1} in s) == (3, True, True, False, False)
    assert s == {1, 2, 3} == s
    assert s == frozenset({1, 2, 3})
    assert s != {1}
    assert s != [1, 2, 3]
    assert {1} < s
    assert s <= {1, 2, 3, 4}
    assert s.isdisjoint([7])
    assert repr(s) == repr({1, 2, 3})
    with pytest.raises(TypeError):
        hash(s)
    assert pickle.loads(pickle.dumps(s)) is s
    with pytest.raises(TypeError):
        persist.Set([1])
    assert type(s.copy()) is type(copy.copy(s)) is type(copy.deepcopy(s)) is set
    assert type(persist.copy_out(s)) is set
    assert persist.copy_out(root) == {"s": {1, 2, 3}}
    assert json.loads(json.dumps(s, default=persist.to_json)) == [1, 2, 3]
    root["t"] = s
    assert root["t"] is s
    s.clear()
    assert repr(s) == "set()"
    assert not s


def test_elements_are_what_keys_are(root: persist.Dict) -> None:
    root["s"] = set()
    s = root["s"]
    for wrong in ([], {}, object()):
        with pytest.raises(TypeError):
            s.add(wrong)
    with pytest.raises(TypeError):
        s.update([1, object()])
    assert s == set(), "a part was stored"
    with pytest.raises(TypeError):
        root["x"] = {object()}
    s.update("ab", [1, 2.5], {b"c"})
    assert s == {"a", "b", 1, 2.5, b"c"}
    s.add(True)
    assert len(s) == 5


def test_a_change_is_one_operation(store: persist.Store) -> None:
    store.root["s"] = set(range(100))
    s = store.root["s"]
    with pytest.raises(RuntimeError), store.transaction():
        s.intersection_update({1})
        s ^= {1, 2}
        assert s == {2}
        raise RuntimeError
    assert s == set(range(100))
    with s.lock(), pytest.raises(persist.NotLocked):
        s.unlock(key=1)
    with s.lock_exclusive() as held:
        assert held is s


def test_a_copy_to_another_store(root: persist.Dict, tmp_path: Path) -> None:
    root["s"] = {1, 2}
    with persist.open(tmp_path / "other") as other:
        other.root["s"] = root["s"]
        assert type(other.root["s"]) is persist.Set
        assert other.root["s"] == {1, 2}


def test_repr_is_bounded(root: persist.Dict) -> None:
    root["s"] = set(range(100_000))
    text = repr(root["s"])
    assert len(text) < 20_000
    assert text.endswith("...}")


ELEMENTS = st.one_of(
    st.integers(-3, 8),
    st.sampled_from(["a", "b", "", b"a", None, True, 1.0, 2.5]),
    st.just([1]),
    st.just({1}),
)
SETS = st.one_of(
    st.sets(st.integers(-3, 8), max_size=6),
    st.frozensets(st.integers(-3, 8), max_size=6),
    st.lists(st.integers(-3, 8), max_size=4),
    st.just(5),
    st.just("ab"),
    st.dictionaries(st.integers(0, 3), st.none(), max_size=3),
)
ONE = ["add", "discard", "remove", "__contains__"]
NONE = ["clear", "copy", "__len__", "pop"]
OTHER = [
    *("symmetric_difference_update", "symmetric_difference", "issubset", "issuperset", "isdisjoint"),
    *("__or__", "__and__", "__sub__", "__xor__", "__ror__", "__rand__", "__rsub__", "__rxor__"),
    *(
        "__ior__",
        "__iand__",
        "__isub__",
        "__ixor__",
        "__eq__",
        "__ne__",
        "__le__",
        "__lt__",
        "__ge__",
        "__gt__",
    ),
]
MANY = [
    *("update", "difference_update", "intersection_update", "union", "intersection", "difference"),
]
STEP = st.one_of(
    st.tuples(st.sampled_from(ONE), st.tuples(ELEMENTS)),
    st.tuples(st.sampled_from(NONE), st.just(())),
    st.tuples(st.sampled_from(OTHER), st.tuples(SETS)),
    st.tuples(st.sampled_from(MANY), st.lists(SETS, max_size=3).map(tuple)),
    st.tuples(st.sampled_from([*ONE, *NONE, *OTHER]), st.lists(ELEMENTS, max_size=3).map(tuple)),
    st.tuples(st.just("reopen"), st.just(())),
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=15), start=st.sets(st.integers(0, 8)))
def test_random_programs(tmp_path_factory: pytest.TempPathFactory, steps: list[Any], start: set[int]) -> None:
    path = tmp_path_factory.mktemp("sets") / "s"
    store = persist.open(path, durability="none")
    try:
        store.root["s"] = start
        plain = set(start)
        for name, args in steps:
            s = store.root["s"]
            if name == "reopen":
                del s
                store.close()
                store = persist.open(path, durability="none")
            elif name == "pop":
                if plain:
                    gone = s.pop()
                    plain.remove(gone)
                else:
                    assert outcome(s, name, args) == outcome(plain, name, args)
            else:
                before = set(plain)
                expected = outcome(plain, name, args)
                if expected[0] == "raised" and plain != before:
                    plain = before  # a set keeps what it did before the error, a store does not
                assert outcome(s, name, args) == expected, (name, args)
            assert store.root["s"] == plain
            assert len(store.root["s"]) == len(plain)
    finally:
        store.close()
