"""Dict behaves like dict, exceptions included."""

from __future__ import annotations

import collections
import collections.abc
import copy
import itertools
import pickle
import random
from typing import Any, Callable

import persist
import pytest

KEYS = ["a", "b", "", "longer than five bytes", 0, 1, -1, 1.5, True, None, b"", b"bytes", 2**70, 1.0, "é", "\ud800"]
VALUES = [None, True, 0, -7, 2**40, -(2**80), 1.25, "", "text", "x" * 100, b"", b"\0\xff", [1, [2]], {"k": {"n": 1}}]


def everything(d: Any) -> list[tuple[str, Any]]:
    """Return all that is visible of a dict. True and 1 are one key; the one that was first must be the same, too."""
    return [(repr(k), persist.copy_out(v)) for k, v in d.items()]


def operations(rng: random.Random) -> Callable[[Any], object]:
    k, v, k2 = rng.choice(KEYS), rng.choice(VALUES), rng.choice(KEYS)
    some = {rng.choice(KEYS): rng.choice(VALUES) for _ in range(rng.randrange(4))}
    kind = rng.randrange(20)
    calls: list[Callable[[Any], object]] = [
        lambda d: d[k],
        lambda d: d.__setitem__(k, copy.deepcopy(v)),
        lambda d: d.__setitem__(k2, copy.deepcopy(v)),
        lambda d: d.__delitem__(k),
        lambda d: k in d,
        lambda d: len(d),
        lambda d: d.get(k),
        lambda d: d.get(k, "none"),
        lambda d: d.pop(k),
        lambda d: d.pop(k, None),
        lambda d: d.popitem(),
        lambda d: d.setdefault(k, copy.deepcopy(v)),
        lambda d: d.setdefault(k),
        lambda d: d.update(copy.deepcopy(some)),
        lambda d: d.update([(k, 1), (k2, 2)]),
        lambda d: d.update(a=1, z=2),
        lambda d: list(d.keys()) + list(reversed(d.keys())),
        lambda d: d.keys() - some.keys() == set(d) - set(some),
        lambda d: d | some == {**dict(d.items()), **some},
        lambda d: d.clear() if rng.random() < 0.1 else None,
    ]
    return calls[kind]


@pytest.mark.parametrize("seed", range(12))
def test_random_operations_like_dict(root: persist.Dict, outcome: Any, seed: int) -> None:
    root["d"] = {}
    ours, theirs = root["d"], {}
    rng = random.Random(seed)
    for step in range(300):
        state = rng.getstate()
        call = operations(rng)
        after = rng.getstate()
        got = outcome(lambda call=call: call(ours))
        rng.setstate(state)
        call = operations(rng)
        rng.setstate(after)
        expected = outcome(lambda call=call: call(theirs))
        assert got == expected, step
        assert everything(ours) == everything(theirs), step
    assert ours == theirs
    assert dict(ours) == theirs


@pytest.mark.parametrize(
    "call",
    [
        lambda d: d["no"],
        lambda d: d[[]],
        lambda d: d.pop("no"),
        lambda d: d.pop("no", 1, 2),
        lambda d: d.pop({}),
        lambda d: d.__delitem__("no"),
        lambda d: d.__setitem__([], 1),
        lambda d: [] in d,
        lambda d: d.update(1),
        lambda d: d.update([1]),
        lambda d: d.update([(1, 2, 3)]),
        lambda d: d.update({}, {}),
        lambda d: d.get(),
        lambda d: d < {},
        lambda d: d + {},
        lambda d: hash(d),
        lambda d: {}.popitem() if len(d) == 0 else d.clear() or d.popitem(),
    ],
)
def test_exceptions_are_those_of_dict(root: persist.Dict, call: Callable[[Any], object]) -> None:
    root["d"] = {"a": 1}
    with pytest.raises(Exception) as theirs:
        call({"a": 1})
    with pytest.raises(theirs.type):
        call(root["d"])
    assert root["d"] in ({"a": 1}, {})


