"""List behaves like list, exceptions included."""

from __future__ import annotations

import collections.abc
import copy
import operator
import random
from typing import Any, Callable

import persist
import pytest

VALUES = [None, True, 0, 1, 1.0, -7, 2**80, 1.25, "", "text", "x" * 100, b"", [1, [2]], {"k": 1}]


def operations(rng: random.Random) -> Callable[[Any], object]:
    def index() -> int:
        return rng.randrange(-12, 12)

    def cut() -> slice:
        parts = [rng.choice([None, index()]) for _ in range(2)]
        return slice(*parts, rng.choice([None, None, 1, 2, -1, -2, 3]))

    i, n, v, s = index(), rng.randrange(-1, 4), rng.choice(VALUES), cut()
    some = [rng.choice(VALUES) for _ in range(rng.randrange(6))]
    kind = rng.randrange(26)
    calls: list[Callable[[Any], object]] = [
        lambda x: x[i],
        lambda x: x[s],
        lambda x: x.__setitem__(i, v),
        lambda x: x.__setitem__(s, some),
        lambda x: x.__setitem__(slice(i, i + 2), some),
        lambda x: x.__delitem__(i),
        lambda x: x.__delitem__(s),
        lambda x: x.append(v),
        lambda x: x.append(v),
        lambda x: x.extend(some),
        lambda x: x.insert(i, v),
        lambda x: x.pop(),
        lambda x: x.pop(i),
        lambda x: x.remove(v),
        lambda x: x.index(v),
        lambda x: x.index(v, i),
        lambda x: x.index(v, i, i + 3),
        lambda x: x.count(v),
        lambda x: x.reverse(),
        lambda x: x.sort(key=repr, reverse=bool(n)),
        lambda x: v in x,
        lambda x: x + some,
        lambda x: some + x,
        lambda x: x * n,
        lambda x: x.__imul__(n) if len(x) < 20 else None,
        lambda x: list(reversed(x)),
    ]
    return calls[kind]


@pytest.mark.parametrize("seed", range(12))
def test_random_operations_like_list(root: persist.Dict, outcome: Any, seed: int) -> None:
    root["l"] = []
    ours: Any = root["l"]
    theirs: list[Any] = []
    rng = random.Random(seed)
    for step in range(300):
        call = operations(rng)
        expected = outcome(lambda call=call: call(theirs))
        # A list copies references, a store copies values: the model has no shared containers.
        theirs[:] = [copy.deepcopy(v) for v in theirs]
        assert outcome(lambda call=call: call(ours)) == expected, step
        assert persist.copy_out(ours) == theirs, step
        assert [type(v) for v in persist.copy_out(ours)] == [type(v) for v in theirs], step
    assert ours == theirs


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x[3],
        lambda x: x[-4],
        lambda x: x["a"],
        lambda x: x[1.0],
        lambda x: x[None],
        lambda x: x[2**100],
        lambda x: x.__setitem__(3, 1),
        lambda x: x.__setitem__(slice(0, 3, 2), [1]),
        lambda x: x.__setitem__(slice(0, 1), 5),
        lambda x: x.__setitem__(slice(0, 3, 2), 5),
        lambda x: x.__delitem__(3),
        lambda x: x[::0],
        lambda x: x.pop(3),
        lambda x: x.clear() or x.pop(),
        lambda x: x.remove(9),
        lambda x: x.index(9),
        lambda x: x.extend(1),
        lambda x: x.insert("a", 1),
        lambda x: x + 1,
        lambda x: x * 1.5,
        lambda x: x * 2**100,
        lambda x: x.__imul__(2**100),
        lambda x: operator.imul(x, 1.5),
        lambda x: x.index(1, None),
        lambda x: x.index(3, -(2**100), -1),
        lambda x: x < 1,
        lambda x: x.sort(1),
        lambda x: (x.append("s"), x.sort()),
        lambda x: hash(x),
        lambda x: x.append(),
    ],
)
def test_exceptions_are_those_of_list(root: persist.Dict, call: Callable[[Any], object]) -> None:
    root["l"] = [1, 2, 3]
    with pytest.raises(Exception) as theirs:
        call([1, 2, 3])
    with pytest.raises(theirs.type) as ours:
        call(root["l"])
    if theirs.type in (IndexError, ValueError):
        assert str(ours.value) == str(theirs.value)


