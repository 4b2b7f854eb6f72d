"""The text of a proxy is bounded, and never an exception of the store."""

from __future__ import annotations

import collections
import sys
import time
from pathlib import Path
from typing import Any

import persist
import pytest

LONGEST = 20_000


def forms(value: Any) -> list[Any]:
    """Return the value and its views."""
    return [value, value.keys(), value.values(), value.items()] if isinstance(value, persist.Dict) else [value]


def test_small_containers_read_as_builtin_ones(root: persist.Dict) -> None:
    plain: dict[Any, Any] = {"a": [1, None, True, 2.5, "é\ud800'", b"x", 2**100], 5: {}, None: [[], {"b": [()][1:]}]}
    root["d"] = plain
    for ours, theirs in zip(forms(root["d"]), [plain, plain.keys(), plain.values(), plain.items()]):
        assert repr(ours) == repr(theirs)
        assert str(ours) == str(theirs)
        assert f"{ours}" == f"{theirs}"
    plain["self"] = root["d"]["self"] = root["d"]
    assert repr(root["d"]).endswith("'self': {...}}")
    for n in (63, 64, 65, 128, 129, 200):
        root["n"] = list(range(n))
        assert repr(root["n"]) == repr(list(range(n)))
        root["n"] = {k: k for k in range(n)}
        assert repr(root["n"]) == repr({k: k for k in range(n)})


def test_many_entries_have_a_short_text(root: persist.Dict) -> None:
    root["l"] = list(range(100_000))
    root["d"] = {k: [k] for k in range(100_000)}
    root["nested"] = [[[k] * 1000 for k in range(100)] for _ in range(10)]
    for value in (root["l"], *forms(root["d"]), root["nested"], root):
        text = repr(value)
        assert 1000 < len(text) < LONGEST
        assert "..." in text
        assert str(value) == text
    assert repr(root["l"]).startswith("[0, 1, 2, 3, ")
    assert repr(root["l"]).endswith(", ...]")
    assert repr(root["d"]).startswith("{0: [0], 1: [1], ")
    assert repr(root["d"]).endswith(", ...}")
    assert repr(root["d"].items()).startswith("dict_items([(0, [0]), (1, [1]), ")
    assert repr(root["d"].items()).endswith(", ...])")


def test_what_is_not_shown_is_not_read(root: persist.Dict) -> None:
    root["l"] = ["x" * 100] * 200
    small = root["l"]
    root["big"] = ["x" * 100] * 200_000
    big = root["big"]

    def cost(value: Any) -> float:
        begin = time.thread_time()
        repr(value)
        return time.thread_time() - begin

    assert repr(big) == repr(small)[: len(repr(big)) - 4] + "...]"
    # A thousand times the entries cost about the same: compare the best of several tries.
    assert min(cost(big) for _ in range(5)) < 20 * min(cost(small) for _ in range(5))


def test_long_values_are_cut(root: persist.Dict) -> None:
    for n in (1001, 5000, 100_000, 3_000_000):
        root["v"] = ["x" * n, "é" * n, b"y" * n, "\ud800" * n, 7**n if n < 10_000 else 1 << (n * 8), "end"]
        text = repr(root["v"])
        assert len(text) < LONGEST
        assert text.startswith("['" + "x" * 1000 + "'..., 'é")
        assert "é'..., b'y" in text
    root["v"] = {"k" * 5000: 1}
    assert repr(root["v"]) == "{'" + "k" * 1000 + "'...: 1}"
    root["v"] = ["x" * 1000]
    assert repr(root["v"]) == repr(["x" * 1000])


@pytest.mark.skipif(not hasattr(sys, "set_int_max_str_digits"), reason="this Python prints ints of any size")
def test_an_int_that_python_does_not_print_is_shown(root: persist.Dict) -> None:
    for bits in (20_000, 100_000, 1_000_000):
        root["v"] = [1 << bits]
        with pytest.raises(ValueError, match="limit"):
            repr([1 << bits])
        assert repr(root["v"]).startswith("[<int of ")
        assert repr(root["v"]).endswith(" bits>]")


def test_a_deep_structure_has_a_text(root: persist.Dict) -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    root["deep"] = deep
    text = repr(root["deep"])
    assert "[...]" in text and len(text) < 1000
    while deep:
        deep = deep.pop()


def test_what_cannot_be_read_has_a_text(path: Path) -> None:
    with persist.open(path) as store:
        store.root.update(l=[1], d={"a": 1}, o=persist.Object())
        held = [store.root, store.root["l"], *forms(store.root["d"]), store.root["o"], store]
        lock, transaction = store.root.lock(), store.transaction()
        lock.release()
    for value in [*held, lock, transaction]:
        assert 0 < len(repr(value)) < 1000
        assert str(value)
        assert repr([value])
    why = f"I/O operation on closed store {path}; open it again"
    assert repr(held[1]) == f"<persist.List: {why}>"
    assert repr(held[2]) == f"<persist.Dict: {why}>"
    assert repr(held[3]) == f"<persist.KeysView: {why}>"


def test_a_collection_that_cannot_be_read_has_a_text(path: Path) -> None:
    with persist.open(path) as store:
        store.root["set"] = {1, 2}
        store.root["deque"] = collections.deque([1])
        store.root["ordered"] = collections.OrderedDict(a=1)
        store.root["counter"] = collections.Counter("aab")
        store.root["default"] = collections.defaultdict(list, {"a": [1]})
        held = list(store.root.values())
        for value, kind in zip(held, ["Set", "Deque", "OrderedDict", "Counter", "DefaultDict"]):
            assert type(value).__name__ == kind and "closed" not in repr(value)
    why = f"I/O operation on closed store {path}; open it again"
    for value in held:
        for part in [value, value.keys(), value.values(), value.items()] if hasattr(value, "keys") else [value]:
            assert repr(part).startswith("<persist.") and repr(part).endswith(f": {why}>")
            assert str(part) == repr(part) and repr([part]) == f"[{part!r}]"


def test_a_gone_container_has_a_text(store: persist.Store) -> None:
    root, kept = store.root, []
    with pytest.raises(ZeroDivisionError), store.transaction():
        root["l"], root["d"] = [1], {"a": 1}
        kept += [root["l"], root["d"]]
        raise ZeroDivisionError
    assert repr(kept[0]).startswith("<persist.List: ")
    assert repr(kept[1]).startswith("<persist.Dict: ")


class Broken(persist.Object):
    def __repr__(self) -> str:
        raise ZeroDivisionError


class Plain(persist.Object):
    pass


def test_the_exception_of_a_values_own_text_is_raised(root: persist.Dict) -> None:
    root["b"] = Broken()
    with pytest.raises(ZeroDivisionError):
        repr(root)
    del root["b"]
    assert repr(root) == "{}"


def test_an_object_without_its_class_names_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with persist.open(path) as store:
        store.root["p"], store.root["o"] = Plain(), persist.Object()
        assert repr(store.root["p"]).startswith(f"<{__name__}.Plain object at 0x")
        assert repr(store.root["o"]).startswith("<persist.Object object at 0x")
    monkeypatch.delattr(sys.modules[__name__], "Plain")
    with persist.open(path) as store:
        p = store.root["p"]
        assert repr(p).startswith(f'<persist.Object of class "{__name__}:Plain" at 0x')
        assert f"{__name__}:Plain" in repr(store.root)
    assert repr(p).startswith("<persist.Object object at 0x")
