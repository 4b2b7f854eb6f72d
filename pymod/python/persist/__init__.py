"""A dictionary that outlives the program, shared by programs as it changes.

>>> import persist
>>> root = persist.root()
>>> root['x'] = 1
>>> root['x'] += 1
>>> root['people'] = {'Joe': {'age': 27}}
>>> root['people']['Joe']['age'] += 1

`persist.root()` is the root of the default store ($PERSIST_STORE, else ./persist.store);
`persist.open(path)` opens any. What is stored is plain: None, bool, int, float, str, bytes, dicts,
lists, sets, the containers of `collections`, symbolic links (`Link`), tuples, frozensets, dates,
decimals and other values of the standard library and of numpy, and instances of classes that derive
from `persist.Object`, `Dict` or `List` or are registered (`register`, `register_dataclass`). Any other
type, also one that derives from these, is refused with advice what to store instead. Containers that
are stored are copied in; what is fetched is a `Dict`, a `List`, a `Set` and so on, or an instance that
works on the store itself.

A store can name classes, and never runs code: an object gets its class if the module of that class
is imported already, or was allowed by `persist.allow_import()`; else it is a generic `Object` with
the same attributes.
"""

import _collections_abc as _abc
import atexit as _atexit
import os as _os
import sys as _sys

from ._link import Link
from ._persist import (
    Change,
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
    ViewEnded,
    Watch,
    __version__,
    _close_all,
    _Wrapped,
    alias,
    allow_import,
    class_name,
    copy_out,
    open,
)
from ._typed import Opaque, register

__all__ = [
    "Change",
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
    "Opaque",
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
    "ViewEnded",
    "Watch",
    "__version__",
    "alias",
    "allow_import",
    "class_name",
    "copy_out",
    "import_from",
    "open",
    "register",
    "register_dataclass",
    "root",
    "to_json",
]

_abc.MutableMapping.register(Dict)
_abc.MutableSequence.register(List)
_abc.KeysView.register(KeysView)
_abc.ItemsView.register(ItemsView)
_abc.ValuesView.register(ValuesView)
_abc.Mapping.register(Store)



def _rich(self):
    # rich asks for it before it chooses a shape.
    from ._pretty import shape_rich

    shape_rich()
    raise AttributeError("__rich_repr__")


def _html(self):
    from ._pretty import to_html

    return to_html(self)


def _keys(self):
    from ._pretty import keys

    return keys(self)


Dict.__rich_repr__ = List.__rich_repr__ = _Wrapped.__rich_repr__ = property(_rich)
Dict._repr_html_ = List._repr_html_ = Object._repr_html_ = _Wrapped._repr_html_ = _html
Dict._ipython_key_completions_ = Store._ipython_key_completions_ = _keys

_roots = {}

# Imported when they are used: most programs need none of them.
_LAZY = {
    "Counter": "_mappings",
    "DefaultDict": "_mappings",
    "Deque": "_deques",
    "OrderedDict": "_mappings",
    "Set": "_sets",
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


def import_from(source, into, *, kind=None, allow_pickle=False):
    """Store what another store or file holds, in one transaction, and return the number of its entries.

    source: the path of a shelf, or of a file of pickle, JSON or SQLite. `kind` names what it is ('shelve', 'pickle',
        'json', 'sqlite') where neither its content nor its suffix shows it.
    into: a Dict or a Store for what holds a dict: its entries are added, and replace those of the same key, as in
        `dict.update`. A List for what holds a list: its items are appended.
    allow_pickle: pickles and shelves can run code when they are read: pass True if you trust their source.

    A table of SQLite becomes a dict of its rows by their primary key; one without a primary key of a single column
    becomes a list. A row is a dict. If a value cannot be stored, the TypeError names its place, and nothing is stored.

    >>> import pathlib
    >>> _ = pathlib.Path('settings.json').write_text('{"colour": "blue"}')
    >>> persist.import_from('settings.json', root)
    1
    >>> root['colour']
    'blue'
    """
    from ._imports import import_from

    return import_from(source, into, kind, allow_pickle)
def register_dataclass(cls, /):
    """Let instances of a dataclass, a class of attrs or a model of pydantic be stored, and return the class.

    The class does not derive from `persist.Object`. What is stored is a copy of the instance. A frozen one is read as a
    plain instance, a value. Of any other class an object of the store is read, which is an instance of the class, too:
    its changes are in the store.

    >>> import dataclasses
    >>> @persist.register_dataclass
    ... @dataclasses.dataclass
    ... class Job:
    ...     name: str
    ...     done: bool = False
    >>> root['job'] = Job('clean')
    >>> root['job'].done = True
    >>> isinstance(root['job'], Job), root['job'].done
    (True, True)
    """
    from ._registered import register

    return register(cls)


def to_json(value):
    """Return what JSON writes of a Dict, an Object, a date and the like: the `default` of `json.dumps`.

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
    from ._codecs import plain

    try:
        return plain(value)
    except LookupError:
        pass
    registered = _sys.modules.get("persist._registered")
    if registered is not None and registered.is_registered(type(value)):
        return registered.taken(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_atexit.register(_close_all)
