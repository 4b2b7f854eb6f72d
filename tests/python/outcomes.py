"""What a call has as its outcome, to compare a container in a store with the builtin one."""

from __future__ import annotations

import collections
import collections.abc
import copy
import operator
from pathlib import Path
from typing import Any

import persist

ITEMS = {"__contains__", "__getitem__", "__delitem__"}
VIEWS = (collections.abc.KeysView, collections.abc.ValuesView, collections.abc.ItemsView)


def plain(value: Any) -> Any:
    """Return a value without proxies, with its type."""
    if isinstance(value, (persist.Dict, persist.List, persist.Set, persist.Deque)):
        value = persist.copy_out(value)
    if isinstance(value, (list, tuple, collections.deque)):
        return (type(value).__name__, [plain(item) for item in value])
    if isinstance(value, collections.OrderedDict):
        return ("OrderedDict", [(plain(key), plain(item)) for key, item in value.items()])
    if isinstance(value, dict):
        return (type(value).__name__, {key: plain(item) for key, item in value.items()})
    if isinstance(value, (set, frozenset)):
        return (type(value).__name__, sorted(map(repr, value)))
    return (type(value).__name__, value)


def outcome(container: Any, name: str, args: tuple[Any, ...]) -> tuple[str, Any]:
    """Call a method, and return its result or the class of its exception."""
    if not hasattr(container, name):
        return ("raised", "AttributeError")
    # An operator finds out what both sides can do.
    binary = len(args) == 1 and name.startswith("__") and name not in ITEMS
    operation = getattr(operator, name, None) if binary else None
    # So does the reflected form: `__rmul__` is the left side's `*`.
    left = getattr(operator, f"__{name[3:]}", None) if binary and name.startswith("__r") and not operation else None
    try:
        if left:
            return ("returned", plain(left(*args, container)))
        found = operation(container, *args) if operation else getattr(container, name)(*args)
    except Exception as e:
        return ("raised", type(e).__name__)
    if found is container:
        return ("returned", "itself")
    if hasattr(found, "__next__") or isinstance(found, VIEWS):
        found = list(found)
    return ("returned", plain(found))


def run(path: Path, start: Any, steps: list[tuple[str, tuple[Any, ...]]]) -> None:
    """Run a program on a container in a store and on the builtin one; after an error, a store is as before."""
    store = persist.open(path, durability="none")
    plain = start
    try:
        store.root["x"] = start
        for name, args in steps:
            if name == "reopen":
                store.close()
                store = persist.open(path, durability="none")
            else:
                before = copy.copy(plain)
                expected = outcome(plain, name, args)
                if expected[0] == "raised":
                    plain = before
                assert outcome(store.root["x"], name, args) == expected, (name, args)
            x = store.root["x"]
            assert x == plain
            assert list(x) == list(plain)
    finally:
        store.close()
