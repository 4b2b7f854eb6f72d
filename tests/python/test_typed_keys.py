"""Tuples, dates and the like as keys: equal as in a dict, and exact after reopening."""

from __future__ import annotations

import collections
import decimal
import enum
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import persist
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

np = pytest.importorskip("numpy")

Point = collections.namedtuple("Point", "x y")


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.store"


@pytest.fixture
def store(path: Path) -> Iterator[persist.Store]:
    with persist.open(path) as store:
        yield store


FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def form(key: Any) -> Any:
    """Return what is the same for the same keys only, with their types."""
    return (tuple, [form(item) for item in key]) if type(key) is tuple else (type(key), repr(key))


KEY_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 2.5, -0.0, 1e30, 10**30, "a", "", b"a", b""]),
)
KEYS = st.recursive(KEY_LEAVES, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


@FEW
@given(
    pairs=st.lists(st.tuples(st.one_of(KEYS, st.dates(), st.uuids()), st.integers()), max_size=20), asked=KEYS
)
def test_keys_are_those_of_dict(store: persist.Store, pairs: list[Any], asked: Any) -> None:
    store.root["d"] = {}
    d, model = store.root["d"], {}
    for key, value in pairs:
        d[key] = value
        model[key] = value
    assert dict(d) == model and [form(key) for key in d] == [form(key) for key in model]
    assert (asked in d) == (asked in model) and d.get(asked) == model.get(asked)
    for key in list(model)[::2]:
        assert d.pop(key) == model.pop(key)
    assert dict(d) == model


def test_many_tuple_keys(path: Path) -> None:
    keys = list(itertools.product(range(20), "abcde", (True, None, b"x")))
    with persist.open(path) as store:
        store.root["d"] = {key: n for n, key in enumerate(keys)}
        store.root["d"][("long " * 2000, 1)] = "long"
    with persist.open(path) as store:
        d = store.root["d"]
        assert all(d[key] == n for n, key in enumerate(keys)) and len(d) == len(keys) + 1
        assert d[(1.0, "a", True)] == d[(True, "a", 1)] == d[(1, "a", True)]
        assert d[("long " * 2000, True)] == "long"
    command = Path(sys.executable).parent / "persist"
    done = subprocess.run([command, "check", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_a_key_that_is_too_long_is_refused(store: persist.Store) -> None:
    key = ("x" * 70_000,)
    assert key not in store.root
    for store_it in (lambda: store.root.__setitem__(key, 1), lambda: store.root.update(a={key: 1})):
        with pytest.raises(ValueError, match="the key is too long"):
            store_it()
    assert list(store.root) == []


def test_what_is_like_a_key_finds_it(store: persist.Store) -> None:
    store.root["d"] = {(1, 2): "a", ("RED", 1): "b"}
    d = store.root["d"]
    for like in [(np.int64(1), 2), Point(1, 2.0), (Level.LOW, 2), (True, np.uint8(2))]:
        assert d[like] == "a"
    assert d[(np.str_("RED"), 1)] == "b"


@pytest.mark.parametrize(
    "key",
    [
        (1, decimal.Decimal(1)),
        (frozenset(),),
        Color.RED,
        Point(1, 2),
        decimal.Decimal(1),
        (Level.LOW,),
        range(3),
    ],
)
def test_a_key_that_cannot_be_stored_is_not_there_and_storing_says_what_is_allowed(
    store: persist.Store, key: Any
) -> None:
    d = store.root
    assert key not in d and d.get(key, 5) == 5 and d.pop(key, 6) == 6
    for store_it in (
        lambda: d.__setitem__(key, 1),
        lambda: d.update({key: 1}),
        lambda: d.__setitem__("x", {key: 1}),
    ):
        with pytest.raises(TypeError, match="keys in a store must be .*tuples of these"):
            store_it()
    assert list(d) == []


def test_an_unhashable_key_raises_as_in_a_dict(store: persist.Store) -> None:
    for key in [([],), ((1, {}),)]:
        with pytest.raises(TypeError, match="unhashable type"):
            store.root.get(key)
        with pytest.raises(TypeError, match="unhashable type"):
            store.root[key] = 1