def test_keys_that_cannot_be_kept_say_so(root: persist.Dict) -> None:
    for key in [(1, range(2)), range(2), object(), complex("nan")]:
        with pytest.raises(TypeError, match=type(key).__name__):
            root[key] = 1
        assert root.get(key) is None
    for value in [object(), iter([1]), {}.keys(), type, len]:
        with pytest.raises(TypeError, match=type(value).__name__):
            root["k"] = value
        with pytest.raises(TypeError):
            root["k"] = [{"deep": value}]
    assert root == {}


def test_numbers_are_equal_as_keys(root: persist.Dict) -> None:
    root[1] = "int"
    root[1.0] = "float"
    root[True] = "bool"
    assert list(root.items()) == [(1, "bool")]
    assert type(next(iter(root))) is int
    root[2**70] = "big"
    assert root[float(2**70)] == "big"
    nan = float("nan")
    root[nan] = "nan"
    assert root[nan] == "nan"


def test_iteration_notices_changes(root: persist.Dict) -> None:
    for change in [lambda: root.update(d=4), lambda: root.pop("c"), lambda: root.clear()]:
        for view in [root, root.keys(), root.values(), root.items()]:
            root.clear()
            root.update(a=1, b=2, c=3)
            it = iter(view)
            next(it)
            change()
            for _ in range(2):
                with pytest.raises(RuntimeError, match="dictionary changed size during iteration"):
                    next(it)
    root.clear()
    root.update(a=1, b=2)
    for key in root:
        root[key] += 1  # no change of size
    assert root == {"a": 2, "b": 3}
    it = iter(root)
    assert it.__length_hint__() == 2
    assert list(it) == ["a", "b"]
    assert list(it) == []
    root["c"] = 1
    assert list(it) == []


def test_iteration_ends_when_keys_change(root: persist.Dict) -> None:
    for view in [root, root.keys(), root.values(), root.items()]:
        root.clear()
        root.update({"0": 0, "1": 0, "2": 0})
        new = itertools.count(3)
        with pytest.raises(RuntimeError, match="dictionary keys changed during iteration"):
            for _ in view:
                root.popitem()
                root[str(next(new))] = 0
        assert next(new) == 6


def test_views_are_live_sets(root: persist.Dict) -> None:
    plain = {"a": 1, "b": [2], "c": 3}
    root.update(plain)
    keys, values, items = root.keys(), root.values(), root.items()
    assert repr(keys) == repr(plain.keys())
    assert repr(values) == repr(plain.values())
    assert repr(items) == repr(plain.items())
    assert keys == plain.keys() == keys
    assert keys & {"a", "z"} == {"a"}
    assert {"a", "z"} & keys == {"a"}
    assert keys | ["z"] == {"a", "b", "c", "z"}
    assert ["a", "z"] - keys == {"z"}
    assert keys ^ {"a"} == {"b", "c"}
    assert keys > {"a"}
    assert {"a"} < keys
    assert keys.isdisjoint({"z"})
    assert ("a", 1) in items
    assert ("b", [2]) in items
    assert ("b", [3]) not in items
    assert "a" not in items
    assert 3 in values
    assert [2] in values
    assert list(reversed(items)) == list(reversed(plain.items()))
    assert dict(keys.mapping) == plain
    del root["b"]
    assert items == {("a", 1), ("c", 3)}
    assert len(keys) == len(values) == len(items) == 2
    assert isinstance(keys, collections.abc.KeysView)
    assert isinstance(items, collections.abc.Set)


