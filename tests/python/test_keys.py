"""A key that cannot be stored is not there; to store it is an error that says what is allowed."""

from __future__ import annotations

import decimal
import enum
import operator
import re
import uuid
from typing import Any

import persist
import pytest


class Name(str):
    __slots__ = ()

    def encode(self, *_: object) -> bytes:  # type: ignore[override]
        raise AssertionError("user code must not run")


class Color(enum.IntEnum):
    RED = 3


class Index:
    """Counts like an int."""

    def __index__(self) -> int:
        return 7


class Wrong:
    def __index__(self) -> int:
        raise ZeroDivisionError


ABSENT: list[Any] = [
    (1, frozenset([len])),
    (object(), uuid.UUID(int=1)),
    decimal.Decimal("NaN"),
    object(),
    frozenset([range(1)]),
    complex("nan"),
    range(3),
    len,
]


@pytest.mark.parametrize("key", ABSENT, ids=lambda key: type(key).__name__)
def test_what_cannot_be_a_key_is_not_there(root: persist.Dict, key: Any) -> None:
    root["d"] = {1: "x", "a": 2}
    d = root["d"]
    assert key not in d
    assert key not in d.keys()
    assert (key, 1) not in d.items()
    assert d.get(key) is None
    assert d.get(key, 5) == 5
    assert d.pop(key, 6) == 6
    assert not d.has_key(key)
    for call in (d.__getitem__, d.__delitem__, d.pop):
        with pytest.raises(KeyError) as e:
            call(key)
        assert e.value.args[0] is key
    allowed = (
        "keys in a store must be str, bytes, None, numbers, dates, times, UUIDs, paths, members of an Enum, "
        "or tuples or frozensets of these, not '" + type(key).__name__
    )
    for store in (
        lambda: d.__setitem__(key, 1),
        lambda: d.setdefault(key, 1),
        lambda: d.update({key: 1}),
        lambda: operator.ior(d, {key: 1}),
        lambda: root.__setitem__("n", {key: 1}),
        lambda: d.lock(key),
    ):
        with pytest.raises(TypeError, match=re.escape(allowed)):
            store()
    with pytest.raises(TypeError, match=re.escape(allowed) + r"'.* at value\[0\]\['n'\](; use tuple\(key\))?$"):
        root["n"] = [{"n": {"a": 1, key: 2}}]
    assert root == {"d": {1: "x", "a": 2}}


def test_unhashable_keys_raise_as_in_dict(root: persist.Dict) -> None:
    root["a"] = 1
    unhashable: list[Any] = [[], {}, (1, []), bytearray(b"x"), root]
    for key in unhashable:
        for call in (
            lambda d, k=key: k in d,
            lambda d, k=key: d.get(k),
            lambda d, k=key: d.pop(k, None),
            lambda d, k=key: d[k],
            lambda d, k=key: d.setdefault(k),
            lambda d, k=key: d.__setitem__(k, 1),
            lambda d, k=key: d.__delitem__(k),
        ):
            with pytest.raises(TypeError, match="unhashable type"):
                call({"a": 1})
            with pytest.raises(TypeError, match="unhashable type"):
                call(root)


def test_what_has_an_index_is_an_int(root: persist.Dict) -> None:
    root[Index()] = "seven"
    assert root == {7: "seven"}
    assert type(next(iter(root))) is int
    assert Index() in root
    assert root[Index()] == root.get(Index()) == "seven"
    root["d"] = {Index(): 1}
    assert root["d"] == {7: 1}
    with root.lock(Index()):
        root[7] = 8
    assert root.setdefault(Index(), 1) == 8
    assert root.pop(Index()) == 8
    with pytest.raises(ZeroDivisionError):
        root[Wrong()] = 1
    with pytest.raises(ZeroDivisionError):
        _ = Wrong() in root


def test_integers_of_numpy_are_ints(root: persist.Dict) -> None:
    np = pytest.importorskip("numpy")
    for n, kind in enumerate([np.int8, np.uint16, np.int32, np.int64, np.uint64]):
        root[kind(n)] = n
        assert kind(n) in root
        assert root[n] == root[kind(n)] == n
        root["d"] = {kind(n): n}
        assert list(map(type, root["d"])) == [int]
    assert root.pop(np.int64(1)) == 1
    del root[np.int64(2)]
    assert list(map(type, root)) == [int, str, int, int]
    big = np.uint64(2**64 - 1)
    root[big] = 1
    assert root[2**64 - 1] == 1


def test_subclasses_of_scalars_find_but_are_not_stored(root: persist.Dict) -> None:
    root["d"] = {3: "three", "n\ud800": "text", "a": 1, b"b": 2, 1.5: 3}
    d = root["d"]

    class Raw(bytes):
        pass

    class Real(float):
        pass

    for key, advice in [
        (Color.RED, "key.value"),
        (Name("n\ud800"), "str(key)"),
        (Name("a"), "str(key)"),
        (Raw(b"b"), "bytes(key)"),
        (Real(1.5), "float(key)"),
    ]:
        assert key in d
        assert d[key] == d.get(key) == d.pop(key)
        with pytest.raises(KeyError):
            del d[key]
        # Whether or not the key is there.
        for _ in range(2):
            for store in (
                lambda key=key: d.__setitem__(key, 1),
                lambda key=key: d.update({key: 1}),
                lambda key=key: root.__setitem__("x", {key: 1}),
            ):
                with pytest.raises(TypeError, match=f"not '{type(key).__name__}'; .*{re.escape(advice)}"):
                    store()
            d[eval(advice, {"key": key})] = 5
        assert d.setdefault(key, 6) == 5
        assert d[key] == 5
        assert all(type(k) in (int, str, bytes, float) for k in d)
        del d[key]
    assert "x" not in root


def test_names_of_attributes_are_str(root: persist.Dict) -> None:
    root["o"] = o = persist.Object()
    setattr(o, Name("a"), 1)
    new = persist.Object()
    setattr(new, Name("b"), 2)
    root["new"] = new
    assert vars(root["o"]) == {"a": 1}
    assert vars(root["new"]) == {"b": 2}
    assert [type(name) for name in (*vars(o), *vars(root["new"]))] == [str, str]
