from os import PathLike
from typing import Any, TypeVar

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
    alias,
    allow_import,
    class_name,
    copy_out,
    open,
)

_T = TypeVar("_T")

__all__ = [
    "Conflict",
    "Corrupt",
    "Deadlock",
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
    "OtherTask",
    "Snapshot",
    "SnapshotExists",
    "Store",
    "Transaction",
    "TransactionAborted",
    "TransactionTooLarge",
    "ValuesView",
    "__version__",
    "alias",
    "allow_import",
    "class_name",
    "copy_out",
    "open",
    "register_dataclass",
    "root",
    "to_json",
]

def root(path: str | bytes | PathLike[str] | PathLike[bytes] | None = None) -> Dict[Any, Any]: ...
def register_dataclass(cls: type[_T], /) -> type[_T]: ...
def to_json(value: object) -> Any: ...
