"""What a call has as its outcome, to compare a container in a store with the builtin one."""

from __future__ import annotations

import collections
import collections.abc
import operator
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
    try:
        found = operation(container, *args) if operation else getattr(container, name)(*args)
    except Exception as e:
        return ("raised", type(e).__name__)
    if found is container:
        return ("returned", "itself")
    if hasattr(found, "__next__") or isinstance(found, VIEWS):
        found = list(found)
    return ("returned", plain(found))
