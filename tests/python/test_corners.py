"""Corners of list and dict: arguments, iterators, identity, hints, deepcopy and pickle."""

from __future__ import annotations

import copy
import math
import operator
import pickle
import sys
from typing import Any

import persist
import pytest


def test_sort_takes_what_list_takes(root: persist.Dict) -> None:
    class Truth:
        def __bool__(self) -> bool:
            raise ZeroDivisionError

    for reverse in [0, 1, True, False, 5, None, "x", 1.5, Truth()]:
        plain, outcomes = [2, 3, 1], []
        root["l"] = plain
        for x in (root["l"], plain):
            try:
                outcomes.append((x.sort(reverse=reverse), x[:]))
            except (TypeError, ZeroDivisionError) as e:
                outcomes.append((type(e), str(e)))
        assert outcomes[0] == outcomes[1]
        assert root["l"] == plain


@pytest.mark.parametrize("n", [1, 2, 3, 8, 200])
def test_replacing_keys_while_iterating_is_an_error(root: persist.Dict, n: int) -> None:
    removals: list[Any] = [
        lambda d, k: d.__delitem__(k),
        lambda d, k: d.pop(k),
        lambda d, k: d.pop(k, None),
    ]
    for remove in removals:
        for parts in (lambda d: d, lambda d: d.keys(), lambda d: d.items(), lambda d: d.values()):
            root["d"] = {k: k for k in range(n)}
            d = root["d"]
            with pytest.raises(RuntimeError, match="dictionary keys changed during iteration"):
                for _ in parts(d):
                    k = next(iter(d))
                    remove(d, k)
                    d[k] = 0


def test_emptying_a_dict_while_iterating_is_an_error(root: persist.Dict) -> None:
    for empty in (lambda d: d.clear(), lambda d: d.popitem(), lambda d: d.__delitem__("a")):
        root["d"] = {"a": 1}
        with pytest.raises(RuntimeError):
            for _ in root["d"]:
                empty(root["d"])
                root["d"]["a"] = 2
    # The iterators of before and after are told apart.
    root["d"] = {"a": 1}
    root["d"].clear()
    root["d"]["a"] = 1
    assert list(root["d"]) == ["a"]
    # Changing a value is none.
    for k in root["d"]:
        root["d"][k] = 2


def test_a_nan_is_itself(root: persist.Dict) -> None:
    root["l"], root["d"] = [math.nan, 1], {"n": math.nan, math.nan: 2}
    lst, d = root["l"], root["d"]
    for x in (lst, d, d.items(), d.keys()):
        assert x == x
        assert not x != x
    assert lst <= lst and lst >= lst
    assert not lst < lst and not lst > lst
    assert d.items() <= d.items()
    assert not d.items() < d.items()
    assert [lst] == [lst] and {"l": lst} == {"l": lst}
    assert lst[0] != lst[0]
    # A value that was read is the value that is there.
    assert lst == lst[:] == lst.copy()
    assert lst.copy() == lst
    assert d == d.copy()
    assert d.copy() == d
    assert lst[0] in lst
    assert lst.index(lst[0]) == 0
    assert lst.count(lst[0]) == 1
    lst.remove(lst[0])
    assert lst == [1]
    assert float("nan") not in d.values()


def test_the_hint_of_a_reversed_iterator_is_that_of_list(root: persist.Dict) -> None:
    for size in range(6):
        for shrunk in range(6):
            plain = list(range(size))
            root["l"] = plain
            hints = []
            for x in (root["l"], plain):
                it = reversed(x)
                next(it, None)
                del x[shrunk:]
                hints.append((operator.length_hint(it), list(it)))
            assert hints[0] == hints[1]


class Hint:
    def __init__(self, hint: Any, *items: Any) -> None:
        self.hint, self.items = hint, items

    def __iter__(self) -> Any:
        self.left = iter(self.items)
        return self

    def __next__(self) -> Any:
        return next(self.left)

    def __length_hint__(self) -> Any:
        if isinstance(self.hint, type):
            raise self.hint
        return self.hint


