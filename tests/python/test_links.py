"""`persist.Link`: the target of a symbolic link, a str that keeps its type."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import persist
import pytest


@pytest.fixture
def root(tmp_path: Path) -> Any:
    with persist.open(tmp_path / "links.store") as store:
        yield store.root


TEXTS = ["x", "a/b", "12345", "../é", "b\udcff", " \n", "y" * 4095]


def test_links_are_stored_and_read(root: Any) -> None:
    root["all"] = [persist.Link(text) for text in TEXTS]
    root["dict"] = {text: persist.Link(text) for text in TEXTS}
    for n, text in enumerate(TEXTS):
        root["one"] = persist.Link(text)
        copied = persist.copy_out(root["all"])[n]
        for link in (root["one"], root["all"][n], root["dict"][text], root.get("one"), copied):
            assert type(link) is persist.Link and isinstance(link, str)
            assert link == text and hash(link) == hash(text) and os.fsencode(link) == os.fsencode(text)
    assert [type(v) for v in root["dict"].values()] == [persist.Link] * len(TEXTS)


def test_a_str_stays_a_str_and_a_link_a_link(root: Any) -> None:
    root["l"] = "d"
    assert type(root["l"]) is str
    root["l"] = persist.Link("d")
    assert type(root["l"]) is persist.Link
    # The same text in the same place, again and again, is of the type that was stored last.
    for _ in range(3):
        root["l"] = persist.Link("d")
        assert type(root["l"]) is persist.Link
        root["l"] = "d"
        assert type(root["l"]) is str


def test_a_subclass_of_link_is_refused(root: Any) -> None:
    class Special(persist.Link):
        pass

    root["l"] = persist.Link("x")
    with pytest.raises(TypeError, match=r"^cannot store 'Special'; store persist.Link\(value\)"):
        root["l"] = Special("y")
    assert type(root["l"]) is persist.Link
    assert root["l"] == Special("x")


@pytest.mark.parametrize("text", ["", "a\0b", "x" * 4096, "é" * 2048])
def test_what_cannot_be_a_target_is_refused(root: Any, text: str) -> None:
    with pytest.raises(ValueError, match="1 to 4095 bytes"):
        root["l"] = persist.Link(text)
    with pytest.raises(UnicodeEncodeError):
        root["l"] = persist.Link("\ud800")
    assert len(root) == 0


def test_a_link_as_a_key_is_its_text(root: Any) -> None:
    root[persist.Link("k")] = 1
    assert root["k"] == 1 and root[persist.Link("k")] == 1 and type(next(iter(root))) is str


def test_links_in_lists(root: Any) -> None:
    root["l"] = ["a", persist.Link("a"), persist.Link("b")]
    found = root["l"]
    assert found.index(persist.Link("b")) == 2 and found.count("a") == 2 and "b" in found
    found.remove("b")
    found.sort()
    assert list(found) == ["a", "a"] and sorted(type(x) is persist.Link for x in found) == [False, True]


def test_copies_and_text(root: Any) -> None:
    link = persist.Link("a/b")
    assert repr(link) == "persist.Link('a/b')" and str(link) == "a/b" and f"{link}" == "a/b"
    for made in (pickle.loads(pickle.dumps(link)), copy.copy(link), copy.deepcopy(link)):
        assert type(made) is persist.Link and made == link
    assert not hasattr(link, "__dict__")


def test_links_last(tmp_path: Path) -> None:
    with persist.open(tmp_path / "s") as store:
        store.root["l"] = persist.Link("target")
        with store.transaction():
            store.root["m"] = persist.Link("another target")
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.root["l"] = "gone"
            raise ZeroDivisionError
    with persist.open(tmp_path / "s") as store:
        assert (store.root["l"], store.root["m"]) == ("target", "another target")
        assert type(store.root["l"]) is persist.Link
