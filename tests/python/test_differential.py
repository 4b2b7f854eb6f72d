"""Random programs on a Dict and a List beside dict and list, with wrong arguments and reopening between steps.

The same for Set: test_sets.py; Deque, OrderedDict, Counter, DefaultDict: test_collections.py; SortedDict:
test_sorted_dict.py. Only what a store can hold is stored here; what it refuses is in test_types_refused.py.
"""

from __future__ import annotations

from typing import Any

import persist
import pytest
from hypothesis import given, settings, strategies as st
from outcomes import run

PLAIN = st.one_of(
    st.integers(-3, 3),
    st.just(1 << 70),
    st.sampled_from(["", "a", "b", "ab", b"a", None, True, False, 0.5, 1.0, -0.0]),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
        st.tuples(PLAIN),
    ),
    max_leaves=4,
)
# Equal numbers of different types are one key; the others are of all kinds.
KEYS = st.one_of(PLAIN, st.tuples(PLAIN, PLAIN))
# What cannot be a key, an index or an iterable of pairs, but can be stored as a value. `pop` has a test of its own: an
# empty dict does not look at the key.
WRONG = st.sampled_from([[], [1], {}, {"a": 1}, {1}, 1.5, "x", b"xy", (1, 2, 3), None])
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=3)
MAPPINGS = st.one_of(st.dictionaries(KEYS, VALUES, max_size=3), PAIRS, WRONG)
DICT_STEPS = st.one_of(
    st.tuples(st.sampled_from(["__setitem__", "setdefault"]), st.tuples(KEYS, VALUES)),
    st.tuples(
        st.sampled_from(["__getitem__", "__delitem__", "__contains__", "get", "setdefault"]),
        st.tuples(st.one_of(KEYS, KEYS, WRONG)),
    ),
    st.tuples(st.just("get"), st.tuples(st.one_of(KEYS, WRONG), VALUES)),
    st.tuples(
        st.just("pop"), st.one_of(st.tuples(KEYS), st.tuples(KEYS, VALUES), st.tuples(KEYS, KEYS, KEYS))
    ),
    st.tuples(
        st.sampled_from(
            ["clear", "copy", "popitem", "keys", "values", "items", "__iter__", "__reversed__", "__len__"]
        ),
        st.just(()),
    ),
    st.tuples(
        st.sampled_from(["update", "__eq__", "__ne__", "__or__", "__ror__", "__ior__", "__lt__", "__add__"]),
        st.tuples(MAPPINGS),
    ),
    # Too many and too few arguments.
    st.tuples(
        st.sampled_from(
            ["__setitem__", "__getitem__", "get", "popitem", "update", "clear", "keys", "__iter__"]
        ),
        st.lists(WRONG, max_size=4).map(tuple),
    ),
    st.tuples(st.just("reopen"), st.just(())),
)
INDEX = st.one_of(st.integers(-6, 6), st.booleans(), st.just(1 << 70))
PART = st.one_of(st.none(), st.integers(-6, 6))
SLICES = st.builds(slice, PART, PART, st.one_of(st.none(), st.integers(-3, 3)))
SEQUENCES = st.one_of(
    st.lists(VALUES, max_size=4), st.lists(VALUES, max_size=3).map(tuple), st.sampled_from(["", "ab", b"ab"]),
    st.dictionaries(st.sampled_from("abc"), VALUES, max_size=2), WRONG,
)  # fmt: skip
LIST_STEPS = st.one_of(
    st.tuples(st.sampled_from(["append", "remove", "index", "count", "__contains__"]), st.tuples(VALUES)),
    st.tuples(st.just("index"), st.tuples(VALUES, INDEX)),
    st.tuples(st.just("index"), st.tuples(VALUES, INDEX, INDEX)),
    st.tuples(
        st.sampled_from(["pop", "__getitem__", "__delitem__"]),
        st.tuples(st.one_of(INDEX, INDEX, SLICES, WRONG)),
    ),
    st.tuples(st.sampled_from(["insert", "__setitem__"]), st.tuples(st.one_of(INDEX, WRONG), VALUES)),
    st.tuples(st.just("__setitem__"), st.tuples(SLICES, SEQUENCES)),
    st.tuples(
        st.sampled_from(["clear", "copy", "pop", "reverse", "sort", "__iter__", "__reversed__", "__len__"]),
        st.just(()),
    ),
    st.tuples(
        st.sampled_from(
            ["extend", "__add__", "__iadd__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"]
        ),
        st.tuples(SEQUENCES),
    ),
    st.tuples(
        st.sampled_from(["__mul__", "__rmul__", "__imul__"]), st.tuples(st.one_of(st.integers(-2, 3), WRONG))
    ),
    st.tuples(
        st.sampled_from(
            ["append", "insert", "pop", "remove", "sort", "index", "extend", "clear", "__getitem__"]
        ),
        st.lists(WRONG, max_size=4).map(tuple),
    ),
    st.tuples(st.just("reopen"), st.just(())),
)
Program = list[tuple[str, tuple[Any, ...]]]


@settings(deadline=None, max_examples=300)
@given(steps=st.lists(DICT_STEPS, max_size=14), start=st.dictionaries(KEYS, VALUES, max_size=5))
def test_dicts(tmp_path_factory: pytest.TempPathFactory, steps: Program, start: dict[Any, Any]) -> None:
    run(tmp_path_factory.mktemp("d") / "s", start, steps)


@settings(deadline=None, max_examples=300)
@given(steps=st.lists(LIST_STEPS, max_size=14), start=st.lists(VALUES, max_size=6))
def test_lists(tmp_path_factory: pytest.TempPathFactory, steps: Program, start: list[Any]) -> None:
    run(tmp_path_factory.mktemp("l") / "s", start, steps)


@pytest.mark.parametrize("wrong", [[], {}, {1}])
def test_pop_of_what_cannot_be_a_key(root: persist.Dict[str, Any], wrong: object) -> None:
    root["d"] = {"a": 1}
    for d in ({"a": 1}, root["d"]):
        with pytest.raises(TypeError):
            d.pop(wrong)
    # The one difference: without an entry, dict raises KeyError or returns the default.
    root["d"].clear()
    with pytest.raises(TypeError):
        root["d"].pop(wrong)