def test_extend_beside_a_hint_that_lies(root: persist.Dict) -> None:
    root["l"] = [1, 2, 3, 4]
    lst = root["l"]
    lst.extend(Hint(sys.maxsize))
    assert lst == [1, 2, 3, 4]
    for hint in (0, 1, 1000, sys.maxsize, sys.maxsize - 8, NotImplemented):
        lst.extend(Hint(hint, 5, 6))
        assert lst.pop() == 6
        assert lst.pop() == 5
        lst += Hint(hint, 7)
        assert lst.pop() == 7
        lst[4:] = Hint(hint, 8)
        assert lst.pop() == 8
    for hint, error in ((RuntimeError, RuntimeError), (-1, ValueError), ("x", TypeError), (TypeError, None)):
        for x in (lst, [1, 2, 3, 4]):
            if error is None:
                x.extend(Hint(hint))
            else:
                with pytest.raises(error):
                    x.extend(Hint(hint, 5))
            assert x == [1, 2, 3, 4]


class Node(persist.Object):
    pass


def test_deepcopy_keeps_what_is_shared_across_proxies(root: persist.Dict) -> None:
    root["a"] = {"x": [1], "y": {"z": []}}
    root["a"]["again"] = root["a"]["x"]
    for value in (
        [root["a"], root["a"]["x"], root["a"]["y"]["z"]],
        [root["a"]["x"], root["a"], root["a"]["y"]["z"]],
        [root["a"]["y"]["z"], root["a"]["x"], root["a"]],
    ):
        made = copy.deepcopy(value)
        a = next(v for v in made if isinstance(v, dict))
        x = next(v for v in made if v == [1])
        z = next(v for v in made if v == [])
        assert a["x"] is a["again"] is x
        assert a["y"]["z"] is z
        assert {type(v) for v in made} == {dict, list}
    lone = copy.deepcopy(root["a"])
    assert lone["x"] is not copy.deepcopy(root["a"])["x"]


def test_deepcopy_of_cycles_through_objects_and_plain_containers(root: persist.Dict) -> None:
    root["n"] = Node()
    n: Any = root["n"]
    n.parts = {"up": n, "list": [n]}
    made = copy.deepcopy({"n": n, "parts": n.parts, "list": n.parts["list"]})
    assert type(made["n"]) is Node
    assert made["n"] is not n
    assert made["n"].parts is made["parts"]
    assert made["parts"]["list"] is made["list"]
    assert made["parts"]["up"] is made["n"] is made["list"][0]
    root["self"] = [root]
    made = copy.deepcopy([root["self"], root])
    assert made[0][0] is made[1]
    assert made[1]["self"] is made[0]


def test_the_memo_of_deepcopy_is_used(root: persist.Dict) -> None:
    root["a"] = {"x": [1]}
    x = root["a"]["x"]
    made = copy.deepcopy(root["a"], {id(x): "instead"})
    assert made == {"x": "instead"}


def test_views_are_not_pickled(root: persist.Dict) -> None:
    root["a"] = 1
    plain = {"a": 1}
    for make in (lambda d: d.keys(), lambda d: d.values(), lambda d: d.items()):
        for call in (pickle.dumps, copy.copy, copy.deepcopy):
            errors = []
            for d in (plain, root):
                with pytest.raises(TypeError) as e:
                    call(make(d))
                errors.append(str(e.value))
            assert errors[0] == errors[1]


def test_iterators_are_pickled_as_those_of_list_and_dict(root: persist.Dict) -> None:
    root["l"], root["d"] = [1, 2, 3], {"a": 1, "b": 2, "c": 3}
    for make in (
        lambda r: iter(r["l"]),
        lambda r: reversed(r["l"]),
        lambda r: iter(r["d"]),
        lambda r: iter(r["d"].items()),
        lambda r: reversed(r["d"].values()),
    ):
        it = make(root)
        first = next(it)
        copied, pickled = copy.copy(it), pickle.loads(pickle.dumps(it))
        rest = list(it)
        assert list(copied) == list(pickled) == rest
        assert [first, *rest] == list(make({"l": [1, 2, 3], "d": {"a": 1, "b": 2, "c": 3}}))


def test_what_is_bound_to_a_store_is_not_pickled(store: persist.Store) -> None:
    store.snapshot("s")
    with store.transaction() as transaction:
        pass
    with store.root.lock() as root:
        lock = root.lock()
        for value in (transaction, store.snapshots()[0], lock):
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                with pytest.raises(TypeError, match="cannot pickle"):
                    pickle.dumps(value, protocol)
        lock.release()
