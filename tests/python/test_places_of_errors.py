"""Exceptions of decoders, encoders and classes have a note that says what was read or stored, and where."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any, Callable

import persist
import pytest


class Bad:
    pass


def fail(_: Any) -> Any:
    raise KeyError("why")


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that registers `Bad`."""
    monkeypatch.setattr(persist._typed, "_types", {})  # type: ignore[attr-defined]
    monkeypatch.setattr(persist._typed, "_names", {})  # type: ignore[attr-defined]

    def register(encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
        persist.register(Bad, encode, decode, name="app.Bad")

    return register


def notes(f: Callable[[], object], kind: type[BaseException] = KeyError) -> list[str]:
    with pytest.raises(kind) as raised:
        f()
    assert type(raised.value) is kind
    return list(getattr(raised.value, "__notes__", ()))


def reading(where: str, name: str = "app.Bad") -> list[str]:
    return [f"persist: reading a value of type '{name}'{where}"]


def test_what_a_decoder_raises_names_the_place(bad: Callable[..., None], store: persist.Store) -> None:
    root = store.root
    opaque = persist.Opaque("app.Bad", "x")
    o = persist.Object()
    o.part = opaque
    root["d"] = {"k": [1, opaque], 5: opaque, "t": (1, opaque), "o": o}
    bad(fail, fail)
    d = root["d"]
    at = "root['d']"
    assert notes(lambda: d["k"][1]) == reading(f" at {at}['k'][1]")
    assert notes(lambda: d["k"][-1]) == reading(f" at {at}['k'][-1]")
    assert notes(lambda: list(d["k"])) == reading(f" at {at}['k'][1]")
    assert notes(lambda: d[5]) == notes(lambda: d.get(5)) == reading(f" at {at}[5]")
    assert notes(lambda: d["t"]) == reading(f" at {at}['t']")
    assert notes(lambda: d["o"].part) == reading(f" at {at}['o'].part")
    assert notes(lambda: [*d.items()]) == notes(lambda: dict(d)) == reading(f" at {at}[5]")
    assert notes(lambda: persist.copy_out(root)) == reading(f" at {at}[5]")
    assert notes(lambda: copy.deepcopy(d["k"])) == reading(f" at {at}['k'][1]")
    assert notes(lambda: d["k"][:]) == reading(f" in {at}['k']")
    assert notes(lambda: list(d["k"].copy())) == reading(f" in {at}['k']")
    assert notes(lambda: d["missing"]) == []


def test_a_value_of_persist_that_is_none_names_the_place(store: persist.Store, path: Path) -> None:
    store.root["a"] = persist.Opaque("numpy.none", "x")
    store.root["l"] = [persist.Opaque("app.Bad", "x")]
    assert store.root["l"][0].name == "app.Bad"


def test_what_an_encoder_raises_names_the_place(bad: Callable[..., None], store: persist.Store) -> None:
    bad(fail, fail)
    root = store.root
    said = "persist: storing a value of type 'app.Bad'"
    for store_it, where in [
        (lambda: root.__setitem__("x", Bad()), ""),
        (lambda: root.__setitem__("x", {"a": [0, Bad()]}), " at value['a'][1]"),
        (lambda: root.__setitem__("x", [{"a": (Bad(),)}]), " at value[0]['a']"),
        (lambda: root.update(a=[Bad()]), " at value['a'][0]"),
        (lambda: root.update({"a": Bad()}), " at value['a']"),
    ]:
        assert notes(store_it) == [said + where]
    bad(lambda _: 5, fail)
    assert notes(lambda: root.__setitem__("x", [[Bad()]]), TypeError) == [said + " at value[0][0]"]
    assert list(root) == []


class Old(persist.Object):
    def __init__(self) -> None:
        self.a = 1


def test_what_an_upgrade_raises_names_the_object(store: persist.Store) -> None:
    store.root["x"] = [Old()]
    store.close()
    Old.__persist_version__ = 2  # type: ignore[attr-defined]
    Old.__upgrade__ = lambda self, version: fail(version)  # type: ignore[attr-defined]
    try:
        with persist.open(store.path) as again:
            said = ["persist: upgrading an object of class 'Old' from version 1 at root['x'][0]"]
            assert notes(lambda: again.root["x"][0].a) == said
            assert notes(lambda: again.root["x"][0].a) == said
    finally:
        del Old.__persist_version__, Old.__upgrade__  # type: ignore[attr-defined]


def test_an_exception_that_keeps_no_notes_is_raised(bad: Callable[..., None], store: persist.Store) -> None:
    class Slotted(Exception):
        @property
        def __notes__(self) -> Any:
            raise ZeroDivisionError

        def add_note(self, note: str) -> None:
            raise ZeroDivisionError

    def slotted(_: Any) -> Any:
        raise Slotted

    store.root["x"] = persist.Opaque("app.Bad", "x")
    bad(fail, slotted)
    with pytest.raises(Slotted):
        store.root["x"]
    if sys.version_info >= (3, 11):
        bad(fail, lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.root["x"]
