"""Shapes for people: pprint, rich, IPython."""

from __future__ import annotations

import collections
import pprint
import subprocess
import sys
from typing import Any

import persist
import pytest
import rich.pretty
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

LONG: dict[str, Any] = {f"key{n}": list(range(30)) for n in range(5)}


class Person(persist.Object):
    def __init__(self, name: str) -> None:
        self.name = name


def test_pprint_shapes_proxies(root: persist.Dict) -> None:
    root["d"], root["l"] = LONG, [LONG, LONG]
    assert pprint.pformat(root["d"]) == pprint.pformat(LONG)
    assert pprint.pformat(root["l"], width=40, compact=True) == pprint.pformat(
        [LONG, LONG], width=40, compact=True
    )
    assert pprint.pformat({"x": root["d"]}, indent=2) == pprint.pformat({"x": LONG}, indent=2)
    root["d"]["itself"] = root["d"]
    assert "Recursion" in pprint.pformat(root["d"])


def test_pprint_that_is_imported_later(script: Any) -> None:
    out = script.run(
        """
        import sys, persist
        assert 'pprint' not in sys.modules
        with persist.open('s') as store:
            store.root['d'] = {f'key{n}': list(range(30)) for n in range(5)}
            repr(store.root)
            import pprint
            pprint.pprint(store.root['d'], compact=True)
        """
    )
    assert len(out.splitlines()) >= 10


def test_rich_shapes_proxies(root: persist.Dict) -> None:
    root["d"], root["l"] = LONG, [LONG, {}]
    assert rich.pretty.pretty_repr(root["d"]) == rich.pretty.pretty_repr(LONG)
    assert rich.pretty.pretty_repr(root["l"]) == rich.pretty.pretty_repr([LONG, {}])
    assert rich.pretty.pretty_repr(root["d"], max_length=2) == rich.pretty.pretty_repr(LONG, max_length=2)
    assert not hasattr(root["d"], "__rich_repr__")


NUMBERS = {f"key{n:02}": n for n in range(60)}
KINDS: dict[str, Any] = {
    "Set": set(NUMBERS),
    "Deque": collections.deque(NUMBERS),
    "bounded Deque": collections.deque(NUMBERS, 60),
    "OrderedDict": collections.OrderedDict(NUMBERS),
    "Counter": collections.Counter(dict(reversed(NUMBERS.items()))),
    "DefaultDict": collections.defaultdict(list, NUMBERS),
}
EMPTY = [
    set(), collections.deque(), collections.deque([], 3), collections.OrderedDict(), collections.Counter(),
    collections.defaultdict(int),
]  # fmt: skip


@pytest.mark.parametrize("value", KINDS.values(), ids=KINDS)
def test_pprint_shapes_each_kind(root: persist.Dict, value: Any) -> None:
    root["x"], root["l"] = value, [value]
    for how in ({}, {"width": 40, "compact": True}, {"indent": 3}, {"depth": 1}):
        assert pprint.pformat(root["x"], **how) == pprint.pformat(value, **how)
    assert len(pprint.pformat(root["x"]).splitlines()) >= 10
    assert pprint.pformat(root["l"]) == pprint.pformat([value])
    assert pprint.pformat({"x": root["x"]}) == pprint.pformat({"x": value})


@pytest.mark.parametrize("value", KINDS.values(), ids=KINDS)
def test_rich_shapes_each_kind(root: persist.Dict, value: Any) -> None:
    root["x"], root["l"] = value, [value]
    text = rich.pretty.pretty_repr(root["x"])
    if isinstance(value, collections.OrderedDict):
        # rich has no shape for it.
        inner = rich.pretty.pretty_repr(dict(value))
        assert text == f"OrderedDict({inner})"
    elif isinstance(value, set):
        # The order of a stored set is another one.
        assert text.splitlines()[1:-1] == [f"    '{key}'," for key in root["x"]][:-1] + [
            f"    '{list(root['x'])[-1]}'"
        ]
        assert (text[0], text[-1]) == ("{", "}")
    else:
        assert text == rich.pretty.pretty_repr(value)
        assert rich.pretty.pretty_repr(root["l"]) == rich.pretty.pretty_repr([value])
        assert rich.pretty.pretty_repr(root["x"], max_length=2) == rich.pretty.pretty_repr(
            value, max_length=2
        )
    assert len(text.splitlines()) == 62


@pytest.mark.parametrize("value", EMPTY, ids=repr)
def test_empty_ones_of_each_kind(root: persist.Dict, value: Any) -> None:
    root["x"] = value
    assert pprint.pformat(root["x"], width=1) == pprint.pformat(value, width=1) == repr(value)
    if not isinstance(value, collections.deque):
        assert rich.pretty.pretty_repr(root["x"]) == repr(value)
    else:
        assert rich.pretty.pretty_repr(root["x"]) == rich.pretty.pretty_repr(value)


