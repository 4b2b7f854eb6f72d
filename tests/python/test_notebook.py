"""Shapes for people: pprint, rich, IPython."""

from __future__ import annotations

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
    d = store.root
    store.close()
    assert d._repr_html_() is None


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