def test_index_clips_its_bounds(root: persist.Dict) -> None:
    root["l"] = [1, 2, 3]
    for bounds in [(0, 2**100), (-(2**100), 2**100), (-(2**100),), (-2, 3)]:
        assert root["l"].index(2, *bounds) == 1


def test_comparisons(root: persist.Dict) -> None:
    root["a"], root["b"] = [1, [2]], [1, [3]]
    a, b = root["a"], root["b"]
    assert a < b
    assert a <= b
    assert b > a
    assert a != b
    assert a == [1, [2]]
    assert [1, [2]] == a
    assert a < [2]
    assert [0] < a
    assert a >= [1, [2]]
    assert a != (1, [2])
    assert a != 1


def test_it_is_a_mutable_sequence(root: persist.Dict) -> None:
    root["l"] = [3, 1, 2]
    x = root["l"]
    assert isinstance(x, collections.abc.MutableSequence)
    assert list(x) == [3, 1, 2]
    assert x[:] == [3, 1, 2]
    assert type(x[:]) is list
    assert type(x + []) is list
    assert sorted(x) == [1, 2, 3]
    assert sum(x) == 6
    first, *rest = x
    assert (first, rest) == (3, [1, 2])
    before = x
    x += (4,)
    x *= 2
    assert x is before
    assert x == [3, 1, 2, 4] * 2
    assert repr(x) == repr(list(x))
    assert persist.List[int]
    assert copy.copy(x) == x
    assert type(x.copy()) is list
    assert x.__class__ is persist.List


def test_slices_take_the_list_itself(root: persist.Dict) -> None:
    root["l"] = [1, 2, 3]
    x = root["l"]
    x[:] = x
    assert x == [1, 2, 3]
    x[1:1] = x
    assert x == [1, 1, 2, 3, 2, 3]
    x.extend(x)
    assert len(x) == 12
    x[::-1] = list(x)
    assert x[0] == 3


def test_iteration_tolerates_changes_like_list(root: persist.Dict) -> None:
    root["l"] = [1, 2, 3]
    seen = []
    for item in root["l"]:
        seen.append(item)
        if len(seen) < 6:
            root["l"].append(item * 10)
    assert seen == [1, 2, 3, 10, 20, 30, 100, 200]
    it = iter(root["l"])
    list(it)
    root["l"].append(0)
    assert list(it) == []
    down = reversed(root["l"])
    next(down)
    root["l"].clear()
    assert list(down) == []


def test_sort_is_stable_and_keeps_identity(root: persist.Dict) -> None:
    root["l"] = [{"n": n % 3, "i": n} for n in range(30)]
    proxies = list(root["l"])
    root["l"].sort(key=lambda d: d["n"])
    expected = sorted(proxies, key=lambda d: d["n"])
    assert [id(d) for d in root["l"]] == [id(d) for d in expected]
    with pytest.raises(ZeroDivisionError):
        root["l"].sort(key=lambda _: 1 // 0)
    assert [id(d) for d in root["l"]] == [id(d) for d in expected]
    with pytest.raises(ValueError, match="list modified during sort"):
        root["l"].sort(key=lambda d: root["l"].append(0) or d["n"])


def test_removed_containers_live_on_while_held(root: persist.Dict) -> None:
    root["l"] = [[1], [2]]
    first = root["l"].pop(0)
    assert first == [1]
    first.append(2)
    assert first == [1, 2]
    root["again"] = first
    assert root["again"] is first