def test_items_that_cannot_be_hashed_are_compared(root: persist.Dict) -> None:
    root["a"], root["b"] = {"x": [1], "y": 2}, {"x": [1]}
    a, b = root["a"], root["b"]
    assert a.items() == {"y": 2, "x": [1]}.items()
    assert {"y": 2, "x": [1]}.items() == a.items()
    assert a.items() != b.items()
    assert b.items() <= a.items()
    assert b.items() < {"y": 2, "x": [1]}.items()
    assert not a.items() <= b.items()
    assert a.items() > b.items()
    assert a.items() >= {("y", 2)}
    assert a.items() & [("x", [2])] == set()
    with pytest.raises(TypeError, match="unhashable"):
        a.items() | b.items()


def test_it_is_a_mutable_mapping(root: persist.Dict) -> None:
    assert isinstance(root, collections.abc.MutableMapping)
    assert not isinstance(root, dict)
    root["a"] = 1
    assert {**root} == {"a": 1}
    assert dict(root) == {"a": 1}
    assert root.has_key("a")
    assert not root.has_key("b")
    assert persist.Dict.fromkeys("ab", 0) == {"a": 0, "b": 0}
    assert root | {"b": 2} == {"a": 1, "b": 2}
    assert {"a": 0} | root == {"a": 1}
    assert type(root | {}) is dict
    before = root
    root |= [("b", 2)]
    assert root is before
    assert root == {"a": 1, "b": 2}
    assert persist.Dict[str, int]


def test_equality(root: persist.Dict) -> None:
    root["a"] = {"x": [1, {"y": None}]}
    root["b"] = {"x": [1, {"y": None}]}
    assert root["a"] == root["b"] == {"x": [1, {"y": None}]}
    assert {"x": [1, {"y": None}]} == root["a"]
    assert root["a"] != {"x": [1, {"y": 0}]}
    assert root["a"] != []
    assert root["a"] != None  # noqa: E711
    assert collections.OrderedDict(x=[1, {"y": None}]) == root["a"]
    assert root["a"] == collections.OrderedDict(x=[1, {"y": None}])


def test_repr(root: persist.Dict) -> None:
    plain: dict[str, Any] = {"a": [1, "two", b"3"], "d": {"n": None}}
    plain["self"] = plain
    plain["list"] = [plain]
    root["p"] = plain
    assert repr(root["p"]) == repr(plain)
    assert str(root["p"]) == str(plain)


def test_copies(root: persist.Dict) -> None:
    root["a"] = {"b": {"c": 1}}
    shallow = root["a"].copy()
    assert type(shallow) is dict
    assert shallow["b"] is root["a"]["b"]
    assert copy.copy(root["a"])["b"] is root["a"]["b"]
    for deep in [copy.deepcopy(root["a"]), root["a"].todict(), persist.copy_out(root["a"])]:
        assert type(deep["b"]) is dict
        assert deep == {"b": {"c": 1}}
    assert pickle.loads(pickle.dumps(persist.copy_out(root))) == {"a": {"b": {"c": 1}}}


def test_setdefault_gives_what_is_stored(root: persist.Dict) -> None:
    first = root.setdefault("l", [])
    first.append(1)
    assert root["l"] is first
    assert root.setdefault("l", []) is first
    assert root["l"] == [1]


def test_update_is_all_or_nothing(root: persist.Dict) -> None:
    root["a"] = 0
    with pytest.raises(TypeError):
        root.update({"a": 1, "b": 2, "c": object()})
    with pytest.raises(ZeroDivisionError):
        root.update((k, 1 // k) for k in [1, 0])
    assert root == {"a": 0}


def test_augmented_assignment_of_every_type(root: persist.Dict) -> None:
    for start, step in [(1, 1), (2**46, 2**46), (2**63, 1), (1.5, 0.5), ("a", "b" * 10000), (b"a", b"b")]:
        root["x"] = start
        expected: Any = start
        for _ in range(5):
            root["x"] += step
            expected += step
            assert root["x"] == expected
            assert type(root["x"]) is type(expected)
    root["x"] = [1]
    kept = root["x"]
    root["x"] += [2]
    assert root["x"] is kept
    assert kept == [1, 2]