def test_a_sorted_dict_has_its_name(root: persist.Dict, script: Any) -> None:
    root["x"], root["empty"] = persist.SortedDict(NUMBERS), persist.SortedDict()
    lines = pprint.pformat(NUMBERS, width=69).splitlines()
    assert (
        pprint.pformat(root["x"])
        == f"SortedDict({chr(10).join([lines[0], *(' ' * 11 + x for x in lines[1:])])})"
    )
    assert pprint.pformat(root["empty"], width=1) == "SortedDict({})"
    assert rich.pretty.pretty_repr(root["x"]) == f"SortedDict({rich.pretty.pretty_repr(NUMBERS)})"
    assert rich.pretty.pretty_repr(root["empty"]) == "SortedDict({})"
    out = script.run(
        """
        import persist
        with persist.open('s') as store:
            store.root['x'] = persist.SortedDict({n: 'text' for n in range(60)})
            import pprint
            pprint.pprint(store.root['x'])
        """
    )
    assert len(out.splitlines()) == 60


@pytest.mark.parametrize("value", [*KINDS.values(), persist.SortedDict(NUMBERS)], ids=[*KINDS, "SortedDict"])
def test_each_kind_has_a_tree(root: persist.Dict, value: Any) -> None:
    root["x"], root["l"] = value, [value]
    kind = type(root["x"]).__name__
    text = root["x"]._repr_html_()
    assert f"<details open><summary>{kind}, 60</summary>" in text
    assert text.count("<li>") == 60 and "key59" in text
    assert f"<summary>{kind}, 60</summary>" in root["l"]._repr_html_()


@pytest.mark.parametrize("kind", [set, collections.deque])
def test_the_tree_of_a_set_and_a_deque_is_bounded(root: persist.Dict, kind: Any) -> None:
    root["x"] = kind([*(("<a>" * 5_000, n) for n in range(200)), *range(100_000)])
    text = root["x"]._repr_html_()
    assert "<li>... 100100 more</li>" in text and "<a>" not in text
    assert len(text) < 200_000
    if kind is collections.deque:
        root["x"][0] = root["x"]
        assert "<b>0</b>: <i>Deque ...</i>" in root["x"]._repr_html_()
        root["x"][0] = {"y": kind([{1}])}
        assert "<summary>Set, 1</summary><ul><li>1</li>" in root["x"]._repr_html_()


def test_a_tree_of_html(root: persist.Dict) -> None:
    root["d"] = {"<a>": ["&", {1: None}], "p": Person("<Ann>")}
    text = root["d"]._repr_html_()
    assert text is not None
    assert "&lt;a&gt;" in text
    assert "&lt;Ann&gt;" in text
    assert "<a>" not in text
    assert "<details open><summary>Dict, 2</summary>" in text
    assert "Person" in root["d"]["p"]._repr_html_()
    root["d"]["itself"] = root["d"]
    assert "Dict ..." in root["d"]._repr_html_()


def test_the_tree_is_bounded(root: persist.Dict) -> None:
    root["big"] = {n: list(range(200)) for n in range(1000)}
    root["big"][0] = "x" * 1_000_000
    text = root["big"]._repr_html_()
    assert "more</li>" in text
    assert len(text) < 200_000
    deep = root
    for _ in range(2000):
        deep["deep"] = {}
        deep = deep["deep"]
    assert len(root._repr_html_()) < 200_000


def test_what_cannot_be_read_has_no_tree(store: persist.Store) -> None:
    store.root.update({"s": {1}, "q": collections.deque([1]), "c": collections.Counter("a"), "l": [1]})
    found = [store.root, *store.root.values(), persist.SortedDict({1: 1})]
    store.root["sorted"] = found[-1]
    store.close()
    assert [x._repr_html_() for x in found] == [None] * 6


def test_a_transient_object_has_a_tree() -> None:
    assert "Ann" in Person("Ann")._repr_html_()  # type: ignore[attr-defined]


def test_keys_are_completed(store: persist.Store) -> None:
    store.root.update({"alpha": 1, "beta": {"gamma": 2}})
    assert store.root._ipython_key_completions_() == ["alpha", "beta"]
    assert store._ipython_key_completions_() == ["alpha", "beta"]  # type: ignore[attr-defined]
    store.root["many"] = {n: n for n in range(5000)}
    assert len(store.root["many"]._ipython_key_completions_()) == 1000


def test_ipython_uses_them(store: persist.Store) -> None:
    store.root.update({"alpha": {"x": 1}})
    shell = InteractiveShell.instance()
    try:
        shell.user_ns["root"] = store.root
        with provisionalcompleter():
            found = [c.text for c in shell.Completer.completions("root['al", 8)]
        assert any("alpha" in text for text in found)
        data, _ = shell.display_formatter.format(store.root)
        assert "alpha" in data["text/html"]
        assert data["text/plain"] == "{'alpha': {'x': 1}}"
    finally:
        InteractiveShell.clear_instance()


def test_nothing_of_it_is_imported_early() -> None:
    code = "import persist, sys; print([m for m in ('pprint', 'html', 'rich', 'persist._pretty') if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True
    )
    assert out.stdout == "[]\n"


@pytest.mark.parametrize("name", ["_repr_html_", "_ipython_key_completions_"])
def test_a_stored_attribute_of_that_name_wins(root: persist.Dict, name: str) -> None:
    root["p"] = Person("Ann")
    setattr(root["p"], name, 5)
    assert getattr(root["p"], name) == 5
