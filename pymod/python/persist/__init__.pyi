from os import PathLike
from typing import Any, Union

from ._persist import (
    Conflict as Conflict,
    Corrupt as Corrupt,
    Deadlock as Deadlock,
    Dict as Dict,
    Error as Error,
    Gone as Gone,
    ItemsView as ItemsView,
    KeysView as KeysView,
    List as List,
    Lock as Lock,
    LockTimeout as LockTimeout,
    NotLocked as NotLocked,
    Object as Object,
    Store as Store,
    Transaction as Transaction,
    ValuesView as ValuesView,
    __version__ as __version__,
    allow_import as allow_import,
    class_name as class_name,
    copy_out as copy_out,
    open as open,
)

__all__ = [
    "Conflict",
    "Corrupt",
    "Deadlock",
    "Dict",
    "Error",
    "Gone",
    "ItemsView",
    "KeysView",
    "List",
    "Lock",
    "LockTimeout",
    "NotLocked",
    "Object",
    "Store",
    "Transaction",
    "ValuesView",
    "__version__",
    "allow_import",
    "class_name",
    "copy_out",
    "open",
    "root",
]

def root(path: Union[str, PathLike[str], None] = None) -> Dict[Any, Any]: ...
