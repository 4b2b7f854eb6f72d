"""A dictionary that outlives the program, shared by programs as it changes.

>>> import persist
>>> root = persist.root()
>>> root['x'] = 1
>>> root['x'] += 1
>>> root['people'] = {'Joe': {'age': 27}}
>>> root['people']['Joe']['age'] += 1

`persist.root()` is the root of the default store ($PERSIST_STORE, else ./persist.store);
`persist.open(path)` opens any. What is stored is plain: None, bool, int, float, str, bytes, dicts,
lists, sets, the containers of `collections`, symbolic links (`Link`), and instances of classes that
derive from `persist.Object`, `Dict` or `List`. Any other type, also one that derives from these, is
refused with advice what to store instead. Containers that are stored are copied in; what is fetched
is a `Dict`, a `List`, a `Set` and so on, or an instance that works on the store itself.

A store can name classes, and never runs code: an object gets its class if the module of that class
is imported already, or was allowed by `persist.allow_import()`; else it is a generic `Object` with
the same attributes.
"""

import _collections_abc as _abc
import atexit as _atexit
import os as _os

from ._link import Link
from ._persist import (
    Conflict,
    Corrupt,
    Deadlock,
    Dict,
    DurabilityUnknown,
    Error,
    Gone,
    InUse,
    ItemsView,
    KeysView,
    List,
    Lock,
    LockTimeout,
    NoSnapshot,
    NotLocked,
    Object,
    OtherTask,
    Snapshot,
    SnapshotExists,
    Store,
    Transaction,
    TransactionAborted,
    TransactionTooLarge,
    ValuesView,
    __version__,
    _close_all,
    _Wrapped,
    allow_import,
    class_name,
    copy_out,
    open,
)

__all__ = [
    "Conflict",
    "Corrupt",
    "Counter",
    "Deadlock",
    "DefaultDict",
    "Deque",
    "Dict",
    "DurabilityUnknown",
    "Error",
    "Gone",
    "InUse",
    "ItemsView",
    "KeysView",
    "Link",
    "List",
    "Lock",
    "LockTimeout",
    "NoSnapshot",
    "NotLocked",
    "Object",
    "OrderedDict",
    "OtherTask",
    "Set",
    "Snapshot",
    "SnapshotExists",
    "SortedDict",
    "Store",
    "Transaction",
    "TransactionAborted",
    "TransactionTooLarge",
    "ValuesView",
    "__version__",
    "allow_import",
    "class_name",
    "copy_out",
    "open",
    "root",
    "to_json",
]

_abc.MutableMapping.register(Dict)
_abc.MutableSequence.register(List)
_abc.KeysView.register(KeysView)
_abc.ItemsView.register(ItemsView)
_abc.ValuesView.register(ValuesView)
_abc.Mapping.register(Store)

_roots = {}

# Imported when they are used: most programs need none of them.
_LAZY = {
    "Counter": "_mappings",
    "DefaultDict": "_mappings",
    "Deque": "_containers",
    "OrderedDict": "_mappings",
    "Set": "_containers",
    "SortedDict": "_sorted",
}


def __getattr__(name):
    if name in _LAZY:
        from importlib import import_module

        found = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def root(path=None):
    """The root Dict of a store that stays open until the program ends.

    Without a path: $PERSIST_STORE, else ./persist.store. It is created if it is missing.

    >>> root = persist.root()
    >>> root['x'] = 1
    """
    if path is None:
        path = _os.environ.get("PERSIST_STORE") or "persist.store"
    path = _os.path.abspath(_os.fsdecode(path))
    store = _roots.get(path)
    if store is None or store.closed:
        store = _roots[path] = open(path)
    return store.root


def to_json(value):
    """Return what JSON writes of a Dict, a List or an Object: for the `default` of `json.dumps` and `json.dump`.

    >>> import json
    >>> json.dumps([root['Joe'], root['x']], default=persist.to_json)
    '[{"name": "Joe", "age": 27}, 1]'
    """
    if isinstance(value, Object):
        return dict(vars(value))
    if isinstance(value, Dict):
        return value.copy()
    if isinstance(value, (List, KeysView, ValuesView, ItemsView)):
        return list(value)
    if isinstance(value, _Wrapped):
        return list(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_atexit.register(_close_all)
