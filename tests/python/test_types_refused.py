"""A value is kept with its type or refused, by an error that says where it is and what can be stored instead."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import pathlib
import re
import types
import uuid
from typing import Any, Callable

import persist
import pytest


class Names(dict):  # type: ignore[type-arg]
    pass


class Ordered(collections.OrderedDict):  # type: ignore[type-arg]
    pass


class Counts(collections.Counter):  # type: ignore[type-arg]
    pass


class Waiting(collections.deque):  # type: ignore[type-arg]
    pass


class Many(set):  # type: ignore[type-arg]
    pass


class Row(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        raise AssertionError("user code must not run")


class Rows(list):  # type: ignore[type-arg]
    pass


class Text(str):
    def encode(self, *_: object) -> bytes:  # type: ignore[override]
        raise AssertionError("user code must not run")

    __hash__ = str.__hash__


class Whole(int):
    def __add__(self, _: object) -> int:
        raise AssertionError("user code must not run")


class Real(float):
    pass


class Raw(bytes):
    pass


class Special(persist.Link):
    pass


class Color(enum.IntEnum):
    RED = 3


class Rows3(tuple):  # type: ignore[type-arg]
    pass


class Day(datetime.date):
    pass


class Zone(datetime.tzinfo):
    def utcoffset(self, _: object) -> datetime.timedelta:
        return datetime.timedelta(0)


class Delta(datetime.timedelta):
    pass


class Number(decimal.Decimal):
    pass


class Ratio(fractions.Fraction):
    pass


class Id(uuid.UUID):
    pass


class Complex(complex):
    pass


class Buffer(bytearray):
    pass


class Name(pathlib.PurePosixPath):
    pass


def hidden() -> Any:
    class Hidden(enum.IntEnum):
        ONE = 1

    return Hidden


@dataclasses.dataclass
class Data:
    x: int = 1


class Anything:
    pass


def numbered() -> Any:
    yield 1


# A value, and the advice as code that makes of it what can be stored, if there is such code.
CASES: list[tuple[Any, str]] = [
    (Ordered(a=1), "dict(value)"),
    (Counts("aab"), "dict(value)"),
    (Names(a=1), "dict(value)"),
    (types.MappingProxyType({"a": 1}), "dict(value)"),
    (collections.ChainMap({"a": 1}), "dict(value)"),
    (collections.UserDict({"a": 1}), "dict(value)"),
    (Waiting([1, 2]), "list(value)"),
    (collections.UserList([1, 2]), "list(value)"),
    (Rows([1, 2]), "list(value)"),
    (Many({1, 2}), "list(value)"),
    (Rows3((1, 2)), "list(value)"),
    ({}.keys(), "list(value)"),
    ({}.values(), "list(value)"),
    (numbered(), "list(value)"),
    (iter([1]), "list(value)"),
    (map(abs, [1]), "list(value)"),
    (Text("t"), "str(value)"),
    (Whole(2**100), "int(value)"),
    (Whole(2), "int(value)"),
    (Real(1.5), "float(value)"),
    (Raw(b"b"), "bytes(value)"),
    (Special("x"), "persist.Link(value)"),
    (Day(2026, 1, 2), "value.isoformat()"),
    (datetime.datetime(2026, 1, 2, tzinfo=Zone()), "value.isoformat()"),
    (Delta(1), "value.total_seconds()"),
    (Number("1.5"), "str(value)"),
    (Ratio(1, 3), "str(value)"),
    (Id(int=5), "str(value)"),
    (Complex(1, 2), "[value.real, value.imag]"),
    (Buffer(b"b"), "bytes(value)"),
    (hidden()(1), "value.value"),
    (Name("a"), "str(value)"),
    (array.array("i", [1]), "value.tolist()"),
    (re.compile("a"), "value.pattern"),
    (Data(), "vars(value)"),
    (Anything(), "vars(value)"),
    (types.SimpleNamespace(a=1), "vars(value)"),
]


@pytest.mark.parametrize(("value", "code"), CASES, ids=[type(value).__name__ for value, _ in CASES])
def test_a_type_is_refused_with_advice_that_works(root: persist.Dict, value: Any, code: str) -> None:
    root["l"], root["d"], root["o"] = [0], {}, persist.Object()
    name = re.escape(type(value).__name__)
    stores: list[tuple[Callable[[], object], str]] = [
        (lambda: root.__setitem__("x", value), ""),
        (lambda: root.__setitem__("x", {"a": {"b": [0, 1, value]}}), r" at value\['a'\]\['b'\]\[2\]"),
        (lambda: root.setdefault("x", value), ""),
        (lambda: root.update(x=value), r" at value\['x'\]"),
        (lambda: root["l"].append(value), ""),
        (lambda: root["l"].extend([5, value]), r" at value\[1\]"),
        (lambda: root["l"].insert(0, value), ""),
        (lambda: root["l"].__setitem__(0, value), ""),
        (lambda: root["l"].__setitem__(slice(0, 1), [value]), r" at value\[0\]"),
        (lambda: setattr(root["o"], "x", value), ""),
    ]
    for store, place in stores:
        with pytest.raises(TypeError, match=f"^cannot store '{name}'{place}; .*{re.escape(code)}"):
            store()
    assert root == {"l": [0], "d": {}, "o": root["o"]}
    assert vars(root["o"]) == {}
    # The advice can be followed.
    root["x"] = eval(code, {"persist": persist, "value": value})


def test_what_has_no_other_form_is_refused_with_a_reason(root: persist.Dict) -> None:
    for value in [
        len,
        numbered,
        Anything,
        Color,
        type,
        re,
        io.BytesIO(),
        ...,
        NotImplemented,
        root.keys().mapping,
    ]:
        with pytest.raises(TypeError, match=r"^cannot store '.*' at value\[0\]; ") as e:
            root["x"] = [value]
        assert "persist.Object" not in str(e.value)
    assert root == {}
    with pytest.raises(TypeError, match="^cannot store 'Row'; store a list"):
        root["x"] = Row([1])
    with pytest.raises(TypeError, match="derive its class from persist.Object"):
        root["x"] = Anything()


def test_exact_types_stay(root: persist.Dict) -> None:
    root["x"] = kept = [True, 1, 1.5, "s", b"b", None, persist.Link("x"), {"a": 1}, [1]]
    assert [type(v) for v in persist.copy_out(root["x"])] == [type(v) for v in kept]


def test_what_numpy_has_no_exact_form_of_is_refused(root: persist.Dict) -> None:
    np = pytest.importorskip("numpy")
    cases = [
        (np.longdouble(1.5), "float(value)"),
        (np.clongdouble(1j), "[float(value.real), float(value.imag)]"),
        (np.array([None]), "value.tolist()"),
        (np.ma.array([1, 2]), "value.tolist()"),
    ]
    for value, code in cases:
        with pytest.raises(TypeError, match=re.escape(code)):
            root["x"] = [value]
        root["y"] = eval(code, {"value": value})
    assert "x" not in root


def test_tables_of_pandas_are_refused(root: persist.Dict) -> None:
    pd = pytest.importorskip("pandas")
    for value, code in [(pd.Series([1, 2]), "value.tolist()"), (pd.DataFrame({"a": [1]}), "value.to_dict()")]:
        with pytest.raises(TypeError, match=re.escape(code)):
            root["x"] = value
        root["y"] = eval(code, {"value": value})
