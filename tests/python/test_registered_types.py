"""Types that a program registers, and values of types that it has not registered."""

from __future__ import annotations

import copy
import datetime as dt
import enum
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import persist
import pytest


class Color(enum.Enum):
    RED = 1


class Money:
    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return type(other) is Money and other.text == self.text

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def money(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persist._typed, "_types", {})  # type: ignore[attr-defined]
    monkeypatch.setattr(persist._typed, "_names", {})  # type: ignore[attr-defined]
    persist.register(Money, lambda money: money.text, Money, name="app.Money")


def test_a_registered_type_is_kept(money: None, path: Path) -> None:
    with persist.open(path) as store:
        store.root["m"] = Money("12.50")
        store.root["t"] = (1, Money("x"))
    with persist.open(path) as store:
        assert store.root["m"] == Money("12.50") and store.root["t"] == (1, Money("x"))


def test_without_a_registration_it_is_opaque_and_stays(money: None, path: Path) -> None:
    with persist.open(path) as store:
        store.root["m"] = [Money("12.50")]
    code = (
        "import persist\n"
        f"with persist.open({str(path)!r}) as store:\n"
        "    m = store.root['m'][0]\n"
        "    assert type(m) is persist.Opaque and (m.name, m.value) == ('app.Money', '12.50'), m\n"
        "    same = persist.Opaque('app.Money', '12.50')\n"
        "    assert m == same and hash(m) == hash(same)\n"
        "    store.root['again'] = m\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with persist.open(path) as store:
        assert store.root["again"] == Money("12.50")


def test_an_encoder_runs_once_for_each_value(money: None, store: persist.Store) -> None:
    calls: list[Money] = []

    def encode(value: Money) -> str:
        calls.append(value)
        return value.text

    persist.register(Money, encode, Money, name="app.Money")
    values = [Money("a"), Money("b")]
    store.root["a"] = values[0]
    store.root["l"] = [values[1], {"x": values[0]}]
    assert [id(call) for call in calls] == [id(values[0]), id(values[1]), id(values[0])]


def test_bytes_and_versions(money: None, store: persist.Store) -> None:
    class Old:
        pass

    persist.register(
        Money, lambda money: money.text.encode(), lambda b: Money(b.decode()), name="app.Money/2"
    )
    store.root["new"] = Money("x")
    store.root["old"] = persist.Opaque("app.Money", "y")
    assert store.root["new"] == Money("x") and store.root["old"] == Money("y")
    with pytest.raises(ValueError, match="another class is registered as 'app.Money'"):
        persist.register(Old, str, str, name="app.Money")  # type: ignore[arg-type]


def test_wrong_registrations(money: None) -> None:
    for name in [
        "date",
        "money",
        "",
        "enum:a:b",
        "namedtuple:x:y",
        "numpy.x",
        "a." * 200,
        "a.\n",
        "bytes:a.b",
        "text:a.b",
    ]:
        with pytest.raises(ValueError):
            persist.register(Money, str, Money, name=name)
    for kind in [int, dict, dt.date, Color, persist.Object, persist.Opaque]:
        with pytest.raises(ValueError, match="without a registration"):
            persist.register(kind, str, kind, name="app.X")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        persist.register("x", str, str, name="app.X")  # type: ignore[arg-type, type-var]


def test_errors_of_encoders_and_decoders_are_raised_and_nothing_is_stored(
    money: None, store: persist.Store
) -> None:
    class Bad:
        pass

    def fail(_: Any) -> Any:
        raise KeyError("why")

    persist.register(Bad, fail, fail, name="app.Bad")
    with pytest.raises(KeyError, match="why"):
        store.root["b"] = [Bad()]
    assert "b" not in store.root
    store.root["b"] = [1]
    with persist.open(store.path) as other:
        persist._typed._names.clear()  # type: ignore[attr-defined]
        other.root["b"] = persist.Opaque("app.Bad", "x")
    persist.register(Bad, lambda _: 5, fail, name="app.Bad")  # type: ignore[arg-type, return-value]
    with pytest.raises(KeyError, match="why"):
        store.root["b"]
    with pytest.raises(TypeError, match="'app.Bad' returned 'int'"):
        store.root["b"] = Bad()


def test_opaque_is_immutable_and_checked(store: persist.Store) -> None:
    value = persist.Opaque("app.x", "y")
    with pytest.raises(AttributeError):
        value.name = "z"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del value.value
    assert pickle.loads(pickle.dumps(value)) == value == copy.deepcopy(value)
    assert value != persist.Opaque("app.x", b"y") and value != ("app.x", "y")
    with pytest.raises(TypeError):
        persist.Opaque("app.x", 5)  # type: ignore[arg-type]
    for wrong in [persist.Opaque("date", "x"), persist.Opaque("tuple", "(1")]:
        with pytest.raises(persist.Corrupt):
            store.root["o"] = wrong
    for wrong in [persist.Opaque("", "x"), persist.Opaque("a." * 200, "x")]:
        with pytest.raises(ValueError):
            store.root["o"] = wrong
    store.root["o"] = persist.Opaque("date", "2026-01-01")
    assert store.root["o"] == dt.date(2026, 1, 1)
